"""What this package wrote into the folder of images is no image, and changes no set of images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from anowild import api
from anowild.arrays import Array
from anowild.data.readers import open_source
from anowild.finding.job import Job
from anowild.reviewing.session import ReviewSession
from anowild.scoring import Detector
from anowild.scoring.threshold_rules import Budget
from tests.conftest import tiny_settings


def test_outputs_inside_the_source_are_passed_over(
    folder_of: Callable[..., Path],
    digits: Array,
    detector: Detector,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder_of(digits[:24]))
    expected = [f"{i:04d}.png" for i in range(24)]
    shutil.copytree(model_folder, "model")
    assert list(Path("model").rglob("*.png"))
    api.score(detector, ".", "t.csv", Budget(3))
    api.clean("t.csv", "cleaned")
    api.clean("t.csv", "copied", "copies")
    api.prepare(".", "set")
    ReviewSession.make(Path("reviewed"), detector, ".")
    Job(".", Path("found"), tiny_settings())
    (Path("found") / "a.png").symlink_to("../0000.png")
    reader = open_source(".")
    assert [record.name for record in reader] == expected
    passed = {one.reason: one.count for one in reader.passed_over()}
    assert passed["folders that anowild wrote"] == 6
    # Each can be given itself.
    assert len(list(open_source("copied"))) == 21
    # Half a model, as Ctrl-C leaves it.
    for name in ("model.json", "model.safetensors"):
        Path("model", name).unlink()
    assert [record.name for record in open_source(".")] == expected


def test_a_model_inside_the_images_is_trained_on_by_the_same_command(
    folder_of: Callable[..., Path], digits: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder_of(digits[:24]))
    settings = tiny_settings(kimg=0.2)
    first = api.train(".", "model", settings)
    assert list(Path("model").rglob("*.png"))
    again = api.train(".", "model", settings)
    assert again.training_info["images"] == 24
    assert again.checksum == first.checksum
