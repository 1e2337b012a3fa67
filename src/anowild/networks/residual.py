"""The network R: D's body with batch norm and skips, and a linear head for each task.

It is "identical to the discriminator except for the output layer", as the paper says of E, but for what a
classification needs to be learned in minutes: normalization and skips.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anowild.networks.growth import log2_resolution
from anowild.networks.operators import LEAK


class ResidualBlock(nn.Module):
    """D's block with normalization and a skip: [N, in, H, W] -> [N, out, H/2, W/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(inputs, inputs, 3, padding=1, bias=False)
        self.norm0 = nn.BatchNorm2d(inputs)
        self.conv1_down = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm0(self.conv0(x)), LEAK)
        y = self.norm1(self.conv1_down(y)) + self.skip(F.avg_pool2d(x, 2))
        return F.leaky_relu(y, LEAK)


class TransformClassifier(nn.Module):
    """R: tells which transformation of each of several tasks was applied to an image.

    Blocks halve the resolution down to 4x4; the mean over the last maps goes to the heads. In ``eval()``
    an image's output depends on that image alone.

    Args:
        resolution: side of the images, a power of two from 8.
        channels: of the images.
        maps: feature maps at full resolution; they double in each block, up to four times as many.
        classes: number of transformations by task.
    """

    def __init__(
        self, *, resolution: int, channels: int, maps: int, classes: Mapping[str, int]
    ) -> None:
        super().__init__()
        depth = log2_resolution(resolution) - 2
        widths = [maps * min(4, 1 << stage) for stage in range(depth + 1)]
        self.stem = nn.Conv2d(channels, maps, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(maps)
        self.blocks = nn.ModuleList(
            ResidualBlock(widths[stage], widths[stage + 1]) for stage in range(depth)
        )
        #: Length of the features that :meth:`with_features` returns.
        self.features = sum(widths)
        self.heads = nn.ModuleDict({task: nn.Linear(widths[-1], k) for task, k in classes.items()})

    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the maps after the stem and each block, of images [N, C, R, R] in [-1, 1]."""
        found = [F.leaky_relu(self.norm(self.stem(images)), LEAK)]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found

    def forward(self, images: Tensor, task: str) -> Tensor:
        """Return logits, float32 [N, classes of the task]."""
        logits: Tensor = self.heads[task](_means(self.stages(images)[-1]))
        return logits

    def with_features(self, images: Tensor, task: str) -> tuple[Tensor, Tensor]:
        """Return logits, and the means over the maps of all stages: float32 [N, classes], [N, D]."""
        means = [_means(maps) for maps in self.stages(images)]
        return self.heads[task](means[-1]), torch.cat(means, dim=1)


def _means(maps: Tensor) -> Tensor:
    return maps.float().mean(dim=(2, 3))
