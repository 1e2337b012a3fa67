"""One iteration of the paper's training algorithm.

The paper trains D, G and E in turn, each on newly generated images, by :mod:`anowild.training.losses`
and Adam. The fast form trains the three at the same time on the same generated images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anowild.device import training_dtype
from anowild.networks import Generator
from anowild.networks.operators import conv_precision
from anowild.settings import Settings
from anowild.training.augmentation import augment
from anowild.training.distributed import ALONE, World
from anowild.training.losses import (
    DiscriminatorLoss,
    discriminator_loss,
    encoder_loss,
    generator_loss,
)
from anowild.training.networks import Networks, ema_update, frozen
from anowild.training.noise import StepNoise
from anowild.training.optimizer import Adam


class Step:
    """One iteration: an update of D, of the averages, of G and of E.

    Args:
        networks: that are trained.
        settings: of the run.
        world: processes that each call the step on their share of the minibatch; all update alike.
    """

    def __init__(self, networks: Networks, settings: Settings, world: World = ALONE) -> None:
        self.networks = networks
        self.settings = settings
        self.world = world
        self.optimizers = {
            "discriminator": Adam(networks.discriminator.parameters(), settings),
            "generator": Adam(networks.generator.parameters(), settings),
            "encoder": Adam(networks.encoder.parameters(), settings),
        }
        device = next(networks.generator.parameters()).device
        self._dtype = training_dtype(settings.precision, device)
        # Skipped updates: in all, and the latest ones in a row. Counted on the device, because reading
        # a number there would wait for a GPU.
        self._skipped = torch.zeros(2, device=device)

    def __call__(
        self, reals: Tensor, noise: StepNoise, lod: float, learning_rate: float, decay: float
    ) -> dict[str, Tensor]:
        """Run one iteration in the form that the settings ask for.

        Args:
            reals: training images [N, C, r, r] in [-1, 1], of the size of level ``floor(lod)``.
            noise: the random numbers of this iteration.
            lod: level of detail.
            learning_rate: of all three optimizers.
            decay: of the moving averages of G and E.

        Returns:
            Losses and scores by name, scalars or [N], each from just before its own update.
        """
        iteration = self._simultaneous if self.settings.simultaneous else self._alternating
        with conv_precision(self._dtype):
            report = iteration(reals, noise, lod, learning_rate, decay)
        self._average_statistics()
        return {name: value.detach() for name, value in report.items()}

    def _alternating(
        self, reals: Tensor, noise: StepNoise, lod: float, learning_rate: float, decay: float
    ) -> dict[str, Tensor]:
        """Update D, then G against the new D, then E against the new G: the paper's iteration."""
        s, n = self.settings, self.networks

        # D. Its fakes serve G and E as well where the settings say so (`shared_fakes`).
        with torch.set_grad_enabled(s.shared_fakes):
            fakes = n.generator(noise.discriminator * s.latent_scale, lod)
        d = self._discriminator_loss(reals, fakes.detach(), noise, lod)
        self._minimize("discriminator", d.loss, learning_rate)

        # The averages, of G and E as they were before this iteration's update.
        ema_update(n.average_generator, n.generator, decay)
        ema_update(n.average_encoder, n.encoder, decay)

        # G.
        if not s.shared_fakes:
            fakes = n.generator(noise.generator * s.latent_scale, lod)
        with frozen(n.discriminator), frozen(n.encoder):
            g_losses = generator_loss(n.discriminator, self._augmented(fakes, noise, 2), lod)
            g_loss = g_losses.mean()
            if s.cycle_weight:
                g_loss = g_loss + s.cycle_weight * encoder_loss(n.generator, n.encoder, fakes, lod)
        self._minimize("generator", g_loss, learning_rate)
        report = {"G_loss": g_losses.mean(), **_discriminator_report(d)}

        # E, unless it is trained after the GAN (`encoder_alone`).
        if s.encoder == "joint":
            if not s.shared_fakes:
                fakes = self._generated(n.generator, noise.encoder, lod)
            e_loss = self._encoder_loss(n.generator, fakes.detach(), reals, lod)
            self._minimize("encoder", e_loss, learning_rate)
            report["E_loss"] = e_loss
        return report

    def _simultaneous(
        self, reals: Tensor, noise: StepNoise, lod: float, learning_rate: float, decay: float
    ) -> dict[str, Tensor]:
        """Compute all gradients from the same generated images, then update D, G and E.

        G's loss is the fakes' part of D's loss with the sign reversed. So a single backward pass
        through D gives the gradient of both.
        """
        s, n = self.settings, self.networks
        fakes = n.generator(noise.generator * s.latent_scale, lod)
        fakes_for_d = fakes.detach().requires_grad_(True)
        d = self._discriminator_loss(reals, fakes_for_d, noise, lod)
        *d_gradients, fakes_gradient = torch.autograd.grad(
            d.loss, [*self.optimizers["discriminator"].parameters, fakes_for_d], allow_unused=True
        )
        assert fakes_gradient is not None
        g_gradients = torch.autograd.grad(
            fakes, self.optimizers["generator"].parameters, -fakes_gradient, allow_unused=True
        )
        report = {"G_loss": -d.fake_scores.mean(), **_discriminator_report(d)}
        if s.encoder == "joint":
            e_loss = self._encoder_loss(n.generator, fakes.detach(), reals, lod)
            report["E_loss"] = e_loss

        ema_update(n.average_generator, n.generator, decay)
        ema_update(n.average_encoder, n.encoder, decay)
        self._update("discriminator", d_gradients, learning_rate)
        self._update("generator", g_gradients, learning_rate)
        if "E_loss" in report:
            self._minimize("encoder", e_loss, learning_rate)
        return report

    def encoder_alone(
        self, reals: Tensor | None, noise: StepNoise, lod: float, learning_rate: float, decay: float
    ) -> dict[str, Tensor]:
        """Train E to invert the averaged G: an iteration of the second part of sequential training.

        Args:
            reals: as in :meth:`__call__`; used only with ``encoder_reals``, otherwise may be None.
            noise: as in :meth:`__call__`; so are the following.
            lod: level of detail.
            learning_rate: of E's optimizer.
            decay: of E's moving average.
        """
        generator = self.networks.average_generator
        ema_update(self.networks.average_encoder, self.networks.encoder, decay)
        with conv_precision(self._dtype):
            fakes = self._generated(generator, noise.encoder, lod)
            loss = self._encoder_loss(generator, fakes, reals, lod)
            self._minimize("encoder", loss, learning_rate)
        self._average_statistics()
        return {"E_loss": loss.detach()}

    def _discriminator_loss(
        self, reals: Tensor, fakes: Tensor, noise: StepNoise, lod: float
    ) -> DiscriminatorLoss:
        s = self.settings
        reals, fakes = self._augmented(reals, noise, 0), self._augmented(fakes, noise, 1)
        return discriminator_loss(
            self.networks.discriminator, reals, fakes, noise.alpha, lod,
            penalty=s.gradient_penalty, target=s.gradient_target, drift=s.drift,
            share=s.penalty_share, r1=s.regularizer == "r1",
        )  # fmt: skip

    def _encoder_loss(
        self, generator: Generator, fakes: Tensor, reals: Tensor | None, lod: float
    ) -> Tensor:
        encoder, weight = self.networks.encoder, self.settings.encoder_reals
        with frozen(generator):
            loss = encoder_loss(generator, encoder, fakes, lod)
            if weight:
                assert reals is not None
                loss = loss + weight * encoder_loss(generator, encoder, reals, lod)
        return loss

    def _augmented(self, images: Tensor, noise: StepNoise, part: int) -> Tensor:
        if not self.settings.differentiable_augmentation:
            return images
        return augment(images, noise.augmentation[part])

    @torch.no_grad()
    def _generated(self, generator: Generator, latents: Tensor, lod: float) -> Tensor:
        return generator(latents * self.settings.latent_scale, lod)

    def _minimize(self, name: str, loss: Tensor, learning_rate: float) -> None:
        parameters = self.optimizers[name].parameters
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        self._update(name, gradients, learning_rate)

    def _update(self, name: str, gradients: Sequence[Tensor | None], learning_rate: float) -> None:
        """Update one network, or skip the update and count it where a gradient is not finite."""
        gradients = self.world.mean(gradients)
        skip = _nonfinite_flag([g for g in gradients if g is not None])
        self.optimizers[name].step(gradients, learning_rate, skip)
        self._skipped[0] += skip
        self._skipped[1] = (self._skipped[1] + 1) * skip

    def _average_statistics(self) -> None:
        """Average the running statistics of minibatch stddev, which every process took of its share."""
        if self.world.size > 1:
            networks = self.networks.named().values()
            self.world.average_([buffer for network in networks for buffer in network.buffers()])

    @property
    def skipped(self) -> int:
        """Number of updates skipped because a gradient was not finite."""
        return int(self._skipped[0])

    @property
    def skipped_in_a_row(self) -> int:
        """Number of skipped updates since the last one that was not skipped."""
        return int(self._skipped[1])

    def set_skipped(self, skipped: int, in_a_row: int) -> None:
        """Restore both counts from a checkpoint."""
        self._skipped.copy_(torch.tensor([skipped, in_a_row]))


def _discriminator_report(d: DiscriminatorLoss) -> dict[str, Tensor]:
    return {
        "D_loss": d.loss,
        "real_score": d.real_scores,
        "fake_score": d.fake_scores,
        "gradient_norm": d.interpolated.norms,
    }


def _nonfinite_flag(tensors: list[Tensor]) -> Tensor:
    """Return 1 if any value, or a sum of them, is NaN or infinite, else 0: a scalar on their device."""
    # Both carry through a sum, which on a CPU takes a twentieth of the time of the largest absolute
    # value. On a GPU launches are what costs, and the norm of all tensors takes few of them.
    on_cpu = tensors[0].device.type == "cpu"
    sums = [tensor.sum() for tensor in tensors] if on_cpu else torch._foreach_norm(tensors)
    return 1.0 - torch.stack(sums).isfinite().all().float()
