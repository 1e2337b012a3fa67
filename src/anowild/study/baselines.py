"""Baseline detectors on raw pixels, or on a pretrained network's vectors, trained on the same images.

Each takes training images, uint8 [N, C, R, R], images to score, and a seed, and returns scores [N],
higher for odder images. The rate of contamination is known to none of them.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from anowild.arrays import Array
from anowild.networks.efficientnet import EfficientNetLite0
from anowild.training.pretrained import published_weights
from anowild.views.features import Lite0
from anowild.views.pretrained import PretrainedView

#: Of PyOD's deep detectors; their default suits not all sizes of sets.
EPOCHS = 30


def flat(images: Array) -> Array:
    """Return images as rows in [-1, 1], float32 [N, D]; features [N, D] keep their values."""
    if images.dtype != np.uint8:
        return images.reshape(len(images), -1).astype(np.float32)
    return images.reshape(len(images), -1).astype(np.float32) / 127.5 - 1.0


def pca_residual(training: Array, images: Array, seed: int = 0) -> Array:
    """Compute the reconstruction error from the principal components that explain 90 % of the variance."""
    pca = PCA(n_components=0.9, svd_solver="full", random_state=seed).fit(flat(training))
    x = flat(images)
    rebuilt = pca.inverse_transform(pca.transform(x))
    return np.asarray(np.square(x - rebuilt).mean(axis=1))


def nearest_neighbors(training: Array, images: Array, seed: int = 0) -> Array:
    """Compute the mean Euclidean distance to the 5 nearest training images."""
    del seed
    index = NearestNeighbors(n_neighbors=min(5, len(training))).fit(flat(training))
    distances, _ = index.kneighbors(flat(images))
    return np.asarray(distances.mean(axis=1))


def isolation_forest(training: Array, images: Array, seed: int = 0) -> Array:
    """Compute the score of an isolation forest (Liu et al. 2008)."""
    forest = IsolationForest(random_state=seed).fit(flat(training))
    return -np.asarray(forest.score_samples(flat(images)))


def ecod(training: Array, images: Array, seed: int = 0) -> Array:
    """Compute ECOD: log tail probabilities summed over the dimensions (Li et al. 2022)."""
    del seed
    from pyod.models.ecod import ECOD

    return np.asarray(ECOD().fit(_varying(training)).decision_function(_varying(training, images)))


def deep_svdd(training: Array, images: Array, seed: int = 0) -> Array:
    """Compute Deep SVDD: the distance from a learned center (Ruff et al. 2018)."""
    from pyod.models.deep_svdd import DeepSVDD

    x = flat(training)
    model = DeepSVDD(n_features=x.shape[1], epochs=EPOCHS, random_state=seed, verbose=0)
    return np.asarray(model.fit(x).decision_function(flat(images)))


def autoencoder(training: Array, images: Array, seed: int = 0) -> Array:
    """Compute the reconstruction error of an autoencoder with fully connected layers."""
    from pyod.models.auto_encoder import AutoEncoder

    model = AutoEncoder(epoch_num=EPOCHS, random_state=seed, verbose=0)
    model.fit(flat(training))  # earlier versions return None
    return np.asarray(model.decision_function(flat(images)))


def low_contrast(training: Array, images: Array, seed: int = 0) -> Array:
    """Compute minus the standard deviation of the pixels, which needs no learning."""
    del training, seed
    return -flat(images).std(axis=1)


def brightness(training: Array, images: Array, seed: int = 0) -> Array:
    """Compute the mean of the pixels, which needs no learning."""
    del training, seed
    return flat(images).mean(axis=1)


def compressed_size(training: Array, images: Array, seed: int = 0) -> Array:
    """Compute the number of bytes after zlib compression, which needs no learning."""
    del training, seed
    return np.array([len(zlib.compress(image.tobytes(), 9)) for image in images], np.float64)


def embeddings(images: Array) -> Array:
    """Return vectors of length 1 of EfficientNet-Lite0's last stage: uint8 [N, C, R, R] -> [N, 320]."""
    network = EfficientNetLite0.from_published(published_weights())
    lite0 = Lite0(network, torch.device("cpu"))
    return PretrainedView(lite0, {}, torch.empty(0, 0)).features(images)


def embedding_neighbors(training: Array, images: Array, seed: int = 0) -> Array:
    """Compute the mean cosine distance to the 10 nearest training images, as cleanlab and FiftyOne do.

    Of vectors of length 1, it is half the squared Euclidean distance.
    """
    del seed
    index = NearestNeighbors(n_neighbors=min(10, len(training))).fit(embeddings(training))
    distances, _ = index.kneighbors(embeddings(images))
    return np.asarray(np.square(distances).mean(axis=1) / 2)


def embedding_lof(training: Array, images: Array, seed: int = 0) -> Array:
    """Compute the local outlier factor (Breunig et al. 2000)."""
    del seed
    factor = LocalOutlierFactor(novelty=True).fit(embeddings(training))
    return -np.asarray(factor.score_samples(embeddings(images)))


def embedding_forest(training: Array, images: Array, seed: int = 0) -> Array:
    """Compute the score of an isolation forest."""
    return isolation_forest(embeddings(training), embeddings(images), seed)


def _varying(training: Array, images: Array | None = None) -> Array:
    """Return rows without constant dimensions, for which ECOD has no tails."""
    x = flat(training)
    return flat(training if images is None else images)[:, x.std(axis=0) > 1e-6]
