"""Decoder of PNG, JPEG, TIFF, BMP and WebP images, from files or from bytes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from anowild.arrays import Array
from anowild.data.readers.base import Shape, library

File = Path | BinaryIO

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})

_GRAY_16 = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def decode(file: File) -> Iterator[tuple[int, int, Array]]:
    """Decode an image page by page.

    Only TIFF has several pages; of an animation the first picture is used. Color tables, transparency
    and CMYK become RGB. The EXIF orientation is applied. TIFFs that Pillow cannot read exactly (16 bits
    per color, rare compressions) are read by tifffile.

    Yields:
        Number of the page from 0, number of pages, pixels [H, W, C] of uint8, uint16 or float.

    Raises:
        Exception: of many kinds, on damaged files; :func:`failure_reason` explains them.
    """
    try:
        with _strict():
            image = Image.open(file)
    except UnidentifiedImageError:
        if not _is_tiff(file):
            raise
    else:
        with image:
            if not _is_beyond_pillow(image):
                with _strict():
                    pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
                for page in range(pages):
                    with _strict():
                        image.seek(page)
                        pixels = _pixels(image)
                    yield page, pages, pixels
                return
    if not isinstance(file, Path):
        file.seek(0)
    yield from _decode_with_tifffile(file)


def shape(file: File) -> Shape:
    """Read height, width and channels of the image that :func:`decode` yields, from the header alone."""
    try:
        with _strict(), Image.open(file) as image:
            return image.height, image.width, 1 if _is_gray(image.mode) else 3
    except UnidentifiedImageError:
        if not _is_tiff(file):
            raise
        with library("tifffile", file).TiffFile(file) as tiff:
            page = tiff.pages[0]
            channels = page.samplesperpixel
            if page.photometric == 2:  # RGB: transparency is dropped
                channels = min(channels, 3)
            return page.imagelength, page.imagewidth, channels


def page_count(file: File) -> int:
    """Return how many pages :func:`decode` yields of an image; 1 where it cannot tell."""
    try:
        with _strict(), Image.open(file) as image:
            return int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1
    except Exception:
        return 1


def failure_reason(error: Exception) -> str:
    """Return a clause that says why an image could not be decoded."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "it claims an implausible number of pixels"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.replace("\n", " ") or type(error).__name__


@contextmanager
def _strict() -> Iterator[None]:
    """Make implausible sizes an error, and ignore Pillow's other warnings: errors follow them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _pixels(image: Image.Image) -> Array:
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _GRAY_16:
        values = np.asarray(upright).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its values do not fit into 16 bits")
        return values.astype(np.uint16)[:, :, None]
    if upright.mode == "F":
        return np.asarray(upright, dtype=np.float32)[:, :, None]
    if _is_gray(upright.mode):
        return np.asarray(upright.convert("L"))[:, :, None]
    return np.asarray(upright.convert("RGB"))


def _is_gray(mode: str) -> bool:
    return mode in ("1", "L", "LA", "La", "F", *_GRAY_16)


def _is_beyond_pillow(image: Image.Image) -> bool:
    """Return whether Pillow would silently give other values than a TIFF holds."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    if image.mode == "F":  # compressed and big-endian: Pillow would swap its bytes twice
        return image.tag_v2.prefix == b"MM" and image.tile[0][0] == "libtiff"
    # Pillow would reduce 16 bits per color to 8.
    return image.mode not in _GRAY_16 and max(image.tag_v2.get(258, (1,))) > 8


def _is_tiff(file: File) -> bool:
    if isinstance(file, Path):
        with file.open("rb") as opened:
            start = opened.read(4)
    else:
        file.seek(0)
        start = file.read(4)
        file.seek(0)
    return start[:2] in (b"II", b"MM") and start[2:].strip(b"\0") in (b"*", b"+")


def _decode_with_tifffile(file: File) -> Iterator[tuple[int, int, Array]]:
    with library("tifffile", file).TiffFile(file) as tiff:
        if not tiff.pages:
            raise ValueError("it breaks off before its first page")
        for number, page in enumerate(tiff.pages):
            pixels = page.asarray()
            if pixels.ndim == 2:
                pixels = pixels[:, :, None]
            elif pixels.ndim == 3 and page.planarconfig == 2:  # one plane behind the other
                pixels = np.moveaxis(pixels, 0, -1)
            elif pixels.ndim != 3:
                raise ValueError(f"it has pages of {pixels.ndim} axes")
            if page.photometric == 2:  # RGB, without further channels such as transparency
                pixels = pixels[:, :, :3]
            yield number, len(tiff.pages), pixels
