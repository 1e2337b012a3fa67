"""A cache of everything that could be a cue of the view `gan`, so that fusion rules are compared offline.

It holds what trained networks say of three groups of images: the training set, the test set and generated
images. Rules are compared on caches, without training again.
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
from anowild.files import DAMAGED_ZIP, atomic_write
from anowild.training.gan import SAMPLES
from anowild.views.gan import CUES, FEATURES, GanPass, GanView, latent_norm
from anowild.views.gaussian import GaussianReference

#: By name, float64 [N]; of features, float32 [N, D].
CueArrays = dict[str, Array]

GROUPS = ("training", "test", "samples")
#: Cues that were tried besides those that a detector computes.
CANDIDATE_CUES = (
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


def make(
    view: GanView, training: Array, test: Array, latent_scale: float, seed: int
) -> dict[str, CueArrays]:
    """Measure the three groups; training and test images are preprocessed, [N, C, R, R]."""
    groups = {
        "training": _measure(view, view.batches(training), len(training)),
        "test": _measure(view, view.batches(test), len(test)),
        "samples": _measure(view, view.samples(SAMPLES, latent_scale, seed), SAMPLES),
    }
    for feature in FEATURES:
        for reference, suffix in (("training", "_training"), ("samples", "_samples")):
            gaussian = GaussianReference.fit(groups[reference][feature])
            # The two that a detector computes go by their plain names.
            name = f"{feature}_distance{suffix}"
            name = {"latent_distance_samples": "latent_distance"}.get(name, name)
            name = {"hidden_distance_training": "hidden_distance"}.get(name, name)
            for group in groups.values():
                group[name] = gaussian(torch.from_numpy(group[feature])).numpy()
        index = NearestNeighbors().fit(groups["training"][feature])
        for name, group in groups.items():
            distances = _neighbors(index, group[feature], own=name == "training")
            group[f"{feature}_neighbors"] = distances
    return groups


def _measure(view: GanView, batches: Iterable[Tensor], count: int) -> CueArrays:
    parts: dict[str, list[Array]] = {}
    for x in batches:
        measured: dict[str, Array] = view.measure_batches([x], len(x))
        candidates = _candidates(view, view.passed(x))
        measured |= {name: values.cpu().numpy() for name, values in candidates.items()}
        for name, values in measured.items():
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values)[:count] for name, values in parts.items()}


@torch.no_grad()
def _candidates(view: GanView, p: GanPass) -> dict[str, Tensor]:
    """Compute cues that a detector does not have, each [N]."""
    again = view.encoded(p.rebuilt)
    scores = view.networks.discriminator.dense1(p.hidden)
    difference = p.images - p.rebuilt
    coarse = F.avg_pool2d(difference, min(4, difference.shape[-1]))
    latents = p.latents
    return {
        "squared_residual": difference.double().square().mean(dim=(1, 2, 3)),
        "structure": structure(p.images, p.rebuilt),
        "coarse_residual": coarse.double().square().mean(dim=(1, 2, 3)),
        # With the squared residual, f-AnoGAN's score (Schlegl et al. 2019).
        "squared_features": (p.maps - p.rebuilt_maps).double().square().mean(dim=(1, 2, 3)),
        # GANomaly's score (Akcay et al. 2018), and the same without the lengths, which G ignores.
        "latent_cycle": latent_norm(latents - again),
        "latent_turn": 1 - F.cosine_similarity(latents.double(), again.double(), dim=1),
        "critic": -scores.double().squeeze(1),
    }


def structure(images: Tensor, rebuilt: Tensor) -> Tensor:
    """1 - SSIM (Wang et al. 2004) with a flat window of 5x5, over pixels and channels: [N, C, H, W] -> [N].

    0 for equal images, at most 2; images in [-1, 1].
    """
    x, y = images.double(), rebuilt.double()

    def mean(image: Tensor) -> Tensor:
        return F.avg_pool2d(image, min(5, x.shape[-1]), stride=1)

    mean_x, mean_y = mean(x), mean(y)
    variances = mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    return 1 - similarity.mean(dim=(1, 2, 3))


def _neighbors(index: NearestNeighbors, features: Array, own: bool) -> Array:
    """Return the mean distance to the 5 nearest training images, not counting the image itself."""
    distances, _ = index.kneighbors(features, 5 + own)
    return np.asarray(distances[:, int(own) :].mean(axis=1), np.float64)


def cues(cache: dict[str, CueArrays]) -> list[str]:
    """Return the names of all cues in a cache."""
    return [name for name in (*CUES, *CANDIDATE_CUES) if name in cache["training"]]


def save(path: Path, cache: dict[str, CueArrays]) -> None:
    """Write a cache as .npz with keys ``group/name``, in float32.

    Raises:
        UserError: the disk is full, or the place cannot be written.
    """
    arrays = {
        f"{g}/{n}": a.astype(np.float32) for g, group in cache.items() for n, a in group.items()
    }
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> dict[str, CueArrays]:
    """Read a cache.

    Raises:
        UserError: the file is no cache of cues.
    """
    cache: dict[str, CueArrays] = {group: {} for group in GROUPS}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                group, _, name = key.partition("/")
                name = name.replace("_neighbours", "_neighbors")  # as earlier versions wrote it
                cache[group][name] = arrays[key].astype(np.float64)
    except (OSError, ValueError, KeyError, TypeError, *DAMAGED_ZIP) as error:
        raise UserError(
            f"{path}: is no cache of cues, or is damaged ({error}); delete the trial's result.json beside it, and run the "
            "study again: what was trained stays"
        ) from error
    return cache
