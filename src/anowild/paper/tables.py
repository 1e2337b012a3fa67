"""The tables of layers in the paper's appendix, row by row."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from anowild.networks.generator import Generator
from anowild.networks.trunk import Discriminator, Encoder, Trunk


@dataclass(frozen=True)
class Row:
    """A row of a table; shapes are written as in the appendix, weights in the reference's axes."""

    name: str
    params: int | None
    output_shape: str
    weight_shape: str | None


@dataclass(frozen=True)
class Table:
    """A table of layers."""

    rows: list[Row]
    total: int  # parameters

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


#: Misprints of the appendix, by preset. Our tables have the rows that add up to its totals.
MISPRINTS = {
    "paper-cifar10": (
        "Generator: the appendix copies the three inner ToRGB rows (513 parameters, 1 channel, "
        "lod4 to lod2) and the Upscale2D and Grow rows from the KTH table; its total only adds up "
        "with four ToRGB rows of 1,539 parameters, 3 channels, lod3 to lod0.",
        "'Downscale2D' names a shared operation by its last use, and stands once.",
    ),
    "paper-kth-cells": (
        "'Upscale2D (?, 1, 64, 64)' and 'Downscale2D (?, 1, 4, 4)' name a shared operation by "
        "its last use, and stand once.",
    ),
}


def tables(
    resolution: int, channels: int, fmap_base: int, fmap_max: int, latent_size: int | None
) -> dict[str, Table]:
    """Return the tables of ``generator``, ``discriminator`` and ``encoder``.

    No parameters are allocated. Arguments as for :class:`Generator`.
    """
    size = {
        "resolution": resolution,
        "channels": channels,
        "fmap_base": fmap_base,
        "fmap_max": fmap_max,
    }
    with torch.device("meta"):
        generator = Generator(**size, latent_size=latent_size)
        discriminator = Discriminator(**size)
        encoder = Encoder(**size, latent_size=generator.latent_size)
    return {
        "generator": generator_table(generator),
        "discriminator": trunk_table(discriminator),
        "encoder": trunk_table(encoder),
    }


def generator_table(network: Generator) -> Table:
    """Return the table 'Generator' of a network."""
    colors, full = network.channels, network.resolution

    def images(side: int) -> str:
        return _shape(colors, side, side)

    rows = [
        Row("latents in", None, _shape(network.latent_size), None),
        Row("labels in", None, _shape(0), None),
        Row("lod", None, "()", None),
        Row("4x4/PixelNorm", None, _shape(network.latent_size), None),
        _layer("4x4/Dense", network.dense, _maps(network.conv, 4), "dense"),
        _layer("4x4/Conv", network.conv, _maps(network.conv, 4)),
        _layer(f"ToRGB lod{network.max_lod}", network.to_rgb[0], images(4)),
    ]
    for stage, block in enumerate(network.blocks, start=1):
        side, lod = 4 << stage, network.max_lod - stage
        rows += [
            _layer(f"{side}x{side}/Conv0 up", block.conv0_up, _maps(block.conv0_up, side), "up"),
            _layer(f"{side}x{side}/Conv1", block.conv1, _maps(block.conv1, side)),
            _layer(f"ToRGB lod{lod}", network.to_rgb[stage], images(side)),
        ]
        if stage == 1:
            rows.append(Row("Upscale2D", None, images(full), None))
        rows.append(Row(f"Grow lod{lod}", None, images(side), None))
    rows.append(Row("images out", None, images(full), None))
    return Table(rows, _total(network))


def trunk_table(network: Trunk) -> Table:
    """Return the table 'Discriminator' or 'Encoder' of a network."""
    colors, full = network.channels, network.resolution
    rows = [
        Row("images in", None, _shape(colors, full, full), None),
        Row("lod", None, "()", None),
        _layer("FromRGB lod0", network.from_rgb[-1], _maps(network.from_rgb[-1], full)),
    ]
    for stage in range(network.max_lod, 0, -1):
        block, below = network.blocks[stage - 1], network.from_rgb[stage - 1]
        side, half, lod = 4 << stage, 2 << stage, network.max_lod - stage
        rows += [
            _layer(f"{side}x{side}/Conv0", block.conv0, _maps(block.conv0, side)),
            _layer(f"{side}x{side}/Conv1 down", block.conv1_down, _maps(block.conv1_down, half)),
        ]
        if lod == 0:
            rows.append(Row("Downscale2D", None, _shape(colors, 4, 4), None))
        rows += [
            _layer(f"FromRGB lod{lod + 1}", below, _maps(below, half)),
            Row(f"Grow lod{lod}", None, _maps(below, half), None),
        ]
    rows += [
        Row("4x4/MinibatchStddev", None, _shape(1, 4, 4), None),
        _layer("4x4/Conv", network.conv, _maps(network.conv, 4)),
        _layer("4x4/Dense0", network.dense0, _shape(network.outputs), "dense"),
    ]
    if isinstance(network, Discriminator):
        rows += [
            _layer("4x4/Dense1", network.dense1, _shape(1), "dense"),
            Row("scores out", None, _shape(1), None),
            Row("labels out", None, _shape(0), None),
        ]
    else:
        rows.append(Row("Z", None, _shape(network.outputs), None))
    return Table(rows, _total(network))


def _layer(name: str, layer: Any, output: str, kind: str = "conv") -> Row:
    weight = layer.weight
    axes = {"conv": (2, 3, 1, 0), "up": (2, 3, 1, 0), "dense": (1, 0)}[kind]
    shape = ", ".join(str(weight.shape[a]) for a in axes)
    return Row(name, weight.numel() + layer.bias.numel(), output, f"({shape})")


def _maps(layer: Any, side: int) -> str:
    return _shape(layer.bias.numel(), side, side)


def _shape(*sizes: int) -> str:
    return f"(?, {', '.join(map(str, sizes))})"


def _total(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
