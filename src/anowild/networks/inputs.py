"""Stored images as the networks see them, at a level of detail."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def downsample(images: Tensor, level: int) -> Tensor:
    """Halve ``level`` times by averaging and rounding, as the reference's smaller records have it.

    uint8 or uint16 [N, C, R, R] -> the same type [N, C, r, r].
    """
    if level == 0:
        return images
    # Sums of whole numbers that these types hold exactly: the same on every device.
    wide = torch.float32 if images.dtype == torch.uint8 else torch.float64
    return F.avg_pool2d(images.to(wide), 2**level).round().to(images.dtype)


def to_unit(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """0..255 (uint8) or 0..65535 (uint16) -> [-1, 1]."""
    full = 65535.0 if images.dtype == torch.uint16 else 255.0
    return images.to(dtype) * (2.0 / full) - 1.0


def process_reals(
    images: Tensor,
    lod: float,
    flips: Tensor | None = None,
    quarters: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """What the networks see of stored images at a level of detail.

    Args:
        images: uint8 or uint16 [N, C, r, r], of level ``floor(lod)``.
        lod: while a level fades in, the images blend with their own coarser version as much as
            the networks' do.
        flips: bool [N], which images to mirror.
        quarters: int64 [N], by how many quarters to turn each image, after mirroring.
    """
    reals = to_unit(images, dtype)
    if flips is not None:
        reals = torch.where(flips.view(-1, 1, 1, 1), reals.flip(-1), reals)
    if quarters is not None:
        turned = torch.stack([reals.rot90(count, (2, 3)) for count in range(4)])
        reals = turned[quarters, torch.arange(len(reals), device=reals.device)]
    coarser = lod - math.floor(lod)
    if coarser > 0:
        blurred = F.interpolate(F.avg_pool2d(reals, 2), scale_factor=2, mode="nearest")
        reals = reals + (blurred - reals) * coarser
    return reals.contiguous(memory_format=torch.channels_last)
