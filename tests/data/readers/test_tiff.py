"""TIFF in all the forms that cameras and microscopes write, against tifffile."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.data.readers import Record
from anowild.data.readers.folder import FolderReader
from tests.conftest import SHARED
from tests.data.readers.checks import PICTURES, check, check_starts, crops, picture, reasons

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")

#: The first Pillow whose wheels read it in TIFF is 12.0.
ZSTD = pytest.param(
    "zstd",
    marks=pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 12, reason="Pillow is too old"),
)
GRAY = crops("cell.png", 1)[0]
COLOR = crops("astronaut.png", 1)[0]
DEEP_GRAY = GRAY.astype(np.uint16) * 257 + np.arange(56, dtype=np.uint16)
DEEP_COLOR = COLOR.astype(np.uint16) * 257 + 13
IMAGES = {
    "gray": GRAY,
    "color": COLOR,
    "deep gray": DEEP_GRAY,
    "deep color": DEEP_COLOR,
    "float": GRAY.astype(np.float32) / 255,
}


def save(path: Path, image: Array, **options: Any) -> str:
    if image.ndim == 3 and "photometric" not in options:
        options["photometric"] = "rgb"
    tifffile.imwrite(path, image, **options)
    return str(path)


def as_tifffile_reads(path: Path | str) -> list[Array]:
    """Every page, channels last, in the machine's byte order."""
    with tifffile.TiffFile(path) as file:
        pages = [page.asarray() for page in file.pages]
        planar = [page.planarconfig == 2 and page.samplesperpixel > 1 for page in file.pages]
    pages = [np.moveaxis(p, 0, -1) if apart else p for p, apart in zip(pages, planar, strict=True)]
    return [page.astype(page.dtype.newbyteorder("=")) for page in pages]


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())
@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"tile": (16, 16)}])
def test_depths_and_layouts(tmp_path: Path, image: Array, options: dict[str, Any]) -> None:
    path = save(tmp_path / "x.tif", image, **options)
    expected = as_tifffile_reads(path)
    assert np.array_equal(expected[0], image)
    check(FolderReader(path), expected)


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())
@pytest.mark.parametrize("compression", ["zlib", "lzw", ZSTD])
@pytest.mark.parametrize("predictor", [False, True])
def test_compressions(tmp_path: Path, image: Array, compression: str, predictor: bool) -> None:
    path = save(tmp_path / "x.tif", image, compression=compression, predictor=predictor)
    expected = as_tifffile_reads(path)
    assert np.array_equal(expected[0], image)
    check(FolderReader(path), expected)


@pytest.mark.parametrize("image", [COLOR, DEEP_COLOR], ids=["color", "deep color"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_planes_one_behind_the_other(tmp_path: Path, image: Array, compression: str | None) -> None:
    planes = np.ascontiguousarray(np.moveaxis(image, -1, 0))
    options = {"planarconfig": "separate", "compression": compression}
    path = save(tmp_path / "x.tif", planes, **options)
    expected = as_tifffile_reads(path)
    assert np.array_equal(expected[0], image)
    check(FolderReader(path), expected)


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_pages(tmp_path: Path, image: Array, byteorder: str) -> None:
    pages = np.stack([np.roll(image, 5 * i, axis=0) for i in range(4)])
    path = save(
        tmp_path / "x.tif",
        pages,
        photometric="rgb" if image.ndim == 3 else "minisblack",
        byteorder=byteorder,
        compression="zlib",
    )
    records = check(FolderReader(path), list(pages))
    assert [r.name for r in records] == [f"{path}[{i}]" for i in range(4)]
    assert [r.origin.frame for r in records] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["multipage.tif", "multipage_rgb.tif"])
def test_real_files_with_pages(name: str) -> None:
    check(FolderReader(str(PICTURES / name)), as_tifffile_reads(PICTURES / name))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "pages", "dtype"),
    [
        ("original_set20_raw.tif", 1, np.uint16),
        ("t98g_512_masks_u8.tif", 37, np.uint8),
        ("t98g_frames01-03_512_u16.tif", 3, np.uint16),
    ],
)
def test_real_files_of_a_microscope(name: str, pages: int, dtype: type) -> None:
    path = SHARED / "cells_video" / name
    expected = list(tifffile.imread(path).reshape(pages, *tifffile.imread(path).shape[-2:]))
    assert expected[0].dtype == dtype
    check(FolderReader(str(path)), expected)


