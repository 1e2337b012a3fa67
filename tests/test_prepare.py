"""From sources to packed data sets and on to a model, on the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anowild import api
from anowild.api import prepare
from anowild.arrays import Array
from anowild.data import ImageSet, PackedSet
from anowild.scoring import Detector
from anowild.settings import Settings
from tests.conftest import Run, tiny_settings
from tests.test_cli import TINY

#: The pretrained network takes longer than all else.
VIEWS = ("--views", "gan,transforms,pixels")
CELLS = Path(__file__).parent / "data" / "files" / "cells"


def test_the_whole_way_from_labeled_images_to_an_evaluation(
    anowild: Run, digits: Array, tmp_path: Path
) -> None:
    np.save(tmp_path / "train.npy", np.concatenate([digits[:150], 255 - digits[150:200]]))
    np.save(tmp_path / "test.npy", np.concatenate([digits[200:230], 255 - digits[230:260]]))
    np.save(tmp_path / "labels.npy", np.repeat([0, 1, 0, 1], [150, 50, 30, 30]))
    code, out, _ = anowild(
        "prepare", tmp_path / "train.npy", "--test", tmp_path / "test.npy",
        "--labels", tmp_path / "labels.npy", "-o", tmp_path / "set", "--leaks", "keep",
    )  # fmt: skip
    assert code == 0
    assert "260 images (200 for train and 60 for test) of 16x16" in out
    code, out, _ = anowild(
        "contaminate", tmp_path / "set", "-o", tmp_path / "spoilt", "--rate", "0.1"
    )
    assert code == 0
    assert "17 of the training images are anomalies" in out
    assert anowild("data", "show", tmp_path / "spoilt")[0] == 0
    assert anowild("train", tmp_path / "spoilt", "-o", tmp_path / "model", *VIEWS, *TINY)[0] == 0
    code, out, _ = anowild(
        "evaluate", tmp_path / "model", f"{tmp_path / 'spoilt'}:test", "--labels", "source"
    )
    assert code == 0
    assert "30 normal images, 30 anomalies" in out


def test_frames_become_crops_and_crops_a_ranked_table(anowild: Run, tmp_path: Path) -> None:
    code, out, _ = anowild(
        "prepare", CELLS / "frames", "-o", tmp_path / "set",
        "--crop-objects", "--object-size", 56, "--size", 16, "--thin", "0",
        "--levels", "video", "--padding", "edge",
    )  # fmt: skip
    assert code == 0, out
    packed = PackedSet(tmp_path / "set")
    assert len(packed) > 20
    with Image.open(tmp_path / "set" / "contact_sheet.png") as sheet:
        assert min(sheet.size) > 200
    row = packed.manifest().to_pylist()[0]
    assert Path(row["source"]).parent == CELLS / "frames"
    assert (row["height"], row["width"]) == (112, 112)
    assert isinstance(row["top"], int)
    assert packed.description["recipe"]["how"]["crops"]["levels"] == "video"
    assert anowild("train", tmp_path / "set", "-o", tmp_path / "model", *VIEWS, *TINY)[0] == 0
    assert anowild("score", tmp_path / "model", tmp_path / "set", "-o", tmp_path / "s.csv")[0] == 0
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(packed)
    assert "@" in rows[0]["path"]


def test_masks_take_the_place_of_detection(anowild: Run, tmp_path: Path) -> None:
    code, out, _ = anowild(
        "prepare", CELLS / "frames", "-o", tmp_path / "set", "--crop-objects",
        "--object-size", 56, "--masks", CELLS / "masks", "--size", 16, "--thin", "0",
    )  # fmt: skip
    assert code == 0, out
    instances = sum(
        len(np.unique(np.asarray(Image.open(path)))) - 1 for path in (CELLS / "masks").iterdir()
    )
    assert len(PackedSet(tmp_path / "set")) == instances


def test_a_packed_set_trains_to_the_same_bits_as_its_images(digits: Array, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", digits)
    packed = prepare(tmp_path / "x.npy", tmp_path / "set", leaks="keep")
    settings = tiny_settings(kimg=0.2, mirror=True, rotate=True)
    first = api.train(digits, tmp_path / "a", settings)
    second = api.train(packed.path, tmp_path / "b", settings)
    (a,), (b,) = first.views, second.views
    others = b.tensors()
    for name, value in a.tensors().items():
        assert value.equal(others[name]), name
    images = ImageSet.load(digits, preprocess=first.preprocess)
    table = api.score(second, packed.path)
    assert np.array_equal(first.score(images).score, table.scores.score)


def test_sixteen_bit_images_train_and_score(digits: Array, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", digits.astype(np.uint16) * 16)  # 12 bits
    settings = Settings().replace(bits=16, black=0, white=4080)
    packed = prepare(tmp_path / "x.npy", tmp_path / "set", settings)
    assert packed.images("train").dtype == np.uint16
    detector = api.train(packed.path, tmp_path / "model", tiny_settings(kimg=0.2))
    again = Detector.load(tmp_path / "model")
    assert again.preprocess == packed.preprocess
    deep = again.score(ImageSet.load(tmp_path / "x.npy", preprocess=again.preprocess)).score
    assert np.array_equal(detector.score(np.asarray(packed.images("train"))).score, deep)
    assert np.isfinite(deep).all()


def test_a_set_prepared_like_a_model_can_be_scored_by_it(
    anowild: Run, digits: Array, model_folder: Path, tmp_path: Path
) -> None:
    large = np.kron(digits[:20], np.ones((1, 3, 3), np.uint8))
    np.save(tmp_path / "x.npy", large)
    assert anowild("prepare", tmp_path / "x.npy", "-o", tmp_path / "own")[0] == 0
    code, _, err = anowild("score", model_folder, tmp_path / "own", "-o", tmp_path / "s.csv")
    assert code == 1
    assert "resolution 64, not 16" in err
    assert "--like MODEL" in err
    like = ("prepare", tmp_path / "x.npy", "-o", tmp_path / "like", "--like", model_folder)
    assert anowild(*like)[0] == 0
    assert anowild("score", model_folder, tmp_path / "like", "-o", tmp_path / "s.csv")[0] == 0
    direct = api.score(model_folder, tmp_path / "x.npy").scores.score
    packed = api.score(model_folder, tmp_path / "like").scores.score
    assert np.array_equal(direct, packed)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 99}, "was written by a later version of AnoWild"),
        ({"format": "7"}, "is not of format 4 to 7"),
        ({"preprocess": {}}, "is damaged"),
        ({"preprocess": {"resolution": 33}}, "is damaged"),
        ({"weights_id": 5}, "is damaged (weights_id is 5"),
    ],
)
def test_a_set_is_prepared_like_no_damaged_model(
    anowild: Run, digits: Array, model_folder: Path, tmp_path: Path,
    change: dict[str, Any], sentence: str,
) -> None:  # fmt: skip
    np.save(tmp_path / "x.npy", digits[:5])
    (tmp_path / "model").mkdir()
    value = json.loads((model_folder / "model.json").read_text())
    if "resolution" in change.get("preprocess", {}):
        change = {"preprocess": value["preprocess"] | change["preprocess"]}
    (tmp_path / "model" / "model.json").write_text(json.dumps(value | change))
    like = ("prepare", tmp_path / "x.npy", "-o", tmp_path / "set", "--like", tmp_path / "model")
    code, _, err = anowild(*like)
    assert code == 1
    assert sentence in err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--object-size", "20"], "need --crop-objects"),
        (["--crop-objects"], "needs --object-size"),
        (["--crop-objects", "--object-size", "1"], "object size 1"),
        (["--crop-objects", "--object-size", "9", "--thin", "x"], "two numbers with a comma"),
        (["--crop-objects", "--object-size", "9", "--levels", "5"], "two numbers with a comma"),
        (["--crop-objects", "--object-size", "9", "--levels", "5,3"], "the first becomes black"),
        (["--crop-objects", "--object-size", "9", "--padding", "x"], "padding 'x'"),
        (["--crop-objects", "--object-size", "nan"], "object size nan"),
        (["--masks", "x.tif"], "--crop-objects"),
        (["--size", "30"], "resolution"),
        (["--set", "black=3"], "given together with white"),
        (["--set", "fit=x"], "fit"),
        (["--like", "absent"], "absent: there is no trained model"),
        (["--labels", "absent.csv"], "cannot be read as a file of labels"),
    ],
)
def test_mistakes_get_a_sentence(
    anowild: Run, folder_of: Callable[..., Path], digits: Array, tmp_path: Path,
    options: list[str], sentence: str,
) -> None:  # fmt: skip
    code, _, err = anowild("prepare", folder_of(digits[:5]), "-o", tmp_path / "set", *options)
    assert code == 1
    assert sentence in err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("option", ["--leaks", "--thin"])
def test_impossible_choices_name_the_option(anowild: Run, tmp_path: Path, option: str) -> None:
    code, _, err = anowild("prepare", tmp_path, "-o", tmp_path / "set", option, "x")
    assert code != 0
    assert option in err


def test_evaluation_without_known_classes_says_so(
    anowild: Run, digits: Array, model_folder: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", digits[:10])
    code, _, err = anowild("evaluate", model_folder, tmp_path / "x.npy", "--labels", "source")
    assert code == 1
    assert "its source tells no class" in err
