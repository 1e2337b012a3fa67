"""The cues, each a property of one image, and how they are computed.

The paper's three are residual, feature distance and latent norm; the others are ours.
docs/results.md says which of all make the score, and why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anowild.arrays import Array
from anowild.networks import Discriminator, Encoder, Generator
from anowild.networks.inputs import downsample, process_reals
from anowild.networks.layers import Conv2d
from anowild.networks.operators import conv_precision

#: The cues by name, in the order of every table.
CUES = (
    "residual",
    "relative_residual",
    "feature_distance",
    "latent_norm",
    "latent_distance",
    "hidden_distance",
    "contrast",
)

#: Added to an image's variance before something is divided by it; a hundredth of half the range, squared.
LEAST_VARIANCE = 1e-4

#: What the distances are computed of: E's output, and D's last hidden layer.
FEATURES = ("latent", "hidden")

#: Images in one pass, at most; on a GPU, which small networks leave idle, 16 times as many.
PASS = 64
#: Bytes that the largest feature map of a pass takes, at most: what a CPU's caches nearly hold, and
#: what a GPU always has.
CPU_BYTES, GPU_BYTES = 8 << 20, 256 << 20


def residual(images: Tensor, rebuilt: Tensor) -> Tensor:
    """Mean absolute difference over pixels and channels, in units of [-1, 1]: [N, C, H, W] -> [N]."""
    return (images - rebuilt).abs().double().mean(dim=(1, 2, 3))


def relative_residual(images: Tensor, rebuilt: Tensor) -> Tensor:
    """The share of an image's variance that is not rebuilt: [N, C, H, W] -> [N].

    Mean squared difference by the image's own variance. An image that has little in it is rebuilt
    with small errors, whatever it shows; here that counts for nothing.
    """
    squared = (images - rebuilt).double().square().mean(dim=(1, 2, 3))
    return squared / (contrast(images).square() + LEAST_VARIANCE)


def contrast(images: Tensor) -> Tensor:
    """Root of the variance over pixels, mean over channels, in units of [-1, 1]: [N, C, H, W] -> [N]."""
    return images.double().var(dim=(2, 3), correction=0).mean(dim=1).sqrt()


def feature_distance(features: Tensor, rebuilt_features: Tensor) -> Tensor:
    """Mean absolute difference of D's 4x4 maps before minibatch stddev: [N, M, 4, 4] -> [N]."""
    return (features - rebuilt_features).abs().double().mean(dim=(1, 2, 3))


def latent_norm(latents: Tensor) -> Tensor:
    """Euclidean length: [N, latent] -> [N]."""
    return latents.double().square().sum(dim=1).sqrt()


