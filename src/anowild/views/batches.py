"""Batches of one size, so that what a view says of an image does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from anowild.arrays import Array


def filled_batches(images: Array, size: int) -> Iterator[Array]:
    """Yield ``size`` images at a time; the last batch is filled up with its last image.

    The kernels chosen, and with them the rounding of a result, depend on the size of a batch.
    """
    for start in range(0, len(images), size):
        part = images[start : start + size]
        if len(part) < size:
            part = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        yield part


def by_batches(
    images: Array, size: int, device: torch.device, compute: Callable[[Tensor], dict[str, Tensor]]
) -> dict[str, Array]:
    """Compute values of stored images in filled batches: [N, C, R, R] -> by name, [N, ...]."""
    parts: dict[str, list[Array]] = {}
    for part in filled_batches(images, size):
        stored = torch.from_numpy(np.ascontiguousarray(part)).to(device)
        for name, values in compute(stored).items():
            parts.setdefault(name, []).append(values.cpu().numpy())
    return {name: np.concatenate(found)[: len(images)] for name, found in parts.items()}
