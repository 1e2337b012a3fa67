"""The arithmetic of the layers for ``train()``, with cheap first and second derivatives.

*Convolutions.* y = w * x is linear in x and in w. Its adjoint in x takes y to x, its adjoint in w takes
(x, y) to w. Both are linear in their arguments, too, and the derivatives of each of the three operations
are the other two. So three autograd functions that refer to each other are all that a gradient penalty
needs, each with one kernel. (PyTorch's own second derivative computes the one in w by a convolution with
a kernel as large as the image.)

*Resampling by two.* A mean over boxes of 2x2 pixels commutes with a convolution. So a 3x3 kernel of
stride 2 with a box filter does in 9 multiplications what a fused 4x4 kernel does in 16. The box filter is
its own adjoint, apart from the border.

*Activations* work in place, and their derivatives need only their results.

`inference` has the same arithmetic for ``eval()``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LEAK = 0.2
EPSILON = 1e-8

_aten_conv_backward = torch.ops.aten.convolution_backward
#: A module global, not a context variable: on a GPU, autograd runs backward passes in a thread of its
#: own, which does not see the context variables of the caller. So only one thread may train.
_weight_gradients_wanted = True
#: Each thread and each asynchronous task has its own value.
_conv_dtype: ContextVar[torch.dtype | None] = ContextVar("conv_dtype", default=None)


@contextmanager
def skip_weight_gradients() -> Iterator[None]:
    """Skip weight and bias gradients, in the first backward pass of a gradient penalty.

    An autograd function cannot know that they are unused: `needs_input_grad` stays true.
    """
    global _weight_gradients_wanted  # noqa: PLW0603
    before, _weight_gradients_wanted = _weight_gradients_wanted, False
    try:
        yield
    finally:
        _weight_gradients_wanted = before


@contextmanager
def conv_precision(dtype: torch.dtype | None) -> Iterator[None]:
    """Set the data type of the layers between the images and the 4x4 maps; None: that of the weights.

    Parameters, images, the 4x4 layers and losses keep their type. The setting is a context variable, so
    threads and asynchronous tasks do not affect each other.
    """
    token = _conv_dtype.set(dtype)
    try:
        yield
    finally:
        _conv_dtype.reset(token)


def to_conv_dtype(x: Tensor) -> Tensor:
    """Convert feature maps to the type set by :func:`conv_precision`."""
    dtype = _conv_dtype.get()
    return x if dtype is None else x.to(dtype)


class Geometry(NamedTuple):
    """Stride and padding of a convolution, the same along both axes."""

    stride: int = 1
    padding: int = 0


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve: [N, in, H, W], [out, in, k, k], [out] -> [N, out, h, w]."""
    result: Tensor = _Conv.apply(x, weight, bias, geometry)
    return result


def conv_transposed(y: Tensor, weight: Tensor, size: int, geometry: Geometry) -> Tensor:
    """Apply the adjoint of :func:`conv` in x: [N, out, h, w], [out, in, k, k] -> [N, in, size, size]."""
    result: Tensor = _ConvTransposed.apply(y, weight, (size, size), geometry)
    return result


