"""Contact sheets: any input gives one, of bounded size, with boxes where the crops are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anowild.arrays import Array
from anowild.data.crops import CropReader, CropSettings
from anowild.data.dataset.contact_sheet import (
    EvenSample,
    Picture,
    SheetCollector,
    contact_sheet,
    to_rgb,
)
from anowild.data.readers import open_source
from anowild.data.readers.base import Record, SkippedImage

CELLS = Path(__file__).parents[1] / "files" / "cells"

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100, 1000, 4096])
def test_a_sample_is_evenly_spread(count: int) -> None:
    sample: EvenSample[int] = EvenSample(8)
    for i in range(count):
        if sample.wants():
            sample.add(i)
        else:
            sample.skip()
    assert sample.count == count
    assert min(count, 4) <= len(sample.items) <= 8
    assert sample.items[:1] == list(range(count))[:1]
    assert len(set(np.diff(sample.items))) <= 1
    if count > 8:
        assert sample.items[-1] >= count * 3 / 4 - 1


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 1, 1), np.uint8),
        RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8),
        RNG.integers(0, 65536, (32, 32, 1), dtype=np.uint16),
        RNG.normal(size=(40, 300, 1)),
        RNG.normal(size=(300, 2, 4)).astype(np.float16),
        np.full((9, 9, 1), np.nan),
        np.full((9, 9), 3),
        np.ones((9, 9, 2), bool),
        np.zeros((0, 4, 1), np.uint8),
        np.zeros(5, np.uint8),
        np.zeros((4, 4, 2, 2), np.uint8),
        RNG.integers(0, 256, (2000, 1500, 3), dtype=np.uint8),
    ],
    ids=lambda p: f"{p.dtype}{p.shape}",
)
def test_one_image_of_any_kind_gives_a_sheet(pixels: Array) -> None:
    collector = SheetCollector()
    collector.add(Record("folder/名前.png", pixels))
    if pixels.ndim > 1:
        collector.watch("video.mp4[0]", pixels, [(-5, -5), (0, 0), (10_000, 3)], 8)
    sheet = collector.sheet()
    assert sheet.mode == "RGB"
    assert max(sheet.size) < 1000


def test_nothing_gives_a_sheet_too() -> None:
    assert min(SheetCollector().sheet().size) > 0
    assert min(contact_sheet([]).size) > 0


def test_thousands_of_images_give_a_small_sheet() -> None:
    collector = SheetCollector(images=40, frames=2)
    for i in range(3000):
        collector.add(Record(f"set.npz[{i}]", np.full((64, 64, 1), i % 256, np.uint8)))
        if i % 100 == 0:
            collector.watch(f"video.mp4[{i // 100}]", np.zeros((900, 700), np.uint8), [(3, 4)], 64)
    collector.add(SkippedImage("x", "it is damaged"))
    sheet = collector.sheet()
    assert sheet.width <= 1500
    assert sheet.height <= 1500
    assert len(collector._images.items) <= 40
    assert len(collector._frames.items) <= 2
    assert (collector.boxes, collector.left_out) == (30, 1)


def test_boxes_are_drawn_around_the_crops() -> None:
    collector = SheetCollector()
    collector.watch("video.mp4[0]", np.full((60, 80), 90, np.uint8), [(10, 20)], 30)
    (frame,) = collector._frames.items
    red = (frame.pixels != 90).any(axis=2)
    expected = np.zeros((60, 80), bool)
    expected[10:40, 20:50] = True
    expected[11:39, 21:49] = False
    assert np.array_equal(red, expected)
    assert frame.caption == "video.mp4[0]: 1 crops"


def test_images_appear_as_they_are() -> None:
    pixels = RNG.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    sheet = np.asarray(contact_sheet([Picture("x", pixels)]))
    assert np.array_equal(sheet[6:102, 6:102], pixels)


def test_wide_ranges_are_stretched_to_be_seen() -> None:
    values = np.array([[1000, 1500, 2000]], np.uint16)
    assert to_rgb(values)[0, :, 0].tolist() == [0, 128, 255]


def test_what_is_cut_out_of_real_frames_is_shown() -> None:
    pytest.importorskip("skimage")
    collector = SheetCollector()
    list(CropReader(open_source(CELLS / "frames"), CropSettings(56), sheet=collector))
    assert len(collector._frames.items) == 2
    assert collector.boxes == len(collector._images.items) > 20
    assert collector.sheet().width > 500
