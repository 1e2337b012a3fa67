"""Values of many training images, a part of them in memory at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from anowild.arrays import Array
from anowild.progress import bar

#: Images that are in memory at a time.
PART = 2048


def by_parts(
    title: str, images: Array, rows: Array, compute: Callable[[Array], dict[str, Array]]
) -> dict[str, Array]:
    """Compute values of some images, a part in memory at a time, and show how many are done.

    Args:
        title: of the bar.
        images: all, [N, C, R, R], in memory or in a mapped file.
        rows: numbers of the images that count, int [n], at least one.
        compute: images [m, C, R, R] -> values by name, each [m, ...].

    Returns:
        By name, each [n, ...].
    """
    with bar(title, len(rows)) as shown:
        starts = shown.counting(range(0, len(rows), PART), PART)
        parts = [compute(images[rows[start : start + PART]]) for start in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