def conv_downsample(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve by 3x3 with the same size, then pool by 2x2: [N, in, H, H] -> [N, out, H/2, H/2]."""
    return conv(box_filter(x, 1), weight, bias, Geometry(stride=2))


def upsample_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Upsample by nearest neighbors, then convolve by 3x3: [N, in, H, H] -> [N, out, 2H, 2H].

    Args:
        x: feature maps.
        weight: [in, out, 3, 3], flipped in space compared with that of :func:`conv`.
    """
    spaced = conv_transposed(x, weight * 4, 2 * x.shape[-1] + 1, Geometry(stride=2))
    return box_filter(spaced, 0)


def box_filter(x: Tensor, padding: int) -> Tensor:
    """Average over 2x2 boxes with stride 1: [N, C, H, H] -> [N, C, h, h], h = H - 1 + 2 * padding."""
    result: Tensor = _BoxFilter.apply(x, padding)
    return result


def leaky_relu_(x: Tensor) -> Tensor:
    """Apply ``max(0.2 x, x)``, elementwise, in place."""
    result: Tensor = _LeakyRelu.apply(x)
    return result


def normalized_leaky_relu_(x: Tensor) -> Tensor:
    """Apply :func:`leaky_relu_`, then pixel norm, in place. It has a first derivative only."""
    result: Tensor = _NormalizedLeakyRelu.apply(x)
    return result


class _BoxFilter(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: int) -> Any:
        ctx.padding = padding
        if x.device.type == "cuda" and x.numel() >= _LARGE_NUMEL:
            return _box_filter_by_axis(x, padding)
        return F.avg_pool2d(x, 2, stride=1, padding=padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _BoxFilter.apply(gradients[0], 1 - ctx.padding), None


#: Number of elements from which `avg_pool2d` is slower on a GPU than :func:`_box_filter_by_axis`.
_LARGE_NUMEL = 1 << 22


def _box_filter_by_axis(x: Tensor, padding: int) -> Tensor:
    """Compute the same as `avg_pool2d`, which is slow on a GPU in channels-last."""
    for axis in (2, 3):
        last = x.shape[axis] - 1
        neighbors = x.narrow(axis, 0, last), x.narrow(axis, 1, last)
        if padding:
            shape = list(x.shape)
            shape[axis] += 1
            means = torch.empty(
                shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last
            )
            torch.lerp(*neighbors, 0.5, out=means.narrow(axis, 1, last))
            # The first and the last value have a zero beside them.
            torch.mul(x.narrow(axis, 0, 1), 0.5, out=means.narrow(axis, 0, 1))
            torch.mul(x.narrow(axis, last, 1), 0.5, out=means.narrow(axis, last + 1, 1))
            x = means
        else:
            x = torch.lerp(*neighbors, 0.5)
    return x


class _LeakyRelu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        F.leaky_relu_(x, LEAK)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _LeakyReluGrad.apply(gradients[0], ctx.saved_tensors[0].detach())


class _LeakyReluGrad(Function):
    """Multiplication by the slope of a leaky ReLU, given its result; linear, so its own derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activated: Tensor) -> Any:
        ctx.save_for_backward(activated)
        return _leaky_relu_backward(x, activated)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _LeakyReluGrad.apply(gradients[0], ctx.saved_tensors[0]), None


class _NormalizedLeakyRelu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        F.leaky_relu_(x, LEAK)
        scale = inverse_root_mean_square(x).to(x.dtype)
        x.mul_(scale)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x, scale)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        normalized, scale = ctx.saved_tensors
        product = gradient * normalized
        along = product.mean(dim=1, keepdim=True)
        # (gradient - normalized * along) * scale, in the memory of the product.
        inner = torch.mul(normalized, along, out=product)
        inner = torch.sub(gradient, inner, out=inner).mul_(scale)
        return _leaky_relu_backward(inner, normalized)


def inverse_root_mean_square(x: Tensor) -> Tensor:
    """Return 1 / sqrt(mean over axis 1 of x^2 + epsilon): [N, C, ...] -> [N, 1, ...], float32 or wider."""
    wide = torch.float32 if x.dtype.itemsize < 4 else x.dtype
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=wide)
    return (norm.square() / x.shape[1] + EPSILON).rsqrt()


def _leaky_relu_backward(x: Tensor, activated: Tensor) -> Tensor:
    return torch.ops.aten.leaky_relu_backward(x, activated, LEAK, True)


class _Conv(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry
    ) -> Any:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        return F.conv2d(channels_last(x), weight, bias, geometry.stride, geometry.padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        for_x = for_weight = for_bias = None
        if gradient is not None:
            if ctx.needs_input_grad[0]:
                for_x = _ConvTransposed.apply(gradient, weight, x.shape[2:], ctx.geometry)
            if _weight_gradients_wanted and (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
                for_weight, for_bias = _ConvWeightGrad.apply(
                    x, gradient, weight.shape, ctx.geometry
                )
        return for_x, for_weight, for_bias if ctx.needs_input_grad[2] else None, None


class _ConvTransposed(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, weight: Tensor, size: Any, geometry: Geometry) -> Any:
        ctx.save_for_backward(y, weight)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        shape = (y.shape[0], weight.shape[1], *size)
        return _conv_backward(y, _shape_template(y, shape), weight, geometry, for_x=True)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        y, weight = ctx.saved_tensors
        for_y = for_weight = None
        if gradient is not None:
            if ctx.needs_input_grad[0]:
                for_y = _Conv.apply(gradient, weight, None, ctx.geometry)
            if _weight_gradients_wanted and ctx.needs_input_grad[1]:
                for_weight, _ = _ConvWeightGrad.apply(gradient, y, weight.shape, ctx.geometry)
        return for_y, for_weight, None, None


class _ConvWeightGrad(Function):
    """Adjoints of a convolution in weight and bias: (x, y) -> gradients of weight and bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, shape: torch.Size, geometry: Geometry) -> Any:
        ctx.save_for_backward(x, y)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        return _conv_backward(y, x, _shape_template(x, shape), geometry, for_x=False)[1:]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        for_weight, for_bias = gradients
        x, y = ctx.saved_tensors
        for_x = for_y = None
        if for_weight is not None:
            if ctx.needs_input_grad[0]:
                for_x = _ConvTransposed.apply(y, for_weight, x.shape[2:], ctx.geometry)
            if ctx.needs_input_grad[1]:
                for_y = _Conv.apply(x, for_weight, for_bias, ctx.geometry)
        elif for_bias is not None and ctx.needs_input_grad[1]:
            for_y = for_bias.view(1, -1, 1, 1).expand_as(y)
        return for_x, for_y, None, None


def _conv_backward(
    y: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, *, for_x: bool
) -> tuple[Any, Any, Any]:
    """Return the adjoint in x, or those in weight and bias, at their places in a triple."""
    stride, padding = [geometry.stride] * 2, [geometry.padding] * 2
    mask = [for_x, not for_x, not for_x]
    result: tuple[Any, Any, Any] = _aten_conv_backward(
        channels_last(y),
        channels_last(x),
        weight,
        [y.shape[1]],
        stride,
        padding,
        [1, 1],
        False,
        [0, 0],
        1,
        mask,
    )
    return result


def channels_last(x: Tensor) -> Tensor:
    """Return the same values in channels-last, with its strides even for a single channel.

    With one channel both memory formats are the same memory, and PyTorch assumes the other one. Then
    the kernels of gray images' layers are ten times slower, and all later feature maps are reordered.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    # [N, 1, H, W] -> [N, H, W] -> [N, H, W, 1] -> [N, 1, H, W], as views: strides (HW, 1, W, 1).
    return x.squeeze(1).unsqueeze(3).movedim(3, 1) if x.shape[1] == 1 else x


def _shape_template(like: Tensor, shape: Any) -> Tensor:
    """Return a tensor of which the kernels use the shape and the memory format, not the values."""
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )
