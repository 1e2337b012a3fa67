"""The fitting of the view `pixels`: a reference of the descriptors, and principal components."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.networks.inputs import to_unit
from anowild.settings import Settings
from anowild.training.by_parts import by_parts
from anowild.training.fitting import FittedView
from anowild.training.references import chosen_for_fitting, cross_fitted, fit_trimmed
from anowild.views.batches import batch_size, by_batches
from anowild.views.pixels import (
    CPU_BATCH,
    GPU_BATCH,
    PixelsView,
    coarse,
    descriptors,
    pca_residual,
)

#: Share of the variance that the principal components explain, and of the images that they are fitted
#: to: the best rebuilt.
EXPLAINED, KEPT = 0.9, 0.8


def fit(images: ImageSet, settings: Settings, folder: Path, device: torch.device) -> FittedView:
    """Fit the references in seconds; see `fitting.Fit`."""
    started = time.perf_counter()
    chosen = chosen_for_fitting(len(images), settings.seed)
    size = batch_size(device, CPU_BATCH, GPU_BATCH)

    def describe(part: Array) -> dict[str, Array]:
        return by_batches(
            part, size, device,
            lambda stored: {"descriptors": descriptors(x := to_unit(stored)), "coarse": coarse(x)},
        )  # fmt: skip

    found = by_parts("describing pixels, images", images.images, chosen, describe)
    groups = images.groups[chosen]
    reference, distances = fit_trimmed(found["descriptors"], settings.seed, groups)
    rows = found["coarse"].astype(np.float64)
    center, components = trimmed_components(rows)
    residuals = cross_fitted(rows, settings.seed, _components_residual, groups)
    view = PixelsView(reference.mean, reference.whitening, center, components, device)
    cues = by_parts("measuring pixels, images", images.images, np.arange(len(images)), view.measure)
    cues["descriptors"][chosen] = distances
    cues["pca_residual"][chosen] = residuals
    return FittedView(view, {"seconds": round(time.perf_counter() - started, 1)}, cues)


def trimmed_components(rows: Array) -> tuple[Tensor, Tensor]:
    """Return center [P] and principal components [K, P] of the rows [N, P] that they rebuild best."""
    kept = rows
    for round_ in range(3):
        center = kept.mean(axis=0)
        covariance = np.cov(kept, rowvar=False, bias=True)
        values, axes = np.linalg.eigh(covariance)
        shares = np.cumsum(values[::-1]) / max(values.sum(), 1e-12)
        count = 1 + int(np.searchsorted(shares, EXPLAINED))
        found = torch.from_numpy(center), torch.from_numpy(axes[:, ::-1][:, :count].T.copy())
        if round_ < 2:
            left = pca_residual(torch.from_numpy(rows), *found).numpy()
            kept = rows[np.argsort(left, kind="stable")[: max(2, round(KEPT * len(rows)))]]
    return found


def _components_residual(rows: Array) -> Callable[[Array], Array]:
    center, components = trimmed_components(rows)
    return lambda others: pca_residual(torch.from_numpy(others), center, components).numpy()
