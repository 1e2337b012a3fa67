"""EfficientNet-Lite0, which was trained on the photographs of ImageNet: its stages, without the classifier.

Architecture: EfficientNet-B0 (Tan and Le 2019, table 1) without squeeze-and-excitation and with ReLU6.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Stages of inverted residuals: (kernel, stride of the first block, expansion, maps, blocks).
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM = 32

#: Of batch normalization, as the published weights were trained.
EPSILON = 1e-3


class Convolution(nn.Module):
    """A convolution with bias and TensorFlow's "same" padding: more at the right and the bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.stride, self.groups = stride, groups
        self.weight = nn.Parameter(torch.zeros(outputs, inputs // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.weight.shape[-1], self.stride
        rows, columns = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
        pad: int | tuple[int, int] = (rows // 2, columns // 2)
        if rows % 2 or columns % 2:
            sides = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
            x, pad = F.pad(x, sides), 0
        return F.conv2d(x, self.weight, self.bias, stride, pad, groups=self.groups)


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, convolve each map by itself, project; add the input if it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = Convolution(inputs, wide, 1, 1, 1) if expansion > 1 else None
        self.depthwise = Convolution(wide, wide, kernel, stride, wide)
        self.project = Convolution(wide, outputs, 1, 1, 1)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(wide)))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """The network up to its last stage; batch normalizations are folded into the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, STEM, 3, 2, 1)
        stages, inputs = [], STEM
        for kernel, stride, expansion, outputs, blocks in STAGES:
            stage = []
            for block in range(blocks):
                step = stride if block == 0 else 1
                stage.append(InvertedResidual(inputs, outputs, kernel, step, expansion))
                inputs = outputs
            stages.append(nn.Sequential(*stage))
        self.stages = nn.ModuleList(stages)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps after each stage.

        Args:
            x: [N, 3, H, W], about [-1, 1]: (value - 127) / 128 of 0..255.

        Returns:
            Seven tensors [N, M, h, w], with M of ``STAGES``; sides are 1/2, 1/4, 1/8, 1/16, 1/16, 1/32 and
            1/32 of the input's, rounded up.
        """
        x = F.relu6(self.stem(x))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    @staticmethod
    def from_published(state: Mapping[str, Tensor]) -> EfficientNetLite0:
        """Fill the network from the published state, whose batch normalizations are apart.

        Raises:
            KeyError, RuntimeError: the state is of another network.
        """
        network = EfficientNetLite0()

        def fill(convolution: Convolution, weight: str, norm: str) -> None:
            scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + EPSILON).sqrt()
            convolution.weight.copy_(state[f"{weight}.weight"] * scale.view(-1, 1, 1, 1))
            convolution.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)

        with torch.no_grad():
            fill(network.stem, "_conv_stem", "_bn0")
            blocks = [m for m in network.modules() if isinstance(m, InvertedResidual)]
            for number, block in enumerate(blocks):
                name = f"_blocks.{number}"
                if block.expand is not None:
                    fill(block.expand, f"{name}._expand_conv", f"{name}._bn0")
                fill(block.depthwise, f"{name}._depthwise_conv", f"{name}._bn1")
                fill(block.project, f"{name}._project_conv", f"{name}._bn2")
        return network
