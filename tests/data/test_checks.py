"""Cheap checks: measures of originals, and what they find among photographs and digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits

from anowild.api import prepare
from anowild.arrays import Array
from anowild.data.checks import FEWEST, KINDS, MEASURES, Facts, find_findings, measure
from anowild.data.readers import Record, open_source
from bench import photographs


def scene(seed: int = 0) -> Array:
    """Rectangles of many values: uint8 [300, 400, 3]."""
    rng = np.random.default_rng(seed)
    image = np.full((300, 400, 3), 120, np.uint8)
    for _ in range(60):
        y, x = rng.integers(0, 300), rng.integers(0, 400)
        image[y : y + rng.integers(5, 60), x : x + rng.integers(5, 60)] = rng.integers(20, 236, 3)
    return image


def facts(images: list[Array], names: list[str] | None = None) -> Facts:
    measured = [measure(image) for image in images]
    return Facts(
        names=names or [f"{i}.png" for i in range(len(images))],
        width=np.array([image.shape[1] for image in images]),
        height=np.array([image.shape[0] for image in images]),
        measures={name: np.array([each[name] for each in measured]) for name in MEASURES},
        duplicate_of=np.full(len(images), -1),
        near_duplicate_of=np.full(len(images), -1),
    )


def texts(found: Facts) -> dict[str, dict[str, str]]:
    """Texts by kind and name."""
    return {
        finding.kind: {
            found.names[i]: text
            for i, text in zip(finding.numbers, finding.texts, strict=True)
        }
        for finding in find_findings(found)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1.0), (np.float64, 1.0)]
)
def test_measure_of_every_type_is_the_same(dtype: type, white: float) -> None:
    image = scene()
    scaled: Array = (image / 255 * white).astype(dtype)
    for name, value in measure(image).items():
        assert measure(scaled)[name] == pytest.approx(value, rel=0.02, abs=0.01), name


def test_measure_of_booleans_is_that_of_black_and_white() -> None:
    image = scene()[:, :, :1] > 120
    assert measure(image) == pytest.approx(measure(image.astype(np.uint8) * 255))


def test_measure_takes_12_bits_in_16_for_bright() -> None:
    image = (scene() / 255 * 4095).astype(np.uint16)
    assert measure(image)["brightness"] == pytest.approx(measure(scene())["brightness"], abs=0.01)


def test_measure_takes_the_black_and_white_that_are_given() -> None:
    floats = scene() / 255 * 3000 - 1000
    given = measure(floats, (-1000, 2000))
    assert given == pytest.approx(measure(scene()), rel=0.02, abs=0.01)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 3), (4, 4, 1), (3000, 2, 1), (40, 30, 5)])
@pytest.mark.parametrize("value", [0, 255])
def test_measure_of_constant_images_of_any_shape(shape: tuple[int, ...], value: int) -> None:
    found = measure(np.full(shape, value, np.uint8))
    assert found.keys() == MEASURES.keys()
    assert found["sharpness"] == found["contrast"] == found["detail"] == 0
    assert found["brightness"] == value / 255
    assert (found["dark"], found["bright"]) == ((1, 0) if value == 0 else (0, 1))


def test_measure_of_values_that_are_not_finite_is_finite() -> None:
    image = scene() / 255
    image[0, 0], image[5, 5] = np.nan, np.inf
    assert all(np.isfinite(value) for value in measure(image).values())


def test_sharpness_falls_with_blur_alone() -> None:
    image = Image.fromarray(scene())
    sharp = measure(scene())["sharpness"]
    blurred = [
        measure(np.asarray(image.filter(ImageFilter.GaussianBlur(radius))))["sharpness"]
        for radius in (1, 2, 4)
    ]
    assert sharp > 2 * blurred[0] > 4 * blurred[1] > 4 * blurred[2]
    darker = (scene() * 0.2).astype(np.uint8)
    assert measure(darker)["sharpness"] == pytest.approx(sharp, rel=0.1)
    plain = np.full((300, 400, 3), 120, np.uint8)  # little content, but sharp
    plain[50:150, 50:150] = scene()[50:150, 50:150]
    assert measure(plain)["sharpness"] > sharp / 2


def test_dark_is_only_said_where_others_are_not() -> None:
    on_black = [(scene(seed) * 0.08).astype(np.uint8) for seed in range(20)]
    assert texts(facts(on_black)) == {}
    mixed = [scene(seed) for seed in range(20)] + on_black[:1]
    assert texts(facts(mixed)).keys() == {"dark"}


def test_blurred_is_only_said_where_others_are_not() -> None:
    soft = [
        np.asarray(Image.fromarray(scene(seed)).filter(ImageFilter.GaussianBlur(4)))
        for seed in range(20)
    ]
    assert texts(facts(soft)) == {}
    mixed = [scene(seed) for seed in range(20)] + soft[:1]
    assert texts(facts(mixed)).keys() == {"blurred"}


def test_overexposed_is_not_said_of_a_usual_white_background() -> None:
    def cut_out(seed: int) -> Array:
        image = np.full((300, 400, 3), 255, np.uint8)
        image[100:200, 100:200] = scene(seed)[100:200, 100:200]
        return image

    assert texts(facts([cut_out(seed) for seed in range(20)])) == {}
    assert texts(facts([*map(scene, range(20)), cut_out(0)])).keys() == {"overexposed"}


def test_a_constant_image_has_one_finding_however_few_images_there_are() -> None:
    black = np.zeros((300, 400, 3), np.uint8)
    for count in (0, FEWEST, 40):
        found = texts(facts([*map(scene, range(count)), black]))
        text = found.pop("constant")[f"{count}.png"]
        assert text == "constant: all its pixels are 0 of 255 (black)"
        assert not found


def test_images_of_little_range_are_not_constant_because_all_are() -> None:
    floats = [scene(seed) / 255 * 0.005 for seed in range(20)]
    assert texts(facts(floats)) == {}
    found = texts(facts([*map(scene, range(20)), floats[0] + 0.5]))
    assert found["constant"]["20.png"].startswith("nearly constant: contrast 0.")


def test_size_is_odd_beside_nearly_all_others() -> None:
    found = texts(facts([*map(scene, range(20)), scene().transpose(1, 0, 2), scene()[:, :399]]))
    assert found == {
        "odd size": {
            "20.png": "upright, 300x400 pixels, where 20 of 22 are wide, 400x300 pixels",
            "21.png": "wide, 399x300 pixels, where 20 of 22 are wide, 400x300 pixels",
        }
    }


def test_size_is_odd_far_from_others_that_differ() -> None:
    images = [scene(i)[: 300 - i, : 400 - 3 * i] for i in range(20)]
    assert texts(facts(images)) == {}
    upright, icon, strip = scene().transpose(1, 0, 2), scene()[:30, :40], scene()[:60, :400]
    found = texts(facts([*images, upright, icon, strip]))["odd size"]
    assert found["20.png"] == "upright, 300x400 pixels, where 22 of 23 are wide"
    assert found["21.png"].startswith("wide, 40x30 pixels: root of the area 35, usual is ")
    assert found["22.png"].startswith("wide, 400x60 pixels: 6.7 times as long as wide, usual is ")


def test_images_without_measures_have_no_findings_of_light() -> None:
    known = facts([scene(seed) for seed in range(20)])
    unknown = {name: np.full(20, np.nan) for name in MEASURES}
    assert find_findings(Facts(**(vars(known) | {"measures": unknown}))) == []


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Facts]:
    """The photographs: what was planted, and the facts of a packed data set."""
    folder = tmp_path_factory.mktemp("camera") / "photographs"
    kinds = photographs.make(folder)
    records = [r for r in open_source(str(folder)) if isinstance(r, Record)]
    table = prepare(folder, folder.with_name("set")).manifest()
    rows = np.flatnonzero(table["index"].is_valid().to_numpy(zero_copy_only=False))
    number = np.full(len(table), -1)
    number[rows] = np.arange(len(rows))
    known = facts(
        [record.pixels for record in records],
        [str(Path(record.name).relative_to(folder)) for record in records],
    )
    others = {}
    for name in ("duplicate_of", "near_duplicate_of"):
        of = table[name].fill_null(-1).to_numpy()[rows]
        others[name] = np.where(of >= 0, number[of], -1)
    return kinds, Facts(**(vars(known) | others))


@pytest.mark.slow  # tests/finding/test_photographs.py has the quick one
def test_every_planted_oddity_of_a_cheap_check_is_found(
    planted: tuple[dict[str, str], Facts],
) -> None:
    kinds, known = planted
    assert len(known.names) == 63
    assert sorted(kinds.values()) == sorted(
        ["blurred"] * 2 + ["turned"] * 2
        + ["dark", "black", "overexposed", "duplicate", "near duplicate", "page"]
    )  # fmt: skip
    found = texts(known)
    assert found.keys() <= KINDS.keys()
    where = {"black": ("dark", "nearly black: "), "turned": ("odd size", "upright, 1000x1500 ")}
    for path, kind in kinds.items():
        if kind == "page":  # no cheap check sees that it is another thing
            continue
        finding, begins = where.get(kind, (kind, f"{kind}: "))
        if kind == "duplicate":
            begins = f"equal to 2026-05/{Path(path).name}"
        elif kind == "near duplicate":
            begins = f"hardly different from 2026-05/{Path(path).name.replace('-small', '')}"
        assert found[finding][path].startswith(begins), path


@pytest.mark.slow
def test_few_other_photographs_have_findings(planted: tuple[dict[str, str], Facts]) -> None:
    kinds, known = planted
    named = {name for of_kind in texts(known).values() for name in of_kind}
    assert len(named - set(kinds)) <= 2


def test_photographs_are_the_same_for_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "SIZE", (150, 100))  # the same draws, in a moment
    kinds = photographs.make(tmp_path / "one")
    assert photographs.make(tmp_path / "two") == kinds
    for path in kinds:
        one, two = ((tmp_path / name / path).read_bytes() for name in ("one", "two"))
        assert one == two


def test_digits_have_no_findings_of_light() -> None:
    images = [(x / 16 * 255).astype(np.uint8)[:, :, None] for x in load_digits().images[:300]]
    assert texts(facts(images)) == {}
