"""Pictures for people, of originals of any depth: 8-bit pixels, thumbnails and encoded pictures."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from anowild.arrays import Array

#: Longest side of a thumbnail, in pixels.
THUMBNAIL = 320
#: Percentiles of the values that are shown as black and white, where an image has more than 8 bits.
PERCENTILES = (0.1, 99.9)
#: Values that percentiles are computed from, at most.
_SAMPLE = 1 << 18
#: Quality of thumbnails as WebP; images that are no larger than a thumbnail are kept without loss.
_QUALITY = 80
#: Quality of smaller ones as JPEG.
_SMALL_QUALITY = 85
#: Pixels beyond which a picture is sent as JPEG, of this quality: PNG takes too long then.
_MOST_PNG, _JPEG_QUALITY = 3_000_000, 95


def window(pixels: Array) -> tuple[float, float] | None:
    """Return the values of an image that are shown as black and white; None: 8 bits, shown as they are.

    Args:
        pixels: [H, W, C] of any type that a reader gives.
    """
    if pixels.dtype in (np.uint8, np.bool_):
        return None
    values = pixels.ravel()
    values = values[:: -(-len(values) // _SAMPLE)]
    values = values[np.isfinite(values)].astype(np.float64)
    if not len(values):
        return 0.0, 1.0
    low, high = np.percentile(values, PERCENTILES)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def window_facts(pixels: Array) -> dict[str, float] | None:
    """Return the values of an image that are shown as black and white, and all that there are; see :func:`window`."""
    levels = window(pixels)
    if levels is None:
        return None
    finite = pixels[np.isfinite(pixels)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else levels
    return {"low": levels[0], "high": levels[1], "min": low, "max": high}


def display(pixels: Array, levels: tuple[float, float] | None = None) -> Array:
    """Return an image in 8 bits, for a screen.

    Args:
        pixels: [H, W, C] of any type that a reader gives; unless C is 3, the first channel is shown.
        levels: values that become black and white; None: as :func:`window` says.

    Returns:
        uint8 [H, W], or [H, W, 3].
    """
    shown = pixels if pixels.shape[2] == 3 else pixels[:, :, 0]
    if shown.dtype == np.bool_:
        return shown.astype(np.uint8) * np.uint8(255)
    levels = levels or window(pixels)
    if levels is None:
        return shown
    low, high = levels
    scaled = (shown.astype(np.float32) - low) * (255.0 / max(high - low, 1e-12))
    return np.nan_to_num(scaled).round().clip(0, 255).astype(np.uint8)


def thumbnail(pixels: Array, levels: tuple[float, float] | None = None) -> bytes:
    """Encode an image as WebP, its longest side at most ``THUMBNAIL``; see :func:`display`."""
    image = Image.fromarray(np.ascontiguousarray(display(pixels, levels)))
    small = max(image.size) <= THUMBNAIL
    if not small:
        image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX, reducing_gap=2.0)
    data = io.BytesIO()
    image.save(data, "WEBP", lossless=small, quality=50 if small else _QUALITY, method=1)
    return data.getvalue()


def smaller_thumbnail(data: bytes, side: int) -> tuple[bytes, str]:
    """Scale a thumbnail down, its longest side to at most ``side`` pixels.

    Returns:
        The file, as JPEG, which is decoded several times as fast, or as it is if it is no larger; and its
        media type.
    """
    image = Image.open(io.BytesIO(data))
    if max(image.size) <= side:
        return data, "image/webp"
    image.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=2.0)
    scaled = io.BytesIO()
    image.save(scaled, "JPEG", quality=_SMALL_QUALITY)
    return scaled.getvalue(), "image/jpeg"


def encoded_picture(pixels: Array) -> tuple[bytes, str]:
    """Encode uint8 pixels [H, W] or [H, W, 3] at full size: PNG, or JPEG where that would take long.

    Returns:
        The file, and its media type.
    """
    image, data = Image.fromarray(np.ascontiguousarray(pixels)), io.BytesIO()
    if image.width * image.height > _MOST_PNG:
        image.save(data, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
        return data.getvalue(), "image/jpeg"
    image.save(data, "PNG", compress_level=1)
    return data.getvalue(), "image/png"
