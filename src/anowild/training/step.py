"""One iteration of the paper's training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anowild.device import training_dtype
from anowild.networks import Discriminator, Encoder, Generator, seeded_init
from anowild.networks.operators import conv_precision
from anowild.settings import Settings
from anowild.training.augmentation import NUMBERS, augment
from anowild.training.losses import (
    DiscriminatorLoss,
    discriminator_loss,
    encoder_loss,
    generator_loss,
)
from anowild.training.optimizer import Adam


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
        with seeded_init(settings.seed):
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
        # The averaged G stays in `train()`: it has no batch statistics, and sequential training takes
        # its derivatives.
        self.average_encoder.eval()
        return self


class StepNoise(NamedTuple):
    """The random numbers of one iteration: standard normals [N, latent], uniforms [N, 1, 1, 1]."""

    discriminator: Tensor
    mix: Tensor
    generator: Tensor
    encoder: Tensor
    #: For the augmentation of reals, D's fakes and G's fakes, uniforms [3, N, 4]; empty without.
    augmentation: Tensor = torch.empty(0)

    @staticmethod
    def new(
        count: int, latent_size: int, augmented: bool, device: torch.device,
        generator: torch.Generator | None = None,
    ) -> StepNoise:  # fmt: skip
        """Fresh ones for a minibatch of ``count``; ``generator`` lies on the device."""

        def draw(kind: Callable[..., Tensor], *size: int) -> Tensor:
            return kind(size, generator=generator, device=device)

        return StepNoise(
            discriminator=draw(torch.randn, count, latent_size),
            mix=draw(torch.rand, count, 1, 1, 1),
            generator=draw(torch.randn, count, latent_size),
            encoder=draw(torch.randn, count, latent_size),
            augmentation=draw(torch.rand, *((3, count, NUMBERS) if augmented else (0,))),
        )


class Step:
    """Updates D, the averages, G and E: in the reference's order, or in the fast one."""

    def __init__(self, networks: Networks, settings: Settings) -> None:
        self.networks = networks
        self.settings = settings
        self.optimizers = {
            "discriminator": Adam(networks.discriminator.parameters(), settings),
            "generator": Adam(networks.generator.parameters(), settings),
            "encoder": Adam(networks.encoder.parameters(), settings),
        }
        device = next(networks.generator.parameters()).device
        self._dtype = training_dtype(settings.precision, device)
        # Updates left out for a gradient that is not finite: in all, and the last ones in a row.
        # Counted where the gradients are, so that a GPU is not waited for.
        self._skipped = torch.zeros(2, device=device)

    @property
    def skipped(self) -> int:
        """Updates left out because a gradient was not finite."""
        return int(self._skipped[0])

    @property
    def skipped_in_a_row(self) -> int:
        """How many of those were the last ones."""
        return int(self._skipped[1])

    def set_skipped(self, skipped: int, in_a_row: int) -> None:
        """Take up the counts of a checkpoint."""
        self._skipped.copy_(torch.tensor([skipped, in_a_row]))

    def __call__(
        self, reals: Tensor, draws: StepNoise, lod: float, learning_rate: float, decay: float
    ) -> dict[str, Tensor]:
        """One iteration, of the kind that the settings ask for.

        Args:
            reals: [N, C, r, r] in [-1, 1], of the size of level ``floor(lod)``.
            decay: of the averages.

        Returns:
            Losses and scores, scalars or [N], each from just before its own update.
        """
        iteration = self._at_once if self.settings.simultaneous else self._in_turn
        with conv_precision(self._dtype):
            report = iteration(reals, draws, lod, learning_rate, decay)
        return {name: value.detach() for name, value in report.items()}

    def _in_turn(
        self, reals: Tensor, draws: StepNoise, lod: float, learning_rate: float, decay: float
    ) -> dict[str, Tensor]:
        """The paper's iteration; with ``encoder = "sequential"``, all of it but the last part."""
        s, n = self.settings, self.networks

        # Discriminator.
        with torch.set_grad_enabled(s.shared_fakes):
            fakes = n.generator(draws.discriminator * s.latent_scale, lod)
        d = self._discriminator_loss(reals, fakes.detach(), draws, lod)
        self._descend("discriminator", d.loss, learning_rate)

        # Averages, of G and E as they were before this iteration's update.
        average(n.average_generator, n.generator, decay)
        average(n.average_encoder, n.encoder, decay)

        # Generator, against the new discriminator.
        if not s.shared_fakes:
            fakes = n.generator(draws.generator * s.latent_scale, lod)
        with frozen(n.discriminator), frozen(n.encoder):
            g_losses = generator_loss(n.discriminator, self._augmented(fakes, draws, 2), lod)
            g_loss = g_losses.mean()
            if s.cycle_weight:
                g_loss = g_loss + s.cycle_weight * encoder_loss(n.generator, n.encoder, fakes, lod)
        self._descend("generator", g_loss, learning_rate)

        report = {"G_loss": g_losses.mean(), **_reported(d)}
        # Encoder, against the new generator.
        if s.encoder == "joint":
            if not s.shared_fakes:
                fakes = self._generated(n.generator, draws.encoder, lod)
            e_loss = self._encoder_loss(n.generator, fakes.detach(), reals, lod)
            self._descend("encoder", e_loss, learning_rate)
            report["E_loss"] = e_loss
        return report

    def _at_once(
        self, reals: Tensor, draws: StepNoise, lod: float, learning_rate: float, decay: float
    ) -> dict[str, Tensor]:
        """All three learn from the same generated images, before any of them moves.

        G's loss is the part of D's that the generated images are in, with the other sign. So one
        pass back through D serves both.
        """
        s, n = self.settings, self.networks
        fakes = n.generator(draws.generator * s.latent_scale, lod)
        seen = fakes.detach().requires_grad_(True)
        d = self._discriminator_loss(reals, seen, draws, lod)
        *for_d, for_fakes = torch.autograd.grad(
            d.loss, [*self.optimizers["discriminator"].parameters, seen], allow_unused=True
        )
        assert for_fakes is not None
        for_g = torch.autograd.grad(
            fakes, self.optimizers["generator"].parameters, -for_fakes, allow_unused=True
        )
        report = {"G_loss": -d.fake_scores.mean(), **_reported(d)}
        if s.encoder == "joint":
            e_loss = self._encoder_loss(n.generator, fakes.detach(), reals, lod)
            report["E_loss"] = e_loss
        average(n.average_generator, n.generator, decay)
        average(n.average_encoder, n.encoder, decay)
        self._update("discriminator", for_d, learning_rate)
        self._update("generator", for_g, learning_rate)
        if "E_loss" in report:
            self._descend("encoder", e_loss, learning_rate)
        return report

    def encoder_alone(
        self, reals: Tensor | None, draws: StepNoise, lod: float, learning_rate: float, decay: float
    ) -> dict[str, Tensor]:
        """Sequential training's second part: E learns to invert the finished, averaged G.

        Args:
            reals: looked at where E is to learn from them; else they may be None.
        """
        generator = self.networks.average_generator
        average(self.networks.average_encoder, self.networks.encoder, decay)
        with conv_precision(self._dtype):
            fakes = self._generated(generator, draws.encoder, lod)
            loss = self._encoder_loss(generator, fakes, reals, lod)
            self._descend("encoder", loss, learning_rate)
        return {"E_loss": loss.detach()}

    def _discriminator_loss(
        self, reals: Tensor, fakes: Tensor, draws: StepNoise, lod: float
    ) -> DiscriminatorLoss:
        s = self.settings
        reals, fakes = self._augmented(reals, draws, 0), self._augmented(fakes, draws, 1)
        return discriminator_loss(
            self.networks.discriminator, reals, fakes, draws.mix, lod,
            penalty=s.gradient_penalty, target=s.gradient_target, drift=s.drift,
            share=s.penalty_share, r1=s.regularizer == "r1",
        )  # fmt: skip

    def _augmented(self, images: Tensor, draws: StepNoise, part: int) -> Tensor:
        if not self.settings.differentiable_augmentation:
            return images
        return augment(images, draws.augmentation[part])

    @torch.no_grad()
    def _generated(self, generator: Generator, normals: Tensor, lod: float) -> Tensor:
        return generator(normals * self.settings.latent_scale, lod)

    def _encoder_loss(
        self, generator: Generator, fakes: Tensor, reals: Tensor | None, lod: float
    ) -> Tensor:
        """E's loss against the generator as it is now; only E learns from it."""
        encoder, weight = self.networks.encoder, self.settings.encoder_reals
        with frozen(generator):
            loss = encoder_loss(generator, encoder, fakes, lod)
            if weight:
                assert reals is not None
                loss = loss + weight * encoder_loss(generator, encoder, reals, lod)
        return loss

    def _descend(self, name: str, loss: Tensor, learning_rate: float) -> None:
        parameters = self.optimizers[name].parameters
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        self._update(name, gradients, learning_rate)

    def _update(self, name: str, gradients: Sequence[Tensor | None], learning_rate: float) -> None:
        """Update one network; leave it as it is when a gradient is not finite, and count that."""
        skip = _any_not_finite([g for g in gradients if g is not None])
        self.optimizers[name].step(gradients, learning_rate, skip)
        self._skipped[0] += skip
        self._skipped[1] = (self._skipped[1] + 1) * skip


def _reported(d: DiscriminatorLoss) -> dict[str, Tensor]:
    return {
        "D_loss": d.loss,
        "real_score": d.real_scores,
        "fake_score": d.fake_scores,
        "gradient_norm": d.mixed.norms,
    }


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Record what the network does with its inputs, but no derivative by its parameters."""
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def _any_not_finite(tensors: list[Tensor]) -> Tensor:
    """1 if there is a NaN or an infinity in them, or their sum is one; else 0, on their device."""
    # Both pass through a sum, which on a CPU costs a twentieth of the largest absolute value; on a
    # GPU launches are what costs, and a norm of them all takes few.
    on_cpu = tensors[0].device.type == "cpu"
    sums = [tensor.sum() for tensor in tensors] if on_cpu else torch._foreach_norm(tensors)
    return 1.0 - torch.stack(sums).isfinite().all().float()


@torch.no_grad()
def average(running: nn.Module, network: nn.Module, decay: float) -> None:
    """running <- network + (running - network) * decay, parameters and statistics alike."""
    torch._foreach_lerp_(_tensors(running), _tensors(network), 1.0 - decay)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
