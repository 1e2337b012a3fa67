"""Networks from the tensors of a file, which have to fit before memory is taken for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

M = TypeVar("M", bound=nn.Module)


class _Undrawn(TorchFunctionMode):
    """Leaves out random values: for a tensor without memory they cost PyTorch two seconds, once, of imports."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


def loaded(make: Callable[[], M], tensors: Mapping[str, Tensor], prefix: str = "") -> M:
    """Make a network and fill it with the tensors whose names begin with ``prefix``.

    Raises:
        ValueError: a tensor is missing, unknown, or of another shape or type; the message names it.
    """
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    with torch.device("meta"), _Undrawn():
        expected = make().state_dict()
    check_tensors(
        {prefix + name: value for name, value in own.items()},
        {prefix + name: (tuple(value.shape), value.dtype) for name, value in expected.items()},
    )
    network = make()
    network.load_state_dict(own)
    return network


def check_tensors(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
) -> None:
    """Raise ValueError unless tensors have these names, shapes and types; the message names the first."""
    for name, (shape, dtype) in expected.items():
        if name not in tensors:
            raise ValueError(f"{name} is missing in the weights")
        found = tensors[name]
        if tuple(found.shape) != shape or found.dtype != dtype:
            raise ValueError(
                f"{name} is {found.dtype} {list(found.shape)} in the weights, not {dtype} {list(shape)}"
            )
    for name in tensors:
        if name not in expected:
            raise ValueError(f"{name} is not known in the weights")


def check_networks_input(
    architecture: Mapping[str, Any], shrink: int, channels: int, resolution: int
) -> None:
    """Raise ValueError unless networks see images [N, channels, resolution, resolution].

    Args:
        architecture: of the networks, with ``channels`` and ``resolution``.
        shrink: how often images are halved for them.
    """
    for name, own, given in (
        ("channels", architecture["channels"], channels),
        ("resolution", architecture["resolution"] << shrink, resolution),
    ):
        if own != given:
            raise ValueError(f"the networks see images of {name} {own}, preprocess gives {given}")
