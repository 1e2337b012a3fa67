"""The tools themselves read what is shared with them: each in an environment of its own, named by a variable.

    ANOWILD_FIFTYONE_PYTHON=/path/to/venv/bin/python python -m pytest -m slow tests/exchange/test_tools.py

docs/tools.md says what has to be installed there.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anowild import api
from anowild.data import PackedSet
from tests.exchange.conftest import NAMES

pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).parent / "scripts"


def told(tool: str, *arguments: object, **environment: str) -> Any:
    """Run the script of a tool in the tool's environment, and return what its last line says, as JSON."""
    variable = f"ANOWILD_{tool.upper()}_PYTHON"
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} does not name a Python with {tool}")
    command = [python, str(SCRIPTS / f"with_{tool}.py"), *map(str, arguments)]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=clean | environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("how", ["reference", "copies"])
def test_fiftyone_imports_the_data_set(scored: Path, tmp_path: Path, how: Any) -> None:
    images, out = scored / "my images", tmp_path / "o"
    api.share(scored / "s.csv", images, "fiftyone", out, marks=scored / "review", how=how)
    found = told("fiftyone", out, FIFTYONE_DATABASE_DIR=str(tmp_path / "database"))
    base = images if how == "reference" else out / "data"
    assert {one["filepath"] for one in found["samples"]} == {str(base / name) for name in NAMES}
    assert found["flagged"] == 3
    assert found["marks"] == {"remove": 1, "keep": 1, "interesting": 1, "unsure": 1}
    scores = [one["score"] for one in found["samples"]]
    assert scores == sorted(scores, reverse=True)
    assert all(isinstance(one["view_gan"], float) for one in found["samples"])


def test_label_studio_accepts_tasks_and_configuration(scored: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    marks = scored / "review"
    api.share(scored / "s.csv", scored / "my images", "label-studio", out, marks=marks)
    assert told("label_studio", out) == {"tasks": 8, "predictions": 8, "annotations": 3}


def test_cleanvision_joins_its_issues_with_ours(scored: Path, tmp_path: Path) -> None:
    images, out = scored / "my images", tmp_path / "o"
    api.share(scored / "s.csv", images, "cleanvision", out)
    found = told("cleanvision", images, out)
    assert found == {"images": 8, "flagged": 3, "without": 0, "type": "bool", "alike": True}


def test_napari_reads_points_and_shapes(
    crops: Path, table_of: Callable[..., Path], tmp_path: Path
) -> None:
    names = list(PackedSet(crops / "set").names("train"))
    out = tmp_path / "o"
    api.share(table_of(names), crops / "set", "napari", out)
    found = told("napari", out)
    assert {name: layer["type"] for name, layer in found.items()} == {
        "stack.tif.points.csv": "points", "stack.tif.shapes.csv": "shapes",
        "stack.tif.flagged.shapes.csv": "shapes",
        "one.png.points.csv": "points", "one.png.shapes.csv": "shapes",
    }  # fmt: skip
    points = found["stack.tif.points.csv"]
    assert points["axes"] == 3
    assert {"score", "p_value", "flagged", "mark", "name", "reasons"} == set(points["properties"])
    assert found["one.png.shapes.csv"]["axes"] == 2
    count = sum(layer["count"] for name, layer in found.items() if name.endswith("points.csv"))
    assert count == len(names)
    assert found["stack.tif.flagged.shapes.csv"]["count"] == 1


@pytest.mark.parametrize("how", ["links", "copies"])
def test_anomalib_reads_the_folders(scored: Path, tmp_path: Path, how: Any) -> None:
    out = tmp_path / "o"
    api.share(
        scored / "s.csv", scored / "my images", "anomalib", out,
        marks=scored / "review", by_limit=True, threshold=1000.0, how=how,
    )  # fmt: skip
    found = told("anomalib", out)
    assert found == {"normal": 5, "abnormal": 2, "shape": [3, 16, 16]}
