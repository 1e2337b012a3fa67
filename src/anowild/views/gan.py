"""The paper's view: reconstruction by G(E(x)), features of D, and the latent E(x).

Residual, feature distance and latent norm are the paper's three cues (Berg et al. 2019); the other
cues are ours. docs/choosing.md says which of all count, and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anowild.arrays import Array
from anowild.checked import Range, checked
from anowild.device import full_float32
from anowild.networks import Discriminator, Encoder, Generator
from anowild.networks.growth import log2_resolution
from anowild.networks.inputs import downsample, process_reals
from anowild.networks.layers import Conv2d
from anowild.networks.operators import conv_precision
from anowild.views.base import Cue, Explanation, Precision, View, register_view
from anowild.views.batches import batch_size, filled_batches
from anowild.views.gaussian import GaussianReference
from anowild.views.loading import check_networks_input, loaded

#: Added to an image's variance before something is divided by it: (a hundredth of half the range)^2.
LEAST_VARIANCE = 1e-4

#: Features that distances are measured of: E's output, and the last hidden layer of D.
FEATURES = ("latent", "hidden")

#: Images in one batch, at most.
CPU_BATCH, GPU_BATCH = 32, 1024
#: Bytes of the largest feature map of a batch, at most: what a CPU's caches nearly hold, and what a
#: GPU always has.
CPU_BYTES, GPU_BYTES = 8 << 20, 256 << 20

#: Standard deviations, as shares of the side, at which a residual is smoothed: a pixel's own, a
#: stroke's, a part's.
SCALES = (0.0, 1 / 32, 1 / 12)


@dataclass(frozen=True)
class ScoringNetworks:
    """G, D and E, put into ``eval()`` form, in which the minibatch stddev of D and E is frozen."""

    generator: Generator
    discriminator: Discriminator
    encoder: Encoder

    def __post_init__(self) -> None:
        for network in self.named().values():
            network.eval()

    def named(self) -> dict[str, nn.Module]:
        """Return the networks by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class GanPass:
    """Everything that the networks say of a batch of images, from which cues are computed."""

    images: Tensor  # [N, C, r, r] in [-1, 1]
    rebuilt: Tensor  # [N, C, r, r], G(E(x))
    latents: Tensor  # [N, latent], E(x)
    maps: Tensor  # [N, M, 4, 4], D's features of the images, before minibatch stddev
    rebuilt_maps: Tensor  # [N, M, 4, 4], the same of the reconstructions
    hidden: Tensor  # [N, outputs], D's last hidden layer

    @property
    def features(self) -> dict[str, Tensor]:
        """Features that distances are measured of, by name as in ``FEATURES``."""
        return {"latent": self.latents, "hidden": self.hidden}


@dataclass(frozen=True, kw_only=True)
class GanCue(Cue):
    """A cue of this view: computed from a pass, or the distance of a feature from its reference."""

    compute: Callable[[GanPass], Tensor] | None = None  # -> [N]
    distance_of: Literal["latent", "hidden"] | None = None
    retired: bool = False  # only models that were trained with it have it


def residual(images: Tensor, rebuilt: Tensor) -> Tensor:
    """Mean absolute difference over pixels and channels, in units of [-1, 1]: [N, C, H, W] -> [N]."""
    return (images - rebuilt).abs().double().mean(dim=(1, 2, 3))


def relative_residual(images: Tensor, rebuilt: Tensor) -> Tensor:
    """Fraction of an image's variance that the reconstruction leaves unexplained: [N, C, H, W] -> [N].

    Mean squared difference divided by the variance of the image. Images with little content have
    small residuals whatever they show; the division makes up for that.
    """
    squared = (images - rebuilt).double().square().mean(dim=(1, 2, 3))
    return squared / (contrast(images).square() + LEAST_VARIANCE)


def contrast(images: Tensor) -> Tensor:
    """Root of the variance over pixels, mean over channels, in units of [-1, 1]: [N, C, H, W] -> [N]."""
    return images.double().var(dim=(2, 3), correction=0).mean(dim=1).sqrt()


def feature_distance(maps: Tensor, rebuilt_maps: Tensor) -> Tensor:
    """Mean absolute difference of D's 4x4 maps before minibatch stddev: [N, M, 4, 4] -> [N]."""
    return (maps - rebuilt_maps).abs().double().mean(dim=(1, 2, 3))


def latent_norm(latents: Tensor) -> Tensor:
    """Euclidean length: [N, latent] -> [N]."""
    return latents.double().square().sum(dim=1).sqrt()


#: Weight of the cues that count, beside those of other views (docs/choosing.md).
VOTE = 0.05

#: All cues by name, in the order of every table.
CUES: dict[str, GanCue] = {}


