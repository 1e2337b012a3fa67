from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from anowild.networks.inputs import downsample, process_reals
from anowild.training.sampler import MinibatchSampler

IMAGES = np.random.default_rng(0).integers(0, 256, (23, 2, 16, 16), dtype=np.uint8)


def test_every_epoch_shows_each_image_once_in_an_order_of_its_own() -> None:
    batches = MinibatchSampler(IMAGES, seed=0)
    epochs = [batches.indices(23 * e, 23) for e in range(3)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])


@given(start=st.integers(0, 200), parts=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_image_n_does_not_depend_on_how_one_got_there(start: int, parts: list[int]) -> None:
    whole = MinibatchSampler(IMAGES, seed=3).indices(start, sum(parts))
    batches, at, pieces = MinibatchSampler(IMAGES, seed=3), start, []
    for part in parts:
        pieces.append(batches.indices(at, part))
        at += part
    assert np.array_equal(whole, np.concatenate(pieces))


def test_seed_and_stream_change_the_order() -> None:
    orders = [
        MinibatchSampler(IMAGES, seed, stream).indices(0, 23).tolist()
        for seed, stream in ((0, 0), (1, 0), (0, 1))
    ]
    assert len({tuple(order) for order in orders}) == 3


def test_others_are_drawn_evenly_in_the_place_of_unwanted_images() -> None:
    batches = MinibatchSampler(np.zeros((100, 1, 1, 1), np.uint8), seed=0)
    before = batches.indices(0, 40_000)
    wanted = np.arange(100) >= 30
    batches.draw_only(wanted)
    after = batches.indices(0, 40_000)
    assert np.array_equal(before[wanted[before]], after[wanted[before]])
    share = np.bincount(after[~wanted[before]], minlength=100) / (0.3 * 40_000)
    assert share[:30].max() == 0
    assert np.abs(share[30:] - 1 / 70).max() < 0.004  # 4 deviations of a count of 171
    assert np.array_equal(batches.indices(40, 80), batches.indices(40, 80))
    batches.draw_only(np.ones(100, bool))
    assert np.array_equal(batches.indices(0, 40_000), before)


def test_a_level_is_the_mean_of_boxes_in_8_bits() -> None:
    small = downsample(torch.from_numpy(IMAGES), 2).numpy()
    assert small.shape == (23, 2, 4, 4)
    assert small.dtype == np.uint8
    expected = np.rint(IMAGES[5, 1, 4:8, 8:12].mean())
    assert small[5, 1, 1, 2] == expected


def test_reals_are_those_of_the_indices() -> None:
    batches = MinibatchSampler(IMAGES, seed=0)
    reals = batches.reals(10, 8, 0.0)
    expected = IMAGES[batches.indices(10, 8)].astype(np.float32) / 127.5 - 1
    assert np.allclose(reals.numpy(), expected, atol=1e-6)
    assert reals.min() >= -1
    assert reals.max() <= 1


def test_a_fade_ends_where_the_next_level_begins() -> None:
    images = torch.from_numpy(IMAGES)
    nearly = process_reals(images, 1 - 1e-6)
    coarse = torch.nn.functional.avg_pool2d(process_reals(images, 0.0), 2)
    assert torch.allclose(torch.nn.functional.avg_pool2d(nearly, 2), coarse, atol=1e-5)
    assert torch.allclose(nearly[..., ::2], nearly[..., 1::2], atol=1e-5)


def test_mirroring_flips_some_images_the_same_way_every_time() -> None:
    plain = MinibatchSampler(IMAGES, seed=0).reals(0, 23, 0.0)
    first, second = (
        MinibatchSampler(IMAGES, seed=0, mirror=True).reals(0, 23, 0.0) for _ in range(2)
    )
    assert torch.equal(first, second)
    flipped = [torch.equal(a, b.flip(-1)) for a, b in zip(first, plain, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(first, plain, strict=True)]
    assert all(f != k for f, k in zip(flipped, kept, strict=True))
    assert 3 < sum(flipped) < 20


def test_rotation_turns_by_every_number_of_quarters_and_composes_with_mirroring() -> None:
    plain = MinibatchSampler(IMAGES, seed=0, mirror=True).reals(0, 23, 0.0)
    first, second = (
        MinibatchSampler(IMAGES, seed=0, mirror=True, rotate=True).reals(0, 23, 0.0)
        for _ in range(2)
    )
    assert torch.equal(first, second)
    turns = [
        [torch.equal(a, b.rot90(count, (1, 2))) for count in range(4)].index(True)
        for a, b in zip(first, plain, strict=True)
    ]
    assert set(turns) == {0, 1, 2, 3}


def test_sixteen_bits_reach_the_networks() -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (23, 1, 16, 16), dtype=np.uint16)
    reals = MinibatchSampler(deep, seed=0).reals(0, 8, 0.0)
    expected = deep[MinibatchSampler(deep, seed=0).indices(0, 8)] / 32767.5 - 1
    assert np.allclose(reals.numpy(), expected, atol=1e-6)
    small = downsample(torch.from_numpy(deep), 2).numpy()
    assert small.dtype == np.uint16
    assert small[3, 0, 1, 2] == np.rint(deep[3, 0, 4:8, 8:12].mean())


def test_images_that_lie_on_the_device_give_the_same_minibatches() -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (23, 1, 16, 16), dtype=np.uint16)
    for images in (IMAGES, deep):
        streamed, resident = MinibatchSampler(images, seed=5), MinibatchSampler(images, seed=5)
        resident._resident = resident._resident_copy()
        assert torch.equal(streamed.reals(30, 12, 1.5), resident.reals(30, 12, 1.5))
