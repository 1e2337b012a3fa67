"""Alike images: the nearest to one, groups of alike odd ones, and a map of all in two dimensions.

All by Euclidean distances between features of the detector.
"""

from __future__ import annotations

from threading import Lock

import numpy as np

from anowild.arrays import Array

#: Features that are kept, at most: principal components, fitted to so many images.
COMPONENTS, FITTED = 128, 10_000
#: Groups are looked for among so many of the oddest images.
GROUPED = 2000
#: Images of a group are nearer to each other, on average, than this share of the usual distance
#: between an image and the one most like it.
NEARNESS = 0.7
#: Levels of 255 that the brightness of images of a group may differ.
SHADE = 64
#: Images that lie on the map by their own distances; the others lie among those most like them.
LANDMARKS, AMONG = 1500, 5
#: Held while a map is laid out: scikit-learn sets the threads of the whole process meanwhile.
_LAYING_OUT = Lock()


def compacted(features: Array) -> Array:
    """Reduce features [N, D] to at most ``COMPONENTS`` principal components: float32 [N, K]."""
    from sklearn.decomposition import PCA

    count, size = features.shape
    if not size or count < 2:
        return features.astype(np.float32)
    rng = np.random.default_rng(0)
    sample = features[np.sort(rng.permutation(count)[:FITTED])].astype(np.float32)
    kept = min(COMPONENTS, size, len(sample) - 1)
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # shares of the variance, where there is none
        pca = PCA(kept, svd_solver="randomized", random_state=0).fit(sample)
    parts = [
        pca.transform(features[start : start + FITTED].astype(np.float32))
        for start in range(0, count, FITTED)
    ]
    return np.concatenate(parts).astype(np.float32)


def nearest_first(features: Array, number: int) -> Array:
    """Return the numbers of all images by distance from one, which comes first: int [N]."""
    distances = np.square(features - features[number]).sum(axis=1)
    distances[number] = -1
    return np.argsort(distances, kind="stable")


def groups(features: Array, score: Array, brightness: Array | None = None) -> Array:
    """Find groups of alike images among the oddest.

    Groups of average linkage whose images are much nearer to each other than an image usually is to the
    one most like it, and nearly as bright as the oddest of the group: features of constant images are alike, be they
    black or white.

    Args:
        features: [N, D].
        score: [N].
        brightness: of the originals, from 0 to 255, [N]; None: it is not known.

    Returns:
        For each image the number of the oddest image of its group; its own where it has no group: int [N].
    """
    from sklearn.cluster import AgglomerativeClustering

    count = len(score)
    found = np.arange(count)
    if count < 3 or not features.shape[1]:
        return found
    oddest = np.argsort(-score, kind="stable")[:GROUPED]
    limit = NEARNESS * _usual_distance(features)
    if not limit > 0:
        return found
    linked = AgglomerativeClustering(
        n_clusters=None, distance_threshold=limit, linkage="average"
    ).fit(features[oddest])
    light = np.zeros(count) if brightness is None else np.nan_to_num(brightness)
    oddest_of: dict[int, list[int]] = {}  # of the groups of one label, by brightness
    for number, label in zip(oddest.tolist(), linked.labels_.tolist(), strict=True):
        leaders = oddest_of.setdefault(label, [])
        near = (one for one in leaders if abs(light[one] - light[number]) <= SHADE)
        found[number] = next(near, number)
        if found[number] == number:
            leaders.append(number)
    return found


def _usual_distance(features: Array) -> float:
    """Return the median distance between an image and the one most like it, over a sample."""
    rng = np.random.default_rng(0)
    x = features[np.sort(rng.permutation(len(features))[:GROUPED])].astype(np.float64)
    squares = np.square(x).sum(axis=1)
    distances = squares[:, None] + squares - 2 * x @ x.T
    np.fill_diagonal(distances, np.inf)
    return float(np.median(np.sqrt(np.maximum(distances.min(axis=1), 0))))


def layout(features: Array, score: Array) -> Array:
    """Lay all images out in two dimensions, alike ones near to each other: float32 [N, 2] from 0 to 1.

    A part of the images, half of it the oddest, is laid out by t-SNE (van der Maaten and Hinton 2008).
    Each of the others lies at the mean of the few that are most like it.

    Args:
        features: [N, D].
        score: [N].
    """
    with _LAYING_OUT:
        return _laid_out(features, score)


def _laid_out(features: Array, score: Array) -> Array:
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    count = len(features)
    if count < 5 or not features.shape[1]:
        return np.stack([np.linspace(0, 1, count), np.full(count, 0.5)], axis=1).astype(np.float32)
    oddest = np.argsort(-score, kind="stable")
    half = min(LANDMARKS // 2, count)
    others = np.random.default_rng(0).permutation(oddest[half:])[: LANDMARKS - half]
    chosen = np.sort(np.concatenate([oddest[:half], others]))
    x = features[chosen].astype(np.float64)
    if not np.ptp(x, axis=0).any():  # all alike; t-SNE would divide by their deviation
        return np.full((count, 2), 0.5, np.float32)
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    # With few images, threads wait for each other longer than they work: 106 take 1.9 s with two, 0.3 with one.
    with threadpool_limits(1 if len(chosen) < 500 else None):
        places = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(x)
    low, high = places.min(axis=0), places.max(axis=0)
    places = (places - low) / np.maximum(high - low, 1e-12)
    found = np.empty((count, 2), np.float32)
    near = NearestNeighbors(n_neighbors=min(AMONG, len(chosen))).fit(x)
    for start in range(0, count, FITTED):
        distances, nearest = near.kneighbors(features[start : start + FITTED].astype(np.float64))
        weights = 1 / np.square(np.maximum(distances, 1e-9))
        weights /= weights.sum(axis=1, keepdims=True)
        found[start : start + FITTED] = (weights[:, :, None] * places[nearest]).sum(axis=1)
    found[chosen] = places
    return found
