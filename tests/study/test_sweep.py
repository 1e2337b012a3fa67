"""A study end to end: what it costs, that it resumes, skips, survives failures; its tables and plots."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from anowild.errors import UserError
from anowild.evaluation.metrics import auroc
from anowild.scoring import Calibration
from anowild.settings import Settings
from anowild.study import cue_cache, sweep, tables, view_rules
from anowild.study import trial as trial_module
from anowild.study.trial import CUES, FEATURES, RESULT, TRIAL
from anowild.views import view_class
from tests.conftest import PATIENCE, Run, tiny_settings, wait_until

CPU = torch.device("cpu")
TINY = {"kimg": 0.2, "initial_resolution": None, "tick_kimg": 0.1, "fmap_max": 4}
OPTIONS = [
    part
    for name, value in {**TINY, "resolution": 8, "fmap_base": 64, "minibatch": 16}.items()
    for part in ("--set", f"{name}={value}")
]

#: How a trial was run, as its result says.
RAN = {
    "resolution": 16, "kimg": 1.0, "test_images": 9, "threads": 1, "train_seconds": 2.0, "date": "2026-11-29",
    "machine": "x86_64",
}  # fmt: skip


def tiny() -> Settings:
    views = ("gan", "transforms", "pixels")
    return tiny_settings(**TINY, resolution=8, views=views, transforms_kimg=0.2)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rates, two ways of training, an ensemble and a baseline, two seeds, done in this process."""
    out = tmp_path_factory.mktemp("study")
    for trial in plan(out):
        trial_module.write(trial, out / trial.place)
        trial_module.run(trial, out / trial.place, CPU)
    return out


def plan(out: Path) -> list[trial_module.Trial]:
    names = ["joint", "robust", "ensemble", "pca"]
    return sweep.plan(out, ["digits_3"], [0.0, 0.1], names, [0, 1], tiny())


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
    ensembles = sweep.plan(tmp_path, ["digits_3"], [0], ["ensemble"], [0, 1], tiny())
    assert sweep.cost(ensembles, tmp_path, CPU).hours > 2 * tiny().kimg
    monkeypatch.setattr(sweep, "_transforms_seconds_per_kimg", lambda trial, device: 7200.0)
    hours = 2 * (tiny().kimg + 2 * tiny().transforms_kimg)
    assert sweep.cost(ensembles, tmp_path, CPU).hours == pytest.approx(hours)
    untrained = sweep.plan(tmp_path, ["digits_3"], [0], ["ensemble-untrained"], [0], tiny())
    assert sweep.cost(untrained, tmp_path, CPU).hours == 0
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
    assert len(stamps) == 16
    assert sweep.run(plan(study), study, 2, 1, ["cpu"]) == []
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    others = sweep.plan(study, ["digits_3"], [0.1], ["joint"], [0], tiny().replace(kimg=0.3))
    with pytest.raises(UserError, match="a study with other settings"):
        sweep.run(others, study, 1, 1, ["cpu"])


def test_robust_cells_tell_how_good_their_suspects_are(study: Path) -> None:
    result = json.loads((study / "digits_3/10pct/robust/seed0" / RESULT).read_text())
    found = result["suspects"]
    assert 0 <= found["precision_at_k_over_reassessments"] <= 1
    assert found["left_out_injected"] <= found["left_out"] <= 0.1 * result["training_images"]
    clean = json.loads((study / "digits_3/0pct/robust/seed0" / RESULT).read_text())
    assert clean["suspects"]["precision_at_k"] is None


