"""The heat map of an image: where the views find it odd."""

from __future__ import annotations

import numpy as np

from anowild.arrays import Array
from anowild.data.preprocessing import resize
from anowild.scoring.detector import Detector

#: Longer side of a heat map over a picture that was seen in tiles, in pixels.
MAP_SIDE = 512


def heat_map(detector: Detector, squares: Array, width: int, height: int) -> Array | None:
    """Return a heat map of what the views see of one image, scaled for it alone.

    Args:
        squares: of the image, [n, C, R, R]: all of it, or all of its tiles.
        width: of the original, in pixels.
        height: of the original.

    Returns:
        [h, w] from 0 to 1: of the square that the views see, or of the whole original where it is seen in
        tiles; None: no view offers one.
    """
    heat = detector.explain(squares).heat_map()
    preprocess = detector.preprocess
    if heat is None or not preprocess.tiles:
        return None if heat is None else np.asarray(heat[0])
    scale = min(1.0, MAP_SIDE / max(width, height))
    whole = np.zeros((max(1, round(height * scale)), max(1, round(width * scale))), np.float32)
    for values, box in zip(heat, preprocess.boxes(height, width), strict=True):
        top, left, tall, wide = (round(length * scale) for length in box)
        # Small tiles of a large picture are less than a pixel here.
        top, left = min(top, whole.shape[0] - 1), min(left, whole.shape[1] - 1)
        area = whole[top : top + max(1, tall), left : left + max(1, wide)]
        np.maximum(area, resize(values, *area.shape), out=area)
    return whole
