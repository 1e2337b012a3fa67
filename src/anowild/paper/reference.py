"""Conversion from and to the reference implementation: parameter names, axes, full-size images.

The reference keeps every image at full size and blurs it to the level of detail. Our networks run a
level at its own resolution, with the same numbers as a result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anowild.arrays import Array
from anowild.networks.generator import Generator
from anowild.networks.growth import split_lod
from anowild.networks.trunk import Discriminator, Trunk

ArrayOrTensor = TypeVar("ArrayOrTensor", Tensor, np.ndarray[Any, Any])
# Permutations from the reference's axes to ours. It stores kernels as [height, width, in, out], those of
# up-convolutions as [height, width, out, in], and dense weights as [in, out].
_CONV, _UP_CONV, _DENSE, _BIAS = (3, 2, 0, 1), (3, 2, 0, 1), (1, 0), (0,)


def variables(network: nn.Module) -> dict[str, tuple[nn.Parameter, tuple[int, ...]]]:
    """Map each reference name to our parameter and the permutation from the reference's axes to ours.

    Raises:
        TypeError: the network is no Generator, Discriminator or Encoder.
    """
    if not isinstance(network, Generator | Trunk):
        raise TypeError(f"not a Generator, Discriminator or Encoder: {type(network).__name__}")
    found: dict[str, tuple[nn.Parameter, tuple[int, ...]]] = {}

    def add(name: str, layer: Any, axes: tuple[int, ...]) -> None:
        found[f"{name}/weight"] = (layer.weight, axes)
        found[f"{name}/bias"] = (layer.bias, _BIAS)

    rgb, rgb_name = (
        (network.to_rgb, "ToRGB")
        if isinstance(network, Generator)
        else (network.from_rgb, "FromRGB")
    )
    for stage, layer in enumerate(rgb):
        add(f"{rgb_name}_lod{network.max_lod - stage}", layer, _CONV)
    for stage, block in enumerate(network.blocks, start=1):
        prefix = f"{4 << stage}x{4 << stage}"
        if isinstance(network, Generator):
            add(f"{prefix}/Conv0_up", block.conv0_up, _UP_CONV)
            add(f"{prefix}/Conv1", block.conv1, _CONV)
        else:
            add(f"{prefix}/Conv0", block.conv0, _CONV)
            add(f"{prefix}/Conv1_down", block.conv1_down, _CONV)
    add("4x4/Conv", network.conv, _CONV)
    if isinstance(network, Generator):
        add("4x4/Dense", network.dense, _DENSE)
    else:
        add("4x4/Dense0", network.dense0, _DENSE)
    if isinstance(network, Discriminator):
        add("4x4/Dense1", network.dense1, _DENSE)
    return found


def load_variables(network: nn.Module, arrays: Mapping[str, Array]) -> None:
    """Load parameters of the reference into a network, which keeps its own type.

    Args:
        network: a Generator, Discriminator or Encoder.
        arrays: by the reference's names, in its axes, of any float type. Its scalar variable ``lod`` is
            ignored.

    Raises:
        ValueError: a parameter is missing, unknown or of the wrong shape.
    """
    ours = variables(network)
    given = {name: array for name, array in arrays.items() if name != "lod"}
    if given.keys() != ours.keys():
        missing, unknown = sorted(ours.keys() - given.keys()), sorted(given.keys() - ours.keys())
        raise ValueError(f"parameters do not match: missing {missing}, unknown {unknown}")
    with torch.no_grad():
        for name, (parameter, axes) in ours.items():
            array = np.transpose(np.asarray(given[name]), axes)
            if array.shape != tuple(parameter.shape):
                raise ValueError(
                    f"{name} has shape {np.shape(given[name])}, which does not give "
                    f"{tuple(parameter.shape)} in our axes"
                )
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def export(
    network: nn.Module, pick: Callable[[nn.Parameter], Tensor | None] = lambda p: p
) -> dict[str, Array]:
    """Return parameters by the reference's names and in its axes.

    Args:
        network: a Generator, Discriminator or Encoder.
        pick: maps a parameter to a tensor of its shape, such as its gradient, to return instead; None
            counts as zeros.
    """
    out = {}
    for name, (parameter, axes) in variables(network).items():
        value = pick(parameter)
        tensor = torch.zeros_like(parameter) if value is None else value
        out[name] = np.transpose(tensor.detach().cpu().numpy(), np.argsort(axes))
    return out


def forward(network: nn.Module, x: ArrayOrTensor, lod: float = 0.0) -> ArrayOrTensor:
    """Run a forward pass as the reference does: images at full size, minibatch stddev from the batch.

    Args:
        network: a Generator, Discriminator or Encoder.
        x: latents [N, latent] for a generator, else images [N, C, resolution, resolution].
            A tensor, through which gradients flow, or a NumPy array.
        lod: level of detail, clipped to [0, log2(resolution) - 2].

    Returns:
        Images [N, C, resolution, resolution], scores [N, 1] or latents [N, latent], of the network's
        type, as a tensor or an array like ``x``.
    """
    if not isinstance(network, Generator | Trunk):
        raise TypeError(f"not a Generator, Discriminator or Encoder: {type(network).__name__}")
    if isinstance(x, np.ndarray):
        with torch.no_grad():
            return forward(network, torch.from_numpy(np.ascontiguousarray(x)), lod).cpu().numpy()
    like = next(network.parameters())
    x = x.to(device=like.device, dtype=like.dtype)
    scale = 2 ** split_lod(lod, network.max_lod)[0]
    if isinstance(network, Generator):
        return to_full_size(network(x, lod), scale)
    stddev, was_training = network.minibatch_stddev, network.training
    try:
        network.train()
        stddev.tracking = False
        out: Tensor = network(F.avg_pool2d(x, scale) if scale > 1 else x, lod)
        return out
    finally:
        stddev.tracking = True
        network.train(was_training)


def to_full_size(images: Tensor, scale: int) -> Tensor:
    """Repeat every pixel ``scale`` times along both axes: [N, C, r, r] -> [N, C, r*scale, r*scale]."""
    return F.interpolate(images, scale_factor=scale, mode="nearest") if scale > 1 else images
