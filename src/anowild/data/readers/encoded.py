"""Decoder of PNG, JPEG, TIFF, BMP, WebP, AVIF and HEIC images, from files or from bytes."""

from __future__ import annotations

import importlib
import importlib.util
import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from anowild.arrays import Array
from anowild.data.readers import normal_form, tiff
from anowild.data.readers.base import MAX_PIXELS, Shape, check_pixels
from anowild.files import open_regular
from anowild.libraries import MissingLibrary

File = Path | BinaryIO

#: Endings that need a library, and what brings it.
_OPTIONAL = {
    ".avif": "Pillow 11.3 or newer",
    ".heic": "pip install 'anowild[formats]'",
    ".heif": "pip install 'anowild[formats]'",
}
_HEIF = importlib.util.find_spec("pillow_heif") is not None
#: Endings of images that are read here.
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".webp"}
    | ({".avif"} if features.check("avif") else set())
    | ({".heic", ".heif"} if _HEIF else set())
)
#: What has to be there for images of other endings to be read.
NEEDED = {ending: needed for ending, needed in _OPTIONAL.items() if ending not in SUFFIXES}

#: Formats whose pictures follow each other in time. Those of others are previews, or views of stereo cameras.
_ANIMATED = frozenset({"PNG", "WEBP", "GIF", "AVIF"})
#: Formats that are programs, which Pillow would have other software run.
_PROGRAMS = frozenset({"EPS", "WMF"})
_ORIENTATION = 0x0112
_PNG_START = b"\x89PNG\r\n\x1a\n"
#: Bytes of text in a PNG beyond which it is passed over; Pillow refuses the image for more of it.
_MAX_TEXT = 1 << 20


def _ignored(number: int) -> None:
    """Do not count the pages that are passed over."""


def decode(
    file: File,
    animated: bool = False,
    passed_over: tiff.Counter = _ignored,
    most_pixels: int = MAX_PIXELS,
) -> Iterator[tuple[int, int, Array]]:
    """Decode an image page by page, each in the same normal form, wherever its bytes come from.

    - What is an image: each page of a TIFF, and each plane of an ImageJ or MetaMorph stack, in the order of
      the file, but no smaller copies (levels of a pyramid, thumbnails) and masks. In other formats the file
      is one image; of several views of a camera (MPO) the first. An animation (GIF, APNG, WebP) is a video:
      it is read frame by frame if it is the source itself, and left out among images.
    - Upright: turned and mirrored as EXIF, XMP or the TIFF say.
    - Channels: gray is [H, W, 1]; color, color tables, CMYK, YCbCr and CIELAB are RGB [H, W, 3].
      Gray TIFFs of more samples keep them all. Further samples of color images are passed over.
    - Transparency, where it is declared, is laid over white.
    - Depth: less than 8 bits are spread over 8. 8, 16 and 32 bits and floats keep their values, so 10 to 14
      bits too. The smallest value is black: images in which it is white are inverted.

    Args:
        file: path, or open file that can seek.
        animated: whether to read the frames of an animation, as RGB, instead of leaving it out.
        passed_over: is told how many smaller copies and masks a TIFF has.
        most_pixels: of an image; one that claims more is not decoded.

    Yields:
        Number of the page from 0, number of pages, pixels [H, W, C] of uint8, uint16 or float, or of other whole
        numbers where the values fit into neither.

    Raises:
        Exception: of many kinds, on damaged files; :func:`failure_reason` explains them.
    """
    pages = _decode(file, animated, passed_over, most_pixels)
    while True:
        with _quiet():
            found = next(pages, None)
        if found is None:
            return
        yield found


def shape(file: File, animated: bool = False) -> Shape:
    """Read height, width and channels of the first image that :func:`decode` yields, without its pixels.

    Raises:
        Exception: of many kinds, on damaged files.
    """
    with _opened(file) as opened, _quiet():
        if tiff.is_tiff(_start(opened)):
            return tiff.shape(opened)
        with _image(opened) as image:
            height, width = image.height, image.width
            if _check_frames(image, animated) > 1:
                return height, width, 3
            channels = 1 if _is_gray(image) else 3
            if _orientation(image, opened) in (5, 6, 7, 8):
                height, width = width, height
            return height, width, channels


def page_count(file: File) -> int:
    """Return how many pages or frames :func:`decode` yields of an image; 1 where it cannot tell."""
    try:
        with _opened(file) as opened, _quiet():
            if tiff.is_tiff(_start(opened)):
                return tiff.page_count(opened)
            with _image(opened) as image:
                return _check_frames(image, animated=True)
    except Exception:
        return 1


