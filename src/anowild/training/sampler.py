"""Minibatches of training images at a level of detail, in an order determined by a seed."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from anowild.arrays import Array
from anowild.networks.inputs import downsample, process_reals
from anowild.training.distributed import ALONE, World
from anowild.training.streams import Draw


class MinibatchSampler:
    """Random minibatches of training images; the n-th image is a function of (seed, stream, n).

    Each epoch is a new permutation, in which every image appears once. The images are read where they
    are, in memory or in a mapped file, unless they fit into half of a GPU's free memory; then they are
    copied there.

    Args:
        images: uint8 or uint16 [N, C, R, R].
        seed: of the order.
        stream: number of the stream of draws, where networks are to see different orders.
        mirror: flip images left to right, half of them.
        rotate: rotate images by 0 to 3 quarter turns.
        shrink: how often images are halved before the level of detail halves them further.
        chosen: numbers of the images that are drawn, int [n]; all unless given.
        device: of the minibatches; the CPU by default.
    """

    def __init__(
        self,
        images: Array,
        seed: int,
        stream: int = 0,
        mirror: bool = False,
        rotate: bool = False,
        shrink: int = 0,
        chosen: Array | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.images = images
        self.seed = seed
        self.stream = stream
        self.mirror = mirror
        self.rotate = rotate
        self.shrink = shrink
        self.chosen = np.arange(len(images)) if chosen is None else chosen
        self.device = device or torch.device("cpu")
        self._dtype = torch.uint8 if images.itemsize == 1 else torch.uint16
        self._resident = self._resident_copy() if self._fits_on_device() else None
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)
        self._wanted = np.ones(len(images), bool)
        self._substitutes = self.chosen

    def draw_only(self, wanted: Array) -> None:
        """Draw other images in the place of unwanted ones from now on.

        What is drawn instead is a function of (seed, stream) and the first image of the minibatch. Wanted images
        stay where they were.

        Args:
            wanted: bool [N], not all False among the images that are drawn.
        """
        self._wanted = wanted
        self._substitutes = self.chosen[wanted[self.chosen]]

    def reals(self, nimg: int, count: int, lod: float, world: World = ALONE) -> Tensor:
        """Return images ``nimg`` to ``nimg + count`` of the run: float32 [count, C, r, r] in [-1, 1].

        Of several processes each gets its share of them, and reads no others.
        """
        images = downsample(self.stored(nimg, count, world), self.shrink + math.floor(lod))
        flips = quarters = None
        if self.mirror:
            rng = np.random.default_rng([self.seed, self.stream, Draw.FLIP, nimg])
            flips = self._to_device(world.share(rng.random(count) >= 0.5))
        if self.rotate:
            rng = np.random.default_rng([self.seed, self.stream, Draw.QUARTER_TURN, nimg])
            quarters = self._to_device(world.share(rng.integers(0, 4, count)))
        return process_reals(images, lod, flips, quarters)

    def stored(self, nimg: int, count: int, world: World = ALONE) -> Tensor:
        """Return the same images as stored, at full size, on the device: [count, C, R, R]."""
        indices = world.share(self.indices(nimg, count))
        if self._resident is not None:
            return self._resident[self._to_device(indices)].view(self._dtype)
        return self._to_device(self.images[indices])

    def indices(self, nimg: int, count: int) -> Array:
        """Return the indices of the same images: int64 [count]."""
        epochs, positions = np.divmod(np.arange(nimg, nimg + count), len(self.chosen))
        found = np.empty(count, np.int64)
        for epoch in range(epochs[0], epochs[-1] + 1):
            found[epochs == epoch] = self._epoch(epoch)[positions[epochs == epoch]]
        if not (kept := self._wanted[found]).all():
            rng = np.random.default_rng([self.seed, self.stream, Draw.SUBSTITUTE, nimg])
            drawn = (rng.random(count) * len(self._substitutes)).astype(int)
            found = np.where(kept, found, self._substitutes[drawn])
        return found

    def _make_epoch(self, epoch: int) -> Array:
        rng = np.random.default_rng([self.seed, self.stream, Draw.EPOCH, epoch])
        return self.chosen[rng.permutation(len(self.chosen))]

    def _to_device(self, array: Array) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type != "cuda":
            return tensor.to(self.device)
        # A copy from memory that is not pinned would wait until the GPU has finished its work.
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _fits_on_device(self) -> bool:
        if self.device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        return bool(self.images.nbytes < free / 2)

    def _resident_copy(self) -> Tensor:
        # Not every kernel takes unsigned 16-bit numbers, so they are stored as signed ones.
        signed = self.images.view(np.int16) if self.images.itemsize == 2 else self.images
        return torch.from_numpy(signed).to(self.device)
