"""The view `pixels`: what anybody would look at, without a network.

Descriptors (gray values, contrast, edges by size and direction, layout, color) are held against the
training images by a trimmed Mahalanobis distance. Contrast, brightness and sharpness are cues of their
own, and so is what the principal components of the training images leave unexplained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anowild.arrays import Array
from anowild.networks.inputs import to_unit
from anowild.views.base import Cue, Precision, View, register_view
from anowild.views.batches import batch_size, by_batches, product
from anowild.views.gaussian import GaussianReference
from anowild.views.loading import check_tensors

#: Added to variances, and the least mean gradient: (a hundredth of half the range)^2, and a thousandth.
LEAST_VARIANCE, LEAST_GRADIENT = 1e-4, 1e-3
#: Added to the variance that a residual is divided by: that of noise of a twentieth of the range.
VARIANCE_FLOOR = 1e-2
#: Quantiles of the gray values.
QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
#: Directions in which gradients are summed.
DIRECTIONS = 8
#: Sides of the layout's grid, of the coarsest level that edges are measured on, and of the images that
#: principal components are taken of.
GRID, COARSEST, PCA_SIDE = 4, 8, 16

#: Images that are computed at a time.
CPU_BATCH, GPU_BATCH = 64, 256

#: Weight of the descriptors beside the cues of other views, and of the cues that are single numbers of an
#: image, and of the residual (docs/choosing.md).
VOTE, LESSER = 0.4, 0.2

CUES = (
    Cue(
        name="descriptors",
        meaning="Trimmed Mahalanobis distance of 100 to 180 descriptors of gray values, edges, layout and color.",
        higher="less like the rest in tones, edges and layout",
        lower="more like the rest in tones, edges and layout",
        noun="tones, edges and layout",
        weight=VOTE,
    ),
    Cue(
        name="contrast",
        meaning="Standard deviation of the pixels.",
        higher="higher in contrast",
        lower="plainer (less contrast)",
        noun="contrast",
        odd_side="both",
        weight=LESSER,
        visible=True,
    ),
    Cue(
        name="brightness",
        meaning="Mean of the pixels, from 0 (black) to 1 (white).",
        higher="brighter",
        lower="darker",
        noun="brightness",
        odd_side="both",
        weight=LESSER,
        visible=True,
    ),
    Cue(
        name="sharpness",
        meaning="Mean absolute Laplacian (change from pixel to pixel), in units of the contrast.",
        higher="sharper or noisier (more fine detail)",
        lower="softer or more blurred (less fine detail)",
        noun="sharpness",
        odd_side="both",
        weight=LESSER,
        visible=True,
    ),
    Cue(
        name="pca_residual",
        meaning="Share of the gray image's variance, at 16 pixels a side, that the principal components leave.",
        higher="less like the rest in overall shape",
        lower="more like the rest in overall shape",
        noun="overall shape",
        weight=LESSER,
    ),
)  # fmt: skip


def contrast(x: Tensor) -> Tensor:
    """Root of the variance over pixels, mean over channels, at least 0.01, in units of [-1, 1]: [N, C, H, W] -> [N]."""
    return (x.var(dim=(2, 3), correction=0).mean(dim=1) + LEAST_VARIANCE).sqrt()


def brightness(x: Tensor) -> Tensor:
    """Mean over pixels and channels, from 0 to 1, and a little more: [N, C, H, W] -> [N]."""
    return (x.mean(dim=(1, 2, 3)) + 1) / 2 + math.sqrt(LEAST_VARIANCE)


def sharpness(x: Tensor) -> Tensor:
    """Mean absolute Laplacian of the gray image, in units of the contrast: [N, C, H, W] -> [N]."""
    gray = x.mean(dim=1, keepdim=True)
    return (laplacian(gray).abs().mean(dim=(1, 2, 3)) + LEAST_GRADIENT) / contrast(x)


def laplacian(gray: Tensor) -> Tensor:
    """Sum of the four neighbors minus four times the pixel: [N, 1, H, W] -> [N, 1, H-2, W-2]."""
    inner = gray[:, :, 1:-1, 1:-1]
    beside = gray[:, :, 1:-1, :-2] + gray[:, :, 1:-1, 2:]
    return beside + gray[:, :, :-2, 1:-1] + gray[:, :, 2:, 1:-1] - 4 * inner


def gradient(gray: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along rows and columns: [N, 1, H, W] -> two [N, 1, H-2, W-2]."""
    along = (gray[:, :, 1:-1, 2:] - gray[:, :, 1:-1, :-2]) / 2
    down = (gray[:, :, 2:, 1:-1] - gray[:, :, :-2, 1:-1]) / 2
    return along, down


def descriptors(x: Tensor) -> Tensor:
    """Describe images [N, C, R, R] in [-1, 1] by numbers, float32 [N, D]; D depends on R and C."""
    gray = x.mean(dim=1, keepdim=True)
    ordered = gray.flatten(1).sort(dim=1).values
    places = [_place(ordered, q) for q in QUANTILES]
    parts = [ordered[:, places], contrast(gray).log().unsqueeze(1)]
    level = gray
    while level.shape[-1] >= COARSEST:
        parts.append(_edges(level))
        level = F.avg_pool2d(level, 2)
    along, down = gradient(gray)
    energy = means(along.square().add(down.square()).sqrt(), GRID)
    parts += [means(gray, GRID).flatten(1), (energy + LEAST_GRADIENT).log().flatten(1)]
    if x.shape[1] > 1:
        pairs = x - x.roll(1, dims=1)
        parts += [x.mean(dim=(2, 3)), pairs.mean(dim=(2, 3))[:, 1:]]
        parts += [(c.var(dim=(2, 3), correction=0) + LEAST_VARIANCE).log() for c in (x, pairs)]
    return torch.cat(parts, dim=1)


