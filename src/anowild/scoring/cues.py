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
from anowild.networks.layers import Conv2d
from anowild.networks.operators import computing_in

Array = np.ndarray[Any, Any]

#: The cues by name, in the order of every table.
CUES = ("residual", "feature_distance", "latent_norm")

#: Images in one pass, at most; on a GPU, which small networks leave idle, 16 times as many.
PASS = 64
#: Bytes that the largest feature map of a pass takes, at most: what a CPU's caches nearly hold, and
#: what a GPU always has.
CPU_BYTES, GPU_BYTES = 8 << 20, 256 << 20


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

    A pass always has the same number of images (the last is filled up), so that the kernels
    chosen, and with them the rounding of a score, do not depend on how many images there are.

    Args:
        generator, discriminator, encoder: trained; put into ``eval()`` form, in which the
            encoder's minibatch stddev is frozen.
        lod: level of detail the training ended with.
        dtype: what the convolutions compute in; None: in the type of the weights.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        encoder: Encoder,
        lod: float,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.generator = generator.eval()
        self.discriminator = discriminator.eval()
        self.encoder = encoder.eval()
        self.lod = lod
        self.dtype = dtype
        self.device = next(encoder.parameters()).device
        first = encoder.from_rgb[encoder.max_lod - math.floor(lod)]
        assert isinstance(first, Conv2d)
        side = encoder.resolution >> math.floor(lod)
        self._largest = 4 * side**2 * first.bias.numel()  # bytes of an image's largest feature map

    @property
    def size(self) -> int:
        """Images in one pass; two at least, as one alone takes kernels that round otherwise."""
        most, room = (PASS, CPU_BYTES) if self.device.type == "cpu" else (16 * PASS, GPU_BYTES)
        return max(2, min(most, room // self._largest))

    def __call__(self, images: Array) -> dict[str, Array]:
        """uint8 or uint16 [N, C, R, R] -> by name of the cue, float64 [N]."""
        return self._table([self._cues(x) for x in self._passes(images)], len(images))

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
        size = self.size
        rng = torch.Generator().manual_seed(seed)
        whole = -(-count // size) * size
        latents = torch.randn((whole, self.generator.latent_size), generator=rng) * latent_scale
        found = []
        for z in torch.split(latents, size):
            with computing_in(self.dtype):
                x = self.generator(z.to(self.device), self.lod)
            found.append(self._cues(x))
        return self._table(found, count)

    def _passes(self, images: Array) -> Iterator[Tensor]:
        level, size = math.floor(self.lod), self.size
        for start in range(0, len(images), size):
            part = images[start : start + size]
            if len(part) < size:
                part = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            stored = torch.from_numpy(np.ascontiguousarray(part)).to(self.device)
            yield process_reals(shrink(stored, level), self.lod)

    @torch.no_grad()
    def _rebuild(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with computing_in(self.dtype):
            latents = self.encoder(x, self.lod)
            return latents, self.generator(latents, self.lod)

    @torch.no_grad()
    def _cues(self, x: Tensor) -> Tensor:
        """[N, cues], in the order of ``CUES``."""
        latents, rebuilt = self._rebuild(x)
        with computing_in(self.dtype):
            features = self.discriminator.features(torch.cat([x, rebuilt]), self.lod)
        return torch.stack(
            [
                residual(x, rebuilt),
                feature_distance(*features.chunk(2)),
                latent_norm(latents),
            ],
            dim=1,
        )

    @staticmethod
    def _table(found: list[Tensor], count: int) -> dict[str, Array]:
        table = torch.cat(found)[:count].cpu().numpy() if found else np.empty((0, len(CUES)))
        return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(CUES)}