def test_rows_of_an_ensemble_are_of_calibrations_of_its_views(study: Path) -> None:
    place = study / "digits_3/10pct/ensemble/seed0"
    result = json.loads((place / RESULT).read_text())
    found = {row["score"]: row["auroc"] for row in result["rows"]}
    cues = cue_cache.load(place / CUES)
    labels = trial_module.Trial(**json.loads((place / TRIAL).read_text())).experiment().test_labels
    views = {name: view["cues"] for name, view in result["views"].items()}
    assert list(views) == ["gan", "transforms", "pixels"]
    groups = {"ensemble": list(views)}
    for name in views:
        groups[f"ensemble without {name}"] = [other for other in views if other != name]
        groups[f"view {name}"] = [name]
    known = {cue.name: cue for name in views for cue in view_class(name).known_cues()}
    gates = {cue: gate for of in result["views"].values() for cue, gate in of["gates"].items()}
    assert set(gates) == {*tiny().transforms, "transform_features"}
    for title, names in groups.items():
        chosen = {name: [known[cue] for cue in views[name]] for name in names}
        calibration = Calibration.fit(chosen, cues["training"], gates)
        expected = auroc(labels, calibration.score(cues["test"]))
        assert found[title] == pytest.approx(expected, abs=2e-3), title
        for cue, calibrated in calibration.cues.items():
            expected = auroc(labels, calibrated.surprise(cues["test"][cue]))
            assert found[cue] == pytest.approx(expected, abs=2e-3), cue
    assert set(found) == {*groups, *(cue for of in views.values() for cue in of)}
    assert result["train_seconds"] == pytest.approx(
        sum(view["seconds"] for view in result["views"].values()), abs=0.1
    )
    assert set(result["views"]["transforms"]["accuracy"]) == set(tiny().transforms)
    assert 0 <= result["suspects"]["precision_at_k"] <= 1
    assert 0 < result["suspects"]["auroc"] < 1
    assert 0 <= result["left_out"]["injected"] <= 1
    assert result["left_out"]["others"] == pytest.approx(0.2, abs=0.1)


def test_an_ensemble_goes_on_from_its_trainings(study: Path, tmp_path: Path) -> None:
    place = study / "digits_3/10pct/ensemble/seed0"
    before = json.loads((place / RESULT).read_text())
    again = tmp_path / "again"
    shutil.copytree(place, again)
    (again / RESULT).unlink()
    trial = trial_module.Trial(**json.loads((again / TRIAL).read_text()))
    states = {path: path.stat().st_mtime_ns for path in again.glob("training/**/state*")}
    assert len(states) > 2
    result = trial_module.run(trial, again, CPU)
    assert result["rows"] == before["rows"]
    assert {path: path.stat().st_mtime_ns for path in states} == states


def test_views_that_are_alike_are_taken_over(study: Path, tmp_path: Path) -> None:
    """The GAN alone is trained again where the order of its training is all that differs."""
    shutil.copytree(study / "digits_3/10pct/ensemble", tmp_path / "digits_3/10pct/ensemble")
    (trial,) = sweep.plan(tmp_path, ["digits_3"], [0.1], ["ensemble-sequential"], [0], tiny())
    trial_module.run(trial, tmp_path / trial.place, CPU)
    places = [tmp_path / t.place / "training" for t in (trial, replace(trial, method="ensemble"))]
    states = [{p.relative_to(f): p.read_bytes() for p in f.rglob("state*")} for f in places]
    for path in states[1]:
        assert (states[0].get(path) == states[1][path]) == ("transforms" in path.parts), path


def test_rules_are_compared_on_what_trials_kept(study: Path, anowild: Run) -> None:
    kept = [*view_rules.kept_trials(study, ["digits_3"], 0.1)]
    assert [k.trial.seed for k in kept] == [0, 1]
    for title, rule in view_rules.RULES.items():
        scores = rule(kept[0])
        assert scores.shape == kept[0].test["residual"].shape, title
        assert np.isfinite(scores).all(), title
        assert scores.std() > 0, title
    # The verdict's own parts, put together again.
    verdict = view_rules.verdict(kept[0])
    parts = view_rules.joined()(kept[0])
    np.testing.assert_allclose(parts / parts.mean(), verdict / verdict.mean(), rtol=1e-6)
    code, out, _ = anowild("study", "rules", "-o", study, "--rate", 0.1)
    assert code == 0
    assert out.startswith("| AUROC at 10 % | digits_3 | mean |")
    mean = np.mean([auroc(k.trial.experiment().test_labels, view_rules.verdict(k)) for k in kept])
    assert f"| the verdict | {mean:.3f} | {mean:.4f} |" in out
    code, out, _ = anowild("study", "rules", "-o", study, "--rate", 0.1, "--without", "gan,pixels")
    alone = [auroc(k.trial.experiment().test_labels, view_rules.surprises(k)[1][1]) for k in kept]
    assert f"| the verdict | {np.mean(alone):.3f} |" in out
    code, _, err = anowild("study", "rules", "-o", study, "--rate", 0.2)
    assert code == 1
    assert "holds no such trials" in err


