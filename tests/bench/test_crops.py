"""How much of the cells of real frames the crops cover."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anowild.data.crops import CropSettings, Detection, find_objects, to_gray
from anowild.data.readers import Reader, Record, open_source
from tests.conftest import SHARED

pytest.importorskip("skimage")

from bench.crops import Coverage, coverage

CELLS = Path(__file__).parents[1] / "data" / "files" / "cells"


def test_coverage_counts_strictly() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[40:60, 20:40] = 7  # its center of mass: 49.5, 29.5
    mask[0:4, 90:94] = 2
    assert coverage([Detection(49.5, 29.5, 1)], mask, 20) == Coverage(2, 1, 1, 1, 1)
    # Three quarters of it, no column less.
    assert coverage([Detection(49.5, 34.5, 1)], mask, 20).covered == 1
    assert coverage([Detection(49.5, 35.5, 1)], mask, 20).covered == 0
    # All of it, but from two crops.
    assert coverage([Detection(49.5, 37, 1), Detection(49.5, 22, 1)], mask, 20).covered == 0
    # All of it, but not centered on it.
    beside = [Detection(49.5, 42.0, 1)]
    assert coverage(beside, mask, 50) == Coverage(2, 1, 0, 1, 0)
    assert coverage(beside, mask, 50, near=3).on_instance == 1
    assert coverage(beside, mask, 50, near=2).on_instance == 0
    assert coverage([], mask, 50) == Coverage(instances=2)
    assert coverage(beside, np.zeros((100, 100), np.uint8), 50, near=99) == Coverage(crops=1)
    pooled = coverage(beside, mask, 50) + Coverage(2, 2, 2, 3, 3)
    assert (pooled.recall, pooled.centered_recall, pooled.precision) == (0.75, 0.5, 0.75)
    assert np.isnan([Coverage().recall, Coverage().precision, Coverage().centered_recall]).all()


def test_coverage_asks_for_the_center_of_mass() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[40:50, 10:20] = mask[40:50, 90:93] = 1  # 10 of 13 columns; the center is in between
    mask[0, 0] = 2
    assert coverage([Detection(44.5, 14.5, 1)], mask, 12).covered == 0


def measured(frames: Reader, masks: Reader, settings: CropSettings) -> list[Coverage]:
    parts = []
    for frame, mask in zip(frames, masks, strict=False):
        assert isinstance(frame, Record)
        assert isinstance(mask, Record)
        found = find_objects(to_gray(frame.pixels), settings)
        parts.append(coverage(found, mask.pixels[:, :, 0], settings.crop_side))
    return parts


def test_real_cells_are_covered_by_few_crops() -> None:
    parts = measured(open_source(CELLS / "frames"), open_source(CELLS / "masks"), CropSettings(56))
    pooled = sum(parts, Coverage())
    assert pooled.instances == 16
    assert pooled.recall >= 0.9
    assert pooled.precision >= 0.5
    assert pooled.crops <= 2.5 * pooled.instances


@pytest.mark.shared
@pytest.mark.parametrize("name", ["t98g_512.mp4", "t98g_512.avi", "t98g_frames01-03_512_u16.tif"])
def test_the_shared_video_is_covered(name: str) -> None:
    masks = open_source(SHARED / "cells_video" / "t98g_512_masks_u8.tif")
    parts = measured(open_source(SHARED / "cells_video" / name), masks, CropSettings(56))
    pooled = sum(parts, Coverage())
    assert len(parts) == (3 if name.endswith(".tif") else 37)
    assert pooled.recall >= 0.9
    assert np.mean([p.recall for p in parts]) >= 0.9
    assert pooled.crops <= 2.5 * pooled.instances
    assert pooled.centered_recall > 0.7  # of as many crops on a grid: 0.46
