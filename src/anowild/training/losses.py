"""The three losses (WGAN-GP, Gulrajani et al. 2017; drift, Karras et al. 2018, A.1; the encoder's).

Images are [N, C, r, r], of the size of the level of detail ``lod``; latents [N, latent].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from anowild.networks import Discriminator, Encoder, Generator
from anowild.networks.growth import split_lod
from anowild.networks.layers import MinibatchStddev
from anowild.networks.operators import skip_weight_gradients


class DiscriminatorLoss(NamedTuple):
    """D's loss, a scalar, and what it is made of, each [N]; for the mixed images a share of that."""

    loss: Tensor
    real_scores: Tensor
    fake_scores: Tensor
    mixed: Mixed


class Mixed(NamedTuple):
    """D's scores where its gradient is penalized, and that gradient's length: [N]."""

    scores: Tensor
    norms: Tensor


def discriminator_loss(
    discriminator: Discriminator,
    reals: Tensor,
    fakes: Tensor,
    mix: Tensor,
    lod: float,
    *,
    penalty: float = 10.0,
    target: float = 1.0,
    drift: float = 0.001,
    share: float = 1.0,
    r1: bool = False,
) -> DiscriminatorLoss:
    """mean(D(fake) - D(real)) + penalty * mean((|grad D(mixed)| - target)^2) + drift * mean(D(real)^2).

    Args:
        mix: [N, 1, 1, 1] in [0, 1], the share of the fake in each mixed image.
        penalty, target: the reference divides the penalty by the square of the target.
        r1: the penalty is penalty / 2 * mean(|grad D(real)|^2) instead (Mescheder et al. 2018,
            eq. 9), and neither ``mix`` nor ``target`` counts.
        share: of the minibatch whose mixed images are looked at, rounded up to whole groups of
            minibatch stddev. The penalty's mean, and so its weight, stay what they are.
    """
    scores = discriminator(torch.cat([reals, fakes]), lod, parts=2).squeeze(1)
    real_scores, fake_scores = scores.chunk(2)
    loss = (fake_scores - real_scores).mean() + real_scores.square().mean() * drift
    count = penalized(len(reals), share)
    if r1:
        mixed = _sloped(discriminator, reals[:count], lod)
        loss = loss + mixed.norms.square().mean() * (penalty / 2)
    else:
        between = reals[:count] + (fakes[:count].detach() - reals[:count]) * mix[:count]
        mixed = _sloped(discriminator, between, lod)
        loss = loss + (mixed.norms - target).square().mean() * (penalty / target**2)
    return DiscriminatorLoss(loss, real_scores, fake_scores, mixed)


def penalized(count: int, share: float) -> int:
    """How many images of a minibatch the gradient penalty looks at."""
    groups = math.ceil(count * share / MinibatchStddev.GROUP)
    return min(count, groups * MinibatchStddev.GROUP)


def _sloped(discriminator: Discriminator, images: Tensor, lod: float) -> Mixed:
    images = images.detach().requires_grad_(True)
    scores = discriminator(images, lod).squeeze(1)
    with skip_weight_gradients():
        (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    # The reference differentiates by the full-size image, where each of our pixels stands
    # 4^level times and has 4^-level of the gradient: the norm is smaller by 2^level.
    level, _ = split_lod(lod, discriminator.max_lod)
    return Mixed(scores, gradient.square().sum(dim=(1, 2, 3)).sqrt() / 2**level)


def generator_loss(discriminator: Discriminator, fakes: Tensor, lod: float) -> Tensor:
    """-D(fake) of each image: [N]."""
    return -discriminator(fakes, lod).squeeze(1)


def encoder_loss(generator: Generator, encoder: Encoder, images: Tensor, lod: float) -> Tensor:
    """mean |x - G(E(x))| over batch and pixels, a scalar; in the paper of images x = G(z) alone."""
    return (images - generator(encoder(images, lod), lod)).abs().mean()


@torch.no_grad()
def worst_rebuilt(generator: Generator, encoder: Encoder, images: Tensor, lod: float) -> Tensor:
    """Numbers of the images by falling mean squared difference from G(E(x)): int64 [N]."""
    difference = images - generator(encoder(images, lod), lod)
    return difference.square().mean(dim=(1, 2, 3)).argsort(descending=True, stable=True)
