"""Which crops are dropped as repeats of earlier ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anowild.data.readers import Record
from anowild.data.readers.base import SkippedImage
from tests.data.crops.frames import crops_of, drawn, kept

pytest.importorskip("skimage")


def test_a_still_object_is_kept_once_and_told_of() -> None:
    crops = crops_of([drawn([(70, 80)], seed=i) for i in range(6)])
    assert [type(c) for c in crops] == [Record] + [SkippedImage] * 5
    for number, crop in enumerate(crops[1:], 1):
        assert isinstance(crop, SkippedImage)
        assert crop.reason == "hardly differs from an earlier crop (video.mp4[0]@70,80)"
        assert crop.origin.frame == number
        assert crop.origin.position is not None


def test_a_moving_object_is_kept_again_and_again() -> None:
    assert len(kept(crops_of([drawn([(70, 40 + 3 * i)]) for i in range(6)]))) == 6


def test_a_creeping_object_is_compared_with_its_last_kept_crop_and_not_the_last_frame() -> None:
    crops = crops_of([drawn([(70, 40 + i)]) for i in range(9)], max_change=1.0, max_shift=0.2)
    assert [isinstance(c, Record) for c in crops] == [i % 4 == 0 for i in range(9)]


def test_an_object_that_changes_in_its_place_is_kept_again() -> None:
    frames = [drawn([(70, 80)], radius=8 if i < 3 else 11) for i in range(6)]
    crops = crops_of(frames)
    assert [isinstance(c, Record) for c in crops] == [True, False, False, True, False, False]


@pytest.mark.parametrize("off", [{"max_shift": 0}, {"max_change": 0}])
def test_thinning_can_be_switched_off(off: dict[str, Any]) -> None:
    assert len(kept(crops_of([drawn([(70, 80)])] * 4, **off))) == 4


def test_thinning_takes_equal_instances_of_one_frame_for_two() -> None:
    mask = np.zeros((150, 170, 1), np.uint8)
    mask[70, 80], mask[70, 81] = 1, 2
    assert len(kept(crops_of([drawn()], [mask]))) == 2
