"""What an import loads: the part of the order of packages that `lint-imports` cannot see."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        # Help, completion and mistakes in options come at once.
        ("anowild", "torch"),
        ("anowild", "numpy"),
        ("anowild.cli", "torch"),
        # Readers run where PyTorch is not wanted, and worker processes start quickly.
        ("anowild.data", "torch"),
        # A service that scores needs no trainer.
        ("anowild.views", "anowild.training"),
        ("anowild.scoring", "anowild.training"),
        # Extras are imported by what needs them.
        ("anowild.api", "starlette"),
        ("anowild.api", "matplotlib"),
    ],
)
def test_import_does_not_load(module: str, unwanted: str) -> None:
    script = (
        f"import sys, {module}\n"
        f"loaded = [m for m in sys.modules if m == {unwanted!r} or m.startswith({unwanted + '.'!r})]\n"
        "sys.exit(', '.join(sorted(loaded)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
