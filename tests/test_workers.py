"""Processes that work for this one: what they import, and what they print."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from anowild.progress import Bars
from anowild.workers import Worker
from tests.conftest import PATIENCE

#: Prints a line that is no report, as libraries do, and then does its work.
MODULE = """
import sys
print("hello")
print("[1]", flush=True)
from anowild.workers import work
sys.exit(work(lambda job: None))
"""


def test_a_worker_imports_nothing_from_the_folder_of_the_images_and_may_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    images, code = tmp_path / "images", tmp_path / "code"
    for folder in (images, code):
        folder.mkdir()
    (images / "json.py").write_text("raise SystemExit(3)")
    (code / "a_piece.py").write_text(MODULE)
    monkeypatch.chdir(images)
    monkeypatch.setenv("PYTHONPATH", str(code))
    worker = Worker("a_piece", {}, 1)
    try:
        end = time.monotonic() + PATIENCE
        while not worker.ended(Bars(None)):
            assert time.monotonic() < end
    finally:
        worker.stop()
    worker.check("piece")
    assert worker.process.returncode == 0
    assert capfd.readouterr().err == "hello\n[1]\n"
