"""Random edits of files of models, searches and reviews end with a result or a sentence."""

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
from bench.fuzz import attempts


@pytest.mark.slow
def test_edits_end_with_a_result_or_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    failed = fuzz.run("models", count=60, seed=7, jobs=1)
    said = capsys.readouterr().out
    assert failed == 0, said
    totals = said.splitlines()[-2].split()
    assert totals[:2] == ["all", "60"]
    # Both happen: the edits are neither harmless nor all seen at once.
    assert min(int(totals[2]), int(totals[3])) >= 5
    assert int(totals[2]) + int(totals[3]) == 60


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
