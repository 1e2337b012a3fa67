"""AnoGAN's score (Schlegl et al. 2017): how near G comes to an image when its latent is searched for."""

from __future__ import annotations

import numpy as np
import torch

from anowild.arrays import Array
from anowild.settings import Settings
from anowild.views.gan import GanView

#: Share of D's features in loss and score, and the step of the search: theirs.
FEATURE_SHARE, LEARNING_RATE = 0.1, 0.01


def search(view: GanView, images: Array, steps: int, settings: Settings) -> Array:
    """Descend from random latents to the images, and return the remaining losses, float64 [N].

    Args:
        images: stored ones, [N, C, R, R].
        steps: of Adam, from a latent of the size that G knows.
    """
    g, d, lod = view.networks.generator, view.networks.discriminator, view.lod
    rng = torch.Generator().manual_seed(settings.seed)
    # For derivatives of the networks' own; neither G nor D's features depend on the rest of a batch.
    g.train()
    d.train()
    found = []
    for x in view.batches(images):
        start = torch.randn((len(x), g.latent_size), generator=rng) * settings.latent_scale
        latents = start.to(x.device).requires_grad_(True)
        adam = torch.optim.Adam([latents], lr=LEARNING_RATE * settings.latent_scale / 0.1)
        with torch.no_grad():
            wanted = d.features(x, lod)
        loss = torch.zeros(len(x))
        for _ in range(steps + 1):
            rebuilt = g(latents, lod)
            residual = (x - rebuilt).abs().mean(dim=(1, 2, 3))
            features = (wanted - d.features(rebuilt, lod)).abs().mean(dim=(1, 2, 3))
            loss = (1 - FEATURE_SHARE) * residual + FEATURE_SHARE * features
            (gradient,) = torch.autograd.grad(loss.sum(), latents)
            latents.grad = gradient
            adam.step()
        found.append(loss.detach().double().cpu().numpy())
    g.eval()
    d.eval()
    return np.concatenate(found)[: len(images)]
