"""The operators of the networks, with derivatives that cost no more than they must.

*Convolutions.* y = w * x is linear in x and in w. Its two adjoints, the one that takes y back to x
and the one that takes (x, y) to w, are linear in their arguments as well, and each of the three is
the derivative of the others. Three operators that name each other as their derivatives are all
that a gradient penalty needs, each with a kernel of its own. (PyTorch's own second derivative
writes the one for w as a convolution with a kernel as large as the image, and its transposed
convolution takes a slower kernel than the adjoint does.)

*Resampling by two.* The mean over boxes of 2x2 commutes with a convolution. So a 3x3 kernel of
stride 2 beside a box does in 9 multiplications what a fused 4x4 kernel does in 16. The box is its
own adjoint, but for the border.

*Activations* work in place, and their derivatives need the results alone.
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
    """Leave out first derivatives by weights and biases, as in the inner gradient of a penalty.

    An autograd function is not told which of its gradients end in nothing, so it is told here.
    """
    global _weight_gradients_wanted
    before, _weight_gradients_wanted = _weight_gradients_wanted, False
    try:
        yield
    finally:
        _weight_gradients_wanted = before


@contextmanager
def conv_precision(dtype: torch.dtype | None) -> Iterator[None]:
    """Have the layers between the images and the 4x4 maps compute in ``dtype``; None: in their own.

    For training: parameters, images, the 4x4 layers and all that is summed over them keep their
    type.
    """
    token = _conv_dtype.set(dtype)
    try:
        yield
    finally:
        _conv_dtype.reset(token)


def to_conv_dtype(x: Tensor) -> Tensor:
    """Feature maps in the type that :func:`conv_precision` asks for."""
    dtype = _conv_dtype.get()
    return x if dtype is None else x.to(dtype)


class Geometry(NamedTuple):
    """Stride and padding, the same along both axes."""

    stride: int = 1
    padding: int = 0


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """[N, in, H, W], [out, in, k, k], [out] -> [N, out, h, w]; cross-correlation, as everywhere."""
    result: Tensor = _Conv.apply(x, weight, bias, geometry)
    return result


def conv_transposed(y: Tensor, weight: Tensor, size: int, geometry: Geometry) -> Tensor:
    """The adjoint of :func:`conv` in x: [N, out, h, w], [out, in, k, k] -> [N, in, size, size]."""
    result: Tensor = _ConvTransposed.apply(y, weight, (size, size), geometry)
    return result


def conv_downsample(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 3x3 convolution that keeps the size, then 2x2 average pooling: [N, ., H, H] -> [N, ., H/2, H/2]."""
    return conv(box_filter(x, 1), weight, bias, Geometry(stride=2))


def upsample_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Nearest-neighbor doubling, then a 3x3 convolution: [N, in, H, H] -> [N, out, 2H, 2H].

    Args:
        weight: [in, out, 3, 3], flipped in space against that of :func:`conv`.
    """
    spaced = conv_transposed(x, weight * 4, 2 * x.shape[-1] + 1, Geometry(stride=2))
    return box_filter(spaced, 0)


def box_filter(x: Tensor, padding: int) -> Tensor:
    """Mean over boxes of 2x2, one for each position: [.., H, H] -> H - 1 + 2 * padding a side."""
    result: Tensor = _BoxFilter.apply(x, padding)
    return result


def leaky_relu_(x: Tensor) -> Tensor:
    """``max(0.2 x, x)``, elementwise, in place."""
    result: Tensor = _LeakyRelu.apply(x)
    return result


def normalized_leaky_relu_(x: Tensor) -> Tensor:
    """:func:`leaky_relu_`, then :func:`pixel_norm`, in place. Has a first derivative only."""
    result: Tensor = _NormalizedLeakyRelu.apply(x)
    return result


class _BoxFilter(Function):
    """Mean over boxes of 2x2, one for each position: [.., H, H] -> H - 1 + 2 * padding a side."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: int) -> Any:
        ctx.padding = padding
        if x.device.type == "cuda" and x.numel() >= _LARGE_NUMEL:
            return _box_filter_by_axis(x, padding)
        return F.avg_pool2d(x, 2, stride=1, padding=padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _BoxFilter.apply(gradients[0], 1 - ctx.padding), None


#: Numbers from which on a GPU takes longer for `avg_pool2d` than for the launches of what replaces it.
_LARGE_NUMEL = 1 << 22


def _box_filter_by_axis(x: Tensor, padding: int) -> Tensor:
    """The same as `avg_pool2d`, whose kernel for channels side by side keeps a GPU waiting."""
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
            # A zero stands beside the first and the last one.
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
    """Multiply by the slope of the leaky ReLU that gave ``activated``; linear, so its own derivative."""

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
    """(x, y) -> the adjoint in the weight, and that in the bias, which is the sum of y."""

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
    """The adjoint in x alone, or those in weight and bias."""
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
    """Return the same values with the channels of a pixel side by side, and strides that say so.

    With one channel the other layout is the same memory, and PyTorch takes it for that: then the
    kernels of gray images' layers are ten times slower, and all that follows is reordered.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    # [N, 1, H, W] -> [N, H, W] -> [N, H, W, 1] -> [N, 1, H, W], as views: strides (HW, 1, W, 1).
    return x.squeeze(1).unsqueeze(3).movedim(3, 1) if x.shape[1] == 1 else x


def _shape_template(like: Tensor, shape: Any) -> Tensor:
    """A tensor that the kernels ask for its shape and layout, and never read."""
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )
