"""From the pixels of a file to what the networks see: one path for training, scoring and export."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]

#: Smallest side of an image that is worth judging.
MIN_SIDE = 4

# ITU-R 601 luma, as Pillow's conversion to mode L has it.
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Preprocess:
    """The stated, saved rule that turns any image into [channels, resolution, resolution] uint8.

    1. Depth: 8-bit values stay; 16-bit ones are divided by 257; floats in [0, 1] are multiplied
       by 255; booleans become 0 and 255.
    2. Channels: colour becomes gray by ITU-R 601 luma, gray becomes colour by repetition.
    3. Square: ``crop`` scales the shorter side to the resolution and cuts the middle out;
       ``pad`` scales the longer side and adds black; ``stretch`` scales both sides.
    4. Scaling averages over areas where it shrinks and is bilinear where it enlarges; an image
       that has the size already is copied exactly.

    The networks then see ``value * 2 / 255 - 1``, in [-1, 1].
    """

    resolution: int
    channels: int
    fit: str = "crop"

    def __call__(self, pixels: Array) -> Array:
        """Preprocess one image.

        Args:
            pixels: [H, W, C], of type uint8, uint16, bool, or float in [0, 1].

        Returns:
            uint8 [channels, resolution, resolution].

        Raises:
            ValueError: the image cannot be used; the message is a clause that says why.
        """
        if pixels.ndim != 3 or min(pixels.shape[:2]) < MIN_SIDE:
            raise ValueError(
                f"{pixels.shape[1]}x{pixels.shape[0]} pixels are too few, "
                f"{MIN_SIDE}x{MIN_SIDE} is the least"
            )
        return self._to_square(self._to_channels(_to_8_bit(pixels)))

    def _to_channels(self, pixels: Array) -> Array:
        count = pixels.shape[2]
        if count == self.channels:
            return pixels
        if count == 3 and self.channels == 1:
            return (pixels @ _LUMA)[:, :, None]
        if count == 1 and self.channels == 3:
            return np.repeat(pixels, 3, axis=2)
        raise ValueError(f"it has {count} channels where {self.channels} are expected")

    def _to_square(self, pixels: Array) -> Array:
        side = self.resolution
        height, width = pixels.shape[:2]
        if self.fit == "stretch":
            height, width = side, side
        else:
            edge = min(height, width) if self.fit == "crop" else max(height, width)
            height, width = (max(1, round(n * side / edge)) for n in (height, width))
        planes = [_resize(pixels[:, :, c], height, width) for c in range(pixels.shape[2])]
        out = np.zeros((len(planes), side, side), np.uint8)
        # Negative where it is cropped, positive where it is padded.
        top, left = (side - height) // 2, (side - width) // 2
        rows, columns = slice(max(top, 0), top + height), slice(max(left, 0), left + width)
        for c, plane in enumerate(planes):
            cut = plane[max(-top, 0) :, max(-left, 0) :][:side, :side]
            out[c, rows, columns] = np.rint(cut).clip(0, 255)
        return out

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _to_8_bit(pixels: Array) -> Array:
    """Values from 0 to 255, not rounded where the depth was another."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype == np.uint16:
        return pixels / 257.0
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise ValueError("it holds NaN or infinite values")
        low, high = float(pixels.min()), float(pixels.max())
        if low < 0 or high > 1:
            raise ValueError(
                f"its floating-point values run from {low:.4g} to {high:.4g}; "
                "they have to lie in [0, 1]"
            )
        return pixels.astype(np.float64) * 255.0
    raise ValueError(f"its values are of type {pixels.dtype}; uint8, uint16 or float can be used")


def _resize(plane: Array, height: int, width: int) -> Array:
    if plane.shape == (height, width):
        return plane
    shrinks = height <= plane.shape[0] and width <= plane.shape[1]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize((width, height), method))
