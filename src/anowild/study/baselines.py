"""What any score has to beat: other detectors on raw pixels, trained on the same images.

All take uint8 images [N, C, R, R] to train on, images to score, and a seed, and give [N], higher is
odder. None is told how many anomalies there are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from anowild.arrays import Array

#: Of PyOD's deep detectors, which have no default that suits all sizes.
EPOCHS = 30


def flat(images: Array) -> Array:
    """Images as rows in [-1, 1]: float32 [N, D]. Features [N, D] stay as they are."""
    if images.dtype != np.uint8:
        return images.reshape(len(images), -1).astype(np.float32)
    return images.reshape(len(images), -1).astype(np.float32) / 127.5 - 1.0


def pca_residual(training: Array, images: Array, seed: int = 0, variance: float = 0.9) -> Array:
    """Mean squared error of rebuilding from the principal components that hold ``variance``."""
    pca = PCA(n_components=variance, svd_solver="full", random_state=seed).fit(flat(training))
    x = flat(images)
    rebuilt = pca.inverse_transform(pca.transform(x))
    return np.asarray(np.square(x - rebuilt).mean(axis=1))


def nearest_neighbors(training: Array, images: Array, seed: int = 0, k: int = 5) -> Array:
    """Mean Euclidean distance to the ``k`` nearest training images."""
    del seed
    index = NearestNeighbors(n_neighbors=min(k, len(training))).fit(flat(training))
    distances, _ = index.kneighbors(flat(images))
    return np.asarray(distances.mean(axis=1))


def isolation_forest(training: Array, images: Array, seed: int = 0) -> Array:
    """How few random cuts set an image apart (Liu et al. 2008)."""
    forest = IsolationForest(random_state=seed).fit(flat(training))
    return -np.asarray(forest.score_samples(flat(images)))


def ecod(training: Array, images: Array, seed: int = 0) -> Array:
    """Sums of log tail probabilities, one dimension at a time (Li et al. 2022)."""
    del seed
    from pyod.models.ecod import ECOD

    return np.asarray(ECOD().fit(_varying(training)).decision_function(_varying(training, images)))


def deep_svdd(training: Array, images: Array, seed: int = 0) -> Array:
    """Distance from the center that a network learns to map everything to (Ruff et al. 2018)."""
    from pyod.models.deep_svdd import DeepSVDD

    x = flat(training)
    model = DeepSVDD(n_features=x.shape[1], epochs=EPOCHS, random_state=seed, verbose=0)
    return np.asarray(model.fit(x).decision_function(flat(images)))


def autoencoder(training: Array, images: Array, seed: int = 0) -> Array:
    """Error of an autoencoder with fully connected layers."""
    from pyod.models.auto_encoder import AutoEncoder

    model = AutoEncoder(epoch_num=EPOCHS, random_state=seed, verbose=0)
    return np.asarray(model.fit(flat(training)).decision_function(flat(images)))


def low_contrast(training: Array, images: Array, seed: int = 0) -> Array:
    """Minus the standard deviation of the pixels: no learning at all."""
    del training, seed
    return -flat(images).std(axis=1)


def brightness(training: Array, images: Array, seed: int = 0) -> Array:
    """The mean of the pixels: no learning at all."""
    del training, seed
    return flat(images).mean(axis=1)


def compressed_size(training: Array, images: Array, seed: int = 0) -> Array:
    """Bytes when compressed without loss: no learning at all."""
    del training, seed
    return np.array([len(zlib.compress(image.tobytes(), 9)) for image in images], np.float64)


def _varying(training: Array, images: Array | None = None) -> Array:
    """Without what never changes, for which ECOD has no tails."""
    x = flat(training)
    return flat(training if images is None else images)[:, x.std(axis=0) > 1e-6]


#: Those that need nothing but scikit-learn and a moment, by the title of their row.
BASELINES: dict[str, Callable[[Array, Array], Array]] = {
    "PCA reconstruction, pixels": pca_residual,
    "5 nearest neighbors, pixels": nearest_neighbors,
    "low contrast": low_contrast,
    "brightness": brightness,
}
