"""What a tracker is handed of a training: each point once, whatever happens to it or to the training."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.files import write_json
from anowild.settings import Settings
from anowild.tracking import TrackerChoice, follower, following, parse_choice
from anowild.training.run import train
from anowild.training.tick_log import TickLog
from tests.conftest import Run, tiny_settings

CHOICE = TrackerChoice("tensorboard")


class Recorder:
    """A tracker that keeps what it is handed, and fails where it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.settings: Mapping[str, Any] = {}
        self.points: list[tuple[int, dict[str, float]]] = []
        self.pictures: list[tuple[str, int, tuple[int, ...]]] = []
        self.ended = 0
        self.fails_after: int | None = None

    def begin(self, run: str, name: str, settings: Mapping[str, Any]) -> None:
        self.begun.append(run)
        self.settings = settings

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if self.fails_after is not None and len(self.points) >= self.fails_after:
            raise OSError("No space left on device")
        self.points.append((step, dict(values)))

    def picture(self, name: str, image: Array, step: int) -> None:
        assert image.dtype == np.uint8
        self.pictures.append((name, step, image.shape))

    def end(self) -> None:
        self.ended += 1

    @property
    def steps(self) -> list[int]:
        return [step for step, _ in self.points]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    monkeypatch.setattr(TrackerChoice, "make", lambda self, folder: found)
    return found


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.getMessage().startswith("tracking")]


def ticks(folder: Path) -> list[int]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [round(json.loads(line)["kimg"] * 1000) for line in lines]


def short(**changes: Any) -> Settings:
    """Ten steps and five ticks of networks of 8x8 pixels."""
    small = {"resolution": 8, "kimg": 0.16, "tick_kimg": 0.032, "initial_resolution": None}
    return tiny_settings(**(small | changes))


def test_a_training_is_the_same_with_a_tracker(
    recorder: Recorder, digits: Array, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(digits[:32], tmp_path / "plain", short())
    assert not (tmp_path / "plain" / "training" / "tracking").exists()

    train(digits[:32], tmp_path / "tracked", short(), track=CHOICE)
    training = tmp_path / "tracked" / "training"
    assert len(ticks(training)) == 5
    assert recorder.steps == [*ticks(training), ticks(training)[-1]]
    values = recorder.points[0][1]
    assert {"G_loss", "D_loss", "resolution"} <= values.keys()
    assert not {"tick", "kimg"} & values.keys()
    assert recorder.points[-1][1]["gan/kimg"] == pytest.approx(0.16)  # figures at the end
    assert {name for name, _, _ in recorder.pictures} == {"samples", "reconstructions"}
    assert recorder.settings["kimg"] == 0.16
    assert (len(recorder.begun), recorder.ended) == (1, 1)
    assert not told(caplog)
    weights = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("plain", "tracked")]
    assert weights[0] == weights[1]

    # Another training is refused in this folder, and its log is not handed on as if it were of that one.
    with pytest.raises(UserError, match="other settings"):
        train(digits[:32], tmp_path / "plain", short(seed=5), track=CHOICE)
    assert len(recorder.begun) == 1


