"""Small pictures for a page, as data URLs: images, reconstructions, maps."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from anowild.arrays import Array

#: Pictures are enlarged, by whole numbers, to at least so many pixels: browsers blur else.
LEAST_SIDE = 64
#: Heat in five steps from black to pale yellow, as bright as it is hot; and both signs of a residual.
HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
SIGNED = ((33, 102, 172), (247, 247, 247), (178, 24, 43))


def of_image(image: Array) -> str:
    """An image [C, r, r] in [-1, 1], other than 1 or 3 channels by the first."""
    shown = image if image.shape[0] in (1, 3) else image[:1]
    pixels = ((shown + 1) * 127.5).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    return _url(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def of_heat(values: Array, most: float) -> str:
    """A map [r, r] of what is 0 or more; ``most`` and above is the brightest."""
    return _url(_colored(values / max(most, 1e-12), HEAT))


def of_signed(values: Array, most: float) -> str:
    """A map [r, r]: blue where the image is darker than its reconstruction, red where brighter."""
    return _url(_colored(values / max(2 * most, 1e-12) + 0.5, SIGNED))


def of_file(data: bytes) -> str:
    """A PNG file."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _colored(values: Array, colors: tuple[tuple[int, int, int], ...]) -> Array:
    """Values from 0 to 1 -> uint8 [r, r, 3], between the nearest colors."""
    table = np.array(colors, np.float64)
    places = np.linspace(0, 1, len(table))
    channels = [np.interp(values, places, table[:, k]) for k in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _url(pixels: Array) -> str:
    scale = max(1, -(-LEAST_SIDE // pixels.shape[0]))
    enlarged = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    data = io.BytesIO()
    Image.fromarray(enlarged).save(data, format="PNG", optimize=True)
    return of_file(data.getvalue())
