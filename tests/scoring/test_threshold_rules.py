"""Rules that choose a limit, as commands take them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

from anowild.arrays import Array
from tests.conftest import Run


def odd_column(path: Path) -> list[tuple[float, int]]:
    """Score and flag of each row of a table with a limit."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [(float(row["score"]), int(row["odd"])) for row in csv.DictReader(file)]
    return [(row["score"], row["odd"]) for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_a_limit_flags_rows_of_the_table(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path, name: str
) -> None:
    np.save(tmp_path / "images.npy", digits[:60])
    code, out, err = anowild(
        "score", model_folder, tmp_path / "images.npy", "-o", tmp_path / name, "--budget", "7"
    )
    assert code == 0, err
    rows = odd_column(tmp_path / name)
    assert [odd for _, odd in rows] == [1] * 7 + [0] * 53
    assert "flagged: 7" in out
    assert "promise: You look at the 7 oddest images." in out


def test_a_false_discovery_rate_is_kept_with_calibration_images(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "images.npy", np.concatenate([digits[:50], noise]))
    np.save(tmp_path / "trained.npy", digits[50:300])
    others = load_digits().images[300:550] / 16.0 * 255
    others = np.kron(others.round().astype(np.uint8), np.ones((1, 2, 2), np.uint8))
    np.save(tmp_path / "usual.npy", others)
    path = tmp_path / "scores.csv"
    command = ["score", model_folder, tmp_path / "images.npy", "-o", path, "--fdr", "0.2"]
    code, _, err = anowild(*command)
    assert (code, "needs calibration images" in err) == (1, True)
    code, _, err = anowild(*command, "--calibration", tmp_path / "trained.npy")
    assert (code, "250 of the 250 calibration images (100 %) were trained on" in err) == (1, True)
    assert not path.exists()
    code, out, err = anowild(*command, "--calibration", tmp_path / "usual.npy")
    assert code == 0, err
    flagged = {row["path"] for row in csv.DictReader(path.open(newline="")) if row["odd"] == "1"}
    of_noise = [int(name.rpartition("[")[2].rstrip("]")) >= 50 for name in flagged]
    assert sum(of_noise) >= 20
    assert np.mean(of_noise) >= 0.7
    assert "at most 20 % are false alarms" in out


def test_what_lies_apart_is_flagged_or_nothing(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", digits[:100])
    path = tmp_path / "scores.csv"
    code, out, err = anowild("score", model_folder, tmp_path / "images.npy", "-o", path, "--auto")
    assert code == 0, err
    assert "flagged: none. Can't tell" in out
    assert not any(odd for _, odd in odd_column(path))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--budget", "3", "--auto"], "one limit at a time"),
        (["--budget", "3", "--gap"], "one limit at a time"),
        (["--budget", "0"], "budget of 0"),
        (["--expected", "2"], "expected share of 2"),
        (["--expected-share", "2"], "expected share of 2"),
        (["--calibration", "x"], "belong to a false discovery rate"),
    ],
)
def test_impossible_limits_get_a_sentence(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path, options: list[str], sentence: str
) -> None:  # fmt: skip
    np.save(tmp_path / "images.npy", digits[:20])
    code, _, err = anowild(
        "score", model_folder, tmp_path / "images.npy", "-o", tmp_path / "scores.csv", *options
    )
    assert code == 1
    assert sentence in err
    assert not (tmp_path / "scores.csv").exists()
