"""What an iteration has to compute, so that a log can say how near it comes to the machine."""

from __future__ import annotations

from anowild.networks import Discriminator, Encoder, Generator
from anowild.networks.growth import split_lod
from anowild.settings import Settings
from anowild.training.losses import penalized
from anowild.training.step import Networks


def flops_per_image(networks: Networks, settings: Settings, lod: float, minibatch: int) -> float:
    """Floating-point operations of convolutions and dense layers, for each real image.

    Two for each multiplication and addition; a resampling convolution counts with its 3x3 kernel
    at the coarser size. What works element by element, or updates parameters, is left out.
    """
    s = settings
    g = forward(networks.generator, lod)
    d = forward(networks.discriminator, lod)
    # D: two passes forward; back for each by features and by weights. The penalty: forward, the
    # gradient by the image, what that depends on (by features and by weights), and back through
    # minibatch stddev (by features and by weights).
    work = 6 * d + 6 * d * penalized(minibatch, s.penalty_share) / minibatch
    # G: forward and back by features and weights. Against a new D: through it and back.
    work += 3 * g + (0 if s.simultaneous else 2 * d)
    own_fakes = not (s.shared_fakes or s.simultaneous)
    work += g if own_fakes else 0
    if s.encoder == "joint":
        # E, and images of its own.
        work += _through_encoder(networks, settings, lod) + (g if own_fakes else 0)
    return work


def encoder_flops_per_image(networks: Networks, settings: Settings, lod: float) -> float:
    """The same for the second part of a sequential run."""
    return _through_encoder(networks, settings, lod) + forward(networks.generator, lod)


def _through_encoder(networks: Networks, settings: Settings, lod: float) -> float:
    """E forward and back, through G and back; for generated images, and real ones where asked."""
    once = 3 * forward(networks.encoder, lod) + 2 * forward(networks.generator, lod)
    return once * (2 if settings.encoder_reals else 1)


def forward(network: Generator | Discriminator | Encoder, lod: float) -> float:
    """Floating-point operations of one image's way through a network at a level of detail."""
    level, coarser = split_lod(lod, network.max_lod)
    top = network.max_lod - level
    multiplied = 0
    for name, parameter in network.named_parameters():
        if not name.endswith("weight"):
            continue
        part, _, rest = name.partition(".")
        stage, _, layer = rest.partition(".")
        if part in ("to_rgb", "from_rgb"):
            if int(stage) == top or (int(stage) == top - 1 and coarser > 0):
                multiplied += parameter.numel() * (4 << int(stage)) ** 2
        elif part == "blocks":
            # blocks[0] leads between 4x4 and 8x8.
            fine = 8 << int(stage)
            if int(stage) < top:
                side = fine // 2 if layer.startswith(("conv0_up", "conv1_down")) else fine
                multiplied += parameter.numel() * side**2
        else:  # the 4x4 block: a convolution, and dense layers
            multiplied += parameter.numel() * (16 if part == "conv" else 1)
    return 2.0 * multiplied
