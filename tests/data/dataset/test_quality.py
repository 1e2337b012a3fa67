"""The quality gate's measures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.data import astronaut
from skimage.transform import resize

from anowild.arrays import Array
from anowild.data.dataset import quality

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def patches() -> Array:
    """2,000 patches of a photograph, 32x32 in color."""
    photo = np.moveaxis(astronaut(), -1, 0)
    rng = np.random.default_rng(1)
    corners = rng.integers(0, 480, (2000, 2))
    return np.stack([photo[:, y : y + 32, x : x + 32] for y, x in corners])


@given(st.lists(st.integers(0, 5), max_size=30))
def test_first_equal_is_the_first_with_the_same_value(values: list[int]) -> None:
    found = quality.first_equal(np.array(values, np.uint64))
    for i, (value, first) in enumerate(zip(values, found, strict=True)):
        assert first == (-1 if values.index(value) == i else values.index(value))


def test_content_hashes_tell_equal_images_from_others(patches: Array) -> None:
    one = patches[0]
    other = one.copy()
    other[0, 0, 0] ^= 1
    hashes = quality.content_hashes(np.stack([one, other, one]))
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize("side", [8, 16, 32, 64])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_perceptual_hashes_survive_brightness_noise_and_size(side: int, dtype: type) -> None:
    photo = resize(astronaut(), (64, 64)).transpose(2, 0, 1)
    full = np.iinfo(dtype).max
    box = 64 // side
    small = photo.reshape(3, side, box, side, box).mean(axis=(2, 4))
    noisy = (small * 0.8 + 0.1 + RNG.normal(0, 0.01, small.shape)).clip(0, 1)
    pair: Array = (np.stack([small, noisy]) * full).astype(dtype)
    first, second = quality.perceptual_hashes(pair)
    assert np.bitwise_count(first ^ second) <= quality.NEAR_BITS


def test_hashes_of_unlike_images_lie_apart(patches: Array) -> None:
    first, second = (
        quality.perceptual_hashes(patches[:1000]),
        quality.perceptual_hashes(patches[1000:]),
    )
    bits = np.bitwise_count(first ^ second)
    assert 24 < np.mean(bits) < 40  # half of the 64, were they independent


def test_near_duplicates_are_found_and_nothing_else(patches: Array) -> None:
    noisy = (patches[:50] + RNG.normal(0, 4, patches[:50].shape)).clip(0, 255).astype(np.uint8)
    images = np.concatenate([patches[:500], noisy])
    # Patches of one photograph may overlap: what is alike is told by all pairs.
    flat = images.reshape(len(images), -1).astype(np.float64)
    truth = {
        (i, j)
        for i in range(500, 550)
        for j in range(500)
        if np.sqrt(np.square(flat[i] - flat[j]).mean())
        < quality.NEAR_DIFFERENCE * min(flat[i].std(), flat[j].std())
    }
    hashes = quality.perceptual_hashes(images)
    found = quality.near_pairs(
        hashes[500:],
        hashes[:500],
        lambda q, p: quality.nearly_equal(images[500:][q], images[:500][p], np.zeros(1)),
    )
    assert {(500 + i, int(j)) for i, j in enumerate(found) if j >= 0} <= truth
    telling = images[500:].std(axis=(1, 2, 3)) > 20  # noise is small against these
    assert (found[telling] == np.flatnonzero(telling)).mean() > 0.9


def test_a_scene_that_never_changes_makes_no_duplicates(patches: Array) -> None:
    rng = np.random.default_rng(3)
    scene = patches[0].astype(float)
    shots = scene + rng.normal(0, 8, (40, *scene.shape))
    again = shots[:10] + rng.normal(0, 1, shots[:10].shape)
    common = shots.mean(axis=0)
    assert not quality.nearly_equal(shots[:20], shots[20:], common).any()
    assert quality.nearly_equal(
        shots[:20], shots[20:], np.zeros(1)
    ).all()  # what it is held against
    assert quality.nearly_equal(shots[:10], again, common).all()


def test_among_themselves_only_earlier_ones_count(patches: Array) -> None:
    images = np.concatenate([patches[:20], patches[:20]])
    hashes = quality.perceptual_hashes(images)
    found = quality.near_pairs(
        hashes, None, lambda q, p: (images[q] == images[p]).all(axis=(1, 2, 3))
    )
    assert (found[:20] < np.arange(20)).all()
    assert (found[20:] == np.arange(20)).sum() >= 18  # the nearest by hash may be an overlap


@pytest.mark.parametrize("pooled", [False, True])
def test_the_search_in_order_finds_almost_what_all_pairs_give(pooled: bool) -> None:
    rng = np.random.default_rng(2)
    pool = rng.integers(0, 2**63, 5000, dtype=np.uint64)
    flips = np.uint64(1) << rng.integers(0, 64, (3, 1000), dtype=np.uint64)
    near = pool[:1000] ^ flips[0] ^ flips[1] ^ flips[2]
    rng.shuffle(near)
    hashes, others = (near, pool) if pooled else (np.concatenate([pool, near]), None)
    exact = quality._nearest_by_brute_force(hashes, others)
    quick = quality._nearest_in_sorted_order(hashes, others)
    close = exact[1] <= 3
    assert close.sum() >= 1000
    assert (quick[0][close] == exact[0][close]).mean() > 0.95
    assert (quick[1] >= exact[1]).all()


def test_nothing_to_compare_with_is_no_error() -> None:
    empty = np.empty(0, np.uint64)

    def same(queries: Array, found: Array) -> Array:
        return np.ones(len(queries), bool)

    assert len(quality.near_pairs(empty, None, same)) == 0
    assert quality.near_pairs(np.ones(2, np.uint64), empty, same).tolist() == [-1, -1]
