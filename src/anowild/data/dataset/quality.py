"""The quality gate: duplicates, leaks from training into test, images without content.

Nothing is dropped here: summary are counted, listed in the manifest, and left to the user.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache

import numpy as np

from anowild.arrays import Array

#: Perceptual hashes of near duplicates differ in at most so many of their 64 bits ...
NEAR_BITS = 8
#: ... and their pixels by a root mean square below this share of the lesser standard deviation,
#: once what all images have in common is taken away (a correlation of about 0.95): where a camera
#: always sees the same scene, all images are alike without being duplicates. Of the 5,000
#: CIFAR-10 automobiles 15 repeat an earlier one, other prints of the same photograph; of the
#: 5,958 handwritten 2s none does.
NEAR_DIFFERENCE = 0.3
#: Images whose mean is taken for what all have in common, at most.
IN_COMMON = 2048
#: Images whose standard deviation is below so many levels of 255 say nothing.
NEARLY_CONSTANT = 1.0
#: Share of pixels beyond black or white from which an image is listed.
CLIPPED = 0.01
#: Up to so many comparisons every pair is looked at; beyond, neighbors in sorted order.
MOST_PAIRS = 2_000_000_000

_NONE = -1
_PLACE_BITS = 48
_FAR = np.iinfo(np.int64).max
_BLOCK = 1 << 17  # images at a time, so that what is in between stays small


def content_hashes(images: Array) -> Array:
    """BLAKE2b of the pixels of each image, [N, C, R, R] -> uint64 [N]."""
    digests = (
        hashlib.blake2b(np.ascontiguousarray(x).data, digest_size=8).digest() for x in images
    )
    return np.frombuffer(b"".join(digests), np.uint64)


def perceptual_hashes(images: Array) -> Array:
    """Signs of the 64 lowest frequencies but the mean, [N, C, R, R] -> uint64 [N].

    The images are averaged over channels and boxes to at most 32x32 first; frequencies are those
    of the cosine transform (DCT-II).
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
    """The nine lowest cosines, and which 64 of their 81 (or 8x8) products count."""
    few = min(side, 9)
    basis = np.cos(np.pi * np.outer(np.arange(few), np.arange(side) + 0.5) / side)
    down, across = np.indices((few, few)).reshape(2, -1)
    order = np.lexsort((down, down + across))  # from low to high; the first is the mean
    chosen = order[1:65] if few == 9 else order[:64]
    return basis.astype(np.float32), chosen


def first_equal(hashes: Array) -> Array:
    """For each entry the first one with the same value, or -1 for the first itself: int64 [N]."""
    order = np.argsort(hashes, kind="stable")
    in_order = hashes[order]
    begins = np.ones(len(order), bool)
    begins[1:] = in_order[1:] != in_order[:-1]
    # Equal values lie together, the earliest in front: each looks back to where its group begins.
    back = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    found = np.full(len(order), _NONE, np.int64)
    again = ~begins
    found[order[again]] = order[back[again]]
    return found


def near_pairs(hashes: Array, pool: Array | None, same: Callable[[Array, Array], Array]) -> Array:
    """For each image a near duplicate in ``pool``, or, without one, among those before it.

    Of each image the one nearest by hash is looked at, no others.

    Args:
        hashes: perceptual, uint64 [N].
        pool: uint64 [M].
        same: tells of pairs (positions in ``hashes``, positions in the pool) which of them are
            alike in their pixels: bool.

    Returns:
        int64 [N]: position in the pool, or -1.
    """
    size = len(hashes) if pool is None else len(pool)
    search = _nearest_of_all if len(hashes) * size <= MOST_PAIRS else _nearest_in_order
    nearest, distance = search(hashes, pool)
    candidates = np.flatnonzero((nearest != _NONE) & (distance <= NEAR_BITS))
    found = np.full(len(hashes), _NONE, np.int64)
    alike = same(candidates, nearest[candidates])
    found[candidates[alike]] = nearest[candidates[alike]]
    return found


def alike(first: Array, second: Array, common: Array) -> Array:
    """Whether pairs of images, both [N, C, R, R], differ as little as near duplicates: bool [N].

    Args:
        common: what all images have in common, [C, R, R].
    """
    a, b = ((x - common.astype(np.float32)).reshape(len(x), -1) for x in (first, second))
    difference = np.sqrt(np.square(a - b).mean(axis=1))
    return difference < NEAR_DIFFERENCE * np.minimum(a.std(axis=1), b.std(axis=1))


def _nearest_of_all(hashes: Array, pool: Array | None) -> tuple[Array, Array]:
    others = hashes if pool is None else pool
    nearest = np.full(len(hashes), _NONE, np.int64)
    distance = np.full(len(hashes), 255, np.uint8)
    if not len(others):
        return nearest, distance
    step = max(1, 4_000_000 // len(others))
    for start in range(0, len(hashes), step):
        queries = hashes[start : start + step]
        block = np.bitwise_count(queries[:, None] ^ others[None])
        if pool is None:  # only what comes before
            block[np.arange(len(others)) >= np.arange(start, start + len(queries))[:, None]] = 255
        nearest[start : start + step] = block.argmin(axis=1)
        distance[start : start + step] = block.min(axis=1)
    return nearest, distance


def _nearest_in_order(hashes: Array, pool: Array | None, window: int = 4) -> tuple[Array, Array]:
    """Nearest among the neighbors in the orders of the hash turned by 0, 16, 32 and 48 bits.

    Near hashes are neighbors in at least one of the orders unless they differ in its first bits;
    some pairs are missed, for time that grows hardly faster than the number of images.
    """
    every = hashes if pool is None else np.concatenate([pool, hashes])
    known = 0 if pool is None else len(pool)
    best = np.full(len(every), _FAR, np.int64)  # bits that differ, and in the low part the place
    for turn in (0, 16, 32, 48):
        turned = (every << np.uint64(turn)) | (every >> np.uint64(64 - turn)) if turn else every
        order = np.argsort(turned, kind="stable")
        for shift in range(1, window + 1):
            for start in range(0, len(order) - shift, _BLOCK):
                end = min(start + _BLOCK, len(order) - shift)
                ahead, behind = order[start:end], order[start + shift : end + shift]
                bits = np.bitwise_count(every[ahead] ^ every[behind]).astype(np.int64)
                for query, other in ((ahead, behind), (behind, ahead)):
                    before = query > other if pool is None else (query >= known) & (other < known)
                    keys = (bits[before] << _PLACE_BITS) | other[before]
                    best[query[before]] = np.minimum(best[query[before]], keys)
    best = best[known:]
    distance = np.minimum(best >> _PLACE_BITS, 255).astype(np.uint8)
    return np.where(best == _FAR, _NONE, best & ((1 << _PLACE_BITS) - 1)), distance
