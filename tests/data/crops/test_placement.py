"""Where crops lie, and which pixels they have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anowild.data.crops import CropSettings, Detection, crop, crop_corner, select_objects
from anowild.data.readers.base import Provenance, SkippedImage
from tests.data.crops.frames import crops_of, drawn, kept

pytest.importorskip("skimage")


@pytest.mark.parametrize(("padding", "mode"), [
    ("reflect", "reflect"), ("edge", "edge"), ("zero", "constant")
])  # fmt: skip
@pytest.mark.parametrize("shape", [(20, 30), (3, 5), (1, 9), (2, 1)])
def test_padding_is_what_numpy_makes_of_it(padding: str, mode: Any, shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    wide = np.pad(frame, 40, mode=mode)
    for top, left in ((-5, -6), (0, 0), (shape[0] - 2, shape[1] - 3), (-11, 4), (2, -8)):
        expected = wide[40 + top : 52 + top, 40 + left : 52 + left]
        assert np.array_equal(crop(frame, top, left, 12, padding), expected)


@pytest.mark.parametrize("side", [24, 25])
def test_crops_are_centered_squares_of_the_frame(side: int) -> None:
    frame = drawn()
    mask = np.zeros((150, 170), np.uint8)
    mask[100, 70] = 1
    (crop,) = kept(crops_of([frame], [mask[:, :, None]], side=side, percentiles=(0, 100)))
    top, left = 100 - side // 2 + (side % 2 == 0), 70 - side // 2 + (side % 2 == 0)
    assert crop.name == "video.mp4[0]@100,70"
    assert crop.origin == Provenance("video.mp4", 0, (top, left))
    low, high = float(frame.min()), float(frame.max())
    expected = np.rint((frame[top : top + side, left : left + side] - low) * (255 / (high - low)))
    assert crop.pixels.dtype == np.uint8
    assert crop.pixels.shape == (side, side, 1)
    assert np.array_equal(crop.pixels, expected)


def test_at_the_border_a_crop_is_padded_or_not_cut() -> None:
    frames = [drawn([(5, 6), (75, 85)])]
    # Odd, so that the middle is a pixel. Of the first disc, the border has cut off a part.
    crops = kept(crops_of(frames, side=33, padding="reflect"))
    assert [c.origin.position for c in crops] == [(-10, -10), (59, 69)]
    inside = kept(crops_of(frames, side=33, padding="skip"))
    assert [c.origin.position for c in inside] == [(59, 69)]
    black = kept(crops_of(frames, side=33, padding="zero"))[0].pixels
    assert (black[:10] == 0).all()
    assert (black[:, :10] == 0).all()
    assert np.array_equal(black[10:, 10:], crops[0].pixels[10:, 10:])
    moved = kept(crops_of(frames, side=33))
    assert [c.origin.position for c in moved] == [(0, 0), (59, 69)]
    assert [c.name for c in moved] == [c.name for c in crops]
    assert np.array_equal(moved[0].pixels[:23, :23], crops[0].pixels[10:, 10:])


def test_crops_that_were_moved_to_the_same_place_are_cut_once() -> None:
    settings = CropSettings(16, side=33)
    found = [Detection(row, 80, 16) for row in (4, 12, 90, 92)]
    assert select_objects(found, (150, 170), settings) == [
        found[0],
        *found[2:],
    ]  # inside, both are cut
    assert select_objects(found, (150, 170), settings, merge=False) == found
    far = [Detection(140, 30, 16), Detection(140, 60, 16), Detection(148, 60, 16)]
    assert select_objects(far, (150, 170), settings) == far[:2]
    assert crop_corner(Detection(149, 169, 16), (150, 170), 33, "shift") == (117, 137)
    assert crop_corner(Detection(10, 10, 16), (20, 50), 33, "shift") == (-6, 0)


def test_frames_smaller_than_a_crop() -> None:
    frames = [drawn([(10, 10)], side=(20, 24), radius=3)]
    (crop,) = kept(crops_of(frames, object_size=8, side=64))
    assert crop.pixels.shape == (64, 64, 1)
    (left_out,) = crops_of(frames, object_size=8, side=64, padding="skip")
    assert isinstance(left_out, SkippedImage)
    assert "24x20 pixels are too few for crops of side 64" in left_out.reason
