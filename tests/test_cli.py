"""The command line as a user meets it: the whole job on a folder, and every mistake."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.main import get_command

from anowild.arrays import Array
from anowild.cli import app, completion
from anowild.cli.options import model_path
from anowild.errors import ViewUnavailable
from anowild.evaluation.metrics import auroc
from anowild.presets import PRESETS, Preset
from anowild.study.methods import DETECTORS
from anowild.views.base import view_names
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
    assert set(result["columns"]) == rows[0].keys() - {"path", "rank", "why"}
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
        (("train", texts, "-o", out), "files that end in .txt: "),
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


def commands() -> list[list[str]]:
    """Every command, as words."""
    found = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [[name]] if inner is None else [[name, part] for part in inner]
    return found


@pytest.mark.parametrize("words", [[], *commands()], ids=" ".join)
def test_help_is_in_words(anowild: Run, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = anowild(*words, "--help")
    assert code == 0
    types = ["<str>", "<int", "<float>", "<bool>", "<path>", "list[", "range", "x>=", "{", "TEXT"]
    assert [word for word in types if word in out] == []
    for word in ("anew", "draw a line", "the line", "kimg)"):
        assert word not in out


def test_a_model_may_lie_on_the_hub_in_every_command() -> None:
    found = 0
    for words in commands():
        command: Any = get_command(app)
        for word in words:
            command = command.commands[word]
        for parameter in command.params:
            if parameter.metavar == "MODEL":
                assert parameter.type_descriptor.parameter_info.parser is model_path, words
                found += 1
    assert found > 8


def test_commands_are_listed_in_groups(anowild: Run) -> None:
    _, out, _ = anowild("--help")
    places = [
        out.index(f"─ {panel} ─") for panel in ("Look", "Train and prepare", "Measure", "More")
    ]
    assert places == sorted(places)
    assert places[0] < out.index(" find ") < out.index(" limit ") < places[1]
    assert "--show-completion" in out


COMPLETE = """
import json, os, sys
from anowild import cli
sys.argv[:] = ["anowild"]
for shell, line in json.loads(sys.stdin.read()):
    os.environ |= {
        "_ANOWILD_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")),
        "_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    try:
        cli.main()
    except SystemExit:
        print("end")
