"""The warning about images unlike the training images comes where it should, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from anowild.arrays import Array
from anowild.scoring.unlike_training import unlike_training
from anowild.shown import shown_score


def scores(odd: int, count: int) -> Array:
    return np.where(np.arange(count) < odd, 2.0, 0.3)


@pytest.mark.parametrize(
    ("odd", "count", "percent"), [(81, 100, "81 %"), (8, 30, "27 %"), (200, 1000, "20 %")]
)
def test_images_unlike_the_training_images_are_named(odd: int, count: int, percent: str) -> None:
    found = unlike_training(scores(odd, count))
    assert found is not None
    assert found.startswith(
        f"{percent} of these images are as odd as the oddest 5 % of the training"
    )


@pytest.mark.parametrize(
    ("odd", "count"),
    [(0, 0), (1, 1), (19, 19), (5, 100), (14, 100), (3, 20), (140, 1000)],
)
def test_few_images_and_few_odd_ones_are_no_reason_to_warn(odd: int, count: int) -> None:
    assert unlike_training(scores(odd, count)) is None


def test_images_like_the_training_images_hardly_ever_give_a_warning() -> None:
    rng = np.random.default_rng(0)
    # Scores of images that come from where the training images come from.
    found = [unlike_training(-np.log10(rng.random(size))) for size in (20, 100, 500) for _ in range(300)]  # fmt: skip
    assert sum(text is not None for text in found) <= 3


@pytest.mark.parametrize(
    ("training", "new"), [(50, 50), (50, 500), (100, 50), (200, 50), (400, 500)]
)
def test_few_training_images_are_a_sample_too(training: int, new: int) -> None:
    """Their 5 % point is not exactly that of the images that are like them."""
    rng = np.random.default_rng(0)
    warned = 0
    for _ in range(1000):
        limit = np.quantile(rng.random(training), 0.95)
        odd = int((rng.random(new) >= limit).sum())
        warned += unlike_training(scores(odd, new), training) is not None
    assert warned <= 5


@pytest.mark.parametrize(
    ("score", "images", "shown"),
    [
        (2.314, 2500, "2.31"),
        (3.39, 2500, "3.39"),
        (3.397, 2500, "3.39"),
        (1.2996, 2500, "1.29"),
        (2.01, 2500, "2.01"),
        (3.4, 2500, "> 3.39"),
        (18.081, 2500, "> 3.39"),
        (2.0, 100, "2.00"),
        (2.001, 100, "> 2.00"),
        (18.081, None, "18.08"),
        (0.0, 1, "0.00"),
    ],
)
def test_no_score_is_shown_beyond_what_the_training_images_support(
    score: float, images: int | None, shown: str
) -> None:
    assert shown_score(score, images) == shown
