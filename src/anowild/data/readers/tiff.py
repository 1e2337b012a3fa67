"""Decoder of TIFF: Pillow for the plain forms, which it reads exactly, tifffile for all others."""

from __future__ import annotations

import logging
import math
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin

from anowild.arrays import Array
from anowild.data.readers import normal_form
from anowild.data.readers.base import MAX_PIXELS, Shape, check_pixels
from anowild.libraries import library

#: Is told how many pages of a file are passed over.
Counter = Callable[[int], None]

# Tags and values of TIFF 6.0.
_REDUCED, _OLD_REDUCED, _WIDTH, _HEIGHT, _BITS = 254, 255, 256, 257, 258
_PHOTOMETRIC, _FILL_ORDER, _DESCRIPTION, _ORIENTATION = 262, 266, 270, 274
_STRIP_OFFSETS, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS = 273, 278, 322, 323, 324
_SAMPLES, _PLANAR, _INK_SET, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 277, 284, 332, 338, 339
_STK_PLANES = 33629
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _SEPARATED, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
#: Compressions that leave YCbCr as it is; codecs of pictures turn it into RGB.
_PLAIN_COMPRESSIONS = (1, 5, 8, 32773, 32946, 34925, 34926, 50000)
_ASSOCIATED_ALPHA, _ALPHA = 1, 2

#: Photometric interpretation, samples, bits and extra samples of what Pillow reads exactly, beside gray.
_PLAIN_COLORS = {
    (_RGB, 3, 8, ()), (_RGB, 4, 8, (_ALPHA,)), (_SEPARATED, 4, 8, ()), (_YCBCR, 3, 8, ()), (_LAB, 3, 8, ()),
    *((_PALETTE, 1, bits, ()) for bits in (1, 2, 4, 8)),
}  # fmt: skip


def is_tiff(start: bytes) -> bool:
    """Whether the first bytes of a file are those of a TIFF, or of a BigTIFF."""
    return start[:2] in (b"II", b"MM") and start[2:4].strip(b"\0") in (b"*", b"+")


def decode(
    file: BinaryIO, passed_over: Counter, most_pixels: int = MAX_PIXELS
) -> Iterator[tuple[int, int, Array]]:
    """Decode a TIFF page by page; see :func:`anowild.data.readers.encoded.decode`."""
    directories = _check_directories(file)
    # Where the file breaks off, at least one page is missing.
    missing = 0 if directories.complete else 1
    found = _plain_pages(file)
    if found is None:
        for number, pages, pixels in _decode_with_tifffile(file, passed_over, most_pixels):
            yield number, pages + missing, pixels
    else:
        plain, total = found
        if total > len(plain):
            passed_over(total - len(plain))
        with _opened(file) as image:
            for number, page in enumerate(plain):
                image.seek(page)
                yield number, len(plain) + missing, _pillow_pixels(image, most_pixels)
    if missing:
        raise ValueError(f"it breaks off after page {directories.pages}")


def shape(file: BinaryIO) -> Shape:
    """Read height, width and channels of the first image of a TIFF from its tags."""
    try:
        with _opened(file) as image:
            for page in _pages(image):
                if page == 0 or not _is_reduced(image.tag_v2):
                    found = _tag_shape(image.tag_v2) if _is_plain(image) else None
                if found is None or not _is_reduced(image.tag_v2):
                    break
    except Exception:  # of many kinds, on forms that Pillow does not know
        found = None
    if found is not None:
        return found
    with _opened_with_tifffile(file) as tiff:
        page = tiff.pages[_kept(tiff)[0]]
        return _turned(page.imagelength, page.imagewidth, _orientation(page), _channels(page))


def page_count(file: BinaryIO) -> int:
    """Return how many images :func:`decode` yields."""
    found = _plain_pages(file)
    if found is not None:
        return len(found[0])
    with _opened_with_tifffile(file) as tiff:
        return _planes(tiff) or len(_kept(tiff))


def _opened(file: BinaryIO) -> TiffImagePlugin.TiffImageFile:
    file.seek(0)
    image = Image.open(file, formats=["TIFF"])
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    return image


def _pages(image: TiffImagePlugin.TiffImageFile) -> Iterator[int]:
    """Go through the pages of an image, reading their tags alone."""
    for page in count():
        try:
            image.seek(page)
        except EOFError:
            return
        yield page


