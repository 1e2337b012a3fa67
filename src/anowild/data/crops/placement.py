"""Placement of crops in a frame: which objects get one, where it lies, and which pixels it has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from anowild.arrays import Array
from anowild.data.crops.detection import SAME_OBJECT, Detection
from anowild.data.crops.settings import CropSettings


def select_objects(
    detections: Iterable[Detection],
    shape: Sequence[int],
    settings: CropSettings,
    merge: bool = True,
) -> list[Detection]:
    """Select the objects of a frame that get a crop.

    Padding 'skip' leaves out objects whose crop would leave the frame.

    Args:
        detections: the objects of the frame.
        shape: of the frame, [H, W].
        settings: padding, and the side of the crops.
        merge: with padding 'shift', leave out a crop that was moved to nearly the place of an
            earlier one.
    """
    side = settings.crop_side
    selected: list[Detection] = []
    corners: list[tuple[int, int]] = []
    for detection in detections:
        top, left = corner = crop_corner(detection, shape, side, settings.padding)
        leaves = top < 0 or left < 0 or top + side > shape[0] or left + side > shape[1]
        if settings.padding == "skip" and leaves:
            continue
        near = SAME_OBJECT * settings.object_size
        moved = merge and corner != _centered_corner(detection, side)
        if moved and any(math.dist(corner, other) < near for other in corners):
            continue
        selected.append(detection)
        corners.append(corner)
    return selected


def crop_corner(
    detection: Detection, shape: Sequence[int], side: int, padding: str
) -> tuple[int, int]:
    """Return top and left of the crop of an object in a frame of a shape [H, W]."""
    top, left = _centered_corner(detection, side)
    if padding != "shift":
        return top, left
    # In a frame smaller than the crop, the frame stays within the crop.
    return (
        min(max(top, min(0, shape[0] - side)), max(0, shape[0] - side)),
        min(max(left, min(0, shape[1] - side)), max(0, shape[1] - side)),
    )


def _centered_corner(detection: Detection, side: int) -> tuple[int, int]:
    half = (side - 1) / 2
    return math.floor(detection.row - half + 0.5), math.floor(detection.column - half + 0.5)


def crop(frame: Array, top: int, left: int, side: int, padding: str) -> Array:
    """Cut a square [side, side] out of a frame [H, W], and pad what lies beyond the frame.

    'shift' pads by reflection where the frame is smaller than the crop.
    """
    height, width = frame.shape
    if padding == "zero":
        out = np.zeros((side, side), frame.dtype)
        inner = frame[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
        row, column = max(-top, 0), max(-left, 0)
        out[row : row + inner.shape[0], column : column + inner.shape[1]] = inner
        return out
    indices = [
        _pad_index(np.arange(start, start + side), count, padding)
        for start, count in ((top, height), (left, width))
    ]
    return np.asarray(frame[np.ix_(*indices)])


def _pad_index(index: Array, count: int, padding: str) -> Array:
    """Map positions on an axis, also those beyond it, to the pixels from 0 to ``count`` - 1."""
    if padding in ("reflect", "shift") and count > 1:
        # As in np.pad, the border pixel is not repeated, and small frames are reflected repeatedly.
        index = np.abs((index + count - 1) % (2 * count - 2) - (count - 1))
    return np.asarray(index.clip(0, count - 1))