def test_views_are_joined_again_as_today(
    study: Path, tmp_path: Path, anowild: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(study / "digits_3/10pct/ensemble/seed0", tmp_path / "digits_3/10pct/ensemble/0")
    path = tmp_path / "digits_3/10pct/ensemble/0" / RESULT
    before = json.loads(path.read_text())
    assert anowild("study", "recalibrate", "-o", tmp_path)[0] == 0
    again = json.loads(path.read_text())
    assert [row["score"] for row in again["rows"]] == [row["score"] for row in before["rows"]]
    for row, expected in zip(again["rows"], before["rows"], strict=True):
        assert row["auroc"] == pytest.approx(expected["auroc"], abs=2e-3)  # kept cues are float32
    assert again["suspects"] == before["suspects"]
    monkeypatch.setattr("anowild.scoring.calibration.LOUDEST", 1)
    anowild("study", "recalibrate", "-o", tmp_path)
    assert json.loads(path.read_text())["rows"][0] != before["rows"][0]
    del before["views"]["gan"]["gates"]
    path.write_text(json.dumps(before))
    code, _, err = anowild("study", "recalibrate", "-o", tmp_path)
    assert code == 1
    assert "was written by an earlier version" in err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (TRIAL, b"[]"),
        (TRIAL, b'{"set": "digits_3", "rate": 0.1}'),
        (RESULT, b'{"views": {"gan": {"cues": []}}}'),
        (RESULT, b"[]"),
        (FEATURES, b"no array"),
        (CUES, b"PK\x05\x06"),
        (CUES, b""),
    ],
)
def test_damaged_trials_are_told(
    study: Path, tmp_path: Path, anowild: Run, name: str, content: bytes
) -> None:
    folder = tmp_path / "digits_3/10pct/ensemble/seed0"
    shutil.copytree(study / "digits_3/10pct/ensemble/seed0", folder)
    (folder / name).write_bytes(content)
    code, _, err = anowild("study", "rules", "-o", tmp_path, "--rate", 0.1)
    assert code == 1
    assert str(folder / name) in err
    assert "delete" in err


@pytest.mark.parametrize(("field", "value"), [("method", "magic"), ("resolution", None)])
def test_results_of_another_version_are_told(
    study: Path, tmp_path: Path, anowild: Run, field: str, value: object
) -> None:
    shutil.copytree(study / "digits_3/10pct/joint/seed0", tmp_path / "digits_3/10pct/joint/seed0")
    path = tmp_path / "digits_3/10pct/joint/seed0" / RESULT
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    code, _, err = anowild("study", "table", "-o", tmp_path)
    assert code == 1
    assert f"{path}: is damaged, or of another version" in err


def test_a_rate_that_a_set_has_no_anomalies_for_is_told(anowild: Run, tmp_path: Path) -> None:
    command = arguments(tmp_path, tmp_path / "out")
    command[command.index("0.1")], command[command.index("digits_3")] = "0.5", "digits_8_1"
    code, _, err = anowild(*command, "--dry-run")
    assert code == 1
    assert "digits_8_1 at 50 %: a rate of 0.5 needs" in err


def test_an_error_leaves_no_trial_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(*_: object) -> subprocess.Popen[bytes]:
        if started:
            raise OSError("no more processes")
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        return started[0]

    monkeypatch.setattr(sweep, "_start", start)
    with pytest.raises(OSError, match="no more processes"):
        sweep.run(plan(tmp_path)[:2], tmp_path, 2, 1, ["cpu"])
    assert started[0].returncode is not None


