"""Search for duplicates, and thresholds for images without content.

Nothing is dropped here: findings are counted, listed in the manifest, and left to the user.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache

import numpy as np

from anowild.arrays import Array

#: Largest number of the 64 bits in which the perceptual hashes of near duplicates differ.
NEAR_BITS = 8
#: Largest root mean square difference of the pixels of near duplicates, as a share of the lesser
#: standard deviation, once the mean image is subtracted (0.3 is a correlation of about 0.95). A camera
#: that always sees the same scene makes similar images that are no duplicates. Of the 5,000 CIFAR-10
#: automobiles, 15 repeat an earlier one (other prints of the same photograph); of the 5,958
#: handwritten 2s, none does.
NEAR_DIFFERENCE = 0.3
#: Most images that the mean image is computed from.
MEAN_IMAGES = 2048
#: Standard deviation, in levels of 255, below which an image is nearly constant.
NEARLY_CONSTANT = 1.0
#: Share of pixels beyond black or white from which an image is listed.
CLIPPED = 0.01
#: Most comparisons of all pairs; for more images, only neighbors in sorted order are compared.
MAX_PAIRS = 2_000_000_000

_NONE = -1
_POSITION_BITS = 48
_NEIGHBORS = 4  # on each side in a sorted order
_FAR = np.iinfo(np.int64).max
_BLOCK = 1 << 17  # images at a time, so that intermediate arrays stay small


def content_hashes(images: Array) -> Array:
    """Hash the pixels of each image with BLAKE2b: [N, C, R, R] -> uint64 [N]."""
    digests = (
        hashlib.blake2b(np.ascontiguousarray(x).data, digest_size=8).digest() for x in images
    )
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def perceptual_hashes(images: Array) -> Array:
    """Compute the perceptual hash (pHash) of each image: [N, C, R, R] -> uint64 [N].

    The bits are the signs of the 64 lowest frequencies, without the mean, of the cosine transform
    (DCT-II) of the image, which is averaged over channels and boxes to at most 32x32 first.
    """
    count, channels, side, _ = images.shape
    small = min(side, 32)
    box = side // small
    boxes = images.reshape(count, channels, small, box, small, box)
    gray = boxes.mean(axis=(1, 3, 5), dtype=np.float32)
    basis, chosen = _cosines(small)
    frequencies = np.einsum("ki,nij,lj->nkl", basis, gray, basis, optimize=True)
    bits = frequencies.reshape(count, -1)[:, chosen] > 0
    return np.ascontiguousarray(np.packbits(bits, axis=1)).view(np.uint64).ravel()


@cache
def _cosines(side: int) -> tuple[Array, Array]:
    """Return the nine lowest cosines, and the 64 of their 81 (or 8x8) products that are used."""
    few = min(side, 9)
    basis = np.cos(np.pi * np.outer(np.arange(few), np.arange(side) + 0.5) / side)
    down, across = np.indices((few, few)).reshape(2, -1)
    order = np.lexsort((down, down + across))  # from low to high; the first is the mean
    chosen = order[1:65] if few == 9 else order[:64]
    return basis.astype(np.float32), chosen


def first_equal(hashes: Array) -> Array:
    """Return for each entry the first one with the same value, or -1 for that one itself: int64 [N]."""
    order = np.argsort(hashes, kind="stable")
    in_order = hashes[order]
    begins = np.ones(len(order), bool)
    begins[1:] = in_order[1:] != in_order[:-1]
    # Equal values are neighbors, the earliest first: find the beginning of each group.
    group_start = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    found = np.full(len(order), _NONE, np.int64)
    again = ~begins
    found[order[again]] = order[group_start[again]]
    return found


def near_pairs(hashes: Array, pool: Array | None, same: Callable[[Array, Array], Array]) -> Array:
    """Find a near duplicate of each image.

    For each image, only the one with the nearest hash is compared by its pixels.

    Args:
        hashes: perceptual hashes, uint64 [N].
        pool: perceptual hashes of the images to search, uint64 [M]; None: for each image, the images
            before it.
        same: for pairs (positions in ``hashes``, positions in the pool), returns whether their pixels
            nearly agree, as bool.

    Returns:
        Position in the pool, or -1: int64 [N].
    """
    size = len(hashes) if pool is None else len(pool)
    search = (
        _nearest_by_brute_force if len(hashes) * size <= MAX_PAIRS else _nearest_in_sorted_order
    )
    nearest, distance = search(hashes, pool)
    candidates = np.flatnonzero((nearest != _NONE) & (distance <= NEAR_BITS))
    found = np.full(len(hashes), _NONE, np.int64)
    alike = same(candidates, nearest[candidates])
    found[candidates[alike]] = nearest[candidates[alike]]
    return found


def nearly_equal(first: Array, second: Array, mean: Array) -> Array:
    """Whether the pixels of pairs of images differ as little as near duplicates, bool [N].

    Args:
        first: first images of the pairs, [N, C, R, R].
        second: second images of the pairs, [N, C, R, R].
        mean: the mean image of the data set, [C, R, R].
    """
    a, b = ((x - mean.astype(np.float32)).reshape(len(x), -1) for x in (first, second))
    difference = np.sqrt(np.square(a - b).mean(axis=1))
    return difference < NEAR_DIFFERENCE * np.minimum(a.std(axis=1), b.std(axis=1))


def _nearest_by_brute_force(hashes: Array, pool: Array | None) -> tuple[Array, Array]:
    others = hashes if pool is None else pool
    nearest = np.full(len(hashes), _NONE, np.int64)
    distance = np.full(len(hashes), 255, np.uint8)
    if not len(others):
        return nearest, distance
    step = max(1, 4_000_000 // len(others))
    for start in range(0, len(hashes), step):
        queries = hashes[start : start + step]
        block = np.bitwise_count(queries[:, None] ^ others[None])
        if pool is None:  # only earlier images
            block[np.arange(len(others)) >= np.arange(start, start + len(queries))[:, None]] = 255
        nearest[start : start + step] = block.argmin(axis=1)
        distance[start : start + step] = block.min(axis=1)
    return nearest, distance


def _nearest_in_sorted_order(hashes: Array, pool: Array | None) -> tuple[Array, Array]:
    """Find the nearest hash among the neighbors in four sorted orders.

    The orders are those of the hash rotated by 0, 16, 32 and 48 bits. Near hashes are neighbors in an
    order unless they differ in its leading bits. So some pairs are missed, but time grows hardly faster
    than the number of images.
    """
    every = hashes if pool is None else np.concatenate([pool, hashes])
    known = 0 if pool is None else len(pool)
    best = np.full(
        len(every), _FAR, np.int64
    )  # high part: number of bits that differ; low: position
    for turn in (0, 16, 32, 48):
        rotated = (every << np.uint64(turn)) | (every >> np.uint64(64 - turn)) if turn else every
        order = np.argsort(rotated, kind="stable")
        for shift in range(1, _NEIGHBORS + 1):
            for start in range(0, len(order) - shift, _BLOCK):
                end = min(start + _BLOCK, len(order) - shift)
                left, right = order[start:end], order[start + shift : end + shift]
                bits = np.bitwise_count(every[left] ^ every[right]).astype(np.int64)
                for query, other in ((left, right), (right, left)):
                    before = query > other if pool is None else (query >= known) & (other < known)
                    keys = (bits[before] << _POSITION_BITS) | other[before]
                    best[query[before]] = np.minimum(best[query[before]], keys)
    best = best[known:]
    distance = np.minimum(best >> _POSITION_BITS, 255).astype(np.uint8)
    return np.where(best == _FAR, _NONE, best & ((1 << _POSITION_BITS) - 1)), distance
