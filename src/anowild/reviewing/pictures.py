"""Small pictures for HTML pages as PNG data URLs: images, reconstructions, residuals, heat maps."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from anowild.arrays import Array

if TYPE_CHECKING:
    from anowild.views import Explanation

#: Pictures are enlarged by whole numbers to at least this side in pixels; browsers blur smaller ones.
MIN_SIDE = 64
#: Colormap of heat maps: five steps from black to pale yellow, of increasing brightness.
HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
#: Colormap of signed residuals: blue for negative values, white for 0, red for positive ones.
SIGNED = ((33, 102, 172), (247, 247, 247), (178, 24, 43))
#: Titles of the pictures of an explanation, and what each shows.
MEANINGS = {
    "image": "the image as the model sees it",
    "rebuilt": "its reconstruction",
    "difference": "image minus reconstruction, blue where the image is darker and red where it is brighter",
    "odd places": "a heat map of where the image is odd",
}


@dataclass(frozen=True)
class Picture:
    """A picture for a page."""

    url: str
    title: str
    alt: str  # description for people who cannot see it


def image_url(image: Array) -> str:
    """Draw an image [C, r, r] in [-1, 1]; if C is neither 1 nor 3, draw the first channel."""
    drawn = image if image.shape[0] in (1, 3) else image[:1]
    pixels = ((drawn + 1) * 127.5).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    return _url(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def heat_map_url(values: Array, maximum: float) -> str:
    """Draw a heat map [r, r] of nonnegative values; ``maximum`` and above are the brightest."""
    return _url(_colored(values / max(maximum, 1e-12), HEAT))


def overlay_url(values: Array) -> str:
    """Draw the :func:`overlay` of a heat map [h, w]."""
    return _url(overlay(values))


def overlay(values: Array) -> Array:
    """Color a heat map [h, w] of values from 0 to 1, the more transparent the lower they are.

    Returns:
        uint8 [h, w, 4]: red, green, blue and opacity.
    """
    shares = values.clip(0, 1)
    alpha = (np.sqrt(shares) * 255).round().astype(np.uint8)
    return np.dstack([_colored(shares, HEAT), alpha])


def signed_residual_url(values: Array, maximum: float) -> str:
    """Draw a signed residual [r, r]; absolute values of ``maximum`` and above get the full color."""
    return _url(_colored(values / max(2 * maximum, 1e-12) + 0.5, SIGNED))


def png_url(data: bytes) -> str:
    """Return the data URL of a PNG file."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def explanation_pictures(
    explanation: Explanation, names: Sequence[str], brightest: float = 100.0
) -> list[list[Picture]]:
    """Draw every part of an explanation, for each of its images.

    All images share the color scales, so that their maps can be compared.

    Args:
        explanation: of N images.
        names: names of the N images, for the descriptions.
        brightest: percentile, over the maps of all images, that gets the brightest color.

    Returns:
        For each image its pictures, in the order of ``MEANINGS``.
    """
    heat = explanation.heat_map(brightest)
    signed, rebuilt = explanation.signed, explanation.rebuilt
    maximum = 0.0 if signed is None else float(np.percentile(np.abs(signed), brightest))
    pictures = []
    for i, name in enumerate(names):
        url = image_url(explanation.seen[i])
        drawn = [Picture(url, "image", f"{name}, as the model sees it")]
        if rebuilt is not None:
            url = image_url(rebuilt[i])
            drawn.append(Picture(url, "rebuilt", f"Reconstruction of {name}"))
        if signed is not None:
            alt = f"Difference between {name} and its reconstruction: blue darker, red brighter"
            drawn.append(Picture(signed_residual_url(signed[i], maximum), "difference", alt))
        if heat is not None:
            alt = f"Heat map of where {name} is odd"
            drawn.append(Picture(heat_map_url(heat[i], 1.0), "odd places", alt))
        pictures.append(drawn)
    return pictures


def _colored(values: Array, colors: tuple[tuple[int, int, int], ...]) -> Array:
    """Map values in [0, 1] to colors, uint8 [r, r, 3], by linear interpolation between ``colors``."""
    table = np.array(colors, np.float64)
    places = np.linspace(0, 1, len(table))
    channels = [np.interp(values, places, table[:, k]) for k in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _url(pixels: Array) -> str:
    scale = max(1, -(-MIN_SIDE // pixels.shape[0]))
    enlarged = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    data = io.BytesIO()
    Image.fromarray(enlarged).save(data, format="PNG", optimize=True)
    return png_url(data.getvalue())
