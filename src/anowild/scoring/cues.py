"""The three cues of the paper, each a property of one image, and how they are computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anowild.data.batches import process_reals, shrink
from anowild.networks import Discriminator, Encoder, Generator

Array = np.ndarray[Any, Any]

#: The cues by name, in the order of every table.
CUES = ("residual", "feature_distance", "latent_norm")

#: Images in one pass. A pass always has this many (the last is filled up), so that the kernels
#: chosen, and with them the rounding of a score, do not depend on how many images there are.
PASS = 16


def residual(images: Tensor, rebuilt: Tensor) -> Tensor:
    """Mean absolute difference over pixels and channels, in units of [-1, 1]: [N, C, H, W] -> [N]."""
    return (images - rebuilt).abs().double().mean(dim=(1, 2, 3))


def feature_distance(features: Tensor, rebuilt_features: Tensor) -> Tensor:
    """Mean absolute difference of D's 4x4 maps before minibatch stddev: [N, M, 4, 4] -> [N]."""
    return (features - rebuilt_features).abs().double().mean(dim=(1, 2, 3))


def latent_norm(latents: Tensor) -> Tensor:
    """Euclidean length: [N, latent] -> [N]."""
    return latents.double().square().sum(dim=1).sqrt()


class CueComputer:
    """Computes the cues of stored images at a level of detail, whatever batch they come in.

    Args:
        generator, discriminator, encoder: trained; put into ``eval()`` form, in which the
            encoder's minibatch stddev is frozen.
        lod: level of detail the training ended with.
    """

    def __init__(
        self, generator: Generator, discriminator: Discriminator, encoder: Encoder, lod: float
    ) -> None:
        self.generator = generator.eval()
        self.discriminator = discriminator.eval()
        self.encoder = encoder.eval()
        self.lod = lod
        self.device = next(encoder.parameters()).device

    def __call__(self, images: Array) -> dict[str, Array]:
        """uint8 or uint16 [N, C, R, R] -> by name of the cue, float64 [N]."""
        found = [self._cues(x, self._rebuild(x)) for x in self._passes(images)]
        table = torch.cat(found)[: len(images)].cpu().numpy() if found else np.empty((0, len(CUES)))
        return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(CUES)}

    def rebuild(self, images: Array) -> tuple[Array, Array]:
        """What the networks see of the images, and G(E(x)): both float32 [N, C, r, r]."""
        seen, rebuilt = [], []
        for x in self._passes(images):
            seen.append(x.cpu().numpy())
            rebuilt.append(self._rebuild(x)[1].cpu().numpy())
        return np.concatenate(seen)[: len(images)], np.concatenate(rebuilt)[: len(images)]

    @torch.no_grad()
    def of_samples(self, count: int, latent_scale: float, seed: int) -> dict[str, Array]:
        """The cues of G's own images G(z), z = latent_scale * N(0, I)."""
        rng = torch.Generator().manual_seed(seed)
        found = []
        for _ in range(0, count, PASS):
            z = torch.randn((PASS, self.generator.latent_size), generator=rng) * latent_scale
            x = self.generator(z.to(self.device), self.lod)
            found.append(self._cues(x, self._rebuild(x)))
        table = torch.cat(found)[:count].cpu().numpy()
        return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(CUES)}

    def _passes(self, images: Array) -> Iterator[Tensor]:
        level = math.floor(self.lod)
        for start in range(0, len(images), PASS):
            part = images[start : start + PASS]
            if len(part) < PASS:
                part = np.concatenate([part, np.repeat(part[-1:], PASS - len(part), axis=0)])
            stored = torch.from_numpy(np.ascontiguousarray(part)).to(self.device)
            yield process_reals(shrink(stored, level), self.lod)

    @torch.no_grad()
    def _rebuild(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.encoder(x, self.lod)
        return latents, self.generator(latents, self.lod)

    @torch.no_grad()
    def _cues(self, x: Tensor, latents_and_rebuilt: tuple[Tensor, Tensor]) -> Tensor:
        """[N, cues], in the order of ``CUES``."""
        latents, rebuilt = latents_and_rebuilt
        features = self.discriminator.features(x, self.lod)
        rebuilt_features = self.discriminator.features(rebuilt, self.lod)
        return torch.stack(
            [
                residual(x, rebuilt),
                feature_distance(features, rebuilt_features),
                latent_norm(latents),
            ],
            dim=1,
        )