def is_animation(file: File) -> bool:
    """Whether a file is an animation; False where that cannot be told."""
    try:
        with _opened(file) as opened, _quiet():
            if tiff.is_tiff(_start(opened)):
                return False
            with _image(opened) as image:
                return _check_frames(image, animated=True) > 1
    except Exception:
        return False


def failure_reason(error: Exception) -> str:
    """Return a clause that says why an image could not be decoded."""
    if isinstance(error, Image.DecompressionBombError):
        return f"it claims more pixels than the limit of {MAX_PIXELS:,}"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, UnidentifiedImageError):  # its text names the file
        return "cannot identify it as an image: it is damaged, or of another kind"
    if isinstance(error, MissingLibrary):
        return error.need
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if "requires the 'imagecodecs' package" in text:  # of tifffile
        return MissingLibrary("", "imagecodecs").need
    return text.replace("\n", " ") or type(error).__name__


def _decode(
    file: File, animated: bool, passed_over: tiff.Counter, most_pixels: int
) -> Iterator[tuple[int, int, Array]]:
    with _opened(file) as opened:
        if tiff.is_tiff(_start(opened)):
            yield from tiff.decode(opened, passed_over, most_pixels)
            return
        with _image(opened) as image:
            frames = _check_frames(image, animated, most_pixels)
            if frames == 1:
                yield 0, 1, _pixels(image, opened)
                return
            for frame in range(frames):
                image.seek(frame)
                yield frame, frames, _flat(*_color(image))


@contextmanager
def _opened(file: File) -> Iterator[BinaryIO]:
    # Pillow never gets a path: it would map the file into memory, and scramble turned pixels.
    if isinstance(file, Path):
        with open_regular(file) as opened:
            yield opened
    else:
        file.seek(0)
        yield file


@contextmanager
def _quiet() -> Iterator[None]:
    """Ignore Pillow's warnings: of what is wrong with a file, errors follow them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _start(file: BinaryIO) -> bytes:
    file.seek(0)
    start = file.read(len(_PNG_START))
    file.seek(0)
    return start


def _image(file: BinaryIO) -> Image.Image:
    readable = _without_texts(file)
    try:
        image = Image.open(readable)
    except UnidentifiedImageError:
        if not _HEIF:
            raise
        _register_heif()
        readable.seek(0)
        image = Image.open(readable)
    if image.format in _PROGRAMS:
        raise UnidentifiedImageError
    return image


@cache
def _register_heif() -> None:
    """Let Pillow read HEIC: only when it is needed, as loading the library takes a while."""
    importlib.import_module("pillow_heif").register_heif_opener()


def _check_frames(image: Image.Image, animated: bool, most_pixels: int = MAX_PIXELS) -> int:
    """Check the size of an image, and return the number of its frames.

    Raises:
        ValueError: it claims too many pixels, or is an animation and should not be.
    """
    check_pixels(image.height, image.width, most=most_pixels)
    if image.format not in _ANIMATED or not getattr(image, "is_animated", False):
        return 1
    frames = int(getattr(image, "n_frames", 1))
    if not animated:
        raise ValueError(
            f"it is an animation of {frames} frames; give the file itself as a source to read them"
        )
    return frames


def _pixels(image: Image.Image, file: BinaryIO) -> Array:
    """Return the pixels of an image of one frame in normal form."""
    color, alpha = _deep_png(image, file) or _gray(image) or _color(image)
    return normal_form.upright(_flat(color, alpha), image.getexif().get(_ORIENTATION, 1))


def _flat(color: Array, alpha: Array | None) -> Array:
    return color if alpha is None else normal_form.over_white(color, alpha)


def _is_gray(image: Image.Image) -> bool:
    gray = image.mode in ("1", "L", "LA", "La", "F", "I") or image.mode.startswith("I;16")
    # A GIF has a color table, even if Pillow finds it gray.
    return (gray and image.format != "GIF") or _raw_mode(image) == "LA;16B"


def _raw_mode(image: Image.Image) -> str:
    """Return how a file stores the values of an image that is not loaded yet; empty where it is not said."""
    args = image.tile[0][3] if getattr(image, "tile", None) else ""  # type: ignore[attr-defined]
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _gray(image: Image.Image) -> tuple[Array, Array | None] | None:
    """Return values and transparency of a gray image; None: it has colors."""
    if not _is_gray(image):
        return None
    raw = _raw_mode(image)
    image.load()
    if image.mode in ("LA", "La"):
        pixels = np.asarray(image.convert("LA"))
        return pixels[:, :, :1], pixels[:, :, 1]
    deep = image.mode not in ("1", "L")
    pixels = np.asarray(image if deep else image.convert("L"))[:, :, None]
    pixels = normal_form.in_plain_type(pixels)
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return pixels, None
    if raw in ("L;2", "L;4"):  # the one transparent value is stored in as many bits
        key *= 85 if raw == "L;2" else 17
    return pixels, _opacity(pixels == key, pixels.dtype)


def _color(image: Image.Image) -> tuple[Array, Array | None]:
    """Return RGB and transparency of an image of 8 bits."""
    image.load()
    if image.mode not in ("RGBA", "RGBa", "LA", "La", "PA") and "transparency" not in image.info:
        return np.asarray(image.convert("RGB")), None
    pixels = np.asarray(image.convert("RGBA"))
    alpha = pixels[:, :, 3]
    # Many programs leave the fourth byte of BMP empty; browsers show such images as opaque too.
    return pixels[:, :, :3], None if image.format == "BMP" and not alpha.any() else alpha


def _opacity(transparent: Array, dtype: np.dtype[Any]) -> Array:
    """Return 0 where all channels of [H, W, C] are the transparent ones, else the largest of a type."""
    return np.where(transparent.all(axis=2), 0, np.iinfo(dtype).max).astype(dtype)


def _deep_png(image: Image.Image, file: BinaryIO) -> tuple[Array, Array | None] | None:
    """Return color and transparency of a PNG of 16 bits with several channels; None: it is another image.

    Pillow gives only the upper byte of each value. The lower ones come from a second pass, in which it
    takes the bytes in the other order; gray with transparency fits into the four bytes of RGBA.
    """
    raw = _raw_mode(image)
    if image.format != "PNG" or raw not in ("RGB;16B", "RGBA;16B", "LA;16B"):
        return None
    check_pixels(image.height, image.width, image.height * image.width * len(raw.split(";")[0]) * 2)
    if raw == "LA;16B":
        pairs = _as_stored(image, "RGBA").astype(np.uint16)
        values = pairs[:, :, ::2] << 8 | pairs[:, :, 1::2]
    else:
        values = np.asarray(image).astype(np.uint16) << 8
        with _image(file) as again:
            values |= _as_stored(again, raw.replace(";16B", ";16L"))
    count = values.shape[2]
    if count in (2, 4):
        return values[:, :, :-1], values[:, :, -1]
    key = image.info.get("transparency")
    return values, None if key is None else _opacity(
        values == np.array(key, np.uint16), values.dtype
    )


def _as_stored(image: Image.Image, raw: str) -> Array:
    """Decode a PNG whose values are stored as Pillow's raw mode ``raw`` says."""
    tile: Any = image.tile[0]  # type: ignore[attr-defined]
    named = hasattr(tile, "_replace")  # since Pillow 11
    image.tile = [tile._replace(args=raw) if named else (*tile[:3], raw)]  # type: ignore[attr-defined]
    return np.asarray(image)


