from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.data.display import THUMBNAIL, display, encoded_picture, thumbnail, window

RNG = np.random.default_rng(0)


def opened(data: bytes) -> Array:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("shape", [(20, 30, 1), (20, 30, 3), (500, 700, 1), (700, 500, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "bool", "float32"])
def test_thumbnail_of_any_type(shape: tuple[int, int, int], dtype: str) -> None:
    pixels = (RNG.random(shape) * (1 if dtype in ("bool", "float32") else 250)).astype(dtype)
    shown = Image.open(io.BytesIO(thumbnail(pixels)))
    assert shown.format == "WEBP"
    scale = min(1.0, THUMBNAIL / max(shape[:2]))
    assert abs(shown.height - shape[0] * scale) <= 1
    assert abs(shown.width - shape[1] * scale) <= 1


def test_small_images_are_kept_exactly() -> None:
    pixels = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(opened(thumbnail(pixels)), pixels)


def test_eight_bits_are_shown_as_they_are() -> None:
    pixels = np.full((8, 8, 1), 3, np.uint8)
    assert window(pixels) is None
    assert (display(pixels) == 3).all()


def test_sixteen_bits_are_windowed() -> None:
    pixels = np.linspace(1000, 3000, 64 * 64).reshape(64, 64, 1).astype(np.uint16)
    low, high = window(pixels) or (0.0, 0.0)
    assert 1000 <= low <= 1010
    assert 2990 <= high <= 3000
    shown = display(pixels)
    assert (shown.min(), shown.max()) == (0, 255)
    # Other levels, as somebody chose them.
    assert (display(pixels, (3000, 4000)) == 0).all()
    assert display(pixels, (0, 6000)).max() == 128
    assert (display(np.full((8, 8, 1), 700, np.uint16)) == 0).all()


def test_values_that_are_no_numbers_are_black() -> None:
    pixels = RNG.random((16, 16, 1)).astype(np.float32)
    pixels[0, 0] = np.nan
    pixels[0, 1] = np.inf
    assert display(pixels)[0, 0] == 0
    assert window(np.full((4, 4, 1), np.nan, np.float32)) == (0.0, 1.0)


def test_picture_is_exact_unless_it_is_huge() -> None:
    small = RNG.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    data, kind = encoded_picture(small)
    assert kind == "image/png"
    assert np.array_equal(opened(data), small)
    data, kind = encoded_picture(np.zeros((2000, 2000), np.uint8))
    assert kind == "image/jpeg"
    assert opened(data).shape == (2000, 2000)
