"""The source of crops: order, names, masks, memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from anowild.data.crops import CropReader, CropSettings
from anowild.data.dataset.contact_sheet import SheetCollector
from anowild.data.readers import Record, open_source
from anowild.data.readers.base import Provenance, SkippedImage
from anowild.errors import UserError
from tests.data.crops.frames import PLACES, Frames, crops_of, drawn, kept

pytest.importorskip("skimage")


def test_reading_is_deterministic_and_goes_on_from_anywhere() -> None:
    frames = [drawn([(r + 3 * i, c) for r, c in PLACES], seed=i) for i in range(4)]
    frames.insert(2, frames[1])  # its crops are dropped
    reader = CropReader(Frames("video.mp4", frames), CropSettings(16, levels="video"))
    every = list(reader)
    assert [c.name for c in every] == [c.name for c in reader]
    assert len({c.name for c in every}) == len(every) > 4 * len(PLACES)
    assert any(isinstance(c, SkippedImage) for c in every)
    for start in (0, 1, 7, len(every), len(every) + 5):
        rest = list(reader.records(start))
        assert [(c.name, c.origin) for c in rest] == [(c.name, c.origin) for c in every[start:]]
        for a, b in zip(rest, every[start:], strict=True):
            if isinstance(a, Record):
                assert isinstance(b, Record)
                assert np.array_equal(a.pixels, b.pixels)


def test_what_the_reader_tells_beforehand() -> None:
    reader = CropReader(Frames("video.mp4"), CropSettings(16), Frames("masks.tif"))
    assert reader.count() is None
    assert list(reader.shapes(3)) == [(32, 32, 1)] * 3
    assert list(reader.files()) == [Path("video.mp4"), Path("masks.tif")]
    assert list(reader) == []


def test_frames_that_cannot_be_cut_are_told_of_and_the_others_are_cut() -> None:
    holes = drawn().astype(np.float32)
    holes[3, 3] = np.nan
    four = np.repeat(drawn(), 4, axis=2)
    blank = np.full((150, 170, 1), 9, np.uint8)
    crops = crops_of([None, holes, four, blank, drawn()], levels="video")
    reasons = [c.reason for c in crops if isinstance(c, SkippedImage)]
    assert reasons[:2] == ["it is damaged", "it holds NaN or infinite values"]
    assert "gray or RGB" in reasons[2]
    assert len(reasons) == 3
    assert {c.origin.frame for c in kept(crops)} == {4}
    assert len(kept(crops)) == len(PLACES)


def test_every_third_frame() -> None:
    crops = kept(crops_of([drawn(seed=i) for i in range(7)], every=3, max_shift=0))
    assert sorted({c.origin.frame or 0 for c in crops}) == [0, 3, 6]


def test_folders_of_frames(folder_of: Callable[..., Path]) -> None:
    folder = folder_of(np.stack([drawn([(70, 40 + 9 * i)])[:, :, 0] for i in range(3)]))
    crops = kept(CropReader(open_source(folder), CropSettings(16, side=33)))
    assert [Path(c.name).name for c in crops] == [f"000{i}.png@70,{40 + 9 * i}" for i in range(3)]
    assert crops[1].origin == Provenance(source=str(folder / "0001.png"), position=(54, 33))


def test_masks_replace_the_detection() -> None:
    mask = np.zeros((150, 170, 1), np.uint8)
    mask[20:30, 120:130], mask[90:110, 60:80] = 5, 9
    names = [c.name for c in crops_of([drawn()], [mask])]
    assert names == ["video.mp4[0]@25,125", "video.mp4[0]@100,70"]


def test_masks_that_do_not_fit_are_refused(folder_of: Callable[..., Path]) -> None:
    frame = drawn()
    mask = np.zeros((150, 170, 1), np.uint8)
    with pytest.raises(UserError, match=r"masks.tif: holds 1 masks, video.mp4 has more frames"):
        crops_of([frame, frame], [mask])
    with pytest.raises(UserError, match=r"video.mp4: holds 1 frames, masks.tif has more masks"):
        crops_of([frame], [mask, mask])
    with pytest.raises(UserError, match=r"has 100x150 pixels, its frame .* has 170x150"):
        crops_of([frame], [mask[:, :100]])
    with pytest.raises(UserError, match="is no instance mask"):
        crops_of([frame], [mask.astype(np.float32)])
    folders = [open_source(folder_of(np.zeros((n, 9, 9), np.uint8), str(n))) for n in (2, 3)]
    with pytest.raises(UserError, match="holds 3 masks for the 2 frames"):
        CropReader(folders[0], CropSettings(16), folders[1])


def test_an_unreadable_mask_leaves_its_frame_out() -> None:
    mask = np.zeros((150, 170, 1), np.uint8)
    mask[70, 80] = 1
    first, second = crops_of([drawn(), drawn()], [None, mask])
    assert isinstance(first, SkippedImage)
    assert first.reason == "its mask masks.tif[0] cannot be read: it is damaged"
    assert isinstance(second, Record)


def test_the_contact_sheet_is_shown_all_frames_and_crops_also_by_a_late_start() -> None:
    for start in (0, 3):
        sheet = SheetCollector()
        reader = CropReader(Frames("video.mp4", [drawn()] * 2), CropSettings(16), sheet=sheet)
        assert len(list(reader.records(start))) == 8 - start
        assert (sheet.boxes, sheet.left_out) == (4, 4)  # the second frame is like the first


def test_memory_does_not_grow_with_the_frames() -> None:
    class Endless(Frames):
        def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
            for i in range(self.length):
                pixels = drawn([((7 * i) % 60, (11 * i) % 60)], side=(64, 64), seed=i)
                yield Record(str(i), pixels, Provenance(frame=i))

        length = 0

    def peak(length: int) -> int:
        frames = Endless("video.mp4")
        frames.length = length
        tracemalloc.start()
        assert sum(1 for _ in CropReader(frames, CropSettings(16, levels="video"))) >= length
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2)  # imports
    assert peak(80) < 1.2 * peak(10)
