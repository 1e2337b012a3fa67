"""The scoring pass: how it reads, and how it ends."""

from __future__ import annotations

import csv
import errno
import io
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anowild import api
from anowild.arrays import Array
from anowild.data.image_set import ImageSet
from anowild.data.readers import FolderReader
from anowild.errors import UserError
from anowild.scoring import Detector
from tests.conftest import PATIENCE, Run, reading_threads, wait_until


def test_a_full_disk_is_told(
    detector: Detector, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: Full())
    with pytest.raises(UserError, match=r"scores.csv: the disk is full"):
        api.score(detector, digits, tmp_path / "scores.csv")
    assert list(tmp_path.iterdir()) == []
    assert not reading_threads()


def test_bfloat16_is_chosen_and_ranks_nearly_the_same(
    anowild: Run, model_folder: Path, detector: Detector, digits: Array, tmp_path: Path
) -> None:
    scores = detector.score(ImageSet.load(digits, preprocess=detector.preprocess))
    rough = api.score(Detector.load(model_folder, precision="bfloat16"), digits).scores
    assert not np.array_equal(scores.score, rough.score)
    for name, values in scores.columns().items():
        ranks, others = (np.argsort(np.argsort(v)) for v in (values, rough.columns()[name]))
        assert np.corrcoef(ranks, others)[0, 1] > 0.99, name

    np.save(tmp_path / "x.npy", digits)
    arguments = ("score", model_folder, tmp_path / "x.npy", "-o", tmp_path / "s.csv")
    assert anowild(*arguments, "--precision", "bfloat16")[0] == 0
    with (tmp_path / "s.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["score"]) == rough.score.max()
    code, _, err = anowild(*arguments, "--precision", "int8")
    assert code == 2
    assert "'int8' is not one of" in err
    with pytest.raises(UserError, match="precision 'int8': has to be float32 or bfloat16"):
        Detector.load(model_folder, precision="int8")  # type: ignore[arg-type]


def test_labels_are_checked_before_the_work(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", digits)
    np.save(tmp_path / "l.npy", np.arange(299) % 2)
    monkeypatch.setattr(Detector, "score", lambda *_: pytest.fail("it was scored"))
    arguments = ("evaluate", model_folder, tmp_path / "x.npy", "--labels", tmp_path / "l.npy")
    code, _, err = anowild(*arguments)
    assert code == 1
    assert "has 299 labels for 300 images" in err


def test_ctrl_c_leaves_nothing(model_folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((60_000, 16, 16), np.uint8))
    command = [sys.executable, "-m", "anowild", "score", str(model_folder)]
    process = subprocess.Popen(
        [*command, "x.npy", "-o", "s.csv", "--threads", "1"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # Whether Ctrl-C is heeded is inherited: not below a shell's background job.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        wait_until(lambda: waiting_file_of(process.pid, tmp_path), process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def waiting_file_of(pid: int, folder: Path) -> bool:
    """Whether a process holds a file without a name in a folder."""
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith(str(folder)) and "(deleted)" in target:
            return True
    return False


def test_reading_ahead_is_what_scoring_does(
    detector: Detector, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()
    original = FolderReader._read

    def watched(self: FolderReader, path: Path) -> Any:
        threads.add(threading.current_thread().name)
        return original(self, path)

    monkeypatch.setattr(FolderReader, "_read", watched)
    for i, image in enumerate(digits[:30]):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    assert len(api.score(detector, tmp_path)) == 30
    assert threads == {"anowild-prefetch"}
    assert not reading_threads()
