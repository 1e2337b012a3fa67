"""Images that other views find odd are drawn less often, from the start and over interruptions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from anowild.data import ImageSet
from anowild.errors import UserError
from anowild.training import draw_weights
from anowild.training.fitting import FittedDetector, fit_detector
from anowild.training.sampler import MinibatchSampler
from anowild.views.gan import GanView
from tests.conftest import tiny_settings

CPU = torch.device("cpu")
SETTINGS = tiny_settings(
    views=("gan", "pixels"), draw_weights="views", initial_resolution=None, kimg=0.1
)


def test_the_oddest_are_drawn_less_by_their_rank() -> None:
    score = np.array([5.0, 0.1, 9.0, 0.2, 7.0, 0.3, 0.4, 0.5, 0.6, 0.7])
    weights = draw_weights.weights_of(score, 0.3)
    assert weights.tolist() == [2 / 3, 1, 0, 1, 1 / 3, 1, 1, 1, 1, 1]
    assert draw_weights.weights_of(score, 0.0).tolist() == [1] * 10
    assert draw_weights.weights_of(np.zeros(1000), 0.1).sum() == pytest.approx(949.5)


def test_draws_follow_the_weights() -> None:
    images = np.zeros((100, 1, 1, 1), np.uint8)
    weights = np.ones(100)
    weights[:40] = np.repeat([0.0, 0.25, 0.5, 0.75], 10)
    sampler = MinibatchSampler(images, seed=0)
    before = sampler.indices(0, 40_000)
    sampler.weigh(weights)
    drawn = sampler.indices(0, 40_000)
    share = np.bincount(drawn, minlength=100) / 400
    # What the odd ones lose goes to all by their weights: 25 of 100 draws to weights of 75.
    expected = weights * (1 + 25 / 75)
    assert share[:10].max() == 0
    assert [s.mean() for s in np.split(share[:40], 4)] == pytest.approx(
        [0, 1 / 3, 2 / 3, 1], abs=0.03
    )
    assert np.abs(share - expected).max() < 0.25
    kept = drawn == before
    assert kept[weights[before] == 1].all()
    assert np.array_equal(sampler.indices(40, 80), sampler.indices(40, 80))
    sampler.weigh(np.ones(100))
    assert np.array_equal(sampler.indices(0, 40_000), before)


@pytest.fixture(scope="module")
def contaminated(digits: np.ndarray) -> ImageSet:
    """Digits, and noise in place of the last five."""
    images = digits[:100].copy()
    images[-5:] = np.random.default_rng(0).integers(0, 256, (5, 16, 16))
    return ImageSet.load(images, SETTINGS)


def generator(fitted: FittedDetector) -> torch.Tensor:
    view = next(view for view in fitted.detector.views if isinstance(view, GanView))
    return torch.cat([p.flatten() for p in view.networks.generator.parameters()])


def test_the_gan_trains_on_what_other_views_trust(contaminated: ImageSet, tmp_path: Path) -> None:
    whole = fit_detector(contaminated, SETTINGS, tmp_path / "whole", CPU)
    weights = draw_weights.load(tmp_path / "whole", contaminated)
    assert weights.sum() == pytest.approx(94.5)
    assert weights[-5:].max() < 0.5  # the noise is among the oddest ten
    equal = fit_detector(
        contaminated, SETTINGS.replace(draw_weights="equal"), tmp_path / "equal", CPU
    )
    assert not torch.equal(generator(whole), generator(equal))
    assert not (tmp_path / "equal" / draw_weights.FILE).exists()


@pytest.mark.slow
def test_a_training_goes_on_with_its_weights(contaminated: ImageSet, tmp_path: Path) -> None:
    fit_detector(contaminated, SETTINGS, tmp_path / "first", CPU)
    weights = draw_weights.load(tmp_path / "first", contaminated)
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    longer = SETTINGS.replace(kimg=0.4)
    first, second = (
        fit_detector(contaminated, longer, tmp_path / name, CPU) for name in ("first", "second")
    )
    assert np.array_equal(draw_weights.load(tmp_path / "second", contaminated), weights)
    assert torch.equal(generator(first), generator(second))


def test_weights_stay_those_that_a_training_began_with(
    contaminated: ImageSet, tmp_path: Path
) -> None:
    first, other = np.full(100, 0.5), np.full(100, 0.25)
    draw_weights.save(tmp_path, contaminated, first)
    draw_weights.save(tmp_path, contaminated, other)
    assert draw_weights.load(tmp_path, contaminated)[0] == 0.5


@pytest.mark.parametrize(
    "weights", [np.full(99, 1.0), np.full(100, 2.0), np.full(100, np.nan), np.zeros(100)]
)
def test_damaged_weights_are_a_sentence(
    contaminated: ImageSet, tmp_path: Path, weights: np.ndarray
) -> None:
    draw_weights.save(tmp_path, contaminated, weights)
    with pytest.raises(UserError, match=r"draw_weights.safetensors: .*; delete .* to start again"):
        draw_weights.load(tmp_path, contaminated)


def test_weights_need_other_views(contaminated: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="draw_weights=views needs other views than gan"):
        fit_detector(contaminated, SETTINGS.replace(views=("gan",)), tmp_path, CPU)
