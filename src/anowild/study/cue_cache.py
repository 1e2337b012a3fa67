"""Everything that could be a cue, measured of every image once, so that rules are compared offline.

A bank holds what trained networks say of three groups of images: the training set, the test set
and G's own samples. Which of it makes a score is decided on banks, without training again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional as F

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.files import atomic_write
from anowild.networks.operators import conv_precision
from anowild.scoring.cues import CUES, FEATURES, CueComputer, GaussianReference, latent_norm

#: By name, float64 [N]; of features, float32 [N, D].
Group = dict[str, Array]

GROUPS = ("training", "test", "samples")
#: Cues that were tried besides those that a detector computes.
TRIED = (
    "squared_residual",
    "structure",
    "coarse_residual",
    "squared_features",
    "latent_cycle",
    "latent_turn",
    "critic",
    "latent_distance_training",
    "hidden_distance_samples",
    "latent_neighbors",
    "hidden_neighbors",
)
SAMPLES = 2048


def make(
    computer: CueComputer, training: Array, test: Array, latent_scale: float, seed: int
) -> dict[str, Group]:
    """A bank by group; images are stored ones, [N, C, R, R]."""
    bank = {
        "training": _measured(computer, computer.passes(training), len(training)),
        "test": _measured(computer, computer.passes(test), len(test)),
        "samples": _measured(computer, computer.samples(SAMPLES, latent_scale, seed), SAMPLES),
    }
    for feature in FEATURES:
        for reference, suffix in (("training", "_training"), ("samples", "_samples")):
            usual = GaussianReference.fit(bank[reference][feature])
            # The two that a detector computes go by their plain names.
            name = f"{feature}_distance{suffix}"
            name = {"latent_distance_samples": "latent_distance"}.get(name, name)
            name = {"hidden_distance_training": "hidden_distance"}.get(name, name)
            for group in bank.values():
                group[name] = usual(torch.from_numpy(group[feature])).numpy()
        index = NearestNeighbors().fit(bank["training"][feature])
        for name, group in bank.items():
            distances = _neighbors(index, group[feature], own=name == "training")
            group[f"{feature}_neighbors"] = distances
    return bank


def _measured(computer: CueComputer, passes: Iterable[Tensor], count: int) -> Group:
    parts: dict[str, list[Array]] = {}
    for x in passes:
        for name, values in (computer.measure(x) | _tried(computer, x)).items():
            parts.setdefault(name, []).append(values.cpu().numpy())
    return {name: np.concatenate(values)[:count] for name, values in parts.items()}


@torch.no_grad()
def _tried(computer: CueComputer, x: Tensor) -> dict[str, Tensor]:
    """Cues that a detector does not compute, each [N]."""
    latents, rebuilt = computer.rebuilt(x)
    again, _ = computer.rebuilt(rebuilt)
    d, lod = computer.discriminator, computer.lod
    with conv_precision(computer.dtype):
        features = d.features(torch.cat([x, rebuilt]), lod)
        scores = d.dense1(d.head(features[: len(x)]))
    maps, rebuilt_maps = features.chunk(2)
    squared = (x - rebuilt).double().square().mean(dim=(1, 2, 3))
    coarse = F.avg_pool2d(x - rebuilt, min(4, x.shape[-1]))
    return {
        "squared_residual": squared,
        "structure": structure(x, rebuilt),
        "coarse_residual": coarse.double().square().mean(dim=(1, 2, 3)),
        # With the squared residual, f-AnoGAN's score (Schlegl et al. 2019).
        "squared_features": (maps - rebuilt_maps).double().square().mean(dim=(1, 2, 3)),
        # GANomaly's score (Akcay et al. 2018), and the same without the lengths, which G ignores.
        "latent_cycle": latent_norm(latents - again),
        "latent_turn": 1 - F.cosine_similarity(latents.double(), again.double(), dim=1),
        "critic": -scores.double().squeeze(1),
    }


def structure(images: Tensor, rebuilt: Tensor, window: int = 5) -> Tensor:
    """1 - SSIM (Wang et al. 2004) with a flat window, over pixels and channels: [N, C, H, W] -> [N].

    0 for equal images, at most 2; images in [-1, 1].
    """
    x, y = images.double(), rebuilt.double()

    def mean(image: Tensor) -> Tensor:
        return F.avg_pool2d(image, min(window, x.shape[-1]), stride=1)

    mean_x, mean_y = mean(x), mean(y)
    variances = mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    return 1 - similarity.mean(dim=(1, 2, 3))


def _neighbors(index: NearestNeighbors, features: Array, own: bool, k: int = 5) -> Array:
    """Mean distance to the ``k`` nearest training images, not counting the image itself."""
    distances, _ = index.kneighbors(features, k + own)
    return np.asarray(distances[:, int(own) :].mean(axis=1), np.float64)


def cues(bank: dict[str, Group]) -> list[str]:
    """The names of all cues in it."""
    return [name for name in (*CUES, *TRIED) if name in bank["training"]]


def save(path: Path, bank: dict[str, Group]) -> None:
    """As .npz with keys ``group/name``, in float32.

    Raises:
        UserError: the disk is full, or the place cannot be written.
    """
    arrays = {
        f"{g}/{n}": a.astype(np.float32) for g, group in bank.items() for n, a in group.items()
    }
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> dict[str, Group]:
    """Raises UserError if it is no bank."""
    bank: dict[str, Group] = {group: {} for group in GROUPS}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                group, _, name = key.partition("/")
                bank[group][name] = arrays[key].astype(np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: is no bank of cues ({error})") from error
    return bank
