"""Images in every form, drawn at random, against the pixels that the test wrote; the same bytes from anywhere."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.data.readers import Record, SkippedImage, open_source
from anowild.data.readers.base import PassedOver
from anowild.data.readers.encoded import decode, page_count, shape
from anowild.data.readers.video import VideoReader
from tests.data.readers.checks import check, crops

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")
cv2 = pytest.importorskip("cv2")

Case = tuple[str, bytes, list[Array]]  # ending of the name, content, what has to be read

#: Whether rows and columns are exchanged, and then rows, and columns, reversed; TIFF 6.0, page 36.
TURNS = {
    1: (False, False, False), 2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
    5: (True, False, False), 6: (True, False, True), 7: (True, True, True), 8: (True, True, False),
}  # fmt: skip


def turned(pixels: Array, orientation: int) -> Array:
    exchange, rows, columns = TURNS[orientation]
    out = pixels.transpose(1, 0, 2) if exchange else pixels
    return out[:: -1 if rows else 1, :: -1 if columns else 1]


def laid_over_white(color: Array, alpha: Array, premultiplied: bool = False) -> Array:
    if color.dtype.kind == "f":
        share = alpha.astype(np.float64)[:, :, None]
        part = color if premultiplied else color.astype(np.float64) * share
        return np.minimum(part + (1 - share), 1).astype(color.dtype)
    full = np.iinfo(color.dtype).max
    share = alpha.astype(np.float64)[:, :, None] / full
    part = color if premultiplied else color * share
    return np.floor(np.minimum(part + full * (1 - share), full) + 0.5).astype(color.dtype)


def rgb_of_inks(inks: Array) -> Array:
    full = np.iinfo(inks.dtype).max
    ink = inks.astype(np.float64)
    light = full - ink[:, :, 3:]
    return (light - np.floor(ink[:, :, :3] * light / full + 0.5)).astype(inks.dtype)


def values(rng: np.random.Generator, size: tuple[int, int], samples: int, kind: str) -> Array:
    bits, shape = int(kind[1:]), (*size, samples)
    if kind[0] == "f":
        return rng.random(shape).astype(f"f{bits // 8}")
    if kind[0] == "i":
        return rng.integers(-(1 << bits - 1), 1 << bits - 1, shape).astype(f"i{bits // 8}")
    kept = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    return rng.integers(0, 1 << bits, shape).astype(kept)


def a_tiff(rng: np.random.Generator) -> Case:
    """A TIFF of one page, in a form drawn at random."""
    size = (int(rng.integers(5, 24)), int(rng.integers(5, 24)))
    form = rng.choice(["white", "black", "rgb", "cmyk", "palette", "many"])
    depths = {
        "palette": ["u8", "u8", "u16"], "cmyk": ["u8", "u16"], "rgb": ["u8", "u16", "f32"],
        "many": ["u8", "u16", "f32"],
    }.get(form, ["u1", "u2", "u3", "u4", "u7", "u8", "u10", "u12", "u16", "u24", "u32",
                 "i8", "i16", "i32", "f16", "f32", "f64"])  # fmt: skip
    kind = str(rng.choice(depths))
    bits = int(kind[1:])
    samples = {"rgb": 3, "cmyk": 4, "many": int(rng.integers(2, 6))}.get(form, 1)
    whole = bits in (8, 16, 32, 64)
    extra = (
        int(rng.integers(-1, 3)) if form in ("rgb", "cmyk") and kind in ("u8", "u16", "f32") else -1
    )
    stored = values(rng, size, samples + (extra >= 0), kind)
    orientation = int(rng.integers(1, 9))
    photometric = {
        "white": "miniswhite", "rgb": "rgb", "cmyk": "separated", "palette": "palette",
    }.get(form, "minisblack")  # fmt: skip
    options: dict[str, Any] = {
        "photometric": photometric, "byteorder": rng.choice(["<", ">"]), "bigtiff": rng.random() < 0.2,
        "extratags": [(274, "H", 1, orientation, True)], "metadata": None,
    }  # fmt: skip
    color = stored[:, :, :samples]
    if form == "palette":
        table = rng.integers(0, 65536, (3, 1 << bits)).astype(np.uint16)
        options["colormap"] = table
        color = (table >> 8).astype(np.uint8).T[stored[:, :, 0]]
    elif kind[0] == "u" and bits < 8:
        color = np.floor(color * (255 / ((1 << bits) - 1)) + 0.5).astype(np.uint8)
    if form == "white":
        top: Any = {"f": 1, "i": -1}.get(kind[0], (1 << max(bits, 8)) - 1)
        color = (top - color.astype(np.float64 if kind[0] == "f" else np.int64)).astype(color.dtype)
    if form == "cmyk":
        color = rgb_of_inks(color)
    if extra > 0:
        color = laid_over_white(color, stored[:, :, -1], extra == 1)
    if form == "many":
        options["planarconfig"] = "contig"
    if extra >= 0:
        options["extrasamples"] = [extra]
    if not whole:
        options["bitspersample"] = bits
        options["byteorder"] = "<"  # tifffile packs the bits of numbers in the other order wrongly
    else:
        options["compression"] = [None, "zlib", "lzw", "packbits"][rng.integers(4)]
        able = options["compression"] in ("zlib", "lzw") and kind != "f64" and form != "palette"
        options["predictor"] = bool(able and rng.random() < 0.5)
        if rng.random() < 0.3:
            options["tile"] = (16, 16)
        elif rng.random() < 0.5:
            options["rowsperstrip"] = int(rng.integers(1, size[0] + 1))
    written = stored if stored.shape[2] > 1 else stored[:, :, 0]
    if form in ("rgb", "cmyk", "many") and rng.random() < 0.3:
        options["planarconfig"] = "separate"
        written = np.moveaxis(stored, -1, 0)
    file = io.BytesIO()
    tifffile.imwrite(file, np.ascontiguousarray(written), **options)
    if color.dtype.kind == "i" and color.min() >= 0:
        color = color.astype(f"u{color.dtype.itemsize}")
    if color.dtype == np.uint32 and color.max() < 1 << 16:
        color = color.astype(np.uint16)
    return "tif", file.getvalue(), [turned(color, orientation)]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def filtered(rng: np.random.Generator, rows: Array, step: int) -> bytes:
    """Filter rows of bytes, each in a way drawn at random; PNG 1.2, section 6."""
    out, above = b"", np.zeros(rows.shape[1], np.int64)
    for row in rows.astype(np.int64):
        left = np.concatenate([np.zeros(step, np.int64), row[:-step]])[: len(row)]
        corner = np.concatenate([np.zeros(step, np.int64), above[:-step]])[: len(row)]
        guess = left + above - corner
        near = [abs(guess - x) for x in (left, above, corner)]
        paeth = np.where(
            (near[0] <= near[1]) & (near[0] <= near[2]), left,
            np.where(near[1] <= near[2], above, corner),
        )  # fmt: skip
        way = int(rng.integers(5))
        predicted = [np.zeros_like(row), left, above, (left + above) // 2, paeth][way]
        out += bytes([way]) + ((row - predicted) & 255).astype(np.uint8).tobytes()
        above = row
    return out


PASSES = [
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
]


def png(
    rng: np.random.Generator, stored: Array, bits: int, color_type: int,
    before: bytes = b"", after: bytes = b"", interlaced: bool = False,
) -> bytes:  # fmt: skip
    """Write a PNG; ``before`` and ``after`` are chunks around the pixels."""
    samples, data = stored.shape[2], b""
    for top, left, down, right in PASSES if interlaced else [(0, 0, 1, 1)]:
        part = stored[top::down, left::right]
        if not part.size:
            continue
        if bits < 8:
            spread = np.unpackbits(part.reshape(len(part), -1, 1).astype(np.uint8), axis=2)[
                :, :, 8 - bits :
            ]
            rows = np.packbits(spread.reshape(len(part), -1), axis=1)
        else:
            big = part.astype(">u2" if bits == 16 else np.uint8)
            rows = np.ascontiguousarray(big).reshape(len(part), -1).view(np.uint8)
        data += filtered(rng, rows, max(1, bits * samples // 8))
    height, width = stored.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, int(interlaced))
    parts = [
        chunk(b"IHDR", header),
        before,
        chunk(b"IDAT", zlib.compress(data)),
        after,
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def exif(orientation: int) -> bytes:
    return b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 274, 3, 1, orientation, 0) + bytes(4)


def a_png(rng: np.random.Generator) -> Case:
    """A PNG in a form drawn at random."""
    size = (int(rng.integers(4, 24)), int(rng.integers(4, 24)))
    color_type = int(rng.choice([0, 2, 3, 4, 6]))
    bits = int(rng.choice({0: [1, 2, 4, 8, 16], 3: [1, 2, 4, 8]}.get(color_type, [8, 16])))
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color_type]
    stored = values(rng, size, samples, f"u{bits}")
    before, color = b"", stored
    full = 65535 if bits == 16 else 255
    alpha: Array | None = None
    if color_type == 3:
        table = rng.integers(0, 256, (1 << bits, 4)).astype(np.uint8)
        before = chunk(b"PLTE", table[:, :3].tobytes())
        color = table[stored[:, :, 0], :3]
        if rng.random() < 0.5:
            before += chunk(b"tRNS", table[:, 3].tobytes())
            alpha = table[stored[:, :, 0], 3]
    elif samples in (2, 4):
        color, alpha = stored[:, :, :-1], stored[:, :, -1]
    else:
        if rng.random() < 0.4:
            key = stored[0, 0]
            before = chunk(b"tRNS", key.astype(">u2").tobytes())
            alpha = np.where((stored == key).all(axis=2), 0, full).astype(stored.dtype)
        if bits < 8:
            color = stored * np.uint8(255 // ((1 << bits) - 1))
    if alpha is not None:
        color = laid_over_white(color, alpha)
    orientation = int(rng.integers(1, 9)) if rng.random() < 0.5 else 1
    turn = chunk(b"eXIf", exif(orientation)) if orientation > 1 else b""
    after = b""
    if rng.random() < 0.5:
        before += turn
    else:
        after = turn
    content = png(rng, stored, bits, color_type, before, after, interlaced=rng.random() < 0.3)
    return "png", content, [turned(color, orientation)]


def a_photograph(rng: np.random.Generator) -> Case:
    """JPEG, BMP or WebP that Pillow writes; what it decodes is turned here."""
    size = (int(rng.integers(8, 24)), int(rng.integers(8, 24)))
    form = str(rng.choice(["JPEG", "BMP", "WEBP"]))
    mode = str(
        rng.choice(
            {"JPEG": ["L", "RGB", "CMYK"], "BMP": ["1", "L", "P", "RGB"]}.get(form, ["RGB", "RGBA"])
        )
    )
    noise = values(rng, size, 4, "u8")
    source = (
        Image.fromarray(noise[:, :, :3]).convert(mode) if mode != "RGBA" else Image.fromarray(noise)
    )
    orientation = int(rng.integers(1, 9)) if form != "BMP" else 1
    options: dict[str, Any] = {} if form == "BMP" else {"exif": b"Exif\0\0" + exif(orientation)}
    file = io.BytesIO()
    source.save(
        file, form, **options, **({"lossless": True, "exact": True} if form == "WEBP" else {})
    )
    if mode == "RGBA":
        color = laid_over_white(noise[:, :, :3], noise[:, :, 3])
    elif mode in ("1", "L"):
        color = np.asarray(Image.open(file).convert("L"))[:, :, None]
    else:
        color = np.asarray(Image.open(file).convert("RGB"))
    return form.lower(), file.getvalue(), [turned(color, orientation)]


def drawn(count: int, seed: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for i in range(count):
        yield (a_tiff, a_png, a_tiff, a_png, a_photograph)[i % 5](rng)


def check_forms(count: int, seed: int) -> None:
    for number, (ending, content, expected) in enumerate(drawn(count, seed)):
        file = io.BytesIO(content)
        found = list(decode(file))
        where = f"case {number}, {ending}"
        assert [(page, pages) for page, pages, _ in found] == [(0, 1)], where
        pixels, (wanted,) = found[0][2], expected
        assert pixels.dtype == wanted.dtype, where
        assert pixels.dtype.isnative, where
        assert pixels.shape == wanted.shape, where
        assert shape(io.BytesIO(content)) == pixels.shape, where
        assert np.array_equal(pixels, wanted), where


def test_every_form_is_read_as_it_was_written() -> None:
    check_forms(400, 0)


@pytest.mark.slow
def test_two_thousand_forms_are_read_as_they_were_written() -> None:
    check_forms(2000, 1)


def test_the_same_bytes_are_read_alike_from_anywhere(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    cases = list(drawn(60, 2))
    folder = tmp_path / "images"
    folder.mkdir()
    names = [f"{i:03d}.{ending}" for i, (ending, _, _) in enumerate(cases)]
    with (
        zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as packed,
        tarfile.open(tmp_path / "x.tar", "w") as tar,
    ):
        for name, (_, content, _) in zip(names, cases, strict=True):
            (folder / name).write_bytes(content)
            packed.writestr(name, content)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    parquet.write_table(pa.table({"image": [c for _, c, _ in cases]}), tmp_path / "x.parquet")
    sources = [folder, tmp_path / "x.zip", tmp_path / "x.tar", tmp_path / "x.parquet"]
    for source in sources:
        check(open_source(source), [image for _, _, expected in cases for image in expected])
    for name, (_, _, (expected,)) in zip(names, cases, strict=True):
        check(open_source(folder / name), [expected])


@pytest.mark.parametrize("samples", [3, 4])
def test_opencv_reads_the_same_deep_colors(samples: int) -> None:
    rng = np.random.default_rng(0)
    stored = values(rng, (13, 17), samples, "u16")
    if samples == 4:
        stored[:, :, 3] = 65535
    content = png(rng, stored, 16, 2 if samples == 3 else 6)
    theirs = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    ((_, _, ours),) = decode(io.BytesIO(content))
    assert np.array_equal(ours, theirs[:, :, [2, 1, 0]])


def test_smaller_copies_and_masks_are_no_images(tmp_path: Path) -> None:
    (image,) = crops("astronaut.png", 1)
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(image[::4, ::4], photometric="rgb", subfiletype=1)
        file.write(image, photometric="rgb")
        file.write(image[::2, ::2], photometric="rgb", subfiletype=1)
        file.write(image[::-1], photometric="rgb", subfiletype=2)  # page of several
    check(open_source(path), [image, image[::-1]])
    assert page_count(path) == 2
    mask = tmp_path / "mask.tif"
    with tifffile.TiffWriter(mask) as file:
        file.write(image.astype(np.uint16), photometric="rgb")
        file.write(image[:, :, 0] > 99, photometric=4, subfiletype=4)
    check(open_source(mask), [image.astype(np.uint16)])
    # They are counted while the images are read, wherever the files lie.
    with (
        zipfile.ZipFile(tmp_path / "x.zip", "w") as packed,
        tarfile.open(tmp_path / "x.tar", "w") as tar,
    ):
        for name in (mask.name, path.name):
            packed.write(tmp_path / name, name)
            tar.add(tmp_path / name, name)
    (tmp_path / "folder").mkdir()
    for name in (mask.name, path.name):
        (tmp_path / name).rename(tmp_path / "folder" / name)
    for source in (tmp_path / "folder", tmp_path / "x.zip", tmp_path / "x.tar"):
        reader = open_source(source)
        for _ in range(2):
            assert len(list(reader)) == 3
            assert reader.passed_over() == [
                PassedOver(
                    "smaller copies and masks of images in TIFF files", 3, f"{source}/mask.tif"
                )
            ]


@pytest.mark.parametrize("options", [{"imagej": True}, {"photometric": "minisblack"}])
def test_planes_behind_a_single_page_are_images(tmp_path: Path, options: dict[str, Any]) -> None:
    planes = np.stack(crops("cell.png", 7)).astype(np.uint16) * 257 + 3
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, planes, truncate=True, **options)
    records = check(open_source(path), list(planes))
    assert [r.origin.frame for r in records] == list(range(7))
    path.write_bytes(path.read_bytes()[: -planes[0].nbytes - 8])
    *found, last = open_source(path)
    assert len(found) == 5
    assert isinstance(last, SkippedImage)
    assert last.reason == "it breaks off in plane 5"


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.gif"])
def test_animations_are_read_frame_by_frame_like_videos(tmp_path: Path, name: str) -> None:
    frames = [np.full((12, 16, 3), level, np.uint8) for level in (0, 80, 160, 240)]
    first, *rest = [Image.fromarray(frame) for frame in frames]
    options: dict[str, Any] = {"lossless": True} if name.endswith("webp") else {}
    first.save(tmp_path / name, save_all=True, append_images=rest, **options)
    check(open_source(tmp_path / name), frames)
    # Among images it is one entry, which says what to do.
    renamed = tmp_path / "images" / ("a.png" if name.endswith("gif") else name)
    renamed.parent.mkdir()
    renamed.write_bytes((tmp_path / name).read_bytes())
    (left_out,) = open_source(renamed.parent)
    assert isinstance(left_out, SkippedImage)
    assert left_out.reason == (
        "it is an animation of 4 frames; give the file itself as a source to read them"
    )
    assert list(open_source(renamed.parent).shapes(9)) == []


def test_transparent_frames_of_an_animation_lie_on_white(tmp_path: Path) -> None:
    still = np.zeros((8, 8, 4), np.uint8)
    still[2:6, 2:6] = [200, 100, 50, 255]
    moved = np.roll(still, 2, axis=1)
    path = tmp_path / "a.png"
    Image.fromarray(still).save(
        path, save_all=True, append_images=[Image.fromarray(moved)], blend=0
    )
    shown = [laid_over_white(x[:, :, :3], x[:, :, 3]) for x in (still, moved)]
    check(VideoReader(str(path)), shown)


def test_colors_under_full_transparency_do_not_count() -> None:
    found = []
    for hidden in (0, 127, 255):
        pixels = np.full((8, 8, 4), (hidden, hidden, hidden, 0), np.uint8)
        pixels[2:6, 2:6] = [200, 100, 50, 255]
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        found.append(next(decode(file))[2])
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    assert found[0][0, 0].tolist() == [255, 255, 255]


def test_an_empty_fourth_byte_of_a_bitmap_is_no_transparency() -> None:
    pixels = np.concatenate([crops("astronaut.png", 1)[0], np.zeros((40, 56, 1), np.uint8)], axis=2)
    rows = np.ascontiguousarray(pixels[::-1, :, [2, 1, 0, 3]]).tobytes()
    # A header of version 4 that declares masks of all four bytes.
    head = struct.pack("<IiiHHIIiiII", 108, 56, 40, 1, 32, 3, len(rows), 0, 0, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    file = io.BytesIO(struct.pack("<2sIHHI", b"BM", 14 + 108 + len(rows), 0, 0, 122) + head + rows)
    assert np.array_equal(next(decode(file))[2], pixels[:, :, :3])


@pytest.mark.parametrize("after", [False, True])
def test_long_texts_do_not_cost_the_image(after: bool) -> None:
    rng = np.random.default_rng(0)
    (pixels,) = crops("astronaut.png", 1)
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(5_000_000)))
    text += chunk(b"iTXt", b"Title\0\x01\0\0\0" + zlib.compress(bytes(5_000_000)))
    text += chunk(b"tEXt", b"Note\0" + b"x" * 3_000_000)
    turn = chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>')
    texts = text + turn
    content = png(rng, pixels, 8, 2, b"" if after else texts, texts if after else b"")
    ((_, _, found),) = decode(io.BytesIO(content))
    assert np.array_equal(found, np.rot90(pixels, -1))
    assert shape(io.BytesIO(content)) == found.shape


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"photometric": 8}, "photometric interpretation 8"),
        ({"photometric": "separated", "extratags": [(332, "H", 1, 2, True)]}, "not those of CMYK"),
    ],
)
def test_colors_that_cannot_be_converted_are_named(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    samples = 4 if options["photometric"] == "separated" else 3
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((8, 8, samples), np.uint16), **options)
    (record,) = open_source(tmp_path / "x.tif")
    assert isinstance(record, SkippedImage)
    assert reason in record.reason


def test_a_hundred_megapixels_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("1", (11648, 8736), 1).save(path)
    (record,) = open_source(path)
    assert isinstance(record, Record)
    assert record.pixels.shape == (8736, 11648, 1)
    assert record.pixels.min() == 255


def test_a_program_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png", "EPS")

    def ghostscript(*_: object, **__: object) -> None:
        raise AssertionError("it was run")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", ghostscript)
    (record,) = open_source(tmp_path / "x.png")
    assert isinstance(record, SkippedImage)
    assert record.reason == "cannot identify it as an image: it is damaged, or of another kind"
