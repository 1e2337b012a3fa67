"""What any score has to beat: simple detectors on raw pixels, trained on the same images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

Array = np.ndarray[Any, Any]


def _flat(images: Array) -> Array:
    return images.reshape(len(images), -1).astype(np.float32) / 127.5 - 1.0


def pca_residual(training: Array, images: Array, variance: float = 0.9, seed: int = 0) -> Array:
    """Mean squared error of rebuilding from the principal components that hold ``variance``."""
    pca = PCA(n_components=variance, svd_solver="full", random_state=seed).fit(_flat(training))
    x = _flat(images)
    rebuilt = pca.inverse_transform(pca.transform(x))
    return np.asarray(np.square(x - rebuilt).mean(axis=1))


def nearest_neighbours(training: Array, images: Array, k: int = 5) -> Array:
    """Mean Euclidean distance to the ``k`` nearest training images."""
    index = NearestNeighbors(n_neighbors=min(k, len(training))).fit(_flat(training))
    distances, _ = index.kneighbors(_flat(images))
    return np.asarray(distances.mean(axis=1))


def low_contrast(training: Array, images: Array) -> Array:
    """Minus the standard deviation of the pixels: no learning at all."""
    return -_flat(images).std(axis=1)


def brightness(training: Array, images: Array) -> Array:
    """The mean of the pixels: no learning at all."""
    return _flat(images).mean(axis=1)


#: Baselines by name: (training images, images), each uint8 [N, C, R, R] -> [N], higher is odder.
BASELINES: dict[str, Callable[[Array, Array], Array]] = {
    "PCA reconstruction, pixels": pca_residual,
    "5 nearest neighbours, pixels": nearest_neighbours,
    "low contrast": low_contrast,
    "brightness": brightness,
}