def test_the_overview(anowild: Run, tmp_path: Path) -> None:
    def write(name: str, method: str, seed: int, **aurocs: float) -> None:
        rows = [
            {"score": score.replace("_", " "), "auroc": auroc, "average_precision": 0.5}
            for score, auroc in aurocs.items()
        ]
        path = tmp_path / name / "5pct" / method / f"seed{seed}" / RESULT
        path.parent.mkdir(parents=True)
        facts = {"set": name, "rate": 0.05, "method": method, "seed": seed, "rows": rows, **RAN}
        path.write_text(json.dumps(facts))

    write("b", "ensemble", 0, ensemble=0.9, view_gan=0.8, ensemble_without_gan=0.7, residual=0.6)
    write("b", "ensemble", 1, ensemble=0.7, view_gan=0.6, ensemble_without_gan=0.7, residual=0.6)
    write("a", "ensemble", 0, ensemble=0.6, view_gan=0.6)
    write("b", "quick", 0, ensemble=0.55, view_gan=0.1)
    write("b", "pca", 0, PCA_reconstruction=0.3)
    write("b", "knn", 0, **{"5_nearest_neighbors": 0.5})
    write("a", "knn", 0, **{"5_nearest_neighbors": 0.7})
    code, out, err = anowild(
        "study", "table", "-o", tmp_path, "--overview", "--rates", "0.05", "--sets", "b,a"
    )
    assert code == 0, err
    assert out.split("\n")[:-2] == [
        "| auroc at 5 %, 2 seeds | b | a | mean |",
        "|---|---|---|---|",
        "| ensemble | 0.800 ± 0.141 | 0.600 | 0.750 |",
        "| view gan | 0.700 ± 0.141 | 0.600 | 0.700 |",
        "| ensemble without gan | 0.700 ± 0.000 | - | - |",
        "| quick | 0.550 | - | - |",
        "| PCA reconstruction | 0.300 | - | - |",
        "| 5 nearest neighbors | 0.500 | 0.700 | 0.600 |",
        "| ensemble - best of raw pixels | +0.300 (5 nearest neighbors) "
        "| -0.100 (5 nearest neighbors) | +0.100 |",
    ]


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
    assert "| ensemble: ensemble without gan |" not in out
    assert "| ensemble without gan | 0." in out
    assert "| ensemble - view pixels | " in out
    assert "| ensemble - joint | " in out
    assert "| digits_3, 10 % | 0." in out
    assert "| AUROC of training images | " in out
    code, brief, err = anowild("study", "table", "-o", study, "--brief")
    assert "| PCA reconstruction | 0." in brief
    assert "| joint: residual | " not in brief
    assert "| joint: residual | " in out
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    pca = [r for r in rows if r["method"] == "pca" and r["rate"] == 0.1]
    expected = f"{np.mean([r['auroc'] for r in pca]):.3f}"
    assert f"| {expected} ±" in next(x for x in out.splitlines() if x.startswith("| PCA"))
    options = ("--overview", "--rates", 0.1, "--plots", tmp_path / "plots")
    code, out, _ = anowild("study", "table", "-o", study, *options)
    assert code == 0
    assert f"{tmp_path / 'plots' / 'verdicts_10pct.png'}" in out.replace("\n", "")
    for name in ("contamination", "scores", "latent_norm", "verdicts_10pct"):
        with Image.open(tmp_path / "plots" / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_collect_reads_the_earlier_spelling_of_scores(tmp_path: Path) -> None:
    path = tmp_path / "digits_3" / "0pct" / "joint" / "seed0" / RESULT
    path.parent.mkdir(parents=True)
    scores = ["latent_neighbours", "5 nearest neighbours, E's features", "residual"]
    facts = {"set": "digits_3", "rate": 0.0, "method": "joint", "seed": 0, **RAN}
    rows = [{"score": score, "auroc": 0.5, "average_precision": 0.1} for score in scores]
    path.write_text(json.dumps(facts | {"rows": rows}))
    (result,) = tables.collect(tmp_path)
    assert [row["score"] for row in result["rows"]] == [
        "latent_neighbors", "5 nearest neighbors, E's features", "residual",
    ]  # fmt: skip
    wrong: list[Any] = [{}, [], facts, facts | {"rows": 5}, facts | {"rows": [{}]}]
    wrong.append(facts | {"rows": [rows[0] | {"auroc": "x"}]})
    for value in wrong:
        path.write_text(json.dumps(value))
        with pytest.raises(UserError, match=r"json: is damaged.*run the study again"):
            tables.collect(tmp_path)


def test_a_difference_is_of_pairs() -> None:
    values = {("s", "a"): [0.9, 0.8, 0.7, 0.5], ("s", "b"): [0.8, 0.7, 0.6], ("t", "a"): [0.5],
              ("t", "b"): [0.7]}  # fmt: skip
    rows = [
        {"set": name, "rate": 0.1, "seed": seed, "method": method, "auroc": value}
        for (name, method), group in values.items()
        for seed, value in enumerate(group)
    ]
    first, second = ([r for r in rows if r["method"] == method] for method in "ab")
    found = tables.differences(first, second)
    assert list(found) == ["s", "t"]
    assert np.allclose(found["s"], 0.1)
    assert np.allclose(found["t"], [-0.2])


def test_two_studies_are_compared_in_pairs(anowild: Run, tmp_path: Path) -> None:
    def write(study: str, name: str, seed: int, method: str = "ensemble", **scores: float) -> None:
        rows = [
            {"score": score.replace("_", " "), "auroc": value, "average_precision": 2 * value}
            for score, value in scores.items()
        ]
        facts = {"set": name, "rate": 0.1, "method": method, "seed": seed, "rows": rows, **RAN}
        path = tmp_path / study / name / "10pct" / method / f"seed{seed}" / RESULT
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(facts))

    write("new", "b", 0, ensemble=0.9, view_gan=0.5, residual=0.1, view_pixels=0.2)
    write("new", "b", 1, ensemble=0.7, view_gan=0.5)
    write("new", "a", 0, ensemble=0.6, view_gan=0.4)
    write("new", "c", 0, ensemble=0.9)
    write("old", "b", 0, ensemble=0.7, view_gan=0.5001, residual=0.2)
    write("old", "b", 1, ensemble=0.6, view_gan=0.5001)
    write("old", "a", 0, ensemble=0.65, view_gan=0.2)
    write("old", "c", 1, ensemble=0.9)
    write("old", "b", 0, "quick", ensemble=0.8)
    table = (
        "| difference in auroc at 10 %, 2 seeds | b | a | over sets |\n"
        "|---|---|---|---|\n"
        "| ensemble | +0.150 ± 0.071 | -0.050 | +0.050 ± 0.141 |\n"
        "| view gan | +0.000 ± 0.000 | +0.200 | +0.100 ± 0.141 |\n\n"
    )
    command = ("study", "compare", tmp_path / "new")
    code, out, err = anowild(*command, tmp_path / "old", "--rates", "0.1", "--sets", "b,a")
    assert (code, out) == (0, table), err
    rows = tmp_path / "old.parquet"
    code, out, err = anowild(
        "study", "table", "-o", tmp_path / "old", "--overview", "--rates", "0.1", "--parquet", rows
    )
    assert code == 0, err
    code, out, err = anowild(*command, rows, "--rates", "0.1", "--sets", "b,a")
    assert (code, out) == (0, table), err
    code, out, err = anowild(
        *command, rows, "--rates", "0.1", "--methods", "ensemble,quick", "--metric",
        "average_precision",
    )  # fmt: skip
    assert code == 0, err
    assert out.splitlines()[::2] == [
        "| difference in average_precision at 10 %, 1 seed | b | over sets |",
        "| ensemble | +0.200 | +0.200 |",
    ]


