"""The command `anowild watch`."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest

from anowild.arrays import Array
from anowild.scoring.saved_limit import save_limit
from anowild.scoring.scores import USUAL_LIMIT
from tests.conftest import Run, wait_until
from tests.watching.conftest import put, rows

QUICK = ("--interval", 0.02)


def test_the_limit_is_the_one_that_is_kept_or_the_default_or_the_given(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path
) -> None:
    model, folder = tmp_path / "model", tmp_path / "camera"
    shutil.copytree(model_folder, model)
    for i in range(20):
        put(folder, 255 - digits[i] if i < 5 else digits[i], f"{i}.png")
    command = ("watch", folder, "--model", model, "--once", *QUICK)
    outputs = {}
    for name, options, limit in (
        ("default", (), USUAL_LIMIT),
        ("given", ("--threshold", "0.5"), 0.5),
        ("kept", (), 1.0),
        ("saved", ("--threshold", "saved"), 1.0),
    ):
        if name == "kept":
            save_limit(model, 1.0)
        table = tmp_path / f"{name}.csv"
        code, out, err = anowild(*command, *options, "-o", table)
        assert code == 0
        assert err.startswith(f"watching {folder}: what scores {limit:.2f} or more is flagged (")
        found = rows(table)
        flagged = [row for row in found if row["score"] >= limit]
        assert [row for row in found if row["odd"]] == flagged != []
        *lines, last = out.splitlines()
        assert len(lines) == len(flagged)
        assert all(row["path"] in out and row["why"] in out for row in flagged)
        assert f"20 images scored, {len(flagged)} of them flagged (score {limit:.4g}" in last
        assert last.endswith("0 unreadable; 20 in the table")
        outputs[name] = out
    assert outputs["kept"].splitlines()[:-1] == outputs["saved"].splitlines()[:-1]


def test_mistakes_get_one_sentence(anowild: Run, model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "camera"
    folder.mkdir()
    good = ("--model", model_folder, "-o", tmp_path / "s.csv")
    for arguments, sentence in (
        ((tmp_path / "no", *good), "there is no such folder to be watched"),
        ((folder, "--model", tmp_path / "no", *good[2:]), "no such model folder"),
        ((folder, *good, "--threshold", "high"), "--threshold takes a score"),
        ((folder, *good, "--threshold", "saved"), "no limit is kept with this model"),
        ((folder, *good, "--run", "no-such-command"), "there is no such command"),
        ((folder, *good, "--post", "localhost:80"), "http:// or https://"),
        ((folder, *good[:3], tmp_path / "s.xlsx"), ".csv or .parquet"),
    ):
        code, _, err = anowild("watch", *arguments, "--once", *QUICK)
        assert code == 1, arguments
        assert sentence in err
        assert len(err.splitlines()) == 1
    code, out, _ = anowild("watch", folder, *good, "--once", *QUICK)
    assert code == 0  # an empty folder is none
    assert "0 in the table" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path, number: int
) -> None:
    folder, table, said = tmp_path / "camera", tmp_path / "s.csv", tmp_path / "said.txt"
    put(folder, digits[0], "a.png")
    options = ("--model", model_folder, "-o", table, "--table-every", 0, *QUICK)

    def run() -> None:
        code, out, err = anowild("watch", folder, *options)
        said.write_text(err + out)
        os._exit(code)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    wait_until(lambda: table.exists() and rows(table))
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 0
    assert said.read_text().splitlines()[-1].endswith("1 in the table")
