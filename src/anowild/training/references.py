"""References fitted to training images, and cues of those images that are not fitted to themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from anowild.arrays import Array
from anowild.views.gaussian import GaussianReference

#: Training images that a reference is fitted to, at most.
MOST_FITTED = 20_000
#: Parts that training images are split into; each is measured against references fitted to the others.
FOLDS = 5


def chosen_for_fitting(count: int, seed: int) -> Array:
    """Return the numbers of the training images that references are fitted to: all, or at random."""
    if count <= MOST_FITTED:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:MOST_FITTED])


def folds_of(groups: Array, seed: int) -> Array:
    """Deal out rows in folds, all rows of a group in the same one; a single group is divided: int [N]."""
    names, places = np.unique(groups, return_inverse=True)
    if len(names) == 1:
        places = np.arange(len(groups))
    count = int(places.max()) + 1
    folds: Array = np.random.default_rng(seed).permutation(count) % min(FOLDS, count)
    return folds[places]


def cross_fitted(
    features: Array, seed: int, fit: Callable[[Array], Callable[[Array], Array]], groups: Array
) -> Array:
    """Measure each row by what was fitted to the other folds: [N, D] -> [N].

    Args:
        features: of the training images, or of their tiles.
        seed: of the folds.
        fit: features [n, D] -> a function from features [m, D] to values [m].
        groups: number of the image that each row is of, int [N].
    """
    if len(features) == 1:  # a single row has no others
        return fit(features)(features)
    folds = folds_of(groups, seed)
    found = np.empty(len(features))
    for fold in np.unique(folds):
        inside = folds == fold
        found[inside] = fit(features[~inside])(features[inside])
    return found


def fit_trimmed(features: Array, seed: int, groups: Array) -> tuple[GaussianReference, Array]:
    """Fit a trimmed reference to features [N, D]; also return the distances of the rows, cross-fitted.

    ``groups`` as for :func:`cross_fitted`.
    """

    def fit(rows: Array) -> Callable[[Array], Array]:
        reference = GaussianReference.fit_trimmed(rows)
        return lambda others: reference(torch.from_numpy(others)).numpy()

    return GaussianReference.fit_trimmed(features), cross_fitted(features, seed, fit, groups)
