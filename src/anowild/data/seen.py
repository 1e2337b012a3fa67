"""What the views see of an original: all of it, the middle, or tiles; as boxes and in words."""

from __future__ import annotations

import numpy as np

from anowild.arrays import Array
from anowild.data.preprocessing import Preprocess


def seen_box(
    preprocess: Preprocess, width: int, height: int, tile: int | None = None
) -> list[float]:
    """Return the part of an original that the views see: left, top, width and height from 0 to 1.

    Where the square reaches beyond the original, as of ``letterbox``, they lie outside of 0 to 1.

    Args:
        tile: number of the tile that decides; the views have seen all of them.
    """
    if tile is not None:
        y, x, tall, wide = preprocess.boxes(height, width)[tile]
        return [x / width, y / height, wide / width, tall / height]
    if preprocess.fit == "stretch":
        return [0.0, 0.0, 1.0, 1.0]
    edge = min(width, height) if preprocess.fit == "crop" else max(width, height)
    if preprocess.fit == "pad":
        edge = max(edge, preprocess.resolution)
    return [(1 - edge / width) / 2, (1 - edge / height) / 2, edge / width, edge / height]


def seen_text(preprocess: Preprocess, width: int, height: int) -> str:
    """Say how the views see an original: ``the middle 200x200, scaled to 32x32``."""
    side = preprocess.resolution
    if preprocess.tiles:
        boxes = preprocess.boxes(height, width)
        return f"{len(boxes)} tiles of {boxes[0][3]}x{boxes[0][2]}, each seen as {side}x{side}"
    box = seen_box(preprocess, width, height)
    seen = round(box[2] * width), round(box[3] * height)
    whole = seen[0] >= width and seen[1] >= height
    part = "all of it" if whole else f"the middle {seen[0]}x{seen[1]}"
    same = (width, height) == (side, side) or seen == (side, side)
    return part if same else f"{part}, scaled to {side}x{side}"


def seen_in_all(preprocess: Preprocess, sizes: Array) -> str:
    """Say how the views see originals of some sizes, [N, 2], in one sentence."""
    side = preprocess.resolution
    if preprocess.tiles:
        different, times = np.unique(sizes, axis=0, return_counts=True)
        counts = [len(preprocess.boxes(height, width)) for width, height in different.tolist()]
        usual = np.median(np.repeat(counts, times))
        return (
            f"The views see each picture as tiles of {preprocess.tiles} pixels, usually {usual:.0f} "
            f"of them, at {side}x{side} pixels; the oddest tiles decide."
        )
    text = f"The views see {side}x{side} pixels"
    short, long = sizes.min(axis=1), sizes.max(axis=1)
    if preprocess.fit == "crop":
        unseen = float(np.mean(1 - short / np.maximum(long, 1)))
        if unseen >= 0.01:
            text += f", the middle cut out: {100 * unseen:.0f} % of the pictures is not looked at (--set fit=letterbox looks at all of it)"
    elif preprocess.fit == "stretch":
        text += ", stretched to a square"
    else:
        text += ", the whole picture with a margin"
    usual = float(np.median(short))
    if usual >= 4 * side:
        tiles = 1 << max(3, round(np.log2(usual / 4)))
        text += (
            f"; the pictures are usually {usual:.0f} pixels wide or high, so that finer things are not seen "
            f"(--tiles {tiles} looks at each part of a picture, and may find them)"
        )
    return text + "."