class _Chunk(NamedTuple):
    """Chunk of a PNG: its type, and where it begins and ends in the file."""

    kind: bytes
    start: int
    end: int


def _chunks(file: BinaryIO) -> Iterator[_Chunk]:
    """Yield the chunks of a PNG; those of other files are none."""
    if _start(file) != _PNG_START:
        return
    start = len(_PNG_START)
    while True:
        file.seek(start)
        header = file.read(8)
        if len(header) < 8:
            return
        length, kind = struct.unpack(">I4s", header)
        yield _Chunk(kind, start, start + length + 12)
        start += length + 12


_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_KEPT_TEXTS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # they may say what is up


def _without_texts(file: BinaryIO) -> BinaryIO:
    """Return a PNG without its texts, if they are compressed or long; other files as they are."""
    texts = []
    for chunk in _chunks(file):
        if chunk.kind in _TEXTS:
            file.seek(chunk.start + 8)
            if not file.read(32).startswith(_KEPT_TEXTS):
                texts.append(chunk)
    packed = any(chunk.kind != b"tEXt" for chunk in texts)
    if not packed and sum(chunk.end - chunk.start for chunk in texts) < _MAX_TEXT:
        file.seek(0)
        return file
    kept, at = io.BytesIO(), 0
    for chunk in texts:
        file.seek(at)
        kept.write(file.read(chunk.start - at))
        at = chunk.end
    file.seek(at)
    kept.write(file.read())
    kept.seek(0)
    return kept


def _orientation(image: Image.Image, file: BinaryIO) -> int:
    """Return the orientation of an image that is not loaded."""
    kinds = [chunk.kind for chunk in _chunks(file)]
    after = kinds[kinds.index(b"IDAT") :] if b"IDAT" in kinds else []
    if image.format == "PNG" and not set(after) & {b"eXIf", *_TEXTS}:
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))  # a PNG's own would decode it
    return int(image.getexif().get(_ORIENTATION, 1))
