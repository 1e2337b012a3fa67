"""The networks of a training run, and what is done to a network as a whole."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anowild.networks import Discriminator, Encoder, Generator, seeded_init
from anowild.settings import Settings


@dataclass
class Networks:
    """The three networks that are trained, and exponential moving averages (EMA) of G and E.

    Checkpoints hold the networks under the names of these fields.
    """

    generator: Generator
    discriminator: Discriminator
    encoder: Encoder
    average_generator: Generator
    average_encoder: Encoder

    @staticmethod
    def build(settings: Settings, resolution: int, channels: int) -> Networks:
        """Build untrained networks on the CPU, initialized from the settings' seed."""
        size = {
            "resolution": resolution,
            "channels": channels,
            "fmap_base": settings.fmap_base,
            "fmap_max": settings.fmap_max,
        }
        with seeded_init(settings.seed):
            generator = Generator(**size, latent_size=settings.latent_size)
            discriminator = Discriminator(**size)
            encoder = Encoder(**size, latent_size=generator.latent_size)
        return Networks.from_networks(generator, discriminator, encoder)

    @staticmethod
    def from_networks(
        generator: Generator, discriminator: Discriminator, encoder: Encoder
    ) -> Networks:
        """Start the averages of G and E as copies of them."""
        return Networks(
            generator,
            discriminator,
            encoder,
            copy.deepcopy(generator).requires_grad_(False),
            copy.deepcopy(encoder).requires_grad_(False),
        )

    def named(self) -> dict[str, nn.Module]:
        return dict(vars(self))

    def to(self, device: torch.device) -> Networks:
        """Move all networks to a device, in channels-last, the memory layout of fast convolutions."""
        for network in self.named().values():
            network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # The averaged G stays in `train()`, the form with cheap derivatives, which sequential training
        # of E needs. G has no batch statistics, so its images are the same.
        self.average_encoder.eval()
        return self


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Compute derivatives through the network, but not with respect to its parameters."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


@torch.no_grad()
def ema_update(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Update a moving average in place: average <- network + (average - network) * decay.

    Buffers, such as the running statistic of minibatch stddev, are averaged as parameters are.
    """
    torch._foreach_lerp_(_tensors(average), _tensors(network), 1.0 - decay)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
