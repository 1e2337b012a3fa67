"""The cues that are ours against other libraries' arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from sklearn.covariance import LedoitWolf

from anowild.scoring.cues import Usual, squared_residual, structure


def test_structure_is_one_minus_the_mean_ssim() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4, 3, 16, 16))
    y = np.clip(x + rng.normal(0, 0.3, x.shape), -1, 1)
    found = structure(torch.from_numpy(x), torch.from_numpy(y))
    for a, b, value in zip(x, y, found, strict=True):
        similarity = structural_similarity(
            a, b, win_size=5, data_range=2.0, channel_axis=0, use_sample_covariance=False
        )
        assert float(value) == pytest.approx(1 - similarity, rel=1e-9)


def test_structure_of_equal_and_of_tiny_images() -> None:
    x = torch.rand(2, 1, 4, 4) * 2 - 1
    assert structure(x, x).abs().max() < 1e-12
    assert torch.isfinite(structure(x, -x)).all()
    assert (structure(x, x.flip(-1)) > 0).all()


def test_squared_residual() -> None:
    x = torch.zeros(1, 1, 4, 4)
    assert float(squared_residual(x, x + 0.5)[0]) == 0.25


def test_what_is_usual_is_fitted_as_ledoit_and_wolf_do() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(150, 20)) @ rng.normal(size=(20, 20)) + 3
    theirs = LedoitWolf().fit(features)
    usual = Usual.fit(features)
    others = rng.normal(size=(10, 20)) * 5
    expected = np.sqrt(theirs.mahalanobis(others))
    assert np.allclose(usual(torch.from_numpy(others)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("features", [np.ones((30, 4)), np.eye(4)[[0] * 30]])
def test_features_that_never_change_give_finite_distances(features: np.ndarray) -> None:
    distances = Usual.fit(features)(torch.from_numpy(np.add(features, [0, 0, 1, 0])))
    assert torch.isfinite(distances).all()
    assert (distances > 0).all()
