"""What an import loads, which `lint-imports` cannot see, and the glossary."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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


def test_loading_a_model_leaves_compilers_out(model_folder: Path) -> None:
    # Some operations on tensors without memory import them: two seconds before each command.
    script = (
        f"import sys; from anowild.scoring import Detector; Detector.load({str(model_folder)!r})\n"
        "sys.exit(', '.join({'torch._dynamo', 'sympy'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_glossary_is_sorted_and_names_files_that_exist() -> None:
    glossary = Path(__file__).parents[1] / "docs" / "glossary.md"
    entries = re.findall(r"^- \*\*(.+?)\*\*: .+ \[(.+?)\]\(\.\./src/anowild/\2\)$",
                         glossary.read_text(), re.MULTILINE)  # fmt: skip
    assert len(entries) == sum(line.startswith("- ") for line in glossary.read_text().splitlines())
    terms = [term.lower() for term, _ in entries]
    assert terms == sorted(terms)
    missing = [f for _, f in entries if not (glossary.parents[1] / "src" / "anowild" / f).is_file()]
    assert missing == []
