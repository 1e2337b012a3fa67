"""Scores of images: their arrays in files."""

from __future__ import annotations

import numpy as np
import pytest

from anowild.scoring.scores import Scores


def _scores(tile: bool) -> Scores:
    return Scores(
        np.array([1.0, 0.5]),
        {"reconstruction_error": np.array([3.0, 2.0]), "contrast": np.array([0.1, 0.2])},
        {"gan": np.array([0.7, 0.1])},
        np.array([4, 0]) if tile else None,
    )


@pytest.mark.parametrize("tile", [False, True])
@pytest.mark.parametrize("separator", ["_", "/"])  # the slash is of earlier files
def test_arrays_give_the_same_scores(tile: bool, separator: str) -> None:
    scores = _scores(tile)
    arrays = {
        key.replace("cue_", f"cue{separator}").replace("view_", f"view{separator}"): values
        for key, values in scores.to_arrays().items()
    }
    found = Scores.from_arrays(arrays | {"features": np.zeros((2, 3))})
    assert list(found.cues) == list(scores.cues)
    for mine, theirs in zip(found.columns().items(), scores.columns().items(), strict=True):
        assert mine[0] == theirs[0]
        np.testing.assert_array_equal(mine[1], theirs[1])
    assert (None if found.tile is None else found.tile.tolist()) == ([4, 0] if tile else None)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("cue_contrast", np.array([0.1, np.nan])),
        ("view_gan", np.array([0.7])),
        ("score", np.array([1.0, 0.5], np.float32)),
        ("tile", np.array([-1, 0])),
    ],
)
def test_damaged_arrays_are_refused(name: str, values: np.ndarray) -> None:
    with pytest.raises(ValueError, match=name.partition("_")[2] or name):
        Scores.from_arrays(_scores(True).to_arrays() | {name: values})
