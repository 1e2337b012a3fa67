from __future__ import annotations

import numpy as np

from anowild.arrays import Array
from anowild.reviewing.alike import compacted, groups, layout, nearest_first


def scene(different: int = 400, alike: int = 40) -> tuple[Array, Array]:
    """Return features of different images and of some that hardly differ, which score highest."""
    rng = np.random.default_rng(0)
    others = rng.normal(size=(different, 8))
    same = rng.normal(size=8) * 3 + 0.01 * rng.normal(size=(alike, 8))
    score = np.concatenate([rng.random(different), 2 + rng.random(alike)])
    return np.concatenate([others, same]).astype(np.float32), score


def test_alike_odd_images_are_one_group() -> None:
    features, score = scene()
    found = groups(features, score)
    oddest = int(score.argmax())
    assert (found[400:] == oddest).all()
    # The others are no groups of their own to speak of.
    assert len(np.unique(found[:400])) > 330


def test_black_and_white_images_are_no_group() -> None:
    """Constant images have the same features, whatever their light."""
    features, score = scene()
    light = np.full(len(score), 100.0)
    light[400:420] = 0
    light[420:] = 255
    found = groups(features, score, light)
    for part in (slice(400, 420), slice(420, None)):
        oddest = np.arange(len(score))[part][score[part].argmax()]
        assert (found[part] == oddest).all()


def test_no_groups_where_nothing_is_known() -> None:
    score = np.arange(5.0)
    assert groups(np.empty((5, 0)), score).tolist() == [0, 1, 2, 3, 4]
    assert groups(np.zeros((5, 3)), score).tolist() == [0, 1, 2, 3, 4]


def test_images_that_are_all_alike_lie_at_one_place() -> None:
    places = layout(np.ones((50, 8), np.float32), np.arange(50.0))
    assert np.array_equal(places, np.full((50, 2), 0.5, np.float32))


def test_nearest_first_begins_with_the_image_itself() -> None:
    features, _ = scene()
    order = nearest_first(features, 410)
    assert order[0] == 410
    assert sorted(order) == list(range(440))
    assert set(order[:40]) == set(range(400, 440))


def test_map_keeps_alike_images_together() -> None:
    features, score = scene(120, 20)
    places = layout(features, score)
    assert places.shape == (140, 2)
    assert places.min() >= 0
    assert places.max() <= 1
    together = np.linalg.norm(places[120:] - places[120:].mean(axis=0), axis=1)
    apart = np.linalg.norm(places[:120] - places[:120].mean(axis=0), axis=1)
    assert np.median(together) < 0.25 * np.median(apart)
    assert np.array_equal(places, layout(features, score))
    assert layout(features[:3], score[:3]).shape == (3, 2)


def test_compacted_features_keep_distances() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 200))
    small = compacted(x)
    assert small.shape == (300, 128)
    assert small.dtype == np.float32
    before = np.linalg.norm(x[0] - x[1:], axis=1)
    after = np.linalg.norm(small[0] - small[1:], axis=1)
    assert np.allclose(before, after, rtol=1e-4)
    assert compacted(np.empty((4, 0))).shape == (4, 0)
    assert compacted(np.ones((1, 3))).shape == (1, 3)