def register_cue(cue: GanCue) -> None:
    """Add a cue to this view; models that are trained from now on have it."""
    CUES[cue.name] = cue


register_cue(
    GanCue(
        name="residual",
        meaning="Mean absolute difference of the image and its reconstruction G(E(x)).",
        higher="less like the picture that it is redrawn as",
        lower="more like the picture that it is redrawn as",
        noun="difference from the redrawn picture",
        odd_side="either",
        counts=False,
        compute=lambda p: residual(p.images, p.rebuilt),
    )
)
register_cue(
    GanCue(
        name="relative_residual",
        meaning="Fraction of the image's variance that its reconstruction leaves unexplained.",
        higher="harder to redraw from what is usual",
        lower="easier to redraw from what is usual",
        noun="redrawing",
        weight=VOTE,
        compute=lambda p: relative_residual(p.images, p.rebuilt),
    )
)
register_cue(
    GanCue(
        name="feature_distance",
        meaning="Mean absolute difference of D's 4x4 feature maps of the image and its reconstruction.",
        higher="less like the picture that it is redrawn as, in shape and texture,",
        lower="more like the picture that it is redrawn as, in shape and texture,",
        noun="difference from the redrawn picture in shape and texture",
        odd_side="either",
        counts=False,
        compute=lambda p: feature_distance(p.maps, p.rebuilt_maps),
    )
)
register_cue(
    GanCue(
        name="latent_norm",
        meaning="Euclidean length of the latent E(x).",
        higher="more extreme (to the network that redraws images)",
        lower="less extreme (to the network that redraws images)",
        noun="extremeness, to the network that redraws images",
        odd_side="either",
        counts=False,
        compute=lambda p: latent_norm(p.latents),
    )
)
register_cue(
    GanCue(
        name="latent_distance",
        meaning="Mahalanobis distance of the latent E(x) from the latents of generated images.",
        higher="less like the rest (to the network that redraws images)",
        lower="more like the rest (to the network that redraws images)",
        noun="look, to the network that redraws images",
        weight=VOTE,
        distance_of="latent",
    )
)
register_cue(
    GanCue(
        name="hidden_distance",
        meaning="Mahalanobis distance of D's last hidden layer from that of the training images.",
        higher="less like the rest (to the network that tells real images from made-up ones)",
        lower="more like the rest (to the network that tells real images from made-up ones)",
        noun="look, to the network that tells real images from made-up ones",
        weight=VOTE,
        distance_of="hidden",
    )
)
register_cue(
    GanCue(
        name="contrast",
        meaning="Standard deviation of the pixels.",
        higher="higher in contrast",
        lower="plainer (less contrast)",
        noun="contrast",
        odd_side="either",
        visible=True,
        retired=True,  # the view `pixels` has it
        compute=lambda p: contrast(p.images),
    )
)


@dataclass(frozen=True)
class Architecture:
    """The arguments that G is made with."""

    resolution: Annotated[int, Range(8, 512)]
    channels: Annotated[int, Range(1, 4096)]
    fmap_base: Annotated[int, Range(1, 1 << 20)]
    fmap_max: Annotated[int, Range(1, 1 << 14)]
    latent_size: Annotated[int, Range(1, 1 << 17)]


@dataclass(frozen=True)
class GanFacts:
    """What a model says of this view."""

    networks: Architecture
    lod: Annotated[float, Range(0, 7)]
    shrink: Annotated[int, Range(0, 7)] = 0  # not in models of format 5

    def __post_init__(self) -> None:
        most = log2_resolution(self.networks.resolution) - 2
        if self.lod > most:
            raise ValueError(f"lod is {self.lod}: it must be from 0 to {most}")


