"""Conversion of frames to 8-bit gray."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from anowild.arrays import Array
from anowild.data.preprocessing import LUMA

_BINS = 65536  # of the histogram


def to_gray(pixels: Array) -> Array:
    """Convert a frame [H, W, C] to gray [H, W]: uint8 and uint16 keep their type, others become float64.

    Raises:
        ValueError: the frame cannot be used; the message is a clause that says why.
    """
    if 0 in pixels.shape:
        raise ValueError("it has no pixels")
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(f"it has the shape {list(pixels.shape)}; gray or RGB can be cut")
    whole = pixels.dtype in (np.uint8, np.uint16)
    if not whole and not np.isfinite(pixels).all():
        raise ValueError("it holds NaN or infinite values")
    if pixels.shape[2] == 1:
        gray = pixels[:, :, 0]
    else:
        gray = np.rint(pixels @ LUMA) if whole else pixels @ LUMA
    return gray.astype(pixels.dtype if whole else np.float64)


def to_8_bit(frame: Array, black: float, white: float) -> Array:
    """Scale gray values to uint8, so that ``black`` becomes 0 and ``white`` 255; values beyond are clipped."""
    span = white - black if white > black else 1.0
    return np.rint(((frame - black) * (255.0 / span)).clip(0, 255)).astype(np.uint8)


def video_levels(
    frames: Callable[[], Iterable[Array]], percentiles: tuple[float, float]
) -> tuple[float, float]:
    """Compute two percentiles of all pixels of all frames from a histogram.

    The result equals ``np.percentile`` for uint8 and uint16. For floats it is exact to 1/65535 of
    their range, and takes a second pass.

    Args:
        frames: called for each pass; has to give at least one frame.
        percentiles: from 0 to 100.
    """
    counts = np.zeros(_BINS, np.int64)
    low, high, whole = math.inf, -math.inf, True
    for frame in frames():
        low, high = min(low, float(frame.min())), max(high, float(frame.max()))
        whole = whole and frame.dtype.kind == "u"
        if whole:
            counts += np.bincount(frame.ravel(), minlength=_BINS)
    start, step = 0.0, 1.0
    if not whole:
        if not high > low:
            return low, high
        start, step = low, (high - low) / (_BINS - 1)
        counts[:] = 0
        for frame in frames():
            bins = np.rint((frame.astype(np.float64) - start) / step).astype(np.int64)
            counts += np.bincount(bins.ravel(), minlength=_BINS)
    black, white = (start + step * place for place in _quantile_bins(counts, percentiles))
    return black, white


def _quantile_bins(counts: Array, percentiles: tuple[float, float]) -> Iterator[float]:
    """Yield the position of each percentile in a histogram, interpolated linearly between bins."""
    below = counts.cumsum()
    for percent in percentiles:
        place = percent / 100 * (int(below[-1]) - 1)
        lower, upper = np.searchsorted(below, (math.floor(place), math.ceil(place)), side="right")
        yield float(lower + (upper - lower) * (place - math.floor(place)))
