"""The command line as a user meets it: the whole job on a folder, and every mistake."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from anowild.evaluation.metrics import auroc
from tests.conftest import Run
from tests.paper.test_tables import TOTALS

TINY = [f"--set={change}" for change in (
    "resolution=16", "fmap_base=64", "fmap_max=8", "minibatch=16", "tick_kimg=0.2", "kimg=0.4",
    "transforms_kimg=0.4", "transforms_maps=4",
)]  # fmt: skip


def test_a_folder_becomes_a_ranked_table(
    anowild: Run, folder_of: Callable[..., Path], digits: np.ndarray, tmp_path: Path
) -> None:
    normal, odd = folder_of(digits[:60], "set/good"), folder_of(255 - digits[60:80], "set/odd")
    model, table = tmp_path / "model", tmp_path / "scores.csv"
    assert anowild("train", normal, "-o", model, *TINY)[0] == 0

    code, out, _ = anowild("score", model, tmp_path / "set", "-o", table)
    assert code == 0
    assert "80 images" in out
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    views = ("gan", "transforms", "pixels", "pretrained")
    assert list(rows[0])[:7] == ["path", "score", "rank", *(f"view_{view}" for view in views)]
    assert {"relative_residual", "turns", "descriptors", "pretrained_distance"} <= rows[0].keys()
    assert [int(row["rank"]) for row in rows] == list(range(1, 81))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert {row["path"] for row in rows} == {str(p) for p in (tmp_path / "set").rglob("*.png")}

    parquet = tmp_path / "scores.parquet"
    assert anowild("score", model, tmp_path / "set", "-o", parquet)[0] == 0
    read = pq.read_table(parquet).to_pydict()
    assert tuple(read) == tuple(rows[0])
    assert read["score"] == scores

    # A single image, alone: the same score.
    first = rows[0]
    assert anowild("score", model, first["path"], "-o", tmp_path / "one.csv")[0] == 0
    with (tmp_path / "one.csv").open(newline="") as file:
        (alone,) = csv.DictReader(file)
    assert float(alone["score"]) == pytest.approx(float(first["score"]), rel=1e-5)

    labels = ("--labels", "folders")
    code, out, _ = anowild("evaluate", model, tmp_path / "set", *labels, "--json")
    assert code == 0
    result = json.loads(out)
    assert (result["normal"], result["anomalous"]) == (60, 20)
    assert set(result["columns"]) == rows[0].keys() - {"path", "rank"}
    quality = result["columns"]["score"]["auroc"]
    assert quality["low"] <= quality["value"] <= quality["high"]
    code, out, _ = anowild("evaluate", model, tmp_path / "set", *labels)
    assert code == 0
    assert "AUROC" in out

    code, _, err = anowild("evaluate", model, odd, *labels)
    assert code == 1
    assert "all 20 images have the label 1" in err


def test_one_broken_image_among_a_thousand(
    anowild: Run, folder_of: Callable[..., Path], model_folder: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    folder = folder_of(rng.integers(0, 256, (1000, 16, 16), dtype=np.uint8))
    broken = folder / "0500.png"
    broken.write_bytes(broken.read_bytes()[:-50])
    code, out, err = anowild("score", model_folder, folder, "-o", tmp_path / "s.csv")
    assert code == 0
    assert "999 images" in out
    assert "1 left out" in out
    assert str(broken) in err


def test_mistakes_get_one_sentence(
    anowild: Run,
    folder_of: Callable[..., Path],
    digits: np.ndarray,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("no image")
    pixel = tmp_path / "pixel"
    pixel.mkdir()
    Image.new("L", (1, 1)).save(pixel / "p.png")
    np.save(tmp_path / "flat.npy", np.zeros((4, 4), np.uint8))
    good, out = folder_of(digits[:20]), tmp_path / "m"
    table = ("-o", tmp_path / "s.csv")
    for arguments, sentence in (
        (("train", empty, "-o", out), "it is empty"),
        (("train", texts, "-o", out), "of other kinds"),
        (("train", pixel, "-o", out), "1x1 pixels are too few"),
        (("train", tmp_path / "flat.npy", "-o", out), "has shape [4, 4]"),
        (("train", tmp_path / "absent", "-o", out), "no such file or folder"),
        (("train", good, "-o", out, "--preset", "desktop"), "there is no preset 'desktop'"),
        (("train", good, "-o", out, "--set", "fmap_bas=4"), "did you mean 'fmap_base'?"),
        (("train", good, "-o", out, "--set", "seed"), "takes NAME=VALUE"),
        (("train", good, "-o", out, "--resolution", "20"), "'resolution' is 20: it must be one of"),
        (("train", good, "-o", out, "--set", "kimg=many"), "'kimg' cannot be 'many'"),
        (("train", good, "-o", out, "--device", "tpu9"), "device 'tpu9' cannot be used"),
        (("train", good, "-o", good / "0000.png" / "m"), "cannot be written"),
        (("score", tmp_path / "no-model", good, *table), "no such model folder"),
        (("score", empty, good, *table), "model.json is missing"),
        (("score", model_folder, empty, *table), "it is empty"),
        (("score", model_folder, good, "-o", tmp_path / "s.xlsx"), "as .csv or .parquet"),
        (("score", model_folder, good, "-o", tmp_path / "no" / "s.csv"), "existing folder"),
        (("evaluate", model_folder, good, "--labels", tmp_path / "no.csv"), "no such file of labels"),
        (("networks", "paper"), "there is no preset 'paper'"),
    ):  # fmt: skip
        code, _, err = anowild(*arguments)
        assert code == 1, arguments
        assert sentence in err, (arguments, err)
        assert len(err.strip().splitlines()) <= 2, err


@pytest.mark.parametrize("preset", ["paper-cifar10", "paper-kth-cells"])
def test_networks_are_printed(anowild: Run, preset: str) -> None:
    code, out, _ = anowild("networks", preset, "--json")
    assert code == 0
    tables = json.loads(out)
    for network in ("generator", "discriminator", "encoder"):
        assert tables[network]["total"] == TOTALS[preset, network]
        assert set(tables[network]["rows"][0]) == {
            "name", "params", "output_shape", "weight_shape",
        }  # fmt: skip
    code, out, _ = anowild("networks", preset)
    assert str(TOTALS[preset, "encoder"]) in out
    assert "Misprint" in out


def test_every_setting_is_printed_with_its_source(anowild: Run) -> None:
    code, out, _ = anowild("settings", "paper-cifar10")
    assert code == 0
    assert "adam_beta2 = 0.99" in out
    assert out.count("[appendix, section 2]") >= 7
    assert "[]" not in out


def test_a_dry_run_prints_the_settings(anowild: Run, tmp_path: Path) -> None:
    code, out, _ = anowild("train", "x", "-o", tmp_path / "m", "--kimg", 3, "--dry-run")
    assert code == 0
    assert json.loads(out)["kimg"] == 3
    assert not (tmp_path / "m").exists()


def test_help_does_not_wait_for_torch() -> None:
    script = "import sys; import anowild.cli; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_demo_takes_no_folder_of_another(anowild: Run, tmp_path: Path) -> None:
    mine = tmp_path / "digits" / "training" / "0000.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    code, _, err = anowild("demo", "-o", tmp_path)
    assert (code, mine.read_text()) == (1, "precious")
    assert "is no folder of a demo" in err
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "demo.json").write_text('{"rate": 0.05, "seed": 1}')
    code, _, err = anowild("demo", "-o", tmp_path / "d")
    assert code == 1
    assert "a demo with other settings" in err
    for rate in ("nan", "1", "0.99"):
        code, _, err = anowild("demo", "-o", tmp_path / "new", f"--rate={rate}")
        assert code == 1
        assert f"rate {rate}: a " in err
    assert not (tmp_path / "new").exists()


def test_ctrl_c_gets_a_word(model_folder: Path, folder_of: Callable[..., Path]) -> None:
    script = (
        "import sys, signal; from anowild import cli, scoring\n"
        # A background job of a shell inherits that SIGINT is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        # To this thread, not to the process: there, another thread may take the signal, late.
        "scoring.Detector.load = lambda *a: signal.raise_signal(signal.SIGINT)\n"
        f"sys.argv = ['anowild', 'score', {str(model_folder)!r}, 'x', '-o', 'y.csv']; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "stopped; give the same command again\n")


def test_the_demo_leaves_what_it_says(anowild: Run, tmp_path: Path) -> None:
    code, out, _ = anowild("demo", "-o", tmp_path / "demo", "--kimg", 0.3)
    assert code == 0
    assert "21 other digits hidden" in out
    assert "PCA reconstruction" in out
    assert "AUROC" in out
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "<script" not in page
    assert "the same views, untrained" in page
    for view in ("gan", "transforms", "pixels", "pretrained"):
        assert f"view {view}" in page
        assert f"AnoWild, {view} alone" in out
    assert "10 nearest neighbors, pretrained embeddings" in page
    assert "flagged images among the 100 anomalies" in page
    digits = tmp_path / "demo" / "digits"
    assert len(list((digits / "training").iterdir())) == 421
    with (tmp_path / "demo" / "scores.csv").open(newline="") as file:
        score = {row["path"]: float(row["score"]) for row in csv.DictReader(file)}
    with (digits / "test.csv").open(newline="") as file:
        label = {
            str(digits / "test" / row["path"]): int(row["label"]) for row in csv.DictReader(file)
        }
    assert score.keys() == label.keys()
    result = json.loads((tmp_path / "demo" / "result.json").read_text())
    told = float(result["rows"][1][1].split()[0])
    assert auroc(
        np.array(list(label.values())), np.array([score[path] for path in label])
    ) == pytest.approx(told, abs=6e-4)
