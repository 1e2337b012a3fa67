"""Floating-point operations (FLOPs) of training, for the share of peak in the log."""

from __future__ import annotations

from anowild.networks import Discriminator, Encoder, Generator
from anowild.networks.growth import split_lod
from anowild.settings import Settings
from anowild.training.losses import penalized_count
from anowild.training.networks import Networks


def flops_per_image(networks: Networks, settings: Settings, lod: float, minibatch: int) -> float:
    """Count the FLOPs of an iteration for each real image, in convolutions and dense layers.

    A multiplication with its addition counts as two. A resampling convolution counts with its 3x3 kernel
    at the coarser size. Elementwise operations and updates of parameters do not count.

    Args:
        networks: of the run.
        settings: of the run.
        lod: level of detail.
        minibatch: number of real images in an iteration.
    """
    s = settings
    g = forward_flops(networks.generator, lod)
    d = forward_flops(networks.discriminator, lod)
    # D: two forward passes, each with gradients of features and of weights. The penalty: a forward
    # pass, the gradient of the image, its derivatives by features and by weights, and a backward pass
    # through minibatch stddev, for features and for weights.
    work = 6 * d + 6 * d * penalized_count(minibatch, s.penalty_share) / minibatch
    # G: a forward pass, with gradients of features and of weights. Against the new D: through it and back.
    work += 3 * g + (0 if s.simultaneous else 2 * d)
    own_fakes = not (s.shared_fakes or s.simultaneous)
    work += g if own_fakes else 0
    if s.encoder == "joint":
        # E, and newly generated images for it.
        work += _through_encoder(networks, settings, lod) + (g if own_fakes else 0)
    return work


def encoder_flops_per_image(networks: Networks, settings: Settings, lod: float) -> float:
    """Count as :func:`flops_per_image` does, for the second part of sequential training."""
    return _through_encoder(networks, settings, lod) + forward_flops(networks.generator, lod)


def _through_encoder(networks: Networks, settings: Settings, lod: float) -> float:
    # E forward and back, through G and back, for generated images and, with `encoder_reals`, real ones.
    once = 3 * forward_flops(networks.encoder, lod) + 2 * forward_flops(networks.generator, lod)
    return once * (2 if settings.encoder_reals else 1)


def forward_flops(network: Generator | Discriminator | Encoder, lod: float) -> float:
    """Count the FLOPs of one image's forward pass through a network at a level of detail."""
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
