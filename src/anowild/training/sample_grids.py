"""Grids of training images, samples and reconstructions, as PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anowild.arrays import Array
from anowild.files import atomic_write
from anowild.training.networks import Networks

# Pixels between images and around a grid, and their gray.
_GAP, _GRAY = 2, 128


def to_uint8(images: Tensor) -> Array:
    """Convert values from [-1, 1] to 0..255, rounded and clipped."""
    scaled = ((images.detach().cpu().float() + 1) * 127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).numpy()


def grid(images: Array, columns: int) -> Image.Image:
    """Arrange images row by row in one picture.

    Args:
        images: uint8 [N, C, H, W]; one channel is gray, three are color, of others the first is shown.
        columns: images in a row.
    """
    if images.shape[1] not in (1, 3):
        images = images[:, :1]
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.full(
        (rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, channels), _GRAY, np.uint8
    )
    for i, image in enumerate(images):
        top, left = _GAP + (i // columns) * (height + _GAP), _GAP + (i % columns) * (width + _GAP)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)


def save_png(picture: Image.Image, path: Path) -> None:
    """Save a picture as PNG."""
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")


def grid_paths(folder: Path, kimg: float) -> tuple[Path, Path]:
    """Return the files of samples and reconstructions of a checkpoint at ``kimg`` thousand images."""
    return tuple(folder / f"{kind}-{kimg:09.1f}.png" for kind in ("samples", "reconstructions"))  # type: ignore[return-value]


@torch.no_grad()
def save_training_grids(
    folder: Path, networks: Networks, reals: Tensor, latents: Tensor, lod: float, kimg: float
) -> None:
    """Save samples and reconstructions of the averaged networks, 8 images in a row.

    Rows of reconstructions alternate: images x, then G(E(x)).

    Args:
        folder: receives samples-<kimg>.png and reconstructions-<kimg>.png.
        networks: of the run.
        reals: [N, C, r, r] in [-1, 1], of level ``lod``; N a multiple of 8.
        latents: [M, latent], of the samples.
        lod: level of detail.
        kimg: thousands of images trained on, for the file names.
    """
    samples = to_uint8(networks.average_generator(latents, lod))
    rebuilt = networks.average_generator(networks.average_encoder(reals, lod), lod)
    rows = [part[i : i + 8] for i in range(0, len(reals), 8) for part in (reals, rebuilt)]
    pictures = grid(samples, 8), grid(to_uint8(torch.cat(rows)), 8)
    for picture, path in zip(pictures, grid_paths(folder, kimg), strict=True):
        save_png(picture, path)
