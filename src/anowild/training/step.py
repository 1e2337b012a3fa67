"""One iteration of the paper's training."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anowild.config import Settings
from anowild.networks import Discriminator, Encoder, Generator, initialised_by
from anowild.training.losses import discriminator_loss, encoder_loss, generator_loss
from anowild.training.optimiser import Adam


@dataclass
class Networks:
    """The three networks that learn, and the running averages of two of them, which score."""

    generator: Generator
    discriminator: Discriminator
    encoder: Encoder
    average_generator: Generator
    average_encoder: Encoder

    @staticmethod
    def build(settings: Settings, resolution: int, channels: int) -> Networks:
        """Fresh networks, drawn from the settings' seed, on the CPU."""
        size = {
            "resolution": resolution,
            "channels": channels,
            "fmap_base": settings.fmap_base,
            "fmap_max": settings.fmap_max,
        }
        with initialised_by(settings.seed):
            generator = Generator(**size, latent_size=settings.latent_size)
            discriminator = Discriminator(**size)
            encoder = Encoder(**size, latent_size=generator.latent_size)
        return Networks.starting_from(generator, discriminator, encoder)

    @staticmethod
    def starting_from(
        generator: Generator, discriminator: Discriminator, encoder: Encoder
    ) -> Networks:
        """The averages begin as copies."""
        averages = [
            copy.deepcopy(network).requires_grad_(False) for network in (generator, encoder)
        ]
        return Networks(generator, discriminator, encoder, *averages)  # type: ignore[arg-type]

    def named(self) -> dict[str, nn.Module]:
        return dict(vars(self))

    def to(self, device: torch.device) -> Networks:
        """Move to a device, in the memory layout that convolutions like best there."""
        for network in self.named().values():
            network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average_generator.eval()
        self.average_encoder.eval()
        return self


class Draws(NamedTuple):
    """The random numbers of one iteration: standard normals [N, latent], uniforms [N, 1, 1, 1]."""

    discriminator: Tensor
    mix: Tensor
    generator: Tensor
    encoder: Tensor


class Step:
    """Updates D, the averages, G and E, in the reference's order."""

    def __init__(self, networks: Networks, settings: Settings) -> None:
        self.networks = networks
        self.settings = settings
        self.optimisers = {
            "discriminator": Adam(networks.discriminator.parameters(), settings),
            "generator": Adam(networks.generator.parameters(), settings),
            "encoder": Adam(networks.encoder.parameters(), settings),
        }
        self.skipped_in_a_row = 0
        self.skipped = 0

    def gan_and_encoder(
        self, reals: Tensor, draws: Draws, lod: float, learning_rate: float, decay: float
    ) -> dict[str, Tensor]:
        """The paper's iteration; with ``encoder = "sequential"``, all of it but the last part.

        Args:
            reals: [N, C, r, r] in [-1, 1], of the size of level ``floor(lod)``.
            decay: of the averages.

        Returns:
            Losses and scores, scalars or [N], each from just before its own update.
        """
        s, n = self.settings, self.networks
        scale = s.latent_scale

        # Discriminator.
        with torch.no_grad():
            fakes = n.generator(draws.discriminator * scale, lod)
        d = discriminator_loss(
            n.discriminator, reals, fakes, draws.mix, lod,
            penalty=s.gradient_penalty, target=s.gradient_target, drift=s.drift,
        )  # fmt: skip
        self._descend("discriminator", d.loss, learning_rate)

        # Averages, of G and E as they were before this iteration's update.
        average(n.average_generator, n.generator, decay)
        average(n.average_encoder, n.encoder, decay)

        # Generator, against the new discriminator.
        fakes = n.generator(draws.generator * scale, lod)
        g_losses = generator_loss(n.discriminator, fakes, lod)
        g_loss = g_losses.mean()
        if s.cycle_weight:
            g_loss = g_loss + s.cycle_weight * encoder_loss(n.generator, n.encoder, fakes, lod)
        self._descend("generator", g_loss, learning_rate)

        report = {
            "D_loss": d.loss,
            "G_loss": g_losses.mean(),
            "real_score": d.real_scores,
            "fake_score": d.fake_scores,
            "gradient_norm": d.mixed_norms,
        }
        if s.encoder == "joint":
            report["E_loss"] = self._encoder(n.generator, draws, lod, learning_rate)
        return {name: value.detach() for name, value in report.items()}

    def encoder_alone(
        self, draws: Draws, lod: float, learning_rate: float, decay: float
    ) -> dict[str, Tensor]:
        """Sequential training's second part: E learns to invert the finished, averaged G."""
        average(self.networks.average_encoder, self.networks.encoder, decay)
        loss = self._encoder(self.networks.average_generator, draws, lod, learning_rate)
        return {"E_loss": loss.detach()}

    def _encoder(
        self, generator: Generator, draws: Draws, lod: float, learning_rate: float
    ) -> Tensor:
        """Encoder, against the generator as it is now; only E learns from it."""
        with torch.no_grad():
            fakes = generator(draws.encoder * self.settings.latent_scale, lod)
        loss = encoder_loss(generator, self.networks.encoder, fakes, lod)
        self._descend("encoder", loss, learning_rate)
        return loss

    def _descend(self, name: str, loss: Tensor, learning_rate: float) -> None:
        """Update one network; leave it as it is when a gradient is not finite, and count that."""
        optimiser = self.optimisers[name]
        gradients = torch.autograd.grad(loss, optimiser.parameters, allow_unused=True)
        if _all_finite(g for g in gradients if g is not None):
            optimiser.step(gradients, learning_rate)
            self.skipped_in_a_row = 0
        else:
            self.skipped_in_a_row += 1
            self.skipped += 1


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    # The largest absolute value: NaN passes through it, and it cannot overflow.
    peaks = torch.stack(torch._foreach_norm(list(tensors), float("inf")))
    return bool(peaks.isfinite().all())


@torch.no_grad()
def average(running: nn.Module, network: nn.Module, decay: float) -> None:
    """running <- network + (running - network) * decay, parameters and statistics alike."""
    torch._foreach_lerp_(_tensors(running), _tensors(network), 1.0 - decay)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
