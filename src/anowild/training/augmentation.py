"""Differentiable augmentation (Zhao et al. 2020): translation and cutout of D's images.

Real and generated images are augmented alike, and G's gradient passes through the augmentation. So D
cannot memorize a few hundred images, and G does not learn to imitate the augmentation.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Largest translation, and side of the square that is cut out, as shares of the image's side.
MAX_SHIFT, CUTOUT = 1 / 8, 1 / 2
#: Uniform random numbers needed for each image.
UNIFORMS_PER_IMAGE = 4


def augment(images: Tensor, uniforms: Tensor) -> Tensor:
    """Translate each image, repeating its edges, and replace a square of it by mid-gray.

    Args:
        images: [N, C, r, r] in [-1, 1].
        uniforms: [N, 4] in [0, 1): translation down and right, row and column of the square's center.

    Returns:
        [N, C, r, r].
    """
    side = images.shape[-1]
    furthest = round(side * MAX_SHIFT)
    moved = images
    for axis in (2, 3):
        shift = (uniforms[:, axis - 2] * (2 * furthest + 1)).long() - furthest
        places = torch.arange(side, device=images.device) - shift.unsqueeze(1)
        shape = [len(images), 1, 1, 1]
        shape[axis] = side
        index = places.clamp(0, side - 1).view(shape).expand_as(images)
        moved = moved.gather(axis, index)
    half = side * CUTOUT / 2
    rows, columns = (
        (torch.arange(side, device=images.device) + 0.5 - uniforms[:, [i]] * side).abs() < half
        for i in (2, 3)
    )
    covered = rows[:, None, :, None] & columns[:, None, None, :]
    return moved.masked_fill(covered, 0.0)