def test_a_resumed_training_goes_on_in_its_run_without_a_point_twice(
    recorder: Recorder, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ticks after the last checkpoint were handed on, and are trained once more."""
    settings, out = short(checkpoint_ticks=2), tmp_path / "model"
    write = TickLog.write
    kill_at = [3]

    class Killed(BaseException):
        pass

    def writing(self: Any, values: dict[str, Any]) -> None:
        write(self, values)
        if values["tick"] == kill_at[0]:
            raise Killed

    monkeypatch.setattr(TickLog, "write", writing)
    with pytest.raises(Killed):
        train(digits[:32], out, settings, track=CHOICE)
    assert recorder.steps == ticks(out / "training")
    assert len(recorder.steps) == 3

    kill_at[0] = 0
    train(digits[:32], out, settings, track=CHOICE)
    assert len(recorder.begun) == 2
    assert len(set(recorder.begun)) == 1
    assert recorder.steps[:-1] == ticks(out / "training")
    assert len(recorder.steps) == 6

    # Given once more, the finished training adds nothing.
    points, pictures = list(recorder.points), list(recorder.pictures)
    train(digits[:32], out, settings, track=CHOICE)
    assert (recorder.points, recorder.pictures) == (points, pictures)
    assert len(set(pictures)) == len(pictures) == 4  # named by tenths of thousands of images


def test_views_without_a_log_have_their_figures_at_the_end(
    recorder: Recorder, digits: Array, tmp_path: Path
) -> None:
    settings = short(views=("transforms", "pixels"))
    train(digits[:64], tmp_path / "m", settings, track=CHOICE)
    assert len(recorder.begun) == 1
    ((step, values),) = recorder.points
    assert step == 0
    assert values["transforms/kimg"] == pytest.approx(0.3)
    assert "transforms/accuracy/turns" in values


def written(folder: Path, count: int) -> None:
    """Write what a training of ``count`` ticks leaves."""
    folder.mkdir(exist_ok=True)
    write_json(folder / "settings.json", {"settings": {"seed": 1}})
    lines = [json.dumps({"tick": i, "kimg": i / 10, "loss": float(i)}) for i in range(1, count + 1)]
    (folder / "log.jsonl").write_text("\n".join([*lines, '{"tick": 99, "ki']))


def track(folder: Path, choice: TrackerChoice = CHOICE) -> None:
    with following(choice, folder, "name", {"seed": 1}) as follower:
        assert follower is not None
        follower.results = {"view": {"seconds": 2.0, "name": "x"}}


def test_a_tracker_that_fails_is_one_warning_and_the_next_start_catches_up(
    recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path / "t", 3)
    recorder.fails_after = 1
    track(tmp_path / "t")
    assert (recorder.steps, recorder.ended) == ([100], 1)
    assert told(caplog) == [
        "tracking has ended (No space left on device); the training goes on without it"
    ]
    recorder.fails_after = 3
    track(tmp_path / "t")  # fails at the figures at the end
    assert recorder.steps == [100, 200, 300]
    recorder.fails_after = None
    written(tmp_path / "t", 4)
    track(tmp_path / "t")
    assert recorder.steps == [100, 200, 300, 400, 400]
    assert recorder.points[-1][1] == {"view/seconds": 2.0}


def test_another_tool_or_place_gets_a_run_of_its_own_from_the_beginning(
    recorder: Recorder, tmp_path: Path
) -> None:
    written(tmp_path / "t", 2)
    for choice in (CHOICE, TrackerChoice("mlflow"), TrackerChoice("tensorboard", "elsewhere")):
        recorder.points.clear()
        track(tmp_path / "t", choice)
        assert recorder.steps == [100, 200, 200]
    assert len(set(recorder.begun)) == 3


def test_a_tracker_that_cannot_be_made_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: TrackerChoice, folder: Path) -> None:
        raise RuntimeError("there is no such store")

    monkeypatch.setattr(TrackerChoice, "make", refused)
    written(tmp_path / "t", 2)
    track(tmp_path / "t")
    assert told(caplog) == [
        "tracking has ended (there is no such store); the training goes on without it"
    ]


def test_a_tracker_that_hangs_is_left_alone(
    recorder: Recorder,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released = threading.Event()
    monkeypatch.setattr(recorder, "begin", lambda *_: released.wait())
    monkeypatch.setattr(follower, "GRACE", 0.1)
    written(tmp_path / "t", 2)
    track(tmp_path / "t")
    assert told(caplog) == [
        "tracking: no answer for 0.1 seconds; what is left is not tracked"
    ]  # fmt: skip
    # A second process does not write into the same run meanwhile.
    monkeypatch.setattr(follower, "GRACE", 30.0)
    track(tmp_path / "t")
    assert "another process tracks this training" in told(caplog)[-1]
    released.set()


def test_a_damaged_state_is_one_warning(
    recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path / "t", 1)
    state = tmp_path / "t" / "tracking" / "tensorboard" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text('{"run": 5}')
    track(tmp_path / "t")
    (warning,) = told(caplog)
    assert f"{state}: is damaged" in warning
    assert "delete it for a new run" in warning
    assert not recorder.begun


@pytest.mark.parametrize("text", ["", "excel", "tensorboard:", ":x"])
def test_unknown_trackers_are_refused(text: str, anowild: Run, tmp_path: Path) -> None:
    code, _, err = anowild("train", tmp_path, "-o", tmp_path / "m", f"--track={text}")
    assert code == 1
    assert f"--track {text}: give tensorboard, mlflow, wandb" in err


@pytest.mark.parametrize(
    ("tool", "package"),
    [("tensorboard", "'anowild[tensorboard]'"), ("mlflow", "mlflow"), ("wandb", "wandb")],
)
def test_a_missing_library_is_named_before_anything_begins(
    tool: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, tool, None)
    wanted = re.escape(f"curves in {tool} need {tool}: pip install {package}")
    with pytest.raises(UserError, match=f"^{wanted}$"):
        parse_choice(tool)


def test_places_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anowild.tracking.base.require", lambda *_: None)
    assert parse_choice("mlflow:http://host:5000") == TrackerChoice("mlflow", "http://host:5000")
    assert parse_choice("wandb") == TrackerChoice("wandb")
    with following(None, Path("absent"), "name", {}) as nothing:
        assert nothing is None
