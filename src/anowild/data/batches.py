"""Images at a level of detail, as the networks see them, in an order that a seed decides."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Array = np.ndarray[Any, Any]


class Batches:
    """Random minibatches of training images; image number n is a function of (seed, rank, n).

    Every epoch is a permutation of its own, so each image is seen once in it. The smaller
    versions of the images are made once per level, by averaging and rounding to 8 bits, as the
    multi-resolution records of the reference have them.

    Args:
        images: uint8 [N, C, R, R].
        mirror: flip half of the images, left to right.
    """

    def __init__(self, images: Array, seed: int, rank: int = 0, mirror: bool = False) -> None:
        self.images = images
        self.seed = seed
        self.rank = rank
        self.mirror = mirror
        self.level_images = lru_cache(maxsize=2)(self._make_level)
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def reals(self, nimg: int, count: int, lod: float) -> Tensor:
        """Images ``nimg`` to ``nimg + count`` of the run, float32 [count, C, r, r] in [-1, 1]."""
        indices = self.indices(nimg, count)
        images = torch.from_numpy(self.level_images(math.floor(lod))[indices])
        flips = None
        if self.mirror:
            rng = np.random.default_rng([self.seed, self.rank, 2, nimg])
            flips = torch.from_numpy(rng.random(count) >= 0.5)
        return process_reals(images, lod, flips)

    def indices(self, nimg: int, count: int) -> Array:
        """Which images those are: int64 [count]."""
        numbers = np.arange(nimg, nimg + count)
        epochs, positions = np.divmod(numbers, len(self.images))
        return np.array(
            [self._epoch(int(e))[p] for e, p in zip(epochs, positions, strict=True)], np.int64
        )

    def _make_epoch(self, epoch: int) -> Array:
        rng = np.random.default_rng([self.seed, self.rank, 1, epoch])
        return rng.permutation(len(self.images))

    def _make_level(self, level: int) -> Array:
        """All images at a level, in their own order: uint8 [N, C, r, r]."""
        return shrink(self.images, level)


def shrink(images: Array, level: int) -> Array:
    """Halve ``level`` times by averaging: uint8 [N, C, R, R] -> uint8 [N, C, r, r]."""
    if level == 0:
        return images
    count, channels, side, _ = images.shape
    box = 2**level
    small = np.empty((count, channels, side // box, side // box), np.uint8)
    for start in range(0, count, 4096):  # the float copy stays small
        part = images[start : start + 4096].astype(np.float32)
        part = part.reshape(len(part), channels, side // box, box, side // box, box)
        small[start : start + 4096] = np.rint(part.mean(axis=(3, 5)))
    return small


def to_unit(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 0..255 -> [-1, 1]."""
    return images.to(dtype) * (2.0 / 255.0) - 1.0


def process_reals(
    images: Tensor, lod: float, flips: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """What the networks see of 8-bit images at a level of detail.

    Args:
        images: uint8 [N, C, r, r], of level ``floor(lod)``.
        lod: while a level fades in, the images blend with their own coarser version as much as
            the networks' do.
        flips: bool [N], which images to mirror.
    """
    reals = to_unit(images, dtype)
    if flips is not None:
        reals = torch.where(flips.view(-1, 1, 1, 1), reals.flip(-1), reals)
    coarser = lod - math.floor(lod)
    if coarser > 0:
        blurred = F.interpolate(F.avg_pool2d(reals, 2), scale_factor=2, mode="nearest")
        reals = reals + (blurred - reals) * coarser
    return reals.contiguous(memory_format=torch.channels_last)
