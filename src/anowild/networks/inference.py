"""The arithmetic of the layers for ``eval()``, in PyTorch's own operators.

Both exporters of `torch.onnx.export` take a network in ``eval()``. Export in float32 on a CPU: on a GPU
the box filter of training is used, because it is faster there. In float32 with oneDNN results have the
same bits as those of :mod:`anowild.networks.operators`.

A transposed convolution is as fast as the backward kernel that training uses in its place. In
milliseconds, with 64 -> 64 maps in channels-last and one thread on a Xeon with AVX-512 and AMX, medians
of 15 rounds: backward kernel / transposed convolution and pooling / interpolation and convolution.

======== ===== ==================== ====================
type     batch 16x16 -> 32x32       8x8 -> 16x16
======== ===== ==================== ====================
float32     16  4.9 /  4.1 / 10.4   1.08 / 0.96 / 2.05
float32     64 17.0 / 17.7 / 37.2   3.88 / 3.57 / 7.60
bfloat16    16  2.0 /  2.1 /  1.3   0.74 / 0.76 / 0.47
bfloat16    64  9.0 /  9.6 /  5.1   2.02 / 2.45 / 1.21
======== ===== ==================== ====================

Without AMX (``ONEDNN_MAX_CPU_ISA``) interpolation takes two to four times as long in bfloat16 as well.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anowild.networks import operators
from anowild.networks.operators import Geometry, channels_last


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve; see :func:`anowild.networks.operators.conv`."""
    return F.conv2d(channels_last(x), weight, bias, geometry.stride, geometry.padding)


def conv_downsample(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve, then halve; see :func:`anowild.networks.operators.conv_downsample`."""
    return conv(_box_filter(x, 1), weight, bias, Geometry(stride=2))


def upsample_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Double, then convolve; see :func:`anowild.networks.operators.upsample_conv`."""
    if x.dtype == torch.bfloat16:
        # Up to 20 % faster, and without AMX no slower; the same bits as in training.
        return operators.upsample_conv(x, weight)
    return _box_filter(F.conv_transpose2d(channels_last(x), weight * 4, stride=2), 0)


def leaky_relu_(x: Tensor) -> Tensor:
    """Apply ``max(0.2 x, x)``, elementwise, in place."""
    return F.leaky_relu_(x, operators.LEAK)


def normalized_leaky_relu_(x: Tensor) -> Tensor:
    """Apply :func:`leaky_relu_`, then pixel norm; in place unless a derivative needs the input."""
    x = leaky_relu_(x)
    scale = operators.inverse_root_mean_square(x).to(x.dtype)
    return x * scale if x.requires_grad else x.mul_(scale)


def _box_filter(x: Tensor, padding: int) -> Tensor:
    if x.device.type == "cuda":
        return operators.box_filter(x, padding)
    return F.avg_pool2d(x, 2, stride=1, padding=padding)