def test_minimum_is_white(tmp_path: Path) -> None:
    # What is stored is inverted; Pillow and we show what is meant.
    path = save(tmp_path / "x.tif", GRAY, photometric="miniswhite")
    check(FolderReader(path), [255 - GRAY])


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("image", [GRAY, DEEP_COLOR], ids=["gray", "deep color"])
def test_files_that_break_off(tmp_path: Path, image: Array, compression: str | None) -> None:
    path = Path(save(tmp_path / "x.tif", image, compression=compression))
    data = path.read_bytes()
    for length in (len(data) * 2 // 3, 100, 8, 4, 0):
        path.write_bytes(data[:length])
        assert list(reasons(FolderReader(str(path)))) == [str(path)], length


def test_pages_before_the_damage_are_read(tmp_path: Path) -> None:
    pages = np.stack([picture("cell.png")[:40, i : i + 56] for i in range(4)])
    path = Path(save(tmp_path / "x.tif", pages, photometric="minisblack", metadata=None))
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        offset = file.pages[2].offset
    data[offset : offset + 60] = bytes(60)
    path.write_bytes(data)
    reader = FolderReader(str(path))
    assert len(reasons(reader)) == 1
    assert [r.name for r in reader][-1] == str(path)


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())
@pytest.mark.parametrize("bigtiff", [False, True], ids=["classic", "big"])
def test_a_stack_that_breaks_off_is_told(tmp_path: Path, image: Array, bigtiff: bool) -> None:
    """Whether the pages' directories are behind all pixels, or each behind those of its page."""
    stack = np.stack([np.roll(image, 5 * i, axis=0) for i in range(6)])
    photometric = "rgb" if image.ndim == 3 else "minisblack"
    for options in ({}, {"metadata": None, "compression": "zlib"}):
        path = Path(
            save(tmp_path / "x.tif", stack, photometric=photometric, bigtiff=bigtiff, **options)
        )
        data = path.read_bytes()
        for share in (0.8, 0.5, 0.3):
            path.write_bytes(data[: int(share * len(data))])
            records = list(FolderReader(str(path)))
            whole = [record for record in records if isinstance(record, Record)]
            assert len(whole) == len(records) - 1 < 6
            for i, record in enumerate(whole):
                assert record.name == f"{path}[{i}]"
                assert np.array_equal(record.pixels.squeeze(), stack[i])
            assert list(reasons(FolderReader(str(path)))) == [str(path)]
            check_starts(FolderReader(str(path)), records)


def test_pages_of_pillow_that_break_off_are_told(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.roll(GRAY, 5 * i, axis=0)) for i in range(4)]
    path = tmp_path / "x.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    data = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        third = file.pages[2].offset
    path.write_bytes(data[:third])
    assert reasons(FolderReader(str(path))) == {str(path): "it breaks off after page 2"}
    assert [r.name for r in FolderReader(str(path))] == [f"{path}[0]", f"{path}[1]", str(path)]


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [None, (16, 16)], ids=["strips", "tiles"])
def test_pages_that_lack_strips_are_left_out(
    tmp_path: Path, image: Array, compression: str | None, tile: tuple[int, int] | None
) -> None:
    path = tmp_path / "x.tif"
    rows = None if tile else 8
    save(path, image, compression=compression, tile=tile, rowsperstrip=rows)
    assert not reasons(FolderReader(str(path)))
    with tifffile.TiffFile(path) as file:
        height = file.pages[0].tags["ImageLength"].valueoffset
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, height, 80)
    path.write_bytes(data)
    found = "12 of its 20" if tile else "5 of its 10"
    assert reasons(FolderReader(str(path))) == {str(path): f"it has {found} strips or tiles"}


def test_a_tiff_of_several_pages_with_another_ending(tmp_path: Path) -> None:
    """By its ending it is one image; pages beyond that would move all numbers behind it."""
    for name, pages in (("a.png", 1), ("b.png", 3), ("c.png", 1), ("d.tif", 2)):
        save(tmp_path / name, np.stack([GRAY] * pages).squeeze(), photometric="minisblack")
    reader = FolderReader(str(tmp_path))
    records = list(reader)
    assert reasons(reader) == {
        str(tmp_path / "b.png"): "it is a TIFF of 3 pages; rename it to .tif"
    }
    assert [Path(r.name).name for r in records] == [
        "a.png",
        "b.png",
        "c.png",
        "d.tif[0]",
        "d.tif[1]",
    ]
    check_starts(reader, records)


@pytest.mark.parametrize("bigtiff", [False, True], ids=["classic", "big"])
@pytest.mark.parametrize(("count", "back"), [(1, 0), (3, 1), (150, 0)])
def test_pages_that_lead_in_a_circle_are_told(
    tmp_path: Path, bigtiff: bool, count: int, back: int
) -> None:
    image = np.zeros((8, 8, 3), np.uint16)
    with tifffile.TiffWriter(tmp_path / "x.tif", bigtiff=bigtiff, byteorder=">") as writer:
        for _ in range(count):
            writer.write(image, photometric="rgb", metadata=None)
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        offsets = [page.offset for page in file.pages]
        end = offsets[-1] + (
            8 + 20 * len(file.pages[-1].tags) if bigtiff else 2 + 12 * len(file.pages[-1].tags)
        )
    data = bytearray((tmp_path / "x.tif").read_bytes())
    struct.pack_into(">Q" if bigtiff else ">I", data, end, offsets[back])
    (tmp_path / "x.tif").write_bytes(data)
    path = str(tmp_path / "x.tif")
    assert reasons(FolderReader(path)) == {path: f"its {count} pages lead in a circle"}
