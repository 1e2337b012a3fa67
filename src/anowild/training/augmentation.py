"""Differentiable augmentation (Zhao et al. 2020): D learns from images that were moved and covered.

Real and generated images are treated alike, and G's gradient passes through, so that D cannot learn
a few hundred images by heart, and G does not learn the treatment.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Furthest that an image is moved, and side of the square that is covered, as shares of its side.
FURTHEST, COVERED = 1 / 8, 1 / 2
#: Uniform random numbers that each image takes.
NUMBERS = 4


def augment(images: Tensor, uniforms: Tensor) -> Tensor:
    """Move each image, its edges drawn out, and cover a square of it with mid-gray.

    Args:
        images: [N, C, r, r] in [-1, 1].
        uniforms: [N, 4] in [0, 1): how far down and right it moves, where the square's middle lies.
    """
    side = images.shape[-1]
    furthest = round(side * FURTHEST)
    moved = images
    for axis in (2, 3):
        shift = (uniforms[:, axis - 2] * (2 * furthest + 1)).long() - furthest
        places = torch.arange(side, device=images.device) - shift.unsqueeze(1)
        shape = [len(images), 1, 1, 1]
        shape[axis] = side
        index = places.clamp(0, side - 1).view(shape).expand_as(images)
        moved = moved.gather(axis, index)
    half = side * COVERED / 2
    rows, columns = (
        (torch.arange(side, device=images.device) + 0.5 - uniforms[:, [i]] * side).abs() < half
        for i in (2, 3)
    )
    covered = rows[:, None, :, None] & columns[:, None, None, :]
    return moved.masked_fill(covered, 0.0)
