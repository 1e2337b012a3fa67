"""Detection of objects, and instances of masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from anowild.arrays import Array
from anowild.data.crops import CropSettings, Detection, find_objects, objects_in_mask, to_gray
from tests.data.crops.frames import PLACES, drawn

pytest.importorskip("skimage")


def assert_found(found: list[Detection], places: Iterable[tuple[int, int]], within: float) -> None:
    places = list(places)
    assert len(found) == len(places)
    for row, column in places:
        assert min(np.hypot(f.row - row, f.column - column) for f in found) <= within


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f,
        lambda f: 255 - f,  # dark objects
        lambda f: f.astype(np.uint16) * 201 + 3000,
        lambda f: f / 255.0 - 7,
        lambda f: f + np.linspace(0, 20, f.shape[1], dtype=np.uint8)[None, :, None],  # uneven light
    ],
    ids=["bright", "dark", "16-bit", "float", "uneven"],
)
def test_blobs_are_found_where_they_are(change: Callable[[Array], Array]) -> None:
    found = find_objects(to_gray(change(drawn())), CropSettings(16))
    assert_found(found, PLACES, within=1)


def test_blobs_without_any_noise_are_found() -> None:
    assert_found(find_objects(drawn(noise=0)[:, :, 0], CropSettings(16)), PLACES, within=1)


def test_large_objects_are_found_in_a_reduced_frame() -> None:
    large = drawn(noise=0)[:, :, 0].repeat(10, 0).repeat(10, 1)
    places = [(10 * row + 4.5, 10 * column + 4.5) for row, column in PLACES]
    found = find_objects(large, CropSettings(160))
    assert len(found) == len(places)
    for f, (row, column) in zip(found, sorted(places), strict=True):
        assert np.hypot(f.row - row, f.column - column) < 5
        assert 120 < f.size < 280


def test_touching_objects_are_separated() -> None:
    found = find_objects(drawn([(70, 60), (70, 77)])[:, :, 0], CropSettings(16))
    for place in ((70, 60), (70, 77)):
        assert min(np.hypot(f.row - place[0], f.column - place[1]) for f in found) < 3
    assert len(found) <= 3  # perhaps the pair as a whole


@pytest.mark.parametrize("size", [4, 10, 30, 100])
def test_noise_and_blank_frames_hold_nothing(size: float) -> None:
    noise = np.random.default_rng(1).normal(100, 5, (200, 200)).astype(np.float32)
    assert find_objects(noise, CropSettings(size)) == []
    assert find_objects(np.full((60, 60), 7, np.uint16), CropSettings(size)) == []
    assert find_objects(np.ones((1, 1)), CropSettings(size)) == []


def test_fainter_things_are_found_at_a_lower_contrast() -> None:
    frame = drawn(noise=8)[:, :, 0].astype(float)
    faint = 100 + (frame - 100) * 0.2 + np.random.default_rng(3).normal(0, 8, frame.shape)
    assert len(find_objects(faint, CropSettings(16, contrast=9))) == 0
    assert len(find_objects(faint, CropSettings(16, contrast=1.4))) >= len(PLACES)


def test_masks_give_their_instances() -> None:
    mask = np.zeros((50, 60), np.uint16)
    mask[10:20, 10:20] = 40000
    mask[10:20, 20:31] = 3  # touches the first
    found = objects_in_mask(mask)
    assert [(f.row, f.column) for f in found] == [(14.5, 14.5), (14.5, 25)]
    assert [f.size**2 * np.pi / 4 for f in found] == pytest.approx([100, 110])
    assert objects_in_mask(np.zeros((5, 5), np.uint8)) == []


def test_a_mask_of_one_value_is_divided_into_its_areas() -> None:
    mask = np.zeros((50, 60), np.uint8)
    mask[5:10, 5:10] = mask[30:40, 30:40] = 255
    assert [(f.row, f.column) for f in objects_in_mask(mask)] == [(7, 7), (34.5, 34.5)]
