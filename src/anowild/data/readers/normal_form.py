"""Normal form of decoded pixels: upright, black is 0, gray or RGB, without transparency."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from anowild.arrays import Array

#: Pixels that are converted at a time: intermediate values are larger than pixels.
_BLOCK = 1 << 20


def upright(pixels: Array, orientation: int) -> Array:
    """Turn or mirror pixels [H, W, C] as an orientation of TIFF and EXIF, 1 to 8, says; else keep them."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def over_white(color: Array, alpha: Array, premultiplied: bool = False) -> Array:
    """Lay a transparent image over white.

    White, because that is what most viewers, browsers and printers show: images that look the same are
    then the same, whatever colors hide under the transparency.

    Args:
        color: [H, W, C], whole numbers up to the largest of their type, or floats in [0, 1].
        alpha: [H, W] of the same type; 0 is transparent.
        premultiplied: whether ``color`` has been multiplied by ``alpha``.

    Returns:
        [H, W, C] of the type of ``color``; whole numbers are rounded.
    """
    whole = color.dtype.kind != "f"
    full: Any = 1.0
    work: Any = np.float64
    if whole:
        full = np.iinfo(color.dtype).max
        work = np.uint32 if full < 1 << 16 else np.float64  # 65535**2 + 32767 fits into 32 bits
    if alpha.min(initial=full) >= full:
        return color
    out = np.empty(color.shape, color.dtype)
    for rows in _blocks(color):
        opacity = alpha[rows, :, None].clip(0, full).astype(work)
        values = color[rows].astype(work)
        if premultiplied:
            out[rows] = np.minimum(values + (full - opacity), full)
        elif work is np.uint32:
            out[rows] = (values * opacity + full * (full - opacity) + full // 2) // full
        else:
            mixed = (values * opacity + full * (full - opacity)) / full
            out[rows] = np.rint(mixed) if whole else mixed
    return out


def cmyk_to_rgb(inks: Array) -> Array:
    """Convert CMYK [H, W, 4], unsigned, to RGB [H, W, 3]: (1 - ink) * (1 - black), as Pillow does."""
    full = int(np.iinfo(inks.dtype).max)
    out = np.empty((*inks.shape[:2], 3), inks.dtype)
    for rows in _blocks(inks):
        wide = inks[rows].astype(np.uint64)
        light = full - wide[:, :, 3:]
        out[rows] = light - (wide[:, :, :3] * light + full // 2) // full
    return out


def inverted(values: Array, bits: int) -> Array:
    """Invert values of ``bits`` bits each, of which the smallest is white; of floats, 1 is white."""
    if values.dtype.kind == "f":
        return values.dtype.type(1) - values
    if values.dtype.kind == "i":
        return ~values
    return values.dtype.type((1 << bits) - 1) - values


def spread_bits(values: Array, bits: int) -> Array:
    """Scale values of less than 8 bits, or booleans, to 0 to 255; leave others."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype != np.uint8 or bits >= 8:
        return values
    full = (1 << bits) - 1
    return ((values.astype(np.uint16) * 255 + full // 2) // full).astype(np.uint8)


def in_plain_type(values: Array) -> Array:
    """Return values in the plainest type that holds them, in the byte order of the machine.

    Signed numbers become unsigned unless one is negative, and whole numbers of 32 and 64 bits become uint16
    if they fit.
    """
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    if native.dtype.kind == "i" and native.min() >= 0:
        native = native.view(native.dtype.str.replace("i", "u"))
    if native.dtype.itemsize > 2 and native.dtype.kind == "u" and native.max() <= 65535:
        native = native.astype(np.uint16)
    return native


def _blocks(pixels: Array) -> Iterator[slice]:
    """Yield slices of rows that hold about ``_BLOCK`` pixels each."""
    step = max(1, _BLOCK // max(1, pixels.shape[1]))
    for start in range(0, len(pixels), step):
        yield slice(start, start + step)
