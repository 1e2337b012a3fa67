"""The layers of the networks (appendix, tables 1 to 3), with equalized learning rate.

Equalized learning rate (Karras et al. 2018, section 4.1): a weight is initialized from N(0, 1) and
multiplied by ``gain / sqrt(fan_in)`` at every use. Biases are not scaled. Images and feature maps are
[N, C, H, W]. In ``train()`` layers use `operators`, in ``eval()`` `inference`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anowild.networks import inference, operators
from anowild.networks.operators import EPSILON, Geometry

#: He's gain, for a layer followed by a (leaky) ReLU.
HE_GAIN = math.sqrt(2.0)


def pixel_norm(x: Tensor) -> Tensor:
    """Scale vectors along axis 1 to a mean square of 1 (Karras et al. 2018, section 4.2): [N, C, ...]."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + EPSILON)


def _scaled_weight_and_bias(
    layer: Conv2d | UpConv2d | DownConv2d, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Return a layer's scaled weight and its bias, in the type of its input."""
    return (layer.weight * layer.scale).to(x.dtype), layer.bias.to(x.dtype)


class Conv2d(nn.Module):
    """Convolution of the same size, without activation: [N, in, H, W] -> [N, out, H, W]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, gain: float = HE_GAIN) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = gain / math.sqrt(inputs * kernel * kernel)
        self.geometry = Geometry(padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        conv = operators.conv if self.training else inference.conv
        return conv(x, *_scaled_weight_and_bias(self, x), self.geometry)


class UpConv2d(nn.Module):
    """Nearest-neighbor upsampling and a 3x3 convolution in one: [N, in, H, H] -> [N, out, 2H, 2H].

    As in the reference, the stored kernel is flipped in space.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = HE_GAIN / math.sqrt(inputs * 9)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = _scaled_weight_and_bias(self, x)
        upsample_conv = operators.upsample_conv if self.training else inference.upsample_conv
        return upsample_conv(x, weight).add_(bias.view(1, -1, 1, 1))


class DownConv2d(nn.Module):
    """A 3x3 convolution and 2x2 average pooling in one: [N, in, H, H] -> [N, out, H/2, H/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = HE_GAIN / math.sqrt(inputs * 9)

    def forward(self, x: Tensor) -> Tensor:
        conv_downsample = operators.conv_downsample if self.training else inference.conv_downsample
        return conv_downsample(x, *_scaled_weight_and_bias(self, x))


class LeakyRelu(nn.Module):
    """Leaky ReLU, ``max(0.2 x, x)``. Overwrites its input."""

    def forward(self, x: Tensor) -> Tensor:
        leaky_relu_ = operators.leaky_relu_ if self.training else inference.leaky_relu_
        return leaky_relu_(x)


class NormalizedLeakyRelu(nn.Module):
    """Leaky ReLU followed by pixel norm. Overwrites its input; has a first derivative only."""

    def forward(self, x: Tensor) -> Tensor:
        form = (
            operators.normalized_leaky_relu_ if self.training else inference.normalized_leaky_relu_
        )
        return form(x)


class Dense(nn.Module):
    """Affine map without activation: [N, in] -> [N, out]."""

    def __init__(self, inputs: int, outputs: int, gain: float = HE_GAIN) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = gain / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias)


class LatentToMap(nn.Module):
    """First layer of G, with one bias for each map: [N, latent] -> [N, out, 4, 4]."""

    def __init__(self, latent_size: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs * 16, latent_size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        # A quarter of He's gain, as in the reference (as if the 16 pixels shared the variance).
        self.scale = HE_GAIN / 4 / math.sqrt(latent_size)

    def forward(self, z: Tensor) -> Tensor:
        maps = F.linear(z, self.weight * self.scale).view(z.shape[0], -1, 4, 4)
        return maps + self.bias.view(1, -1, 1, 1)


class MinibatchStddev(nn.Module):
    """Minibatch standard deviation (Karras et al. 2018, section 3): [N, C, H, W] -> [N, C+1, H, W].

    It appends a constant map with a group's standard deviation, averaged over features and pixels.

    In ``train()`` the group of image n consists of the images m with m = n modulo N / min(4, N), so an
    image's output depends on the rest of its batch. Each pass also updates ``running``, a moving average
    of the statistic with decay 0.99.

    In ``eval()`` the map has the value ``running``, and an image's output depends on that image alone.
    """

    GROUP = 4
    DECAY = 0.99
    running: Tensor
    started: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running", torch.zeros(()))
        self.register_buffer("started", torch.zeros(()))  # 0 until the first update, then 1
        self.tracking = True  # whether `train()` updates `running`

    def forward(self, x: Tensor, parts: int = 1) -> Tensor:
        """Append the map; ``parts`` minibatches stand one after the other in x, and form separate groups.

        Raises:
            ValueError: in ``train()``, a minibatch of more than 4 images is no multiple of 4.
        """
        count, _, height, width = x.shape
        if self.training:
            statistics = [self._group_stddev(part) for part in x.chunk(parts)]
            if self.tracking:
                for statistic in statistics:
                    self._track(statistic)
            column = torch.cat([s.repeat(count // parts // len(s)) for s in statistics])
        else:
            column = self.running.expand(count)
        return torch.cat([x, column.view(-1, 1, 1, 1).expand(-1, 1, height, width)], dim=1)

    def _group_stddev(self, x: Tensor) -> Tensor:
        """Return the mean standard deviation within each group: [N, C, H, W] -> [groups]."""
        count = x.shape[0]
        size = min(self.GROUP, count)
        if count % size:
            raise ValueError(
                f"a minibatch of {count} cannot be split into groups of {size}; "
                f"take a multiple of {size}, or fewer than {size} images"
            )
        grouped = x.reshape(size, count // size, *x.shape[1:])
        variance = (grouped - grouped.mean(dim=0, keepdim=True)).square().mean(dim=0)
        return (variance + EPSILON).sqrt().mean(dim=(1, 2, 3))

    @torch.no_grad()
    def _track(self, statistic: Tensor) -> None:
        new = statistic.mean().to(self.running.dtype)
        share = torch.where(self.started > 0, 1.0 - self.DECAY, 1.0).to(self.running.dtype)
        # A single minibatch that is not finite would spoil the average for good, so it is skipped.
        self.running.copy_(torch.where(new.isfinite(), self.running.lerp(new, share), self.running))
        self.started.masked_fill_(new.isfinite(), 1)
