"""The level of detail (lod) of a progressively grown network.

It is the number of halvings from the full resolution: 0 is full size, ``max_lod`` is 4x4. Between two
whole numbers the finer level fades in: at 1.7 the network runs at level 1, and 70 % of the image still
comes from level 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

MIN_RESOLUTION, MAX_RESOLUTION = 8, 512


def log2_resolution(resolution: int) -> int:
    """Return the base-2 logarithm of a resolution.

    Raises:
        ValueError: the resolution is not a power of two from 8 to 512.
    """
    exponent = int(resolution).bit_length() - 1
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION or 1 << exponent != resolution:
        raise ValueError(
            f"resolution must be a power of two from {MIN_RESOLUTION} to {MAX_RESOLUTION}, "
            f"not {resolution}"
        )
    return exponent


def feature_maps(stage: int, fmap_base: int, fmap_max: int) -> int:
    """Return the number of feature maps, min(fmap_base / 2^stage, fmap_max), at least 1."""
    return max(1, min(int(fmap_base / 2.0**stage), fmap_max))


def split_lod(lod: float, max_lod: int) -> tuple[int, float]:
    """Split a lod into its level and the share in [0, 1) that still comes from the next coarser level."""
    lod = min(max(float(lod), 0.0), float(max_lod))
    level = math.floor(lod)
    return level, lod - level


@contextmanager
def seeded_init(seed: int) -> Iterator[None]:
    """Initialize the networks built inside from ``seed``, without changing the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
