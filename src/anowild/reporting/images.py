"""Small pictures for a page, as data URLs: images, reconstructions, maps."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from anowild.arrays import Array
from anowild.views import Explanation

#: Pictures are enlarged, by whole numbers, to at least this side in pixels; otherwise browsers blur them.
LEAST_SIDE = 64
#: Heat in five steps from black to pale yellow, as bright as it is hot; and both signs of a residual.
HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
SIGNED = ((33, 102, 172), (247, 247, 247), (178, 24, 43))


@dataclass(frozen=True)
class Picture:
    """A picture as a data URL, its title, and a description for those who cannot see it."""

    url: str
    title: str
    alt: str


def of_image(image: Array) -> str:
    """Draw an image [C, r, r] in [-1, 1]; of other than 1 or 3 channels, the first is drawn."""
    shown = image if image.shape[0] in (1, 3) else image[:1]
    pixels = ((shown + 1) * 127.5).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    return _url(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def of_heat(values: Array, most: float) -> str:
    """Draw a heat map [r, r] of values of 0 or more; ``most`` and above are the brightest."""
    return _url(_colored(values / max(most, 1e-12), HEAT))


def of_signed(values: Array, most: float) -> str:
    """Draw a signed residual [r, r]: blue where the image is darker than its reconstruction, red where brighter."""
    return _url(_colored(values / max(2 * most, 1e-12) + 0.5, SIGNED))


def of_file(data: bytes) -> str:
    """Return the data URL of a PNG file."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def of_explanation(
    explanation: Explanation, names: Sequence[str], brightest: float = 100.0
) -> list[list[Picture]]:
    """Draw everything that an explanation has of each image, on scales that all images share.

    Args:
        names: of the images, for those who cannot see them.
        brightest: percentile of all maps that is drawn brightest.
    """
    heat = explanation.heat_map(brightest)
    signed, rebuilt = explanation.signed, explanation.rebuilt
    most = 0.0 if signed is None else float(np.percentile(np.abs(signed), brightest))
    found = []
    for i, name in enumerate(names):
        url = of_image(explanation.seen[i])
        drawn = [Picture(url, "image", f"{name}, as the networks see it")]
        if rebuilt is not None:
            url = of_image(rebuilt[i])
            drawn.append(Picture(url, "rebuilt", f"Reconstruction of {name}"))
        if signed is not None:
            alt = f"Difference of {name} and its reconstruction: blue darker, red brighter"
            drawn.append(Picture(of_signed(signed[i], most), "difference", alt))
        if heat is not None:
            alt = f"Heat map of where {name} is odd"
            drawn.append(Picture(of_heat(heat[i], 1.0), "odd places", alt))
        found.append(drawn)
    return found


def _colored(values: Array, colors: tuple[tuple[int, int, int], ...]) -> Array:
    """Map values from 0 to 1 to uint8 [r, r, 3], interpolating between the nearest colors."""
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
