"""The picture of where an image is odd: the heat map of the views over the original."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from anowild.arrays import Array
from anowild.data import Preprocess
from anowild.data.display import display
from anowild.data.seen import seen_box
from anowild.reviewing.pictures import overlay

#: Longer side of the picture in pixels, at most; smaller images are enlarged by a whole number, up to the second.
LARGEST, SMALLEST = 1024, 256
#: How much of the picture the brightest places of the map cover, as on the page of a review.
OPACITY = 0.6


def base_picture(pixels: Array) -> Image.Image:
    """Return an original [H, W, C] of any depth as an RGB picture of a size to look at."""
    picture = Image.fromarray(np.ascontiguousarray(display(pixels))).convert("RGB")
    times = SMALLEST // max(picture.size)
    if times > 1:
        return picture.resize(
            (picture.width * times, picture.height * times), Image.Resampling.NEAREST
        )
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX, reducing_gap=2.0)
    return picture


def draw(
    picture: Image.Image, heat: Array, preprocess: Preprocess, width: int, height: int
) -> bytes:
    """Lay a heat map over a picture.

    Args:
        picture: of the original, from :func:`base_picture`.
        heat: [h, w] from 0 to 1, from `anowild.scoring.heat_map`.
        preprocess: of the detector, which says what part of the original the map covers.
        width: of the original, in pixels.
        height: of the original.

    Returns:
        A PNG file.
    """
    box = [0.0, 0.0, 1.0, 1.0] if preprocess.tiles else seen_box(preprocess, width, height)
    left, wide = round(box[0] * picture.width), max(1, round(box[2] * picture.width))
    top, tall = round(box[1] * picture.height), max(1, round(box[3] * picture.height))
    colors = overlay(np.asarray(heat, np.float64))
    colors[:, :, 3] = (colors[:, :, 3] * OPACITY).round()
    layer = Image.fromarray(colors).resize((wide, tall), Image.Resampling.BILINEAR)
    picture.paste(layer, (left, top), layer)
    data = io.BytesIO()
    picture.save(data, "PNG", compress_level=1)
    return data.getvalue()
