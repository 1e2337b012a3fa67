"""Conversion of stored images to the networks' input at a level of detail."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def downsample(images: Tensor, level: int) -> Tensor:
    """Halve images ``level`` times by averaging and rounding, as in the reference's smaller records.

    Args:
        images: uint8 or uint16 [N, C, R, R].
        level: number of halvings.

    Returns:
        [N, C, r, r] of the same type, with r = R / 2^level.
    """
    if level == 0:
        return images
    # These types hold the sums exactly, so the result is the same on every device.
    size = 2**level
    if images.dtype == torch.uint8:
        means = F.avg_pool2d(images.float(), size)
    else:  # ONNX Runtime pools no float64
        channels, side = images.shape[1], images.shape[2] // size
        boxes = images.double().reshape(-1, channels, side, size, side, size)
        means = boxes.mean(dim=(3, 5))
    return means.round().to(images.dtype)


def to_unit(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Scale 0..255 (uint8) or 0..65535 (uint16) to [-1, 1]."""
    full = 65535.0 if images.dtype == torch.uint16 else 255.0
    return images.to(dtype) * (2.0 / full) - 1.0


def process_reals(
    images: Tensor,
    lod: float,
    flips: Tensor | None = None,
    quarters: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Convert stored images to the networks' input.

    Args:
        images: uint8 or uint16 [N, C, r, r], of level ``floor(lod)``.
        lod: level of detail. While a level fades in, each image is blended with its own coarser version
            in the same proportion as in the networks.
        flips: bool [N], which images to mirror.
        quarters: int64 [N], the number of quarter turns of each image, after mirroring.
        dtype: of the result.

    Returns:
        [N, C, r, r] in [-1, 1], in channels-last memory format.
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
