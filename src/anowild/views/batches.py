"""What keeps a view's values of an image from depending on how many others there are, and on its place among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anowild.arrays import Array

#: Matrices are filled up to multiples of this many rows and columns; see :func:`product`.
MULTIPLE = 8


def batch_size(device: torch.device, cpu: int, gpu: int) -> int:
    """Return how many images are computed at a time.

    Few on a CPU, where one alone takes as long as a batch; many on a GPU, which small networks leave idle.
    """
    return cpu if device.type == "cpu" else gpu


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


def filled(matrix: Tensor) -> Tensor:
    """Fill a matrix up with zeros to multiples of ``MULTIPLE``: [..., K, M] -> [..., K', M']."""
    rows, columns = (-int(side) % MULTIPLE for side in matrix.shape[-2:])
    return F.pad(matrix, (0, columns, 0, rows)) if rows or columns else matrix


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply rows by a matrix; how a row is rounded does not depend on its place.

    With sides of other lengths, MKL on an AMD processor rounds a row by where it lies in memory
    (docs/reliability.md).

    Args:
        x: [..., N, K].
        matrix: [..., K, M]. One that is used often should be filled already (:func:`filled`).

    Returns:
        [..., N, M]; M' columns if the matrix is filled.
    """
    missing = -int(x.shape[-1]) % MULTIPLE
    return ((F.pad(x, (0, missing)) if missing else x) @ filled(matrix))[..., : matrix.shape[-1]]
