from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anowild.data import Preprocess, preprocessing
from anowild.data.preprocessing import resize

RNG = np.random.default_rng(0)


def noise(height: int, width: int, channels: int = 1) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_an_image_of_the_right_form_is_copied_exactly() -> None:
    image = noise(16, 16, 3)
    assert np.array_equal(Preprocess(16, 3)(image), image.transpose(2, 0, 1))


@given(
    height=st.integers(4, 70),
    width=st.integers(4, 70),
    channels=st.sampled_from([1, 3]),
    wanted=st.sampled_from([1, 3]),
    fit=st.sampled_from(["crop", "pad", "letterbox", "stretch"]),
    kind=st.sampled_from(["uint8", "uint16", "float32", "bool"]),
)
def test_any_image_comes_out_in_form(
    height: int, width: int, channels: int, wanted: int, fit: str, kind: str
) -> None:
    image = noise(height, width, channels)
    as_kind = {
        "uint8": image,
        "uint16": image.astype(np.uint16) * 257,
        "float32": (image / 255).astype(np.float32),
        "bool": image > 127,
    }[kind]
    out = Preprocess(16, wanted, fit)(as_kind)
    assert out.shape == (wanted, 16, 16)
    assert out.dtype == np.uint8
    if kind != "bool":  # the same picture, whatever the depth
        expected = Preprocess(16, wanted, fit)(image)
        assert np.abs(out.astype(int) - expected).max() <= 1


def test_crop_takes_the_middle() -> None:
    image = np.zeros((16, 32, 1), np.uint8)
    image[:, 8:24] = 200
    assert (Preprocess(16, 1, "crop")(image) == 200).all()


def test_pad_adds_black_on_both_sides() -> None:
    out = Preprocess(16, 1, "pad")(np.full((16, 8, 1), 200, np.uint8))
    assert (out[0, :, 4:12] == 200).all()
    assert (out[0, :, :4] == 0).all()
    assert (out[0, :, 12:] == 0).all()


def test_pad_never_enlarges_and_letterbox_does() -> None:
    image = np.full((8, 4, 1), 200, np.uint8)
    padded = Preprocess(16, 1, "pad")(image)[0]
    assert (padded[4:12, 6:10] == 200).all()
    assert padded.sum() == 200 * 32
    boxed = Preprocess(16, 1, "letterbox")(image)[0]
    assert (boxed[:, 4:12] == 200).all()
    assert boxed.sum() == 200 * 128


def test_sixteen_bits_are_kept() -> None:
    deep = RNG.integers(0, 65536, (16, 16, 1), dtype=np.uint16)
    kept = Preprocess(16, 1, bits=16)(deep)
    assert kept.dtype == np.uint16
    assert np.array_equal(kept[0], deep[:, :, 0])
    shallow = noise(16, 16)
    assert np.array_equal(Preprocess(16, 1, bits=16)(shallow)[0], shallow[:, :, 0] * np.uint16(257))


def test_black_and_white_stretch_a_range_and_cut_it_off() -> None:
    image = np.array([[0, 1000, 2000, 4095]] * 4, np.uint16)[:, :, None]  # 12 bits in 16
    out = Preprocess(8, 1, "stretch", black=1000, white=3000)(np.kron(image, np.ones((2, 2, 1))))
    assert out[0, 0, ::2].tolist() == [0, 0, 128, 255]
    floats = Preprocess(16, 1, black=-2, white=2)(np.full((16, 16, 1), 1.0))
    assert (floats == 191).all()


@pytest.mark.parametrize("gain", [0.2, 1.0])
def test_normalized_contrast_is_the_same_for_every_gain(gain: float) -> None:
    image = noise(32, 32).astype(float) / 255
    out = Preprocess(32, 1, contrast="normalize")(0.3 + (image - 0.3) * gain)
    reference = Preprocess(32, 1, contrast="normalize")(image)
    assert np.abs(out.astype(int) - reference).max() <= 1
    assert abs(out.mean() - 127.5) < 1
    assert abs(out.std() - 255 / 8) < 1


def test_a_constant_image_normalizes_to_mid_gray() -> None:
    out = Preprocess(16, 1, "letterbox", contrast="normalize")(np.full((8, 4, 1), 7, np.uint8))
    assert (out == 128).all()


