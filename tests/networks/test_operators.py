"""The operators against PyTorch's own, and their derivatives against finite differences."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from anowild.networks import operators
from anowild.networks.operators import Geometry

GEOMETRIES = [(Geometry(1, 1), 3, 5), (Geometry(2, 0), 3, 7), (Geometry(1, 0), 1, 3)]


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("geometry", "kernel", "size"), GEOMETRIES)
def test_conv_and_its_derivatives(geometry: Geometry, kernel: int, size: int) -> None:
    x, weight, bias = draw(2, 3, size, size), draw(4, 3, kernel, kernel), draw(4)

    def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return operators.conv(x, weight, bias, geometry)

    expected = F.conv2d(x, weight, bias, geometry.stride, geometry.padding)
    assert torch.allclose(ours(x, weight, bias), expected, atol=1e-12)
    assert gradcheck(ours, (x, weight, bias))
    assert gradgradcheck(ours, (x, weight, bias))


@pytest.mark.parametrize(("geometry", "kernel", "size"), GEOMETRIES)
def test_conv_transposed_and_its_derivatives(geometry: Geometry, kernel: int, size: int) -> None:
    weight = draw(4, 3, kernel, kernel)
    y = torch.randn_like(F.conv2d(draw(2, 3, size, size), weight, None, *geometry)).requires_grad_()

    def ours(y: Tensor, weight: Tensor) -> Tensor:
        return operators.conv_transposed(y, weight, size, geometry)

    expected = F.conv_transpose2d(y, weight, None, *geometry)
    assert torch.allclose(ours(y, weight), expected, atol=1e-12)
    assert gradcheck(ours, (y, weight))
    assert gradgradcheck(ours, (y, weight))


def test_conv_downsample_is_conv_then_pooling() -> None:
    x, weight, bias = draw(2, 3, 6, 6), draw(4, 3, 3, 3), draw(4)
    expected = F.avg_pool2d(F.conv2d(x, weight, bias, padding=1), 2)
    assert torch.allclose(operators.conv_downsample(x, weight, bias), expected, atol=1e-12)
    assert gradgradcheck(operators.conv_downsample, (x, weight, bias))


def test_upsample_conv_is_interpolation_then_conv() -> None:
    x, weight = draw(2, 3, 6, 6), draw(3, 4, 3, 3)
    doubled = F.interpolate(x, scale_factor=2, mode="nearest")
    expected = F.conv2d(doubled, weight.flip(2, 3).transpose(0, 1), padding=1)
    assert torch.allclose(operators.upsample_conv(x, weight), expected, atol=1e-12)
    assert gradgradcheck(operators.upsample_conv, (x, weight))


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3, 5, 5), (3, 4, 2, 7)], ids=str)
def test_box_filter_by_axis_is_avg_pool2d(shape: tuple[int, ...], padding: int) -> None:
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    ours = operators._box_filter_by_axis(x, padding)
    expected = F.avg_pool2d(x, 2, stride=1, padding=padding)
    assert ours.stride() == expected.stride()
    assert torch.allclose(ours, expected, atol=1e-15)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_has_strides_that_say_so(count: int, channels: int) -> None:
    x = torch.randn(count, channels, 5, 4)
    ours = operators.channels_last(x)
    assert torch.equal(ours, x)
    assert ours.stride()[1:] == (1, 4 * channels, channels)


def test_activations_and_their_derivatives() -> None:
    x = draw(3, 4, 2, 2)
    expected = F.leaky_relu(x, 0.2)
    assert torch.equal(operators.leaky_relu_(x.clone()), expected)
    assert gradcheck(lambda x: operators.leaky_relu_(x.clone()), (x,))
    assert gradgradcheck(lambda x: operators.leaky_relu_(x.clone()).square(), (x,))
    normalized = expected / (expected.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    assert torch.allclose(operators.normalized_leaky_relu_(x.clone()), normalized, atol=1e-12)
    assert gradcheck(lambda x: operators.normalized_leaky_relu_(x.clone()), (x,))


def test_second_derivatives_of_the_normalized_activation_are_refused() -> None:
    x = draw(1, 4, 1, 1)
    y = operators.normalized_leaky_relu_(x.clone())
    (gradient,) = torch.autograd.grad((y * draw(1, 4, 1, 1)).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(gradient.sum(), x)


def test_skip_weight_gradients_leaves_them_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    original = operators._aten_conv_backward

    def noted(*arguments: Any) -> Any:
        asked.append(arguments[-1])
        return original(*arguments)

    monkeypatch.setattr(operators, "_aten_conv_backward", noted)
    x, weight, bias = draw(2, 3, 5, 5), draw(4, 3, 3, 3), draw(4)
    y = operators.leaky_relu_(operators.conv(x, weight, bias, Geometry(1, 1)))
    with operators.skip_weight_gradients():
        (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert asked == [[True, False, False]]
    (second,) = torch.autograd.grad(gradient.square().sum(), weight)
    assert second.abs().max() > 0


def test_conv_precision_sets_and_restores_the_dtype() -> None:
    x = torch.randn(2, 3)
    assert operators.to_conv_dtype(x).dtype == torch.float32
    with operators.conv_precision(torch.bfloat16):
        assert operators.to_conv_dtype(x).dtype == torch.bfloat16
        with operators.conv_precision(None):
            assert operators.to_conv_dtype(x).dtype == torch.float32
    assert operators.to_conv_dtype(x).dtype == torch.float32


def test_conv_precision_is_separate_in_each_thread() -> None:
    start = threading.Barrier(2)

    def wrong(dtype: torch.dtype | None) -> int:
        x = torch.zeros(1)
        expected = dtype or torch.float32
        start.wait()
        found = 0
        for _ in range(20_000):
            with operators.conv_precision(dtype):
                found += operators.to_conv_dtype(x).dtype != expected
            found += operators.to_conv_dtype(x).dtype != torch.float32
        return found

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(wrong, [torch.bfloat16, None])) == [0, 0]
    finally:
        sys.setswitchinterval(interval)
