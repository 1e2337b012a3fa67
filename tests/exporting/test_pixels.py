"""The graph's preprocessing against `Preprocess`."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from anowild.arrays import Array
from anowild.data import Preprocess
from anowild.data.preprocessing import CONTRASTS, FITS
from anowild.exporting.pixels import Pixels


def made(kind: str, shape: tuple[int, int, int], rng: np.random.Generator) -> Array:
    if kind == "float32":
        return rng.random(shape).astype(np.float32)
    full = np.iinfo(kind).max
    return rng.integers(0, full, shape, endpoint=True).astype(kind)


def both(
    preprocess: Preprocess, pixels: Array, dtype: torch.dtype = torch.float64
) -> tuple[Array, Array]:
    with torch.no_grad():
        found = Pixels(preprocess, dtype)(torch.from_numpy(pixels[None]))
    return found[0].numpy(), preprocess(pixels)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("contrast", CONTRASTS)
def test_images_of_any_size_become_the_same_pixels(fit: str, channels: int, contrast: str) -> None:
    rng = np.random.default_rng(0)
    preprocess = Preprocess(16, channels, fit, contrast=contrast)
    sides = [(4, 4), (16, 16), (17, 33), (48, 30), (9, 61), (16, 40)]
    for shape, given in product(sides, (1, 3)):
        found, expected = both(preprocess, made("uint8", (*shape, given), rng))
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected), (shape, given)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("channels", [1, 3])
def test_float32_is_enough_for_eight_bits(fit: str, channels: int) -> None:
    rng = np.random.default_rng(0)
    preprocess = Preprocess(32, channels, fit)
    for _ in range(60):
        shape = (*rng.integers(4, 150, 2).tolist(), int(rng.choice([1, 3])))
        # Few values and flat areas: averages that lie exactly between two levels are frequent.
        pixels = made("uint8", shape, rng) // 51 * 51
        found, expected = both(preprocess, pixels, torch.float32)
        assert np.array_equal(found, expected), shape


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("uint16", {}),
        ("uint16", {"bits": 16}),
        ("uint8", {"bits": 16}),
        ("float32", {}),
        ("uint16", {"black": 1000.0, "white": 40000.0}),
        ("float32", {"black": 0.2, "white": 0.7, "bits": 16}),
    ],
)
def test_depths_are_scaled_alike(kind: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    preprocess = Preprocess(16, 1, **options)
    for shape in ((20, 45, 1), (16, 16, 3), (11, 7, 1)):
        found, expected = both(preprocess, made(kind, shape, rng))
        assert found.dtype == expected.dtype
        # Sums are added in another order: one level of 65,536, now and then.
        far = np.abs(found.astype(int) - expected).max()
        assert far <= (1 if preprocess.bits == 16 else 0), shape


def test_other_numbers_of_channels_are_kept() -> None:
    found, expected = both(Preprocess(8, 5), made("uint8", (12, 12, 5), np.random.default_rng(0)))
    assert np.array_equal(found, expected)
