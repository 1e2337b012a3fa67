"""Cutting crops: where they lie, what their pixels are, which are dropped, how much they cover."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.data.crops import (
    Coverage,
    CropReader,
    CropSettings,
    Found,
    coverage,
    cut,
    find_objects,
    objects_in_mask,
    placed,
    to_cut,
    to_gray,
    video_levels,
)
from anowild.data.dataset.contact_sheet import SheetCollector
from anowild.data.readers import Record, open_source
from anowild.data.readers.base import Provenance, Reader, Shape, SkippedImage
from anowild.errors import UserError
from tests.conftest import SHARED

pytest.importorskip("skimage")

CELLS = Path(__file__).parent / "files" / "cells"

#: Rows and columns of the blobs of `drawn`.
PLACES = [(30, 40), (50, 110), (100, 70), (120, 140)]


class Frames(Reader):
    """Frames that are at hand: [H, W, C], or None for one that cannot be read."""

    KIND: ClassVar[str] = "frames of a test"

    def __init__(self, source: str, frames: Iterable[Array | None] = ()) -> None:
        self.name = source
        self.frames = list(frames)

    @staticmethod
    def takes(source: str) -> bool:
        return False

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for i, pixels in enumerate(self.frames[start:], start):
            name, origin = f"{self.name}[{i}]", Provenance(source=self.name, frame=i)
            if pixels is None:
                yield SkippedImage(name, "it is damaged", origin)
            else:
                yield Record(name, pixels, origin)

    def shapes(self, most: int) -> Iterator[Shape]:
        return iter([])

    def files(self) -> Iterable[Path]:
        return [Path(self.name)]


def drawn(
    places: Iterable[tuple[int, int]] = PLACES,
    side: tuple[int, int] = (150, 170),
    radius: float = 8,
    noise: float = 2,
    seed: int = 0,
) -> Array:
    """Bright discs on gray with noise: uint8 [H, W, 1]."""
    y, x = np.mgrid[: side[0], : side[1]]
    frame = np.random.default_rng(seed).normal(100, noise, side)
    for row, column in places:
        frame[(y - row) ** 2 + (x - column) ** 2 <= radius**2] += 80
    return frame.clip(0, 255).round().astype(np.uint8)[:, :, None]


def cells_of(
    frames: Iterable[Array | None], masks: Iterable[Array | None] | None = None, **settings: Any
) -> list[Record | SkippedImage]:
    given = Frames("video.mp4", frames)
    ids = None if masks is None else Frames("masks.tif", masks)
    return list(CropReader(given, CropSettings(**({"object_size": 16} | settings)), ids))


def kept(crops: Iterable[Record | SkippedImage]) -> list[Record]:
    return [crop for crop in crops if isinstance(crop, Record)]


def assert_found(found: list[Found], places: Iterable[tuple[int, int]], within: float) -> None:
    places = list(places)
    assert len(found) == len(places)
    for row, column in places:
        assert min(np.hypot(f.row - row, f.column - column) for f in found) <= within


# --- Finding -------------------------------------------------------------------------------------


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


# --- Cutting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("padding", "mode"), [
    ("reflect", "reflect"), ("edge", "edge"), ("zero", "constant")
])  # fmt: skip
@pytest.mark.parametrize("shape", [(20, 30), (3, 5), (1, 9), (2, 1)])
def test_padding_is_what_numpy_makes_of_it(padding: str, mode: Any, shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    wide = np.pad(frame, 40, mode=mode)
    for top, left in ((-5, -6), (0, 0), (shape[0] - 2, shape[1] - 3), (-11, 4), (2, -8)):
        expected = wide[40 + top : 52 + top, 40 + left : 52 + left]
        assert np.array_equal(cut(frame, top, left, 12, padding), expected)


@pytest.mark.parametrize("side", [24, 25])
def test_crops_are_centerd_squares_of_the_frame(side: int) -> None:
    frame = drawn()
    mask = np.zeros((150, 170), np.uint8)
    mask[100, 70] = 1
    (crop,) = kept(cells_of([frame], [mask[:, :, None]], side=side, percentiles=(0, 100)))
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
    crops = kept(cells_of(frames, side=33, padding="reflect"))
    assert [c.origin.position for c in crops] == [(-10, -10), (59, 69)]
    inside = kept(cells_of(frames, side=33, padding="skip"))
    assert [c.origin.position for c in inside] == [(59, 69)]
    black = kept(cells_of(frames, side=33, padding="zero"))[0].pixels
    assert (black[:10] == 0).all()
    assert (black[:, :10] == 0).all()
    assert np.array_equal(black[10:, 10:], crops[0].pixels[10:, 10:])
    moved = kept(cells_of(frames, side=33))
    assert [c.origin.position for c in moved] == [(0, 0), (59, 69)]
    assert [c.name for c in moved] == [c.name for c in crops]
    assert np.array_equal(moved[0].pixels[:23, :23], crops[0].pixels[10:, 10:])


def test_crops_that_were_moved_to_the_same_place_are_cut_once() -> None:
    settings = CropSettings(16, side=33)
    found = [Found(row, 80, 16) for row in (4, 12, 90, 92)]
    assert to_cut(found, (150, 170), settings) == [found[0], *found[2:]]  # inside, both are cut
    assert to_cut(found, (150, 170), settings, merge=False) == found
    far = [Found(140, 30, 16), Found(140, 60, 16), Found(148, 60, 16)]
    assert to_cut(far, (150, 170), settings) == far[:2]
    assert placed(Found(149, 169, 16), (150, 170), 33, "shift") == (117, 137)
    assert placed(Found(10, 10, 16), (20, 50), 33, "shift") == (-6, 0)


def test_frames_smaller_than_a_crop() -> None:
    frames = [drawn([(10, 10)], side=(20, 24), radius=3)]
    (crop,) = kept(cells_of(frames, object_size=8, side=64))
    assert crop.pixels.shape == (64, 64, 1)
    (left_out,) = cells_of(frames, object_size=8, side=64, padding="skip")
    assert isinstance(left_out, SkippedImage)
    assert "24x20 pixels are too few for crops of side 64" in left_out.reason


# --- Levels --------------------------------------------------------------------------------------


def frames_of(kind: str) -> list[Array]:
    frames = [drawn(seed=i) + np.uint8(10 * i) for i in range(3)]
    if kind == "uint16":
        return [f.astype(np.uint16) * 250 + np.uint16(i) for i, f in enumerate(frames)]
    if kind == "float":
        return [f / 300.0 - 0.2 for f in frames]
    return frames


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("percentiles", [(0.1, 99.9), (0.0, 100.0), (3.3, 50.0)])
def test_levels_of_a_video_are_those_of_numpy(kind: str, percentiles: tuple[float, float]) -> None:
    grays = [f[:, :, 0] for f in frames_of(kind)]
    expected = np.percentile(np.stack(grays), percentiles)
    assert video_levels(lambda: grays, percentiles) == pytest.approx(tuple(expected), rel=1e-12)


def test_levels_of_a_video_of_floats_are_near_those_of_numpy() -> None:
    grays = [np.random.default_rng(i).normal(size=(100, 100)) for i in range(4)]
    expected = np.percentile(np.stack(grays), (0.1, 99.9))
    step = np.ptp(grays) / 65535
    assert video_levels(lambda: grays, (0.1, 99.9)) == pytest.approx(tuple(expected), abs=step)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float"])
@pytest.mark.parametrize("levels", ["frame", "video", "fixed"])
def test_levels(kind: str, levels: str) -> None:
    frames = frames_of(kind)
    grays = (float(frames[0].min()), float(frames[2].max())) if levels == "fixed" else None
    crops = kept(cells_of(frames, levels=levels, grays=grays, still=0))
    assert len(crops) == 3 * len(PLACES)
    for crop in crops:
        assert crop.origin.frame is not None
        assert crop.origin.position is not None
        black, white = grays or np.percentile(
            frames[crop.origin.frame] if levels == "frame" else np.stack(frames), (0.1, 99.9)
        )
        top, left = crop.origin.position
        gray = frames[crop.origin.frame][:, :, 0].astype(float)
        square = cut(gray, top, left, 32, "reflect")
        expected = np.rint(((square - black) * (255 / (white - black))).clip(0, 255))
        off = np.abs(crop.pixels[:, :, 0] - expected)
        # The percentiles of a video may differ in the last bit, those of floats a bit more.
        assert off.max() <= (levels == "video")
        assert off.mean() < 0.02


def test_color_becomes_gray_by_luma() -> None:
    color = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(color).convert("L")).astype(int)
    assert np.abs(to_gray(color) - expected).max() <= 1
    assert to_gray(color).dtype == np.uint8
    same = drawn()
    assert np.array_equal(to_gray(np.repeat(same, 3, axis=2)), same[:, :, 0])


# --- Thinning ------------------------------------------------------------------------------------


def test_a_still_object_is_kept_once_and_told_of() -> None:
    crops = cells_of([drawn([(70, 80)], seed=i) for i in range(6)])
    assert [type(c) for c in crops] == [Record] + [SkippedImage] * 5
    for number, crop in enumerate(crops[1:], 1):
        assert isinstance(crop, SkippedImage)
        assert crop.reason == "hardly differs from an earlier crop (video.mp4[0]@70,80)"
        assert crop.origin.frame == number
        assert crop.origin.position is not None


def test_a_moving_object_is_kept_again_and_again() -> None:
    assert len(kept(cells_of([drawn([(70, 40 + 3 * i)]) for i in range(6)]))) == 6


def test_a_creeping_object_is_compared_with_its_last_kept_crop_and_not_the_last_frame() -> None:
    crops = cells_of([drawn([(70, 40 + i)]) for i in range(9)], changed=1.0, still=0.2)
    assert [isinstance(c, Record) for c in crops] == [i % 4 == 0 for i in range(9)]


def test_an_object_that_changes_in_its_place_is_kept_again() -> None:
    frames = [drawn([(70, 80)], radius=8 if i < 3 else 11) for i in range(6)]
    crops = cells_of(frames)
    assert [isinstance(c, Record) for c in crops] == [True, False, False, True, False, False]


@pytest.mark.parametrize("off", [{"still": 0}, {"changed": 0}])
def test_thinning_can_be_switched_off(off: dict[str, Any]) -> None:
    assert len(kept(cells_of([drawn([(70, 80)])] * 4, **off))) == 4


def test_thinning_takes_equal_instances_of_one_frame_for_two() -> None:
    mask = np.zeros((150, 170, 1), np.uint8)
    mask[70, 80], mask[70, 81] = 1, 2
    assert len(kept(cells_of([drawn()], [mask]))) == 2


# --- The reader ----------------------------------------------------------------------------------


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
    assert not CropReader.takes("video.mp4")
    assert list(reader) == []


def test_frames_that_cannot_be_cut_are_told_of_and_the_others_are_cut() -> None:
    holes = drawn().astype(np.float32)
    holes[3, 3] = np.nan
    four = np.repeat(drawn(), 4, axis=2)
    blank = np.full((150, 170, 1), 9, np.uint8)
    crops = cells_of([None, holes, four, blank, drawn()], levels="video")
    reasons = [c.reason for c in crops if isinstance(c, SkippedImage)]
    assert reasons[:2] == ["it is damaged", "it holds NaN or infinite values"]
    assert "gray or RGB" in reasons[2]
    assert len(reasons) == 3
    assert {c.origin.frame for c in kept(crops)} == {4}
    assert len(kept(crops)) == len(PLACES)


def test_every_third_frame() -> None:
    crops = kept(cells_of([drawn(seed=i) for i in range(7)], every=3, still=0))
    assert sorted({c.origin.frame or 0 for c in crops}) == [0, 3, 6]


def test_folders_of_frames(folder_of: Callable[..., Path]) -> None:
    folder = folder_of(np.stack([drawn([(70, 40 + 9 * i)])[:, :, 0] for i in range(3)]))
    crops = kept(CropReader(open_source(folder), CropSettings(16, side=33)))
    assert [Path(c.name).name for c in crops] == [f"000{i}.png@70,{40 + 9 * i}" for i in range(3)]
    assert crops[1].origin == Provenance(source=str(folder / "0001.png"), position=(54, 33))


def test_masks_replace_the_detection() -> None:
    mask = np.zeros((150, 170, 1), np.uint8)
    mask[20:30, 120:130], mask[90:110, 60:80] = 5, 9
    names = [c.name for c in cells_of([drawn()], [mask])]
    assert names == ["video.mp4[0]@25,125", "video.mp4[0]@100,70"]


def test_masks_that_do_not_fit_are_refused(folder_of: Callable[..., Path]) -> None:
    frame = drawn()
    mask = np.zeros((150, 170, 1), np.uint8)
    with pytest.raises(UserError, match=r"masks.tif: holds 1 masks, video.mp4 has more frames"):
        cells_of([frame, frame], [mask])
    with pytest.raises(UserError, match=r"video.mp4: holds 1 frames, masks.tif has more masks"):
        cells_of([frame], [mask, mask])
    with pytest.raises(UserError, match=r"is 100x150 pixels large, its frame .* 170x150"):
        cells_of([frame], [mask[:, :100]])
    with pytest.raises(UserError, match="is no instance mask"):
        cells_of([frame], [mask.astype(np.float32)])
    folders = [open_source(folder_of(np.zeros((n, 9, 9), np.uint8), str(n))) for n in (2, 3)]
    with pytest.raises(UserError, match="holds 3 masks for the 2 frames"):
        CropReader(folders[0], CropSettings(16), folders[1])


def test_an_unreadable_mask_leaves_its_frame_out() -> None:
    mask = np.zeros((150, 170, 1), np.uint8)
    mask[70, 80] = 1
    first, second = cells_of([drawn(), drawn()], [None, mask])
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


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"object_size": 2}, "typical diameter"),
        ({"object_size": float("nan")}, "typical diameter"),
        ({"contrast": 1}, "above 1"),
        ({"side": 3}, "from 4 to 8192"),
        ({"padding": "mirror"}, "choose one of shift, reflect, edge, zero, skip"),
        ({"levels": "clip"}, "choose one of frame, video, fixed"),
        ({"percentiles": (50, 50)}, "have to rise"),
        ({"percentiles": (-1, 50)}, "have to rise"),
        ({"levels": "fixed"}, "go together"),
        ({"grays": (0, 9)}, "go together"),
        ({"levels": "fixed", "grays": (9, 9)}, "the higher one"),
        ({"still": -1}, "0 \\(off\\) or more"),
        ({"changed": 2}, "from 0 \\(off\\) to 1"),
        ({"every": 0}, "at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        CropSettings(**({"object_size": 16} | wrong))


def test_settings_are_told_with_the_side_that_holds() -> None:
    assert CropSettings(55.5).crop_side == 112
    assert CropSettings(56, side=64).crop_side == 64
    told = CropSettings(56, levels="fixed", grays=(3, 200)).to_json()
    assert told["side"] == 112
    assert told["grays"] == (3, 200)


# --- Coverage ------------------------------------------------------------------------------------


def test_coverage_counts_strictly() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[40:60, 20:40] = 7  # its center of mass: 49.5, 29.5
    mask[0:4, 90:94] = 2
    assert coverage([Found(49.5, 29.5, 1)], mask, 20) == Coverage(2, 1, 1, 1, 1)
    # Three quarters of it, no column less.
    assert coverage([Found(49.5, 34.5, 1)], mask, 20).covered == 1
    assert coverage([Found(49.5, 35.5, 1)], mask, 20).covered == 0
    # All of it, but from two crops.
    assert coverage([Found(49.5, 37, 1), Found(49.5, 22, 1)], mask, 20).covered == 0
    # All of it, but not centerd on it.
    beside = [Found(49.5, 42.0, 1)]
    assert coverage(beside, mask, 50) == Coverage(2, 1, 0, 1, 0)
    assert coverage(beside, mask, 50, near=3).on_instance == 1
    assert coverage(beside, mask, 50, near=2).on_instance == 0
    assert coverage([], mask, 50) == Coverage(instances=2)
    assert coverage(beside, np.zeros((100, 100), np.uint8), 50, near=99) == Coverage(crops=1)
    pooled = coverage(beside, mask, 50) + Coverage(2, 2, 2, 3, 3)
    assert (pooled.recall, pooled.centerd_recall, pooled.precision) == (0.75, 0.5, 0.75)
    assert np.isnan([Coverage().recall, Coverage().precision, Coverage().centerd_recall]).all()


def test_coverage_asks_for_the_center_of_mass() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[40:50, 10:20] = mask[40:50, 90:93] = 1  # 10 of 13 columns; the center is in between
    mask[0, 0] = 2
    assert coverage([Found(44.5, 14.5, 1)], mask, 12).covered == 0


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
    assert pooled.centerd_recall > 0.7  # of as many crops on a grid: 0.46