def test_studies_that_cannot_be_compared(anowild: Run, tmp_path: Path) -> None:
    path = tmp_path / "study" / "a" / "10pct" / "ensemble" / "seed0" / RESULT
    path.parent.mkdir(parents=True)
    row = {"score": "ensemble", "auroc": 0.5, "average_precision": 0.5}
    facts = {"set": "a", "rate": 0.1, "method": "ensemble", "seed": 0, "rows": [row], **RAN}
    path.write_text(json.dumps(facts))
    other = tmp_path / "other.parquet"
    other.write_bytes(b"no table")

    def says(message: str, *arguments: object) -> None:
        code, _, err = anowild("study", "compare", tmp_path / "study", *arguments)
        assert (code, message in " ".join(err.split())) == (1, True), err

    says("holds no results", tmp_path / "none")
    says("cannot be read as Parquet", other)
    pq.write_table(pa.table({"path": ["a.png"]}), other)
    says("has no rows of a study", other)
    says("at 5 % no trial of ensemble has a counterpart", tmp_path / "study")
    says("method 'other': unknown", tmp_path / "study", "--methods", "other")
    says("takes one method or two", tmp_path / "study", "--methods", "pca,knn,ensemble")


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


@pytest.mark.slow
def test_a_cell_that_fails_is_named_and_the_others_go_on(anowild: Run, tmp_path: Path) -> None:
    command = arguments(tmp_path, tmp_path / "out")
    place = tmp_path / "out/digits_3/10pct/joint/seed0/training"
    place.mkdir(parents=True)
    (place / "settings.json").write_text("{")
    code, _, err = anowild(*command)
    assert code == 1
    assert f"seed0: failed ({place / 'settings.json'}: is damaged" in err
    assert (tmp_path / "out/digits_3/10pct/joint/seed1" / RESULT).exists()


@pytest.mark.slow
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
