"""Random edits of files end with a result or a sentence."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anowild import cli
from bench import fuzz
from bench.fuzz import attempts, claims, data, samples


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["models", "data"])
def test_edits_end_with_a_result_or_a_sentence(
    capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    failed = fuzz.run(kind, count=60, seed=7, jobs=1)
    said = capsys.readouterr().out
    assert failed == 0, said
    totals = said.splitlines()[-2].split()
    assert totals[:2] == ["all", "60"]
    # Both happen: the edits are neither harmless nor all seen at once.
    assert min(int(totals[2]), int(totals[3])) >= 5
    assert int(totals[2]) + int(totals[3]) == 60


def test_code_that_a_file_brings_along_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "samples" / "npy").mkdir(parents=True)
    np.save(tmp_path / "samples" / "npy" / "x.npy", samples.DIGITS[:3])
    monkeypatch.setattr(data, "TARGETS", {"npy": (1, (claims.npy_header,))})
    monkeypatch.setattr(cli, "main", lambda: os.system(f"touch {samples.RAN}"))
    _, _, found = data.attempt(tmp_path, tmp_path / "work", 0, 0)
    assert found.outcome == "traceback"
    assert found.said.startswith("code was run")


def _raise() -> None:
    raise RuntimeError("of a fault")


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (_raise, "traceback"),
        (lambda: np.ones(3 << 30, np.uint8), "traceback"),  # more memory than is given
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "signal"),
        (lambda: time.sleep(30), "hang"),
        (lambda: exit(1), "sentence"),
        (lambda: None, "result"),
    ],
)
def test_every_way_to_fail_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Callable[[], object], outcome: str
) -> None:
    monkeypatch.setattr(cli, "main", fault)
    monkeypatch.setattr(attempts, "SECONDS", 1.0)
    assert attempts.Attempt.of(["score"], tmp_path).outcome == outcome
