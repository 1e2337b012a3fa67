"""Drift of the scores of incoming images."""

import numpy as np
import pytest

from anowild.scoring.drift import FEWEST, OVER, WINDOW, Drift


def scores(shares: np.ndarray) -> np.ndarray:
    return -np.log10(np.clip(shares, 1e-9, 1))


def test_images_like_the_training_images_are_no_drift() -> None:
    rng = np.random.default_rng(0)
    drift = Drift()
    for _ in range(100):
        drift.add(scores(rng.uniform(size=100)))
        assert drift.warning() is None


@pytest.mark.parametrize("power", [3, 1 / 3])
def test_odder_and_more_usual_images_are_drift(power: float) -> None:
    rng = np.random.default_rng(0)
    drift = Drift()
    drift.add(scores(rng.uniform(size=WINDOW)))
    assert drift.warning() is None
    drift.add(scores(rng.uniform(size=WINDOW) ** power))
    warning = drift.warning()
    assert warning is not None
    assert f"the last {WINDOW} images" in warning


@pytest.mark.parametrize("training", [20, 50, 200])
def test_few_training_images_are_a_sample_too(training: int) -> None:
    """New images from where they come from hardly ever are drift: their 10^-score is spread as theirs is."""
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(200):
        known = np.sort(rng.uniform(size=training))
        shares = (1 + np.searchsorted(known, rng.uniform(size=WINDOW))) / (1 + training)
        drift = Drift(training)
        drift.add(scores(shares))
        called += drift.warning() is not None
    assert called <= 1


def test_few_images_say_nothing() -> None:
    drift = Drift()
    drift.add(np.full(FEWEST - 1, 5.0))
    assert drift.distance() == 0
    drift.add(np.full(1, 5.0))
    assert drift.distance() > 0.99
    assert drift.warning() is not None


def test_the_window_forgets_and_is_kept() -> None:
    drift = Drift(window=60)
    drift.add(np.full(60, 5.0))
    drift.add(scores((np.arange(60) + 0.5) / 60))
    assert drift.distance() < 0.02
    again = Drift(window=60)
    again.add(drift.scores)
    assert again.distance() == drift.distance()


def test_beginning_and_end_are_told_once_and_nothing_near_the_limit() -> None:
    drift = Drift()
    usual = scores((np.arange(WINDOW) + 0.5) / WINDOW)
    assert drift.follow(usual) is None
    told = drift.follow(np.full(WINDOW, 5.0))
    assert told is not None
    assert "not like the training images any more" in told
    assert drift.follow(np.full(WINDOW, 5.0)) is None
    # Shares of which the largest is 1 - d lie at a distance of d.
    near = scores((np.arange(WINDOW) + 0.5) / WINDOW * (1 - drift.limit() * (1 + OVER) / 2))
    assert drift.follow(near) is None
    assert drift.warning() is None
    assert drift.drifted
    assert drift.follow(usual) == f"the last {WINDOW} images are like the training images again"
    assert not drift.drifted
