"""A study end to end: what it costs, that it resumes, skips, survives failures; its tables and plots."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from anowild.errors import UserError
from anowild.settings import Settings
from anowild.study import sweep, tables
from anowild.study import trial as trial_module
from anowild.study.trial import RESULT
from tests.conftest import PATIENCE, Run, tiny_settings, wait_until

CPU = torch.device("cpu")
TINY = {"kimg": 0.2, "initial_resolution": None, "tick_kimg": 0.1, "fmap_max": 4}
OPTIONS = [
    part
    for name, value in {**TINY, "resolution": 8, "fmap_base": 64, "minibatch": 16}.items()
    for part in ("--set", f"{name}={value}")
]


def tiny() -> Settings:
    return tiny_settings(**TINY, resolution=8)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rates, two ways of training and a baseline, with two seeds, done in this process."""
    out = tmp_path_factory.mktemp("study")
    for trial in plan(out):
        trial_module.write(trial, out / trial.place)
        trial_module.run(trial, out / trial.place, CPU)
    return out


def plan(out: Path) -> list[trial_module.Trial]:
    return sweep.plan(out, ["digits_3"], [0.0, 0.1], ["joint", "robust", "pca"], [0, 1], tiny())


def test_the_plan_and_its_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = sweep.plan(
        tmp_path, ["digits_3"], [0, 0.1], ["joint", "sequential", "knn"], [0], tiny()
    )
    assert len(trials) == 6
    assert len({trial.place for trial in trials}) == 6
    assert sweep.cost(trials[:1], tmp_path, CPU).hours > 0
    # Two measurements differ by how busy the machine is: add up with a pace that is given.
    monkeypatch.setattr(sweep, "_seconds_per_kimg", lambda trial, device: 3600.0)
    assert sweep.cost(trials[:2], tmp_path, CPU).hours == pytest.approx(2 * tiny().kimg)
    (tmp_path / trials[0].place).mkdir(parents=True)
    (tmp_path / trials[0].place / RESULT).write_text("{}")
    assert sweep.cost(trials, tmp_path, CPU).done == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sets": ["moon"]}, "set 'moon': unknown"),
        ({"names": ["moon"]}, "method 'moon': unknown"),
        ({"rates": [0.7]}, "rate 0.7"),
    ],
)
def test_impossible_plans_are_refused(changes: dict[str, list[str]], sentence: str) -> None:
    given = {"sets": ["digits_3"], "rates": [0.1], "names": ["joint"], "seeds": [0]} | changes
    with pytest.raises(UserError, match=sentence):
        sweep.plan(Path(), settings=tiny(), **given)  # type: ignore[arg-type]


def test_what_is_done_is_not_done_again(study: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in study.glob(f"*/*/*/*/{RESULT}")}
    assert len(stamps) == 12
    assert sweep.run(plan(study), study, 2, 1, ["cpu"]) == []
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    others = sweep.plan(study, ["digits_3"], [0.1], ["joint"], [0], tiny().replace(kimg=0.3))
    with pytest.raises(UserError, match="a study with other settings"):
        sweep.run(others, study, 1, 1, ["cpu"])


def test_robust_cells_tell_how_good_their_suspects_are(study: Path) -> None:
    result = json.loads((study / "digits_3/10pct/robust/seed0" / RESULT).read_text())
    found = result["suspects"]
    assert 0 <= found["precision_at_k_over_looks"] <= 1
    assert found["left_out_injected"] <= found["left_out"] <= 0.1 * result["training_images"]
    clean = json.loads((study / "digits_3/0pct/robust/seed0" / RESULT).read_text())
    assert clean["suspects"]["precision_at_k"] is None