def test_shrinking_averages_over_areas() -> None:
    image = noise(32, 32)
    expected = image.reshape(16, 2, 16, 2).astype(float).mean(axis=(1, 3))
    assert np.abs(Preprocess(16, 1)(image)[0] - expected).max() <= 0.51


@pytest.mark.parametrize("side", [17, 24, 32, 75, 250])
def test_shrinking_to_a_power_of_two_is_pillow_s(side: int) -> None:
    plane = noise(side, side)[:, :, 0].astype(np.float32)
    expected = Image.fromarray(plane).resize((16, 16), Image.Resampling.BOX)
    assert np.array_equal(resize(plane, 16, 16), np.asarray(expected))


def test_each_pixel_is_in_one_average() -> None:
    # The center of the third pixel lies on the edge of two averages.
    assert resize(np.arange(75.0).reshape(3, 25), 3, 10)[0, :2].tolist() == [1.0, 3.5]
    for length, size in itertools.product(range(4, 60), repeat=2):
        if size < length:
            places = resize(np.eye(length, dtype=np.float32), length, size) > 0
            assert (places.sum(axis=1) == 1).all(), (length, size)


def test_gray_of_a_color_image_is_pillow_s() -> None:
    image = noise(16, 16, 3)
    expected = np.asarray(Image.fromarray(image).convert("L")).astype(int)
    assert np.abs(Preprocess(16, 1)(image)[0] - expected).max() <= 1


@pytest.mark.parametrize(
    ("image", "clause"),
    [
        (np.zeros((1, 1, 1), np.uint8), "1x1 pixels are too few"),
        (np.zeros((3, 90, 1), np.uint8), "90x3 pixels are too few"),
        (np.zeros((8, 8, 2), np.uint8), "2 channels where 1"),
        (np.full((8, 8, 1), 300.0), "from 300 to 300"),
        (np.full((8, 8, 1), -0.1), "have to lie in"),
        (np.full((8, 8, 1), np.nan), "NaN"),
        (np.zeros((8, 8, 1), np.int64), "int64"),
    ],
)
def test_what_cannot_be_used_is_said(image: np.ndarray, clause: str) -> None:
    with pytest.raises(ValueError, match=clause):
        Preprocess(16, 1)(image)


@pytest.mark.parametrize("size", [(40, 33), (16, 40), (16, 16)])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "bool"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("levels", [None, (10.0, 90.0)])
@pytest.mark.parametrize("contrast", ["kept", "normalize"])
def test_large_images_give_the_same_bits_in_blocks(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], kind: str, channels: int,
    levels: tuple[float, float] | None, contrast: str,
) -> None:  # fmt: skip
    full = {"uint16": 65535, "float32": 1}.get(kind, 255)
    image = (np.random.default_rng(1).random((*size, channels)) * full).astype(kind)
    black, white = levels or (None, None)
    for wanted in (1, 3):
        for fit in ("crop", "letterbox", "pad", "stretch"):
            rule = Preprocess(16, wanted, fit, black=black, white=white, contrast=contrast)
            whole = rule(image)
            monkeypatch.setattr(preprocessing, "_BLOCK", 7 * size[1])
            assert np.array_equal(rule(image), whole)
            monkeypatch.undo()


def test_a_large_image_takes_little_more_memory_than_its_pixels() -> None:
    image = np.zeros((3000, 4000, 3), np.uint8)
    tracemalloc.start()
    Preprocess(16, 1)(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4.5 * image[:, :, 0].size + (160 << 20)  # all in 64 bits would be 384 MB


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint32", "uint64", "float64"])
def test_black_and_white_map_numbers_of_any_type(kind: str) -> None:
    image = np.linspace(-50 if kind[0] != "u" else 0, 100, 64).astype(kind).reshape(8, 8, 1)
    rule = Preprocess(8, 1, black=-50, white=100)
    expected = np.rint((image[:, :, 0].astype(np.float64) + 50) / 150 * 255).astype(np.uint8)
    assert np.array_equal(rule(image)[0], expected)


def test_other_types_need_black_and_white() -> None:
    image = np.array([[-5] * 4, [7] * 4] * 2, np.int16)[:, :, None]
    with pytest.raises(ValueError, match=r"type int16, from -5 to 7; give .* --set white="):
        Preprocess(4, 1)(image)
