"""The losses of D, G and E.

D and G: WGAN-GP (Gulrajani et al. 2017) with the drift term of Karras et al. 2018 (A.1). E: the mean
absolute error of G(E(x)). Images are [N, C, r, r], of the size of level ``floor(lod)``; latents are
[N, latent].
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


class Interpolated(NamedTuple):
    """Scores and gradient norms of D at the images of the gradient penalty, both [penalized]."""

    scores: Tensor
    norms: Tensor


class DiscriminatorLoss(NamedTuple):
    """D's loss, a scalar, and the scores and gradient norms that it consists of."""

    loss: Tensor
    real_scores: Tensor  # [N]
    fake_scores: Tensor  # [N]
    interpolated: Interpolated


def discriminator_loss(
    discriminator: Discriminator,
    reals: Tensor,
    fakes: Tensor,
    alpha: Tensor,
    lod: float,
    *,
    penalty: float = 10.0,
    target: float = 1.0,
    drift: float = 0.001,
    share: float = 1.0,
    r1: bool = False,
) -> DiscriminatorLoss:
    """Compute D's loss, with x = real + (fake - real) * alpha.

    loss = mean(D(fake) - D(real)) + drift * mean(D(real)^2)
    + penalty / target^2 * mean((|grad D(x)| - target)^2)

    Args:
        discriminator: D.
        reals: training images.
        fakes: as many generated images.
        alpha: [N, 1, 1, 1] in [0, 1].
        lod: level of detail.
        penalty: weight of the gradient penalty.
        target: norm that the gradient should have.
        drift: weight of the squared real scores.
        share: share of the minibatch to compute the penalty on, rounded up to whole groups of
            minibatch stddev. The penalty is a mean, so its weight stays the same.
        r1: use the penalty of Mescheder et al. 2018 (eq. 9) instead,
            penalty / 2 * mean(|grad D(real)|^2), without ``alpha`` and ``target``.
    """
    scores = discriminator(torch.cat([reals, fakes]), lod, parts=2).squeeze(1)
    real_scores, fake_scores = scores.chunk(2)
    loss = (fake_scores - real_scores).mean() + real_scores.square().mean() * drift
    count = penalized_count(len(reals), share)
    if r1:
        points = _scores_and_gradient_norms(discriminator, reals[:count], lod)
        loss = loss + points.norms.square().mean() * (penalty / 2)
    else:
        between = reals[:count] + (fakes[:count].detach() - reals[:count]) * alpha[:count]
        points = _scores_and_gradient_norms(discriminator, between, lod)
        loss = loss + (points.norms - target).square().mean() * (penalty / target**2)
    return DiscriminatorLoss(loss, real_scores, fake_scores, points)


def penalized_count(count: int, share: float) -> int:
    """Return how many images of a minibatch of ``count`` the gradient penalty is computed on."""
    groups = math.ceil(count * share / MinibatchStddev.GROUP)
    return min(count, groups * MinibatchStddev.GROUP)


def _scores_and_gradient_norms(
    discriminator: Discriminator, images: Tensor, lod: float
) -> Interpolated:
    images = images.detach().requires_grad_(True)
    scores = discriminator(images, lod).squeeze(1)
    with skip_weight_gradients():
        (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    # The reference takes the gradient with respect to the full-size image. There each of our pixels
    # stands 4^level times, with 4^-level of the gradient: the norm is smaller by a factor of 2^level.
    level, _ = split_lod(lod, discriminator.max_lod)
    return Interpolated(scores, gradient.square().sum(dim=(1, 2, 3)).sqrt() / 2**level)


def generator_loss(discriminator: Discriminator, fakes: Tensor, lod: float) -> Tensor:
    """Compute G's loss -D(fake) of each image: [N]."""
    return -discriminator(fakes, lod).squeeze(1)


def encoder_loss(generator: Generator, encoder: Encoder, images: Tensor, lod: float) -> Tensor:
    """Compute E's loss mean |x - G(E(x))| over images and pixels; the paper uses x = G(z) alone."""
    return (images - generator(encoder(images, lod), lod)).abs().mean()


@torch.no_grad()
def rank_by_reconstruction_error(
    generator: Generator, encoder: Encoder, images: Tensor, lod: float
) -> Tensor:
    """Return the indices of the images by decreasing mean squared error of G(E(x)): int64 [N]."""
    difference = images - generator(encoder(images, lod), lod)
    return difference.square().mean(dim=(1, 2, 3)).argsort(descending=True, stable=True)
