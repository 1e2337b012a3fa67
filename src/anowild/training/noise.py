"""The random numbers of one iteration."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from anowild.training.augmentation import UNIFORMS_PER_IMAGE
from anowild.training.distributed import World


class StepNoise(NamedTuple):
    """Random numbers of one iteration: latents ~ N(0, I) for each network, and interpolation factors."""

    discriminator: Tensor  # [N, latent], for the fakes that D learns from
    alpha: Tensor  # [N, 1, 1, 1] in [0, 1): see :func:`anowild.training.losses.discriminator_loss`
    generator: Tensor  # [N, latent]
    encoder: Tensor  # [N, latent]
    #: [3, N, 4] in [0, 1), for the augmentation of reals, D's fakes and G's fakes; or empty.
    augmentation: Tensor = torch.empty(0)

    @staticmethod
    def new(
        count: int, latent_size: int, augmented: bool, device: torch.device,
        generator: torch.Generator | None = None,
    ) -> StepNoise:  # fmt: skip
        """Draw the noise of a minibatch of ``count`` images on a device, where ``generator`` lies, too."""

        def draw(distribution: Callable[..., Tensor], *size: int) -> Tensor:
            return distribution(size, generator=generator, device=device)

        return StepNoise(
            discriminator=draw(torch.randn, count, latent_size),
            alpha=draw(torch.rand, count, 1, 1, 1),
            generator=draw(torch.randn, count, latent_size),
            encoder=draw(torch.randn, count, latent_size),
            augmentation=draw(torch.rand, *((3, count, UNIFORMS_PER_IMAGE) if augmented else (0,))),
        )

    def share(self, world: World) -> StepNoise:
        """Return the noise of this process's images, of that of a whole minibatch."""
        return StepNoise(
            world.share(self.discriminator),
            world.share(self.alpha),
            world.share(self.generator),
            world.share(self.encoder),
            world.share(self.augmentation, axis=min(1, self.augmentation.dim() - 1)),
        )