sys.exit("torch" in sys.modules)
"""
#: Command lines as far as they are typed, and what completes the last word.
COMPLETED = {
    "anowild sc": "score",
    "anowild find x --pre": "--preset",
    "anowild find x --preset la": "laptop",
    "anowild settings paper-": "paper-cifar10 paper-kth-cells",
    "anowild find x --views ": "gan pixels pretrained transforms",
    "anowild train x --views pixels,gan,": "pixels,gan,pretrained pixels,gan,transforms",
    "anowild train x --set prec": "precision=",
    "anowild train x --set precision=f": "precision=float32",
    "anowild train x --set mirror=": "mirror=true mirror=false",
    "anowild train x --set max_resolution=1": "max_resolution=16 max_resolution=128",
    "anowild train x --set views=pixels,g": "views=pixels,gan",
    "anowild score x --device c": "cpu cuda",
    "anowild data fetch ci": "cifar10 cifar100",
}


def test_shells_complete_commands_and_values_without_torch() -> None:
    given = [("bash", line) for line in COMPLETED]
    given += [(shell, line) for shell in ("zsh", "fish") for line in COMPLETED if "pre" in line]
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE],
        input=json.dumps(given), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    for (shell, line), found in zip(given, done.stdout.split("end\n")[:-1], strict=True):
        if shell == "zsh":  # _arguments '*: :(("value":"meaning" ...
            values = re.findall(r'(?:^|[( ])"([^"]+)"', found, re.MULTILINE)
        else:
            values = [row.partition("\t")[0] for row in found.splitlines()]
        assert values == COMPLETED[line].split(), (shell, line, found)


def test_completed_views_are_all_that_there_are() -> None:
    assert completion.view_names() == view_names()


def test_what_comes_next_runs_as_printed(
    anowild: Run,
    folder_of: Callable[..., Path],
    digits: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = folder_of(digits[:40], "it's a set; really")
    monkeypatch.chdir(tmp_path)
    Path("scores.csv").write_text("mine")
    short = [f"--set={change}" for change in ("kimg=0", "transforms_kimg=0", "resolution=8")]
    code, out, err = anowild("train", folder.name, "-o", "my model", "--views=gan", *short)
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("next: ")]
    program, *words = shlex.split(line.removeprefix("next: "))
    assert program == "anowild"
    code, _, err = anowild(*words)
    assert code == 0, err
    assert Path("scores.csv").read_text() == "mine"
    assert len(Path("scores-2.csv").read_text().splitlines()) == 41


@pytest.fixture
def belt(folder_of: Callable[..., Path], digits: np.ndarray) -> Path:
    """A folder of 30 digits and 3 inverted ones."""
    return folder_of(np.concatenate([digits[:30], 255 - digits[30:33]]), "belt")


def test_scores_go_to_the_screen_to_a_pipe_or_to_programs(
    anowild: Run, model_folder: Path, belt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    code, out, err = anowild("score", model_folder, belt, "--show", 3)
    assert code == 0, err
    listed = out.splitlines()[:3]
    assert [int(line.split()[0]) for line in listed] == [1, 2, 3]
    assert all(" than " in line or "unlike" in line for line in listed), listed
    assert "33 images, 0 left out" in out
    assert set(tmp_path.iterdir()) == before

    code, out, err = anowild("score", model_folder, belt, "-o", "-", "--threshold", 1)
    assert (code, "33 images" in err) == (0, True), err
    rows = list(csv.DictReader(out.splitlines()))
    assert [int(row["rank"]) for row in rows] == list(range(1, 34))

    code, out, err = anowild("score", model_folder, belt, "--json", "--threshold", 1)
    assert (code, "flagged: " in err) == (0, True), err
    found = [json.loads(line) for line in out.splitlines()]
    assert [value["path"] for value in found] == [row["path"] for row in rows]
    for value, row in zip(found, rows, strict=True):
        assert value["score"] == float(row["score"])
        assert value["odd"] is (row["odd"] == "1")
        assert value["why"] == row["why"]
        assert value["views"] == {"gan": float(row["view_gan"])}
    assert "odd" not in json.loads(
        anowild("score", model_folder, belt, "--json")[1].splitlines()[0]
    )


def test_flagged_images_are_copied_and_told_by_the_exit_code(
    anowild: Run, model_folder: Path, belt: Path, tmp_path: Path
) -> None:
    flagged = tmp_path / "flagged"
    daily = ["score", model_folder, belt, "-o", tmp_path / "s.csv", "--new-only", "--exit-code",
             "--copy-flagged", flagged]  # fmt: skip
    code, out, err = anowild(*daily, "--threshold", 0.5)
    assert code == 3, err
    with (tmp_path / "s.csv").open(newline="") as file:
        odd = {Path(row["path"]).name for row in csv.DictReader(file) if row["odd"] == "1"}
    assert {path.name for path in flagged.iterdir()} == {*odd, "flagged.json"}
    assert f"{len(odd)} flagged images copied, 0 were there already" in out

    # Nothing is new: nothing is flagged again.
    code, out, err = anowild(*daily, "--threshold", 0.5)
    assert code == 0, err
    assert "33 images, 0 of them new, 0 left out" in out
    assert f"flagged: 0 of the new, {len(odd)} of all" in out
    (belt / "new.png").write_bytes((belt / min(odd)).read_bytes())
    code, out, _ = anowild(*daily, "--threshold", 0.5)
    assert (code, "34 images, 1 of them new" in out) == (3, True)
    assert (flagged / "new.png").exists()
    assert anowild("score", model_folder, belt, "--threshold", 99, "--exit-code")[0] == 0


def test_images_unlike_the_training_images_get_a_warning(
    anowild: Run, model_folder: Path, folder_of: Callable[..., Path], belt: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    code, out, err = anowild("score", model_folder, folder_of(noise, "noise"))
    assert code == 0
    assert "as odd as the oddest 5 % of the training images: another camera" in err
    assert "> 2.4" in out  # of 300 training images
    assert "warning" not in anowild("score", model_folder, belt)[2]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--json", "-o", "-"], "leave out one"),
        (["--new-only"], "needs a table that grows"),
        (["--new-only", "-o", "-"], "needs a table that grows"),
        (["--exit-code"], "--exit-code needs a limit"),
        (["--copy-flagged", "x"], "--copy-flagged needs a limit"),
        (["--threshold", "2", "--budget", "3"], "one limit at a time"),
    ],
)
def test_options_of_score_that_do_not_go_together(
    anowild: Run, model_folder: Path, belt: Path, options: list[str], sentence: str
) -> None:
    code, _, err = anowild("score", model_folder, belt, *options)
    assert (code, sentence in err) == (1, True), err


@pytest.mark.parametrize(("given", "opens"), [((), True), (("--no-browser",), False)])
def test_review_opens_the_page(
    anowild: Run,
    model_folder: Path,
    folder_of: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, ...],
    opens: bool,
) -> None:
    opened: list[bool] = []
    monkeypatch.setattr(
        "anowild.reviewing.serve.Server.run", lambda self, review, browse: opened.append(browse)
    )
    images = folder_of(np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8))
    code, _, err = anowild(
        "review", model_folder, images, "-o", tmp_path / "r", "--port", 0, *given
    )
    assert code == 0, err
    assert opened == [opens]


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


def test_a_dry_run_refuses_an_unknown_view(anowild: Run, tmp_path: Path) -> None:
    code, out, err = anowild("train", "x", "-o", tmp_path / "m", "--views", "pixls", "--dry-run")
    assert (code, out) == (1, "")
    assert "pixls" in err


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


@pytest.mark.parametrize(
    "views",
    [
        "gan,transforms,pixels",
        pytest.param("gan,transforms,pixels,pretrained", marks=pytest.mark.slow),
    ],
)
def test_the_demo_leaves_what_it_says(
    anowild: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, views: str
) -> None:
    embeddings = "pretrained" in views
    laptop = PRESETS["laptop"]
    changes = {**laptop.changes, "views": (tuple(views.split(",")), "")}
    monkeypatch.setitem(PRESETS, "laptop", Preset(laptop.summary, changes))
    if not embeddings:
        unavailable = Mock(side_effect=ViewUnavailable("not installed"))
        known = replace(DETECTORS["embedding-knn"], score=unavailable)
        monkeypatch.setitem(DETECTORS, "embedding-knn", known)
    code, out, err = anowild("demo", "-o", tmp_path / "demo", "--kimg", 0.3)
    assert code == 0, err
    assert "21 other digits hidden" in out
    assert "PCA reconstruction" in out
    assert "AUROC" in out
    # First what `find` leaves behind, without labels; the command at the end shows it as it is.
    found = tmp_path / "demo" / "find"
    assert f"open: {found / 'report.html'}" in out
    assert (found / "report.html").read_text().count("<img") > 20
    with (found / "scores.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 421
    (command,) = [line for line in out.splitlines() if line.startswith("next: ")]
    before = (found / "model" / "model.json").stat().st_mtime_ns
    code, _, err = anowild(*shlex.split(command)[2:], "--report")
    assert code == 0, err
    assert (found / "model" / "model.json").stat().st_mtime_ns == before
    page = (tmp_path / "demo" / "comparison.html").read_text()
    assert "data:image/png;base64," in page
    assert "<script" not in page
    assert "the same views, untrained" in page
    for view in views.split(","):
        assert f"view {view}" in page
        assert f"AnoWild, {view} alone" in out
    assert ("10 nearest neighbors, embeddings" in page) == embeddings
    assert "of the 100 images that are labeled anomalous are flagged" in page
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


def test_names_of_files_do_not_reach_the_terminal_raw(
    anowild: Run, model_folder: Path, folder_of: Callable[..., Path], digits: Array
) -> None:
    folder = folder_of(digits[:3])
    (folder / "bad\x1b[31m\nFAKE: all fine\x1b]0;t\x07.png").write_bytes(b"no image")
    (folder / "0000.png").rename(folder / "odd\x1b[2J\u202egnp.png")
    code, out, err = anowild("score", model_folder, folder)
    assert code == 0
    assert "bad\\x1b[31m\\nFAKE: all fine\\x1b]0;t\\x07.png" in err
    assert "odd\\x1b[2J\\u202egnp.png" in out
    assert not set("\x1b\x07\u202e") & set(out + err)


def test_no_codes_of_a_terminal_in_pipes() -> None:
    environment = os.environ | {"FORCE_COLOR": "1", "GITHUB_ACTIONS": "true"}
    for words in (["score", "--help"], ["score", "--no-such-option"]):
        done = subprocess.run(
            [sys.executable, "-m", "anowild", *words],
            env=environment,
            capture_output=True,
            check=False,
        )
        assert len(done.stdout + done.stderr) > 100
        assert b"\x1b" not in done.stdout + done.stderr


def test_closed_streams_are_no_mistake() -> None:
    command = f"exec {sys.executable} -m anowild --version >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
    command = f"exec {sys.executable} -m anowild score nowhere nothing >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("anowild: ")
    assert done.stderr.count("\n") == 1