class GaussianReference(nn.Module):
    """A normal distribution of features, and how far from its middle others lie.

    Until it is fitted or loaded it has mean 0 and covariance 1.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("whitening", torch.eye(size, dtype=torch.float64))

    @staticmethod
    def fit(features: Array) -> GaussianReference:
        """Mean and covariance of features [N, D].

        The covariance is shrunk towards a multiple of the identity by as much as its own error
        asks for (Ledoit and Wolf 2004).
        """
        x = np.asarray(features, np.float64)
        count, size = x.shape
        mean = x.mean(axis=0)
        x = x - mean
        covariance = x.T @ x / count
        middle = np.trace(covariance) / size
        spread = np.square(covariance - middle * np.eye(size)).sum()
        error = (np.square(np.square(x).sum(axis=1)).mean() - np.square(covariance).sum()) / count
        share = min(1.0, error / spread) if spread > 0 else 1.0
        values, axes = np.linalg.eigh((1 - share) * covariance + share * middle * np.eye(size))
        # A feature that never changes says nothing; a value that differs all the same does.
        values = np.maximum(values, max(1e-6 * values[-1], 1e-12))
        usual = GaussianReference(size)
        usual.mean.copy_(torch.from_numpy(mean))
        usual.whitening.copy_(torch.from_numpy(axes / np.sqrt(values)))
        return usual

    def forward(self, features: Tensor) -> Tensor:
        """Mahalanobis distances, float64: [N, D] -> [N]."""
        return ((features.double() - self.mean) @ self.whitening).square().sum(dim=1).sqrt()


class CueComputer:
    """Computes the cues of stored images at a level of detail, whatever batch they come in.

    A pass always has the same number of images (the last is filled up), so that the kernels
    chosen, and with them the rounding of a score, do not depend on how many images there are.

    Args:
        generator, discriminator, encoder: trained; put into ``eval()`` form, in which the
            encoder's minibatch stddev is frozen.
        lod: level of detail the training ended with.
        dtype: what the convolutions compute in; None: in the type of the weights.
        latents: what is usual of E's latents of G's own images.
        hidden: what is usual of D's last hidden layer of training images.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        encoder: Encoder,
        lod: float,
        dtype: torch.dtype | None = None,
        latents: GaussianReference | None = None,
        hidden: GaussianReference | None = None,
    ) -> None:
        self.generator = generator.eval()
        self.discriminator = discriminator.eval()
        self.encoder = encoder.eval()
        self.lod = lod
        self.dtype = dtype
        self.device = next(encoder.parameters()).device
        self.latents = (latents or GaussianReference(encoder.latent_size)).to(self.device)
        self.hidden = (hidden or GaussianReference(discriminator.outputs)).to(self.device)
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
        return self.measured(self.passes(images), len(images), CUES)

    def measured(
        self, passes: Iterable[Tensor], count: int, names: Sequence[str] = (*CUES, *FEATURES)
    ) -> dict[str, Array]:
        """The cues of the first ``count`` images, and what they were computed from.

        Returns:
            By name: the cues, float64 [N]; ``latent`` and ``hidden``, float32 [N, D], E's output
            and the last hidden layer of D.
        """
        parts: dict[str, list[Tensor]] = {name: [] for name in names}
        for x in passes:
            measured = self.measure(x)
            for name, values in parts.items():
                values.append(measured[name])
        return {
            name: torch.cat(values)[:count].cpu().numpy() if values else np.empty(0)
            for name, values in parts.items()
        }

    def rebuild(self, images: Array) -> tuple[Array, Array]:
        """What the networks see of the images, and G(E(x)): both float32 [N, C, r, r]."""
        seen, rebuilt = [], []
        for x in self.passes(images):
            seen.append(x.cpu().numpy())
            rebuilt.append(self.rebuilt(x)[1].cpu().numpy())
        return np.concatenate(seen)[: len(images)], np.concatenate(rebuilt)[: len(images)]

    def samples(self, count: int, latent_scale: float, seed: int) -> Iterator[Tensor]:
        """G's own images G(z), z = latent_scale * N(0, I), in passes: ``count`` in all, or more."""
        size = self.size
        rng = torch.Generator().manual_seed(seed)
        whole = -(-count // size) * size
        latents = torch.randn((whole, self.generator.latent_size), generator=rng) * latent_scale
        for z in torch.split(latents, size):
            with torch.no_grad(), conv_precision(self.dtype):
                yield self.generator(z.to(self.device), self.lod)

    def passes(self, images: Array) -> Iterator[Tensor]:
        """Stored images as the networks see them, [N, C, r, r]; the last pass is filled up."""
        level, size = math.floor(self.lod), self.size
        for start in range(0, len(images), size):
            part = images[start : start + size]
            if len(part) < size:
                part = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            stored = torch.from_numpy(np.ascontiguousarray(part)).to(self.device)
            yield process_reals(downsample(stored, level), self.lod)

    @torch.no_grad()
    def rebuilt(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) and G(E(x)) of images as the networks see them."""
        with conv_precision(self.dtype):
            latents = self.encoder(x, self.lod)
            return latents, self.generator(latents, self.lod)

    @torch.no_grad()
    def measure(self, x: Tensor) -> dict[str, Tensor]:
        """What :meth:`measured` returns, of images as the networks see them, in one pass."""
        latents, rebuilt = self.rebuilt(x)
        with conv_precision(self.dtype):
            features = self.discriminator.features(torch.cat([x, rebuilt]), self.lod)
            hidden = self.discriminator.head(features[: len(x)])
        return {
            "residual": residual(x, rebuilt),
            "relative_residual": relative_residual(x, rebuilt),
            "feature_distance": feature_distance(*features.chunk(2)),
            "latent_norm": latent_norm(latents),
            "latent_distance": self.latents(latents),
            "hidden_distance": self.hidden(hidden),
            "contrast": contrast(x),
            "latent": latents.float(),
            "hidden": hidden.float(),
        }