def test_tables(study: Path, anowild: Run, tmp_path: Path) -> None:
    code, out, err = anowild(
        "study", "table", "-o", study, "--parquet", tmp_path / "rows.parquet",
        "--plots", tmp_path / "plots",
    )  # fmt: skip
    assert code == 0, err
    assert "### `digits_3` at 8x8" in out
    assert "| joint: combined score | 0." in out
    assert "| PCA reconstruction | 0." in out
    assert "| robust - joint: combined score | " in out
    assert "| joint: combined score - PCA reconstruction | " in out
    assert "| digits_3, 10 % | 0." in out
    code, brief, err = anowild("study", "table", "-o", study, "--brief")
    assert "| PCA reconstruction | 0." in brief
    assert "| joint: residual | " not in brief
    assert "| joint: residual | " in out
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    pca = [r for r in rows if r["method"] == "pca" and r["rate"] == 0.1]
    expected = f"{np.mean([r['auroc'] for r in pca]):.3f}"
    assert f"| {expected} ±" in next(x for x in out.splitlines() if x.startswith("| PCA"))
    for name in ("contamination", "scores", "latent_norm"):
        with Image.open(tmp_path / "plots" / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_collect_reads_the_earlier_spelling_of_scores(tmp_path: Path) -> None:
    path = tmp_path / "digits_3" / "0pct" / "joint" / "seed0" / RESULT
    path.parent.mkdir(parents=True)
    scores = ["latent_neighbours", "5 nearest neighbours, E's features", "residual"]
    path.write_text(json.dumps({"rows": [{"score": score} for score in scores]}))
    (result,) = tables.collect(tmp_path)
    assert [row["score"] for row in result["rows"]] == [
        "latent_neighbors", "5 nearest neighbors, E's features", "residual",
    ]  # fmt: skip


def test_a_difference_is_of_pairs() -> None:
    values = {("s", "a"): [0.9, 0.8, 0.7, 0.5], ("s", "b"): [0.8, 0.7, 0.6], ("t", "a"): [0.5],
              ("t", "b"): [0.7]}  # fmt: skip
    rows = [
        {"set": name, "rate": 0.1, "seed": seed, "method": method, "auroc": value}
        for (name, method), group in values.items()
        for seed, value in enumerate(group)
    ]
    found = tables.differences(rows, lambda r: r["method"] == "a", lambda r: r["method"] == "b")
    assert list(found) == ["s", "t"]
    assert np.allclose(found["s"], 0.1)
    assert np.allclose(found["t"], [-0.2])


def test_the_interval_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    found = [tables.Interval.from_values(list(rng.normal(1, 2, 5))) for _ in range(1000)]
    hits = [interval.low <= 1 <= interval.high for interval in found]
    assert 0.93 < np.mean(hits) < 0.97
    assert str(tables.Interval.from_values([0.1, 0.1])) == "+0.100 [+0.100, +0.100] (2)"


def test_a_table_needs_results(anowild: Run, tmp_path: Path) -> None:
    code, _, err = anowild("study", "table", "-o", tmp_path)
    assert (code, "holds no results" in err) == (1, True)
    code, _, err = anowild("study", "table", "-o", tmp_path, "--rates", "many")
    assert code == 1


def arguments(data: Path, out: Path) -> list[str]:
    return [
        "study", "run", "--data", str(data), "-o", str(out), "--sets", "digits_3", "--rates", "0.1",
        "--methods", "joint", "--seeds", "2", "--jobs", "2", *OPTIONS,
    ]  # fmt: skip


def test_a_dry_run_runs_nothing(anowild: Run, tmp_path: Path) -> None:
    code, out, err = anowild(*arguments(tmp_path, tmp_path / "out"), "--dry-run")
    assert code == 0, err
    assert "2 trials, 0 of them done" in out
    assert not (tmp_path / "out").exists()


def test_a_cell_that_fails_is_named_and_the_others_go_on(anowild: Run, tmp_path: Path) -> None:
    command = arguments(tmp_path, tmp_path / "out")
    place = tmp_path / "out/digits_3/10pct/joint/seed0/training"
    place.mkdir(parents=True)
    (place / "settings.json").write_text("{")
    code, _, err = anowild(*command)
    assert code == 1
    assert "seed0: failed (error: " in err
    assert "settings.json" in err
    assert (tmp_path / "out/digits_3/10pct/joint/seed1" / RESULT).exists()


def test_a_study_that_is_stopped_goes_on(tmp_path: Path) -> None:
    # So long that it is stopped before its end on any machine.
    command = [*arguments(tmp_path, tmp_path / "out"), "--kimg", "1000"]

    def states() -> list[Path]:
        return list((tmp_path / "out").glob("*/*/*/*/training/state-*"))

    process = subprocess.Popen(
        [sys.executable, "-m", "anowild", *command], stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(states, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.terminate()  # if it still runs: it ends its trials, which a kill would leave
    assert process.returncode == 130
    assert "the same command goes on" in err
    assert states()
    assert not list((tmp_path / "out").glob(f"*/*/*/*/{RESULT}"))
