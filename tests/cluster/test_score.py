"""Tables of scores that a local Ray cluster makes, against those of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anowild import api
from anowild.arrays import Array
from anowild.cluster import engine
from anowild.cluster.engine import Result
from anowild.cluster.score import score
from anowild.errors import UserError
from anowild.presets import preset
from anowild.scoring import Detector, Table
from anowild.scoring.partitions import PartitionedTable
from anowild.scoring.threshold_rules import Budget
from tests.cluster.test_pieces import folder, write_parquet, write_tar
from tests.conftest import Run, wait_until

ray: Any = pytest.importorskip("ray")

#: Images of a part.
SIZE = 30


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two workers on this machine, for all tests of this file."""
    with engine._connected(ray, 2):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, digits: Array) -> Path:
    path = tmp_path_factory.mktemp("cluster") / "model"
    settings = preset("quick").settings().replace(views=("pixels",), resolution=16)
    api.train(digits[:150], path, settings)
    return path


@pytest.fixture
def sources(tmp_path: Path, digits: Array) -> list[str]:
    """230 images of three kinds, and one that is none."""
    return [
        str(folder(tmp_path / "images", digits[:90])),
        str(write_tar(tmp_path / "shards" / "one.tar", digits[90:150])),
        str(write_parquet(tmp_path / "more.parquet", digits[150:230], 20)),
    ]


def assert_same(table: PartitionedTable, one: Table) -> None:
    """Check that both list the same images, once, with the same bits."""
    expected = one.rows()
    assert table.rows(range(1, len(table) + 1)) == expected
    assert len({row.path for row in expected}) == len(expected) == len(table)
    assert sum(found.count for found in table.left_out) == one.left_out


def test_each_image_is_scored_once_though_a_worker_is_killed(
    cluster: None,
    model: Path,
    sources: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    killed: list[int] = []
    seen: list[int] = []

    def kill_first(result: Result) -> None:
        seen.append(result.number)
        if not killed:
            killed.append(result.process)
            os.kill(result.process, signal.SIGKILL)

    out = tmp_path / "scores"
    table = score(model, sources, out, Budget(7), workers=2, images_a_part=SIZE, watch=kill_first)
    one = api.score(model, sources, rule=Budget(7))
    assert killed
    assert sorted(seen) == list(range(len(table.paths)))
    assert len(table.paths) == 7
    assert_same(table, one)
    assert table.threshold == one.threshold
    assert f"left out {sources[0]}/train/broken.png" in caplog.text
    stdout, stderr = capfd.readouterr()
    assert not stdout
    assert "Ray" not in stderr
    assert "raylet" not in stderr

    # The same command goes on with what is missing.
    table.paths[3].unlink()
    (out / "table.json").unlink()
    seen.clear()
    table = score(model, sources, out, workers=2, images_a_part=SIZE, watch=kill_first)
    assert seen == [3]
    assert_same(table, one)
    assert table.threshold is None
    with pytest.raises(UserError, match="table of other images"):
        score(model, sources[:2], out, images_a_part=SIZE)


def test_an_error_of_a_worker_is_one_sentence(
    cluster: None, model: Path, sources: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="device 'cuda:7' cannot be used"):
        score(model, sources[1], tmp_path / "scores", device="cuda:7", workers=1)


def test_options_that_do_not_go_together_are_refused(
    anowild: Run, model: Path, tmp_path: Path
) -> None:
    for words, problem in (
        (["--workers", 2], "--workers is about --engine ray"),
        (["--engine", "ray"], "writes a folder: name it"),
        (["--engine", "ray", "-o", tmp_path / "s.csv"], "write a folder, not a file"),
        (["--engine", "ray", "-o", tmp_path / "s", "--json"], "--json does not go with"),
    ):
        code, _, err = anowild("score", model, tmp_path, *words)
        assert code == 1
        assert problem in err


def test_without_ray_one_sentence_says_how_to_get_it(
    anowild: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = anowild("score", model, tmp_path, "--engine", "ray", "-o", tmp_path / "scores")
    assert code == 1
    assert "pip install 'anowild[ray]'" in err
    assert not (tmp_path / "scores").exists()
