"""A limit that is kept with a model, and rules and commands that use it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anowild import api
from anowild.arrays import Array
from anowild.errors import UserError
from anowild.scoring.saved_limit import (
    LIMIT,
    LimitInUse,
    chosen_limit,
    limit_in_use,
    load_limit,
    save_limit,
)
from anowild.scoring.threshold_rules import FixedScore
from tests.conftest import Run


@pytest.fixture
def model(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model, that may be changed."""
    shutil.copytree(model_folder, tmp_path / "model", ignore=shutil.ignore_patterns("training"))
    return tmp_path / "model"


def test_a_limit_is_kept_and_replaced(model: Path) -> None:
    assert load_limit(model) is None
    with pytest.raises(UserError, match="no limit is kept with this model"):
        chosen_limit(model)
    for score in (1.5, 2.25):
        kept = save_limit(model, score)
        assert load_limit(model) == kept
        assert (kept.score, kept.training_images) == (score, 300)
        assert chosen_limit(model) == score
        assert FixedScore.saved(model) == FixedScore(score)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_limit_is_a_number(model: Path, score: float) -> None:
    with pytest.raises(UserError, match="has to be a number"):
        save_limit(model, score)
    assert not (model / LIMIT).exists()


@pytest.mark.parametrize("text", ["{}", "[]", '{"score": "x"}', '{"score": null}', "{"])
def test_a_damaged_limit_is_named(model: Path, text: str) -> None:
    (model / LIMIT).write_text(text)
    with pytest.raises(UserError, match=r"limit\.json: is damaged"):
        load_limit(model)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("score", True, "score is True: it must be"),
        ("score", 10**400, "score is 1000"),
        ("saved", 5, "saved is 5: it must be a text"),
        ("training_images", -1, "training_images is -1: it must be from 0"),
        ("model", None, "model is None: it must be a text"),
        ("other", 1, "other is not known"),
    ],
)
def test_a_wrong_limit_is_told_by_field(model: Path, field: str, value: Any, said: str) -> None:
    save_limit(model, 2.0)
    kept = json.loads((model / LIMIT).read_text())
    (model / LIMIT).write_text(json.dumps(kept | {field: value}))
    with pytest.raises(UserError, match=said):
        load_limit(model)


def test_a_limit_of_an_earlier_training_is_used_with_a_word(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_limit(model, 2.0)
    value = json.loads((model / LIMIT).read_text())
    (model / LIMIT).write_text(json.dumps(value | {"model": "another"}))
    assert chosen_limit(model) == 2.0
    assert "before the model was trained again" in caplog.text


def test_the_limit_in_use_is_the_given_or_the_kept_one_or_what_five_percent_reach(
    model: Path,
) -> None:
    assert limit_in_use(model) == limit_in_use(None) == LimitInUse(1.3, "default")
    save_limit(model, 2.25)
    assert limit_in_use(model) == LimitInUse(2.25, "saved")
    assert limit_in_use(model, 3.0) == LimitInUse(3.0, "given")
    with pytest.raises(UserError, match="has to be a number"):
        limit_in_use(model, float("nan"))


def test_a_limit_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no trained model"):
        save_limit(tmp_path, 2.0)


def test_a_fixed_score_says_what_it_promises(model: Path, digits: Array) -> None:
    table = api.score(model, digits, rule=FixedScore(1.0))
    assert table.threshold is not None
    assert table.threshold.flagged == (table.score >= 1.0).sum()
    assert "about 10 % of the training images score as high" in table.threshold.promise
    high = api.score(model, digits, rule=FixedScore(9.0)).threshold
    assert high is not None
    assert "hardly any of the 300 training images" in high.promise


def test_the_command_keeps_a_limit_that_others_use(
    anowild: Run, model: Path, digits: Array, tmp_path: Path
) -> None:
    images = tmp_path / "images.npy"
    np.save(images, digits[:60])
    saved = ("--threshold", "saved")
    code, _, err = anowild("score", model, images, *saved)
    assert (code, "choose one with `anowild limit" in err) == (1, True)
    code, out, _ = anowild("limit", model)
    assert (code, "no limit is kept" in out) == (0, True)
    code, out, _ = anowild("limit", model, 1)
    assert (code, "use it with --threshold saved" in out) == (0, True)
    assert "1.00, kept on 20" in anowild("limit", model)[1]

    code, out, err = anowild("score", model, images, *saved)
    assert code == 0, err
    assert "(score 1.00 or more)" in out
    np.save(tmp_path / "truth.npy", np.arange(60) < 30)
    labels = ("--labels", tmp_path / "truth.npy", "--json")
    results = [
        json.loads(anowild("evaluate", model, images, *labels, "--threshold", limit)[1])
        for limit in ("saved", 1, 0)
    ]
    assert results[0] == results[1]
    assert results[0]["threshold"] == 1
    assert results[2]["flagged"] == 60


@pytest.mark.parametrize(
    ("threshold", "sentence"), [("much", "takes a score, such as 2.5, or saved"), ("nan", "has to be a number")]
)  # fmt: skip
def test_a_limit_that_is_no_score_is_refused(
    anowild: Run, model_folder: Path, threshold: str, sentence: str
) -> None:
    for command in (("score",), ("report", "-o", "r.html"), ("evaluate", "--labels", "folders")):
        code, _, err = anowild(
            command[0], model_folder, "x", *command[1:], "--threshold", threshold
        )
        assert (code, sentence in err) == (1, True), err