def descriptor_count(channels: int, resolution: int) -> int:
    """Return how many numbers :func:`descriptors` gives, without memory for the channels."""
    gray = descriptors(torch.zeros(1, 1, resolution, resolution)).shape[1]
    # Of a channel its mean, its variance and that of its difference to the one before; differences' means but one.
    return gray + (4 * channels - 1 if channels > 1 else 0)


def means(x: Tensor, cells: int) -> Tensor:
    """Average over cells that share pixels where they have to: [N, C, H, H] -> [N, C, cells, cells].

    The same as adaptive average pooling, which is not exported where sides do not divide.
    """
    side = int(x.shape[-1])
    shares = np.zeros((cells, side), np.float32)
    for i in range(cells):
        first, end = i * side // cells, -(-(i + 1) * side // cells)
        shares[i, first:end] = 1 / (end - first)
    rows = torch.from_numpy(shares).to(x.device)
    return rows @ x @ rows.T


def _place(ordered: Tensor, share: float) -> int:
    """Return the column of a quantile of ascending rows [N, P]."""
    return round(share * (int(ordered.shape[1]) - 1))


def _edges(level: Tensor) -> Tensor:
    """Describe the edges at one size: [N, 1, r, r] -> [N, 3 + DIRECTIONS], logarithms."""
    strength = laplacian(level).abs().flatten(1)
    strongest = strength.sort(dim=1).values[:, _place(strength, 0.99)]
    along, down = gradient(level)
    angles = [2 * math.pi * k / DIRECTIONS for k in range(DIRECTIONS)]
    sums = [F.relu(along * math.cos(a) + down * math.sin(a)).mean(dim=(1, 2, 3)) for a in angles]
    found = torch.stack([strength.mean(dim=1), strongest, *sums], dim=1) + LEAST_GRADIENT
    return torch.cat([contrast(level).unsqueeze(1), found], dim=1).log()


def coarse(x: Tensor) -> Tensor:
    """Return gray images, reduced to at most 16 pixels a side, as rows: [N, C, R, R] -> [N, P]."""
    gray = x.mean(dim=1, keepdim=True)
    return means(gray, min(int(x.shape[-1]), PCA_SIDE)).flatten(1)


@register_view
class PixelsView(View):
    """Descriptors, contrast, brightness, sharpness and a principal component residual.

    Args:
        mean, whitening: of the reference of the descriptors: [D], [D, D].
        center, components: of the reduced training images: [P], [K, P].
        device: where the view computes.
    """

    name = "pixels"
    likeness = 1
    cues: tuple[Cue, ...] = CUES

    def __init__(
        self,
        mean: Tensor,
        whitening: Tensor,
        center: Tensor,
        components: Tensor,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.batch_size = batch_size(self.device, CPU_BATCH, GPU_BATCH)
        self.reference = GaussianReference.of(mean, whitening).to(self.device)
        self.center, self.components = center.to(self.device), components.to(self.device)

    def look(self, stored: Tensor) -> dict[str, Tensor]:
        """Measure all cues; see :meth:`View.look`."""
        x = to_unit(stored)
        found = {
            "descriptors": self.reference(descriptors(x)),
            "contrast": contrast(x),
            "brightness": brightness(x),
            "sharpness": sharpness(x),
            "pca_residual": pca_residual(coarse(x), self.center, self.components),
        }
        return {name: values.double() for name, values in found.items()}

    def features(self, images: Array) -> Array:
        """Return whitened descriptors, of total variance 1: float64 [N, D]."""
        found = by_batches(
            images, self.batch_size, self.device,
            lambda stored: {"x": self.reference.whitened(descriptors(to_unit(stored)))},
        )  # fmt: skip
        return found["x"] / math.sqrt(found["x"].shape[1])

    def tensors(self) -> dict[str, Tensor]:
        """Return the arguments that the view is made with."""
        found = {
            "mean": self.reference.mean,
            "whitening": self.reference.whitening,
            "center": self.center,
            "components": self.components,
        }
        return {name: value.detach().cpu().contiguous() for name, value in found.items()}

    @classmethod
    def load(
        cls,
        facts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        cues: Sequence[str],
        device: torch.device,
        precision: Precision,
    ) -> Self:
        """Rebuild the view; see :meth:`View.load`."""
        return cls(**tensors, device=device).with_cues(cues)

    def check_input(self, channels: int, resolution: int) -> None:
        """Raise ValueError if the references are of other images."""
        described = descriptor_count(channels, resolution)
        reduced = min(resolution, PCA_SIDE) ** 2
        count = len(self.components) if self.components.ndim == 2 else 0
        check_tensors(
            self.tensors(),
            {
                "mean": ((described,), torch.float64),
                "whitening": ((described, described), torch.float64),
                "center": ((reduced,), torch.float64),
                "components": ((count, reduced), torch.float64),
            },
        )


def pca_residual(rows: Tensor, center: Tensor, components: Tensor) -> Tensor:
    """Share of the variance of rows [N, P] that components [K, P] leave, as its root: float64 [N]."""
    x = rows.double() - center
    left = x - product(product(x, components.T), components)
    variance = rows.double().var(dim=1, correction=0) + VARIANCE_FLOOR
    return ((left.square().mean(dim=1) + LEAST_VARIANCE) / variance).sqrt()