@register_view
class GanView(View):
    """The paper's detector: G, D and E at a level of detail, and the references of two distances.

    A batch always has the same number of images (the last is filled up), so that the kernels chosen,
    and with them the rounding of a score, do not depend on how many images there are.

    Args:
        networks: trained; on one device.
        architecture: the arguments that G was made with.
        lod: level of detail that the training ended with.
        references: Gaussians of ``FEATURES``; N(0, I) unless given.
        cues: names of the cues; all that are registered and not retired unless given.
        dtype: type of the convolutions; None: that of the weights.
        shrink: how often stored images are halved for the networks, before ``lod`` halves them further.
    """

    name = "gan"
    cues: tuple[GanCue, ...]

    def __init__(
        self,
        networks: ScoringNetworks,
        architecture: Mapping[str, Any],
        lod: float,
        references: Mapping[str, GaussianReference] | None = None,
        cues: Sequence[str] | None = None,
        dtype: torch.dtype | None = None,
        shrink: int = 0,
    ) -> None:
        self.networks = networks
        self.architecture = dict(architecture)
        self.lod = lod
        self.dtype = dtype
        self.shrink = shrink
        self.cues = tuple(
            cue for name, cue in CUES.items() if (not cue.retired if cues is None else name in cues)
        )
        self.device = next(networks.encoder.parameters()).device
        encoder, discriminator = networks.encoder, networks.discriminator
        self.references = {
            "latent": GaussianReference(encoder.latent_size),
            "hidden": GaussianReference(discriminator.outputs),
            **(references or {}),
        }
        for reference in self.references.values():
            reference.to(self.device)
        self.batch_size = self._images_a_batch()

    @classmethod
    def known_cues(cls) -> tuple[GanCue, ...]:
        """Return all cues that are registered."""
        return tuple(CUES.values())

    def _images_a_batch(self) -> int:
        """At least 2, as an image alone takes kernels that round otherwise."""
        encoder, level = self.networks.encoder, math.floor(self.lod)
        first = encoder.from_rgb[encoder.max_lod - level]
        assert isinstance(first, Conv2d)
        bytes_an_image = 4 * (encoder.resolution >> level) ** 2 * first.bias.numel()
        most = batch_size(self.device, CPU_BATCH, GPU_BATCH)
        room = CPU_BYTES if self.device.type == "cpu" else GPU_BYTES
        return max(2, min(most, room // bytes_an_image))

    # Looking

    def look(self, stored: Tensor) -> dict[str, Tensor]:
        """Measure all cues; see :meth:`View.look`."""
        p = self.passed(self.seen(stored))
        return {cue.name: self._value(cue, p) for cue in self.cues}

    def look_closely(self, stored: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Measure all cues, and maps of the residual and of D's feature differences."""
        p = self.passed(self.seen(stored))
        return {cue.name: self._value(cue, p) for cue in self.cues}, _heat(p)

    def features(self, images: Array) -> Array:
        """Return E's latents in units of their spread over generated images: float64 [N, latent]."""
        latents = [self.encoded(x).float().cpu() for x in self.batches(images)]
        # On the CPU, so that neighbors do not depend on the device.
        return self.references["latent"].whitened(torch.cat(latents)[: len(images)]).numpy()

    def explain(self, images: Array) -> Explanation:
        """Return reconstructions, and heat maps of the residual and of D's feature differences."""
        parts: list[tuple[Tensor, ...]] = []
        for x in self.batches(images):
            p = self.passed(x)
            signed = (x - p.rebuilt).mean(dim=1)
            parts.append((x, p.rebuilt, signed, *_heat(p).values()))
        seen, rebuilt, residuals, heat, features = [
            torch.cat(group)[: len(images)].float().cpu().numpy()
            for group in zip(*parts, strict=True)
        ]
        return Explanation(seen, rebuilt, residuals, {"residual": heat, "features": features})

    # Passes

    def batches(self, images: Array) -> Iterator[Tensor]:
        """Yield stored images as the networks see them, [n, C, r, r]; the last batch is filled up."""
        for part in filled_batches(images, self.batch_size):
            yield self.seen(torch.from_numpy(np.ascontiguousarray(part)).to(self.device))

    def seen(self, stored: Tensor) -> Tensor:
        """Return a batch of stored images as the networks see it: [n, C, R, R] -> [n, C, r, r]."""
        return process_reals(downsample(stored, self.shrink + math.floor(self.lod)), self.lod)

    def samples(self, count: int, latent_scale: float, seed: int) -> Iterator[Tensor]:
        """Yield generated images G(z), z = latent_scale * N(0, I), in batches: ``count`` or more in all."""
        generator, size = self.networks.generator, self.batch_size
        rng = torch.Generator().manual_seed(seed)
        whole = -(-count // size) * size
        latents = torch.randn((whole, generator.latent_size), generator=rng) * latent_scale
        for z in torch.split(latents, size):
            with torch.no_grad(), conv_precision(self.dtype), full_float32(self.device):
                images = generator(z.to(self.device), self.lod)
            yield images  # outside: what the caller does is not in this precision

    def measure_batches(
        self,
        batches: Iterable[Tensor],
        count: int,
        cues: Sequence[GanCue] | None = None,
        features: Sequence[str] = FEATURES,
    ) -> dict[str, Array]:
        """Measure cues and features of the first ``count`` images of some batches.

        Args:
            batches: images as the networks see them.
            cues: all of this view unless given.
            features: of ``FEATURES``.

        Returns:
            By name: cues, float64 [N]; features, float32 [N, D].
        """
        chosen = self.cues if cues is None else cues
        parts: dict[str, list[Tensor]] = {
            name: [] for name in [c.name for c in chosen] + [*features]
        }
        for x in batches:
            p = self.passed(x)
            for cue in chosen:
                parts[cue.name].append(self._value(cue, p))
            for name in features:
                parts[name].append(p.features[name].float().cpu())  # of a million images some GB
        return {
            name: torch.cat(values)[:count].cpu().numpy() if values else np.empty(0)
            for name, values in parts.items()
        }

    def _value(self, cue: GanCue, p: GanPass) -> Tensor:
        if cue.distance_of is not None:
            return self.references[cue.distance_of](p.features[cue.distance_of])
        assert cue.compute is not None
        return cue.compute(p)

    @torch.no_grad()
    def encoded(self, x: Tensor) -> Tensor:
        """Encode a batch, as the networks see it: E(x), [n, latent]."""
        with conv_precision(self.dtype), full_float32(self.device):
            return self.networks.encoder(x, self.lod)

    @torch.no_grad()
    def passed(self, x: Tensor) -> GanPass:
        """Pass a batch, as the networks see it, through E, G and D."""
        n = self.networks
        latents = self.encoded(x)
        with conv_precision(self.dtype), full_float32(self.device):
            rebuilt = n.generator(latents, self.lod)
            maps = n.discriminator.features(torch.cat([x, rebuilt]), self.lod)
            of_images, of_rebuilt = maps.view(2, -1, *maps.shape[1:])
            hidden = n.discriminator.head(of_images)
        return GanPass(x, rebuilt, latents, of_images, of_rebuilt, hidden)

    # Saving

    def tensors(self) -> dict[str, Tensor]:
        """Return parameters and statistics of networks and references, by name."""
        # References have the names that models of format 4 use.
        modules = self.networks.named() | {
            "latents": self.references["latent"],
            "hidden": self.references["hidden"],
        }
        return {
            f"{name}/{key}": value.detach().cpu().contiguous()
            for name, module in modules.items()
            for key, value in module.state_dict().items()
        }

    def facts(self) -> dict[str, Any]:
        """Return the architecture, the level of detail and how often images are halved."""
        return {"networks": self.architecture, "lod": self.lod, "shrink": self.shrink}

    @classmethod
    def load(
        cls,
        facts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        cues: Sequence[str],
        device: torch.device,
        precision: Precision,
    ) -> Self:
        """Rebuild the view; see :meth:`View.load`."""
        known = checked(GanFacts, facts, "facts")
        architecture = asdict(known.networks)
        trunk = {name: value for name, value in architecture.items() if name != "latent_size"}
        networks = ScoringNetworks(
            loaded(partial(Generator, **architecture), tensors, "generator/"),
            loaded(partial(Discriminator, **trunk), tensors, "discriminator/"),
            loaded(partial(Encoder, **architecture), tensors, "encoder/"),
        )
        sizes = {
            "latents": networks.encoder.latent_size,
            "hidden": networks.discriminator.outputs,
        }
        latent, hidden = (
            loaded(partial(GaussianReference, size), tensors, f"{name}/")
            for name, size in sizes.items()
        )
        for network in networks.named().values():
            network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        dtype = torch.bfloat16 if precision == "bfloat16" else None
        references = {"latent": latent, "hidden": hidden}
        return cls(networks, architecture, known.lod, references, cues, dtype, known.shrink)

    def check_input(self, channels: int, resolution: int) -> None:
        """Raise ValueError if the networks cannot look at such images."""
        check_networks_input(self.architecture, self.shrink, channels, resolution)


def _heat(p: GanPass) -> dict[str, Tensor]:
    difference = (p.maps.float() - p.rebuilt_maps.float()).abs().mean(dim=1, keepdim=True)
    side = p.images.shape[-1]
    maps = F.interpolate(difference, side, mode="bilinear", align_corners=False)
    return {"residual": residual_heat(p.images - p.rebuilt), "features": maps[:, 0]}


def residual_heat(difference: Tensor) -> Tensor:
    """Root mean square over channels and scales of a residual: [N, C, r, r] -> [N, r, r].

    A coarser residual has less noise in it, and is scaled up to weigh as much as the finest.
    """

    def energy(x: Tensor) -> Tensor:
        return x.square().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)

    squares = []
    for share in SCALES:
        smooth = gaussian_blur(difference, share * difference.shape[-1])
        gain = energy(difference) / energy(smooth)
        squares.append((smooth.square() * gain).mean(dim=1))
    return torch.stack(squares).mean(dim=0).sqrt()


def gaussian_blur(images: Tensor, deviation: float) -> Tensor:
    """Blur by a Gaussian of a standard deviation in pixels; edges are replicated. [N, C, H, W]."""
    if deviation < 0.3:
        return images
    reach = int(3 * deviation + 0.5)
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (places / deviation) ** 2)
    kernel = kernel / kernel.sum()
    channels = images.shape[1]
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
