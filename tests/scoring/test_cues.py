"""The cues that are ours against other libraries' arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from sklearn.covariance import LedoitWolf

from anowild.study.cue_cache import structure
from anowild.views.gan import contrast, relative_residual
from anowild.views.gaussian import GaussianReference


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


def test_relative_residual_is_the_share_of_variance_that_is_left() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(-1, 1, (5, 1, 16, 16)))
    # Nothing but the mean is rebuilt: all of the variance is left, whatever the contrast.
    flat = x.mean(dim=(2, 3), keepdim=True).expand_as(x)
    for scale in (1.0, 0.2):
        found = relative_residual(scale * x, scale * flat)
        assert torch.allclose(found, torch.ones(5, dtype=torch.float64), rtol=0.02)
    assert relative_residual(x, x).abs().max() == 0
    halfway = relative_residual(x, (x + flat) / 2)
    assert torch.allclose(halfway, torch.full((5,), 0.25, dtype=torch.float64), rtol=0.02)
    constant = torch.zeros(1, 1, 4, 4)
    assert torch.isfinite(relative_residual(constant, constant + 0.1)).all()


def test_contrast_is_the_deviation_within_an_image() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4, 3, 8, 8))
    expected = np.sqrt(x.var(axis=(2, 3)).mean(axis=1))
    assert np.allclose(contrast(torch.from_numpy(x)), expected)
    assert contrast(torch.full((1, 1, 4, 4), 0.3)).item() == pytest.approx(0, abs=1e-7)


def test_what_is_usual_is_fitted_as_ledoit_and_wolf_do() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(150, 20)) @ rng.normal(size=(20, 20)) + 3
    theirs = LedoitWolf().fit(features)
    usual = GaussianReference.fit(features)
    others = rng.normal(size=(10, 20)) * 5
    expected = np.sqrt(theirs.mahalanobis(others))
    assert np.allclose(usual(torch.from_numpy(others)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("features", [np.ones((30, 4)), np.eye(4)[[0] * 30]])
def test_features_that_never_change_give_finite_distances(features: np.ndarray) -> None:
    distances = GaussianReference.fit(features)(torch.from_numpy(np.add(features, [0, 0, 1, 0])))
    assert torch.isfinite(distances).all()
    assert (distances > 0).all()