def _plain_pages(file: BinaryIO) -> tuple[list[int], int] | None:
    """List the pages that are images, for Pillow, and count all pages.

    None: some are of a form that Pillow does not read exactly.
    """
    kept, total = [], 0
    try:
        with _opened(file) as image:
            for page in _pages(image):
                if not _is_plain(image):
                    return None
                total += 1
                if not _is_reduced(image.tag_v2):
                    kept.append(page)
            if total == 1 and _may_hold_planes(image.tag_v2):
                return None
    except Exception:  # of many kinds; tifffile tells what is damaged
        return None
    finally:
        file.seek(0)
    return kept or list(range(total)), total


def _is_plain(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether Pillow gives exactly the values of a page."""
    tags = image.tag_v2
    samples, planar = tags.get(_SAMPLES, 1), tags.get(_PLANAR, 1)
    bits, formats = set(tags.get(_BITS, (1,))), set(tags.get(_SAMPLE_FORMAT, (1,)))
    extra = tuple(tags.get(_EXTRA_SAMPLES, ()))
    photometric = tags.get(_PHOTOMETRIC)
    if len(bits) != 1 or len(formats) != 1:
        return False
    (depth,), (kind,) = bits, formats
    if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and samples == 1 and not extra:
        if kind == 3:  # compressed and big-endian: Pillow would swap its bytes twice
            swapped = tags.prefix == b"MM" and image.tile[0][0] == "libtiff"
            return depth == 32 and not swapped
        return kind == 1 and (
            depth in (1, 2, 4, 8) or (depth == 16 and tags.get(_FILL_ORDER, 1) == 1)
        )
    if kind != 1 or (photometric, samples, depth, extra) not in _PLAIN_COLORS:
        return False
    if photometric == _SEPARATED and tags.get(_INK_SET, 1) != 1:
        return False
    return planar == 1 or samples == 1 or (photometric, samples) == (_RGB, 3)


def _is_reduced(tags: Any) -> bool:
    """Whether a page is a smaller copy or a mask of another, such as a level of a pyramid."""
    return bool(tags.get(_REDUCED, 0) & 0b101) or tags.get(_OLD_REDUCED) == 2


def _may_hold_planes(tags: Any) -> bool:
    """Whether a single page may have more images behind it, as ImageJ and MetaMorph write them."""
    text = str(tags.get(_DESCRIPTION, ""))
    return text.startswith("ImageJ=") or '"truncated"' in text or _STK_PLANES in tags


def _tag_shape(tags: Any) -> Shape:
    gray = tags[_PHOTOMETRIC] in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    return _turned(tags[_HEIGHT], tags[_WIDTH], tags.get(_ORIENTATION, 1), 1 if gray else 3)


def _turned(height: int, width: int, orientation: int, channels: int) -> Shape:
    swap = orientation in (5, 6, 7, 8)
    return (width, height, channels) if swap else (height, width, channels)


def _pillow_pixels(image: TiffImagePlugin.TiffImageFile, most_pixels: int) -> Array:
    """Return the pixels of a page that :func:`_is_plain`; Pillow turns it upright."""
    tags = image.tag_v2
    check_pixels(tags[_HEIGHT], tags[_WIDTH], most=most_pixels)
    _check_segments(
        len(tags[_TILE_OFFSETS if _TILE_OFFSETS in tags else _STRIP_OFFSETS]), _segments(tags)
    )
    deep_inverted = tags[_PHOTOMETRIC] == _WHITE_IS_ZERO and max(tags.get(_BITS, (1,))) > 8
    image.load()
    if image.mode == "RGBA":
        pixels = np.asarray(image)
        return normal_form.over_white(pixels[:, :, :3], pixels[:, :, 3])
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[:, :, None]
    if image.mode == "F" or image.mode.startswith("I;16"):
        pixels = normal_form.in_plain_type(np.asarray(image)[:, :, None])
        return normal_form.inverted(pixels, 16) if deep_inverted else pixels
    return np.asarray(image.convert("RGB"))


def _decode_with_tifffile(
    file: BinaryIO, passed_over: Counter, most_pixels: int
) -> Iterator[tuple[int, int, Array]]:
    with _opened_with_tifffile(file) as tiff:
        if not tiff.pages:
            raise ValueError("it breaks off before its first page")
        planes = _planes(tiff)
        if planes is not None:
            page, offset = tiff.pages[0], tiff.pages[0].dataoffsets[0]
            for number in range(planes):
                _check(page, most_pixels)
                yield number, planes, _page_pixels(page, _plane(tiff, page, offset, number))
            return
        pages = _kept(tiff)
        if len(tiff.pages) > len(pages):
            passed_over(len(tiff.pages) - len(pages))
        for number, index in enumerate(pages):
            page = tiff.pages[index]
            _check(page, most_pixels)
            yield number, len(pages), _page_pixels(page, page.asarray())


def _opened_with_tifffile(file: BinaryIO) -> Any:
    _check_directories(file)
    file.seek(0)
    tifffile = library("tifffile", "a TIFF of this form")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong is said here
    return tifffile.TiffFile(file)


class _Directories(NamedTuple):
    """The directories of pages that a file has, and whether the last of them says that it is the last."""

    pages: int
    complete: bool


def _check_directories(file: BinaryIO) -> _Directories:
    """Follow the directories of pages.

    Raises:
        ValueError: they lead in a circle, in which tifffile may go round for ever.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(16).ljust(16, b"\0")
    order, large = "<" if start[:2] == b"II" else ">", start[2:4].strip(b"\0") == b"+"
    count, entry, offset = ("Q", 20, "Q") if large else ("H", 12, "I")
    (at,) = struct.unpack_from(order + offset, start, 8 if large else 4)
    seen: set[int] = set()
    while at:
        if at in seen:
            raise ValueError(f"its {len(seen)} pages lead in a circle")
        try:
            file.seek(at)
            (entries,) = struct.unpack(order + count, file.read(struct.calcsize(count)))
            end = file.seek(entries * entry, os.SEEK_CUR)
            if end > size:
                return _Directories(len(seen), complete=False)
            seen.add(at)
            # Some programs end the file without saying that no page follows.
            if end == size:
                break
            (at,) = struct.unpack(order + offset, file.read(struct.calcsize(offset)))
        except (struct.error, OSError, ValueError, OverflowError):
            return _Directories(len(seen), complete=False)
    return _Directories(len(seen), complete=True)


def _kept(tiff: Any) -> Sequence[int]:
    """List the pages that are images, and no smaller copies or masks of others; all, if all are such."""
    kept = []
    for index, page in enumerate(tiff.pages):
        tags = page.keyframe.tags if not hasattr(page, "tags") else page.tags
        values = {code: tags[code].value for code in (_REDUCED, _OLD_REDUCED) if code in tags}
        if not _is_reduced(values):
            kept.append(index)
    return kept or range(len(tiff.pages))


def _planes(tiff: Any) -> int | None:
    """Return how many planes lie behind each other in a file of one page; None: no more than that page."""
    if len(tiff.pages) != 1 or not tiff.series:
        return None
    page, series = tiff.pages[0], tiff.series[0]
    if not page.size or page.compression != 1:
        return None
    # Of a file that is cut off, tifffile takes the first plane alone.
    claimed = re.match(r"ImageJ=.*?\bimages=(\d{1,12})\b", page.description, re.DOTALL)
    planes = max(series.size // page.size, int(claimed[1]) if claimed else 0)
    return planes if planes > 1 else None


def _check(page: Any, most_pixels: int) -> None:
    """Raise ValueError if a page of tifffile claims too much, or is of a form that cannot be read."""
    check_pixels(page.imagelength, page.imagewidth, page.nbytes, most_pixels)
    _check_segments(len(page.dataoffsets), math.prod(page.chunked))
    if page.shaped[1] != 1:
        raise ValueError(f"it has pages of {page.shaped[1]} layers")


def _segments(tags: Any) -> int:
    """Return how many strips or tiles a page has to have."""
    height, width = tags[_HEIGHT], tags[_WIDTH]
    if _TILE_OFFSETS in tags:
        found = -(-height // tags[_TILE_HEIGHT]) * -(-width // tags[_TILE_WIDTH])
    else:
        found = -(-height // (tags.get(_ROWS_PER_STRIP) or height))
    apart = tags.get(_PLANAR, 1) == 2
    return int(found * (tags.get(_SAMPLES, 1) if apart else 1))


def _check_segments(found: int, needed: int) -> None:
    """Raise ValueError if a page lacks strips or tiles, in whose place decoders leave black."""
    if found < needed:
        raise ValueError(f"it has {found} of its {needed} strips or tiles")


def _plane(tiff: Any, page: Any, offset: int, number: int) -> Array:
    tiff.filehandle.seek(offset + number * page.nbytes)
    data = tiff.filehandle.read(page.nbytes)
    if len(data) < page.nbytes:
        raise ValueError(f"it breaks off in plane {number}")
    return np.frombuffer(data, page.dtype.newbyteorder(tiff.byteorder))


def _page_pixels(page: Any, values: Array) -> Array:
    """Return the pixels of a page of tifffile in normal form.

    Args:
        page: the page.
        values: those of the page, or of a plane of its form.

    Raises:
        ValueError: colors that cannot be converted; or whatever tifffile raises on damage.
    """
    apart, _, height, width, together = page.shaped
    samples = values.reshape(apart, height, width, together)
    pixels = np.moveaxis(samples, 0, -1).reshape(height, width, -1) if apart > 1 else samples[0]
    color, alpha, premultiplied = _color_and_alpha(page, pixels)
    if alpha is not None:
        color = normal_form.over_white(color, alpha, premultiplied)
    return normal_form.upright(normal_form.in_plain_type(color), _orientation(page))


def _color_and_alpha(page: Any, pixels: Array) -> tuple[Array, Array | None, bool]:
    """Divide the samples of a page into gray or RGB, and transparency, if there is one.

    Returns:
        Color [H, W, C], transparency [H, W] or None, whether the color has been multiplied by it.
    """
    kind, bits = _photometric(page), _bits(page)
    # Only what is declared as transparency is; the number of declarations may be wrong.
    extra = {pixels.shape[2] - i: n for i, n in enumerate(reversed(page.extrasamples), 1)}
    at = next((i for i, n in extra.items() if n in (_ASSOCIATED_ALPHA, _ALPHA) and i > 0), None)
    if kind == _PALETTE:
        return _from_palette(page, pixels[:, :, 0]), None, False
    pixels = normal_form.spread_bits(pixels, bits)
    alpha = None if at is None else pixels[:, :, at]
    if kind in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
        color = pixels if at is None else np.delete(pixels, at, axis=2)
        if kind == _WHITE_IS_ZERO:
            color = normal_form.inverted(color, max(bits, 8) if color.dtype == np.uint8 else bits)
    elif kind == _SEPARATED:
        inks = pixels[:, :, :4]
        if inks.shape[2] != 4 or _tag(page, _INK_SET, 1) != 1 or inks.dtype.kind != "u":
            raise ValueError("its inks are not those of CMYK in 8 or 16 bits; save it as RGB")
        color = normal_form.cmyk_to_rgb(inks)
    elif kind == _RGB or (kind == _YCBCR and page.compression not in _PLAIN_COMPRESSIONS):
        color = pixels[:, :, :3]
    elif kind in (32803, 34892):  # of a sensor: one color behind each pixel, or linear
        color = pixels
    else:
        raise ValueError(
            f"its colors (photometric interpretation {kind}) cannot be read; save it as RGB"
        )
    return color, alpha, extra.get(at or 0) == _ASSOCIATED_ALPHA


def _from_palette(page: Any, indices: Array) -> Array:
    """Return the colors of a palette, 8 bits as Pillow gives them."""
    if page.colormap is None:
        raise ValueError("it has no color table")
    table = np.moveaxis(page.colormap, 0, -1)
    return (table >> 8 if table.dtype == np.uint16 else table).astype(np.uint8)[indices]


def _channels(page: Any) -> int:
    """Return the channels of a page in normal form."""
    kind, samples = _photometric(page), page.samplesperpixel
    if kind in (_RGB, _PALETTE, _SEPARATED, _YCBCR, _LAB):
        return min(samples, 3) if kind == _RGB else 3
    transparent = any(n in (_ASSOCIATED_ALPHA, _ALPHA) for n in page.extrasamples)
    return samples - 1 if transparent and samples > 1 else samples


def _photometric(page: Any) -> int:
    # Where the tag is missing, libtiff takes black as 0 too.
    return int(page.photometric) if _tag(page, _PHOTOMETRIC, None) is not None else _BLACK_IS_ZERO


def _orientation(page: Any) -> int:
    return int(_tag(page, _ORIENTATION, 1))


def _bits(page: Any) -> int:
    bits = page.bitspersample
    return int(bits if isinstance(bits, int) else max(bits))


def _tag(page: Any, code: int, default: Any) -> Any:
    found = page.keyframe.tags.get(code)
    return default if found is None else found.value
