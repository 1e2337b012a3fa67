"""Preprocessing: from the pixels of a file to the input of the networks, for training and scoring alike."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from anowild.arrays import Array

#: Top, left, height and width of a part of an image, in pixels.
Box = tuple[int, int, int, int]

#: Smallest side of an image that can be used, in pixels.
MIN_SIDE = 4

#: Largest side and most channels of a result.
LARGEST_SIDE, MOST_CHANNELS = 4096, 4096
#: Ways to make an image square, and what becomes of its contrast.
FITS, CONTRASTS = ("crop", "pad", "letterbox", "stretch"), ("kept", "normalize")

#: Weights of red, green and blue in the luma of ITU-R BT.601, as in Pillow's conversion to mode L; and in
#: thousandths, whose sums of whole numbers are exact: every runtime rounds them alike.
LUMA = np.array([0.299, 0.587, 0.114])
LUMA_THOUSANDTHS = (299, 587, 114)

#: Pixels that are converted at a time, in 64 bits.
_BLOCK = 1 << 21


@dataclass(frozen=True)
class Preprocess:
    """Rule that turns any image into [channels, resolution, resolution]; saved with data sets and models.

    1. Depth and range: ``black`` and ``white``, values of the source of any type, become 0 and full; values
       beyond them are clipped. Without them, 8- and 16-bit values are scaled by the range of their type,
       floats from [0, 1], and booleans become 0 and full. Full is 255, or 65535 with ``bits`` 16.
    2. Channels: color becomes gray by ITU-R BT.601 luma, gray becomes color by repetition.
    3. Square: ``crop`` scales the shorter side to the resolution and keeps the center; ``letterbox``
       scales the longer side and fills the rest; ``pad`` does the same without ever enlarging;
       ``stretch`` scales both sides.
    4. Scaling averages over areas where it shrinks and is bilinear where it enlarges. An image of the
       right size is copied exactly.
    5. ``contrast`` ``normalize``: the mean of the image becomes mid-gray, and four of its standard
       deviations reach from there to black and to white. A constant image becomes mid-gray.

    With ``tiles``, an image is cut into tiles of that side first, which cover all of it and may overlap,
    and each becomes a square of its own: see :meth:`squares`.

    Filled areas are black, or mid-gray after normalization. The networks take ``value * 2 / full - 1``,
    in [-1, 1].
    """

    resolution: int
    channels: int
    fit: str = "crop"
    bits: int = 8
    black: float | None = None
    white: float | None = None
    contrast: str = "kept"
    tiles: int = 0

    def __post_init__(self) -> None:
        if self.contrast == "normalise":  # in models and data sets of earlier versions
            object.__setattr__(self, "contrast", "normalize")
        both = self.black is not None and self.white is not None
        range_given = both and math.isfinite(self.white - self.black) and self.black < self.white  # type: ignore[operator]
        if not (
            all(type(size) is int for size in (self.resolution, self.channels, self.tiles))
            and 1 <= self.resolution <= LARGEST_SIDE
            and 1 <= self.channels <= MOST_CHANNELS
            and 0 <= self.tiles <= 1 << 16
            and self.bits in (8, 16)
            and self.fit in FITS
            and self.contrast in CONTRASTS
            and (range_given or (self.black is None and self.white is None))
        ):
            raise ValueError(f"no such preprocessing: {asdict(self)}")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the result: uint8 or uint16."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def full(self) -> int:
        """Value of white in the result."""
        return 255 if self.bits == 8 else 65535

    def boxes(self, height: int, width: int) -> list[Box]:
        """Return the parts that an image is cut into, row by row: its tiles, or all of it."""
        if not self.tiles:
            return [(0, 0, height, width)]
        side = min(self.tiles, height), min(self.tiles, width)
        rows, columns = (
            np.linspace(0, length - part, -(-length // part)).round().astype(int).tolist()
            for length, part in zip((height, width), side, strict=True)
        )
        return [(top, left, *side) for top in rows for left in columns]

    def squares(self, pixels: Array) -> Array:
        """Preprocess one image to the squares that the views see: one, or one for each tile.

        Args:
            pixels: [H, W, C], as for a call.

        Returns:
            uint8 or uint16 [n, channels, resolution, resolution], in the order of :meth:`boxes`.

        Raises:
            ValueError: as for a call.
        """
        boxes = self.boxes(*pixels.shape[:2])
        return np.stack([self(pixels[y : y + h, x : x + w]) for y, x, h, w in boxes])

    def whole(self) -> Preprocess:
        """Return the same preprocessing without tiles."""
        return replace(self, tiles=0)

    def __call__(self, pixels: Array) -> Array:
        """Preprocess one image, or one tile.

        Args:
            pixels: [H, W, C], uint8, uint16, bool or float; any numbers if black and white are given.

        Returns:
            uint8 or uint16 [channels, resolution, resolution].

        Raises:
            ValueError: the image cannot be used; the message is a clause that says why.
        """
        return self._to_square(self._to_values(self.checked(pixels)))

    def checked(self, pixels: Array) -> Array:
        """Return the pixels of an image, in native byte order, if they can be preprocessed.

        Raises:
            ValueError: as for a call.
        """
        if pixels.ndim != 3 or min(pixels.shape[:2]) < MIN_SIDE:
            raise ValueError(
                f"{pixels.shape[1]}x{pixels.shape[0]} pixels are too few, "
                f"{MIN_SIDE}x{MIN_SIDE} is the least"
            )
        count = pixels.shape[2]
        if count != self.channels and (count, self.channels) not in ((1, 3), (3, 1)):
            raise ValueError(f"it has {count} channels where {self.channels} are expected")
        native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        self._check_values(native)
        return native

    def _check_values(self, pixels: Array) -> None:
        """Raise ValueError if the values of an image cannot be scaled."""
        kind = pixels.dtype
        if kind.kind == "f" and not np.isfinite(pixels).all():
            raise ValueError("it holds NaN or infinite values")
        if self.black is not None and self.white is not None:
            return
        if kind.kind == "f":
            low, high = float(pixels.min()), float(pixels.max())
            if low < 0 or high > 1:
                raise ValueError(
                    f"its floating-point values run from {low:.4g} to {high:.4g}; they have to "
                    "lie in [0, 1], or black and white have to be given"
                )
        elif kind not in (np.uint8, np.uint16, np.bool_):
            raise ValueError(
                f"its values are of type {kind}, from {pixels.min()} to {pixels.max()}; give those that "
                "become black and white (--set black=... --set white=...)"
            )

    def _to_values(self, pixels: Array) -> Array:
        """Convert depth and channels, of a large image in blocks of rows, to save memory."""
        height, width, channels = pixels.shape
        if self.black is None and pixels.dtype == self.dtype and channels == self.channels:
            return pixels
        step = max(1, _BLOCK // width)
        first = self._to_channels(self._to_depth(pixels[:step]))
        if step >= height:
            return first
        # Scaling takes float32 anyway; the values of images that are not scaled are kept exactly.
        scaled = self.resolution not in (height, width) and max(height, width) > self.resolution
        dtype = np.float32 if scaled and first.dtype == np.float64 else first.dtype
        out = np.empty((height, width, first.shape[2]), dtype)
        out[:step] = first
        for start in range(step, height, step):
            rows = slice(start, start + step)
            out[rows] = self._to_channels(self._to_depth(pixels[rows]))
        return out

    def _to_depth(self, pixels: Array) -> Array:
        """Scale values to 0 to full; not rounded yet where depth or range changes."""
        if self.black is not None and self.white is not None:
            scaled = (pixels.astype(np.float64) - self.black) / (self.white - self.black)
            return scaled.clip(0, 1) * self.full
        kind = pixels.dtype
        if kind == self.dtype:
            return pixels
        if kind.kind == "f":
            return pixels.astype(np.float64) * self.full
        if kind == np.bool_:
            return pixels.astype(self.dtype) * self.dtype.type(self.full)
        return pixels * (257.0 if self.bits == 16 else 1 / 257.0)

    def _to_channels(self, pixels: Array) -> Array:
        count = pixels.shape[2]
        if count == self.channels:
            return pixels
        if count == 3 and self.channels == 1:
            return (pixels @ np.array(LUMA_THOUSANDTHS, np.float64))[:, :, None] / 1000
        return np.repeat(pixels, 3, axis=2)

    def _to_square(self, pixels: Array) -> Array:
        side = self.resolution
        height, width = pixels.shape[:2]
        if self.fit == "stretch":
            height, width = side, side
        else:
            edge = min(height, width) if self.fit == "crop" else max(height, width)
            if self.fit == "pad":
                edge = max(edge, side)
            height, width = (max(1, round(n * side / edge)) for n in (height, width))
        planes = np.stack([resize(pixels[:, :, c], height, width) for c in range(pixels.shape[2])])
        # Negative where the image is cropped, positive where the square is filled.
        top, left = (side - height) // 2, (side - width) // 2
        cut = planes[:, max(-top, 0) :, max(-left, 0) :][:, :side, :side]
        fill = 0.0
        if self.contrast == "normalize":
            cut, fill = _normalized(cut, self.full), self.full / 2
        if cut.dtype != self.dtype:
            cut = np.rint(cut).clip(0, self.full)
        out = np.full((len(planes), side, side), np.rint(fill), self.dtype)
        out[:, max(top, 0) : top + height, max(left, 0) : left + width] = cut
        return out

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _normalized(planes: Array, full: int) -> Array:
    values = planes.astype(np.float64)
    deviation = values.std()
    # Rounding alone gives a deviation of up to about a third of an 8-bit level.
    scale = 0.0 if deviation < full / 255 / 2 else full / 8 / deviation
    return full / 2 + (values - values.mean()) * scale


def resize(plane: Array, height: int, width: int) -> Array:
    """Resize a plane [H, W]: averages over areas where both sides shrink, else bilinear.

    The result is float32, unless the size is the same: then the plane itself is returned.
    """
    if plane.shape == (height, width):
        return plane
    values = np.ascontiguousarray(plane, dtype=np.float32)
    if height <= plane.shape[0] and width <= plane.shape[1]:
        return _averaged(_averaged(values, width, axis=1), height, axis=0)
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))


def _averaged(values: Array, size: int, axis: int) -> Array:
    """Shrink an axis to ``size`` averages of the pixels whose centers lie there; on an edge, the earlier place has it.

    Pillow's box filter does the same, but takes a pixel whose center lies on an edge for both places, one or none, as
    rounding falls.
    """
    length = values.shape[axis]
    if length == size:
        return values
    place = ((2 * np.arange(length) + 1) * size - 1) // (2 * length)
    counts = np.bincount(place, minlength=size)
    sums = np.add.reduceat(values, np.cumsum(counts) - counts, axis=axis, dtype=np.float64)
    return (sums / np.expand_dims(counts, 1 - axis)).astype(np.float32)
