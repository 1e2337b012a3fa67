"""Images at a level of detail, as the networks see them, in an order that a seed decides."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from anowild.arrays import Array
from anowild.networks.inputs import downsample, process_reals


class MinibatchSampler:
    """Random minibatches of training images; image number n is a function of (seed, rank, n).

    Every epoch is a permutation of its own, so each image is seen once in it. The images stay
    where they are, in memory or in a mapped file; on a GPU that has room for them all they lie
    there as a whole.

    Args:
        images: uint8 or uint16 [N, C, R, R].
        mirror: flip half of the images, left to right.
        rotate: turn the images by 0 to 3 quarters.
        device: where the minibatches are wanted.
    """

    def __init__(
        self,
        images: Array,
        seed: int,
        rank: int = 0,
        mirror: bool = False,
        rotate: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.images = images
        self.seed = seed
        self.rank = rank
        self.mirror = mirror
        self.rotate = rotate
        self.device = device or torch.device("cpu")
        self._dtype = torch.uint8 if images.itemsize == 1 else torch.uint16
        self._resident = self._on_device() if self._has_room() else None
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)
        self._left_out: Array | None = None
        self._kept: Array = np.arange(len(images))

    def leave_out(self, images: Array) -> None:
        """From now on draw others, at random, in the place of these: bool [N], not all true.

        An image's number still decides which one it is, given what is left out.
        """
        self._left_out = images if images.any() else None
        self._kept = np.flatnonzero(~images)

    def reals(self, nimg: int, count: int, lod: float) -> Tensor:
        """Images ``nimg`` to ``nimg + count`` of the run, float32 [count, C, r, r] in [-1, 1]."""
        images = downsample(self.drawn(nimg, count), math.floor(lod))
        flips = quarters = None
        if self.mirror:
            rng = np.random.default_rng([self.seed, self.rank, _FLIPS, nimg])
            flips = self._sent(rng.random(count) >= 0.5)
        if self.rotate:
            rng = np.random.default_rng([self.seed, self.rank, _TURNS, nimg])
            quarters = self._sent(rng.integers(0, 4, count))
        return process_reals(images, lod, flips, quarters)

    def drawn(self, nimg: int, count: int) -> Tensor:
        """The same images as they are stored, on the device: [count, C, R, R]."""
        indices = self.indices(nimg, count)
        if self._resident is not None:
            return self._resident[self._sent(indices)].view(self._dtype)
        return self._sent(self.images[indices])

    def indices(self, nimg: int, count: int) -> Array:
        """Which images those are: int64 [count]."""
        epochs, positions = np.divmod(np.arange(nimg, nimg + count), len(self.images))
        found = np.empty(count, np.int64)
        for epoch in range(epochs[0], epochs[-1] + 1):
            found[epochs == epoch] = self._epoch(epoch)[positions[epochs == epoch]]
        if self._left_out is not None:
            rng = np.random.default_rng([self.seed, self.rank, _OTHERS, nimg])
            others = self._kept[rng.integers(0, len(self._kept), count)]
            found = np.where(self._left_out[found], others, found)
        return found

    def _make_epoch(self, epoch: int) -> Array:
        rng = np.random.default_rng([self.seed, self.rank, _EPOCHS, epoch])
        return rng.permutation(len(self.images))

    def _sent(self, array: Array) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type != "cuda":
            return tensor.to(self.device)
        # From pinned memory: else Python waits there for all that the GPU has yet to do.
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _has_room(self) -> bool:
        if self.device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        return bool(self.images.nbytes < free / 2)

    def _on_device(self) -> Tensor:
        # Not every kernel knows unsigned 16-bit numbers: they are indexed as signed ones.
        signed = self.images.view(np.int16) if self.images.itemsize == 2 else self.images
        return torch.from_numpy(signed).to(self.device)


# Streams of random numbers, apart from each other and from the training loop's (3 and 4).
_EPOCHS, _FLIPS, _TURNS, _OTHERS = 1, 2, 5, 6
