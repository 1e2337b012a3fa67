"""Real trackers, without a network: TensorBoard where it is installed, others in environments of their own.

ANOWILD_MLFLOW_PYTHON and ANOWILD_WANDB_PYTHON name interpreters that have NumPy, Pillow, and ``mlflow`` or
``wandb``; they need nothing else that AnoWild needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import anowild
from anowild.files import write_json
from anowild.tracking import TrackerChoice, following

#: Tracks a folder, as a training that ran there would have it tracked, and one more time.
FOLLOW = """
import sys
from pathlib import Path
from anowild.tracking import TrackerChoice, following
with following(TrackerChoice(sys.argv[1]), Path(sys.argv[2]), "digits", {"seed": 1}) as follower:
    follower.results = {"gan": {"seconds": 2.5}} if len(sys.argv) > 3 else None
"""


def written(folder: Path, count: int) -> Path:
    """Write what a training of ``count`` ticks leaves, with a picture at each."""
    (folder / "grids").mkdir(parents=True, exist_ok=True)
    write_json(folder / "settings.json", {"settings": {"seed": 1}})
    lines = []
    for i in range(1, count + 1):
        loss = "NaN" if i == 2 else str(i / 4)
        lines.append(f'{{"tick": {i}, "kimg": {i}, "G_loss": {loss}, "seconds": {i}}}\n')
        image = Image.fromarray(np.full((8, 8), 10 * i, np.uint8))
        image.save(folder / "grids" / f"samples-{i:09.1f}.png")
    (folder / "log.jsonl").write_text("".join(lines))
    return folder


def follow_twice(tool: str, folder: Path, python: str) -> None:
    """Track three ticks, and two more in another process; fail on warnings."""
    for count, last in ((3, ()), (5, ("last",))):
        command = [python, "-c", FOLLOW, tool, str(written(folder, count)), *last]
        done = subprocess.run(command, capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stderr
        assert "tracking" not in done.stderr


def environment() -> dict[str, str]:
    source = str(Path(anowild.__file__).parents[1])
    return {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "WANDB_"))} | {
        "PYTHONPATH": source
    }


def answer(python: str, code: str, *arguments: object) -> Any:
    command = [python, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def interpreter(tool: str) -> str:
    found = os.environ.get(f"ANOWILD_{tool.upper()}_PYTHON")
    if found is None:
        pytest.skip(f"ANOWILD_{tool.upper()}_PYTHON names no interpreter that has {tool}")
    return found


STEPS = [1000, 2000, 3000, 4000, 5000]


def test_tensorboard_reads_each_point_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder, where = tmp_path / "training", tmp_path / "curves"
    for count in (3, 5):
        with following(
            TrackerChoice("tensorboard", str(where)), written(folder, count), "digits", {"seed": 1}
        ) as follower:
            assert follower is not None
            follower.results = {"gan": {"seconds": 2.5}} if count == 5 else None
    assert not caplog.records
    (run,) = where.iterdir()
    assert run.name.startswith("digits-")
    events = reader.EventAccumulator(str(run), {"images": 0}).Reload()  # 0: all of them
    points = events.Scalars("G_loss")
    assert [point.step for point in points] == STEPS
    assert [point.value for point in points if point.step != 2000] == [0.25, 0.75, 1.0, 1.25]
    assert [point.step for point in events.Images("samples")] == STEPS
    assert [point.value for point in events.Scalars("gan/seconds")] == [2.5]
    assert "settings/text_summary" in events.Tags()["tensors"]


MLFLOW = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient("sqlite:///" + sys.argv[1] + "/mlflow.db")
(run,) = client.search_runs([client.get_experiment_by_name("anowild").experiment_id])
name = run.info.run_id
print(json.dumps({
    "status": run.info.status, "name": run.info.run_name, "params": run.data.params,
    "steps": [m.step for m in client.get_metric_history(name, "G_loss")],
    "seconds": [m.value for m in client.get_metric_history(name, "gan/seconds")],
    "pictures": [f.path for f in client.list_artifacts(name, "samples")],
}))
"""


@pytest.mark.slow
def test_mlflow_has_each_point_once(tmp_path: Path) -> None:
    python = interpreter("mlflow")
    follow_twice("mlflow", tmp_path, python)
    found = answer(python, MLFLOW, tmp_path / "tracking" / "mlflow")
    assert sorted(found.pop("steps")) == STEPS
    assert found == {
        "status": "FINISHED", "name": "digits", "params": {"seed": "1"}, "seconds": [2.5],
        "pictures": [f"samples/{step:010d}.png" for step in STEPS],
    }  # fmt: skip


@pytest.mark.slow
def test_an_mlflow_server_that_is_away_is_one_warning(tmp_path: Path) -> None:
    python = interpreter("mlflow")
    code = FOLLOW.replace("TrackerChoice(sys.argv[1])", 'TrackerChoice("mlflow", sys.argv[1])')
    command = [python, "-c", code, "http://127.0.0.1:9", str(written(tmp_path, 2)), "last"]
    quick = environment() | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=quick)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("tracking has ended") == 1
    assert "Traceback" not in done.stderr


#: The file of a run has the format of LevelDB's logs: blocks of 32 KiB, records of CRC, length, type and data.
WANDB = """
import json, struct, sys
from pathlib import Path
from wandb.proto import wandb_internal_pb2 as pb

def records(content):
    place, parts = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield pb.Record.FromString(parts)
            parts = b""

rows, ids = [], set()
for path in sorted(Path(sys.argv[1]).glob("wandb/offline-run-*/run-*.wandb")):
    for record in records(path.read_bytes()):
        if record.WhichOneof("record_type") == "run":
            ids.add(record.run.run_id)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({i.key or "/".join(i.nested_key): i.value_json for i in items})
steps = [int(row["images"]) for row in rows if "G_loss" in row]
print(json.dumps({
    "runs": len(ids), "steps": steps,
    "pictures": sum(any(key.startswith("samples") for key in row) for row in rows),
    "seconds": [float(row["gan/seconds"]) for row in rows if "gan/seconds" in row],
}))
"""


@pytest.mark.slow
def test_wandb_has_each_point_once_without_a_network(tmp_path: Path) -> None:
    python = interpreter("wandb")
    follow_twice("wandb", tmp_path, python)
    found = answer(python, WANDB, tmp_path / "tracking" / "wandb")
    assert found == {"runs": 1, "steps": STEPS, "pictures": 5, "seconds": [2.5]}


def test_only_what_is_asked_for_is_imported() -> None:
    code = "import sys, anowild.tracking; print([m for m in ('torch', 'mlflow', 'wandb') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout.strip() == "[]"
