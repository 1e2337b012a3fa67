"""Warnings of images that use little of their range, or another one than the training images."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest

from anowild import api
from anowild.arrays import Array
from anowild.data import ImageSet, Preprocess, choose_preprocess, open_all
from anowild.data.value_range import (
    ValueRange,
    little_used,
    mixed_types,
    unlike_trained,
    warnings_of,
)
from anowild.scoring import Detector
from anowild.scoring.stream import score
from anowild.settings import Settings

RULE = Preprocess(16, 1)


def images(low: float, high: float, kind: str, channels: int = 1, count: int = 20) -> Array:
    """Images whose values reach exactly from ``low`` to ``high``."""
    shown = np.linspace(low, high, count * 256 * channels).round(0 if kind[0] != "f" else 9)
    return shown.astype(kind).reshape(count, 16, 16, channels)


def seen(*parts: Array) -> ValueRange:
    values = ValueRange()
    for part in parts:
        for image in part:
            values.add(image)
    return values


@pytest.mark.parametrize(
    ("low", "high", "kind", "mend"),
    [
        (0, 3840, "uint16", "--set black=0 --set white=4095"),
        (0, 16000, "uint16", "--set black=0 --set white=16383"),
        (40000, 41000, "uint16", "--set black=40000 --set white=41000"),
        (0, 1, "uint8", "--set black=0 --set white=1"),
        (0.25, 0.3, "float32", "--set black=0.25 --set white=0.3"),
        (0, 60000, "uint16", None),
        (0, 40, "uint8", None),
        (7, 7, "uint8", None),  # constant: nothing to stretch
    ],
)
def test_little_used_ranges_are_told_with_what_mends_them(
    low: float, high: float, kind: str, mend: str | None
) -> None:
    warning = little_used(seen(images(low, high, kind)), RULE)
    assert (warning is None) == (mend is None)
    if mend is not None:
        assert warning is not None
        assert mend in warning
        assert f"all 20 images lie between {low:g} and {high:g}" in warning


def test_given_black_and_white_count_instead_of_the_type() -> None:
    values = seen(images(0, 3840, "uint16"))
    assert little_used(values, Preprocess(16, 1, black=0, white=4095)) is None
    assert little_used(values, Preprocess(16, 1, black=0, white=60000)) is not None
    assert little_used(values, Preprocess(16, 1, contrast="normalize")) is None
    assert little_used(ValueRange(), RULE) is None


def test_mixed_types_are_told() -> None:
    values = seen(images(0, 250, "uint8"), images(0, 3000, "uint16", count=2))
    warning = mixed_types(values, RULE)
    assert warning is not None
    assert warning.startswith("the images are 20 of type uint8, 2 of type uint16: each type has")
    # One black and white for all makes it worse: 8 bits are black where 0 to 4095 is the range.
    assert mixed_types(values, Preprocess(16, 1, black=0, white=4095)) is not None
    assert mixed_types(values, Preprocess(16, 1, contrast="normalize")) is None
    assert mixed_types(seen(images(0, 250, "uint8")), RULE) is None
    assert warnings_of(values.to_json(), RULE) == [warning]
    assert warnings_of(None, RULE) == []


def test_one_bright_image_is_enough() -> None:
    assert (
        little_used(seen(images(0, 100, "uint16"), images(0, 30000, "uint16", count=1)), RULE)
        is None
    )


@pytest.mark.parametrize(
    ("scored", "said"),
    [
        (images(0, 4000, "uint16"), None),
        (images(0, 1100, "uint16"), None),
        (
            images(0, 255, "uint8"),
            "of type uint8 (values 0 to 255), those of the training were of uint16",
        ),
        (
            images(0, 65535, "uint16"),
            "run from 0 to 65535, those of the training ran from 0 to 4095",
        ),
        (images(0, 255, "uint16"), "run from 0 to 255, those of the training"),
        (images(0, 255, "uint16", count=1), None),  # one image may be dark
        (images(0, 4000, "uint16", channels=3), "have 3 channel(s), those of the training had 1"),
    ],
)
def test_images_unlike_those_of_the_training_are_told(scored: Array, said: str | None) -> None:
    trained = ValueRange.from_json(
        json.loads(json.dumps(seen(images(0, 4095, "uint16")).to_json()))
    )
    found = unlike_trained(seen(scored), trained, RULE)
    assert len(found) == (said is not None)
    if said is not None:
        assert said in found[0]


@pytest.mark.parametrize(
    "stored",
    [None, {}, [], "x", {"types": {"uint8": 1}}, {"types": {"zz": 1}, "channels": {}, "ranges": {}},
     {"types": {"uint8": 1}, "channels": {"1": 1}, "ranges": {"uint8": [1, 2, 3]}},
     *({"types": {"uint8": count}, "channels": {"1": 1}, "ranges": {"uint8": [1, 2]}}
       for count in (0, -1, 10**30, math.inf)),
     *({"types": {"uint8": 1}, "channels": {"1": 1}, "ranges": {"uint8": found}}
       for found in ([2, 1], [math.nan, 1], [0, math.inf]))],
)  # fmt: skip
def test_models_that_remember_nothing_score_without_a_warning(stored: object) -> None:
    trained = ValueRange.from_json(stored)
    assert trained is None
    assert unlike_trained(seen(images(0, 255, "uint8")), trained, RULE) == []


def test_training_warns_and_a_packed_set_remembers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    np.save(tmp_path / "x.npy", images(0, 3840, "uint16"))
    ImageSet.load(tmp_path / "x.npy", Settings())
    assert "--set black=0 --set white=4095" in caplog.text
    caplog.clear()
    api.prepare(tmp_path / "x.npy", tmp_path / "set", Settings())
    assert "--set black=0 --set white=4095" in caplog.text
    remembered = ImageSet.load(tmp_path / "set").values
    assert remembered is not None
    assert remembered.usual == ("uint16", 1, 0, 3840)


def test_scoring_warns_of_another_depth(
    detector: Detector, digits: Array, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        score(detector, digits[:20])
        assert "of the training" not in caplog.text
        score(detector, digits[:20].astype(np.uint16) * 16)
    assert caplog.text.count("most images are of type uint16") == 1


def test_most_images_decide_the_channels(tmp_path: Path) -> None:
    parts = {"gray": images(0, 255, "uint8"), "many": images(0, 255, "uint8", 5, 3)}
    parts |= {"color": images(0, 255, "uint8", 3, 2), "pairs": images(0, 255, "uint8", 2, 21)}
    for name, part in parts.items():
        np.save(tmp_path / f"{name}.npy", part)

    def channels(*names: str) -> int:
        readers = open_all([tmp_path / f"{name}.npy" for name in names])
        return choose_preprocess(readers, Settings()).channels

    assert channels("gray", "many") == 1
    assert channels("gray", "color") == 3  # gray can be shown in color
    assert channels("many", "color") == 5
    assert channels("gray", "pairs") == 2
    loaded = ImageSet.load([tmp_path / "gray.npy", tmp_path / "many.npy"], Settings())
    assert len(loaded) == 20
    assert [image.reason for image in loaded.left_out] == [
        "it has 5 channels where 1 are expected"
    ] * 3  # fmt: skip
