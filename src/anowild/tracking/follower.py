"""A thread that hands to a tracker what a training writes into its folder.

The log of the training is read from its file, so it does not matter which process trains. What was handed on is
noted beside it, so a training that goes on in its folder goes on in the same run, and steps that it repeats
after the last checkpoint are not logged twice.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anowild.checked import Count, checked
from anowild.errors import UserError
from anowild.files import exclusive_lock, read_json, write_json
from anowild.tracking.base import TrackerChoice

log = logging.getLogger("anowild")

#: Folder of trackings in that of the training, and the file that says what a tool was handed.
FOLDER, STATE = "tracking", "state.json"
#: What a training writes, as `training` names it: its settings, before all else; a line of JSON a tick; and
#: pictures named by thousands of images.
SETTINGS, LOG, PICTURES = "settings.json", "log.jsonl", "grids"
_PICTURE = re.compile(r"(?P<name>[a-z]+)-(?P<kimg>\d+\.\d)\.png")
#: Columns of the log that are no curves.
_NO_CURVES = ("tick", "kimg")
#: Seconds between looks at the folder; and until a tracker that hangs at the end is given up.
EVERY, GRACE = 1.0, 30.0


@dataclass(frozen=True)
class _State:
    """What a run of a tracker has been handed."""

    run: str
    where: str | None  # that was asked for
    step: Count = 0  # of the last point
    picture: Count = 0  # step of the last pictures
    results: bool = False  # figures at the end


class Follower:
    """What hands a training's log to a tracker.

    Args:
        choice: of the tracker.
        training: folder of the training.
        name: of the run, for people.
        settings: of the training.
    """

    def __init__(
        self, choice: TrackerChoice, training: Path, name: str, settings: Mapping[str, Any]
    ) -> None:
        self.choice, self.training = choice, training
        self.folder = training / FOLDER / choice.tool  # keeps what was handed on
        self.name, self.settings = name, settings
        self.results: Mapping[str, Any] | None = None  # how views were fitted, when all are
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def finish(self) -> None:
        """Hand on what is left, and wait for that a while."""
        self._ended.set()
        self._thread.join(GRACE)
        if self._thread.is_alive():
            log.warning("tracking: no answer for %g seconds; what is left is not tracked", GRACE)

    def _run(self) -> None:
        try:
            while not self._has_begun():
                if self._ended.is_set():
                    if self.results is None:
                        return  # the training has failed before it began
                    break
                self._ended.wait(EVERY)
            with exclusive_lock(self.folder, "another process tracks this training"):
                self._follow()
        # A tracker is a stranger's program, and may fail in any way; a training goes on all the same.
        except Exception as error:  # noqa: BLE001
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            log.warning("tracking has ended (%s); the training goes on without it", reason)

    def _has_begun(self) -> bool:
        """Whether what lies in the folder is of this training: it may hold another, which is refused there."""
        try:
            found = json.loads((self.training / SETTINGS).read_text(encoding="utf-8"))["settings"]
        except (OSError, ValueError, TypeError, KeyError):
            return False
        return bool(found == json.loads(json.dumps(self.settings)))

    def _follow(self) -> None:
        self.state = self._load()
        self.tracker = self.choice.make(self.folder)
        try:
            self.tracker.begin(self.state.run, self.name, self.settings)
            while not self._ended.wait(EVERY):
                self._hand_on()
            self._hand_on()
            if self.results is not None and not self.state.results:
                with self._noted(results=True):
                    self.tracker.log(self.state.step, _numbers(self.results))
        except Exception:
            with suppress(Exception):  # the first error counts
                self.tracker.end()
            raise
        self.tracker.end()

    def _load(self) -> _State:
        path = self.folder / STATE
        if path.exists():
            try:
                found = checked(_State, read_json(path), "the state")
                if found.where == self.choice.where:
                    return found
            except ValueError as error:
                raise UserError(f"{path}: is damaged ({error}); delete it for a new run") from error
        state = _State(secrets.token_hex(4), self.choice.where)
        write_json(path, asdict(state))
        return state

    @contextmanager
    def _noted(self, **changes: Any) -> Iterator[None]:
        """Note what is handed on, before it is: what a kill took is missed less than what is there twice."""
        before = self.state
        self._save(replace(before, **changes))
        try:
            yield
        except BaseException:
            self._save(before)
            raise

    def _save(self, state: _State) -> None:
        self.state = state
        write_json(self.folder / STATE, asdict(state))

    def _hand_on(self) -> None:
        for step, values in _points(_lines(self.training / LOG)):
            if step > self.state.step:
                with self._noted(step=step):
                    self.tracker.log(step, values)
        self._hand_on_pictures()

    def _hand_on_pictures(self) -> None:
        found: dict[int, list[tuple[str, Path]]] = {}
        for path in sorted((self.training / PICTURES).glob("*.png")):
            named = _PICTURE.fullmatch(path.name)
            if named is not None:
                step = round(float(named["kimg"]) * 1000)
                found.setdefault(step, []).append((named["name"], path))
        for step in sorted(step for step in found if step > self.state.picture):
            with self._noted(picture=step):
                for name, path in found[step]:
                    with Image.open(path) as picture:
                        image = np.asarray(picture.convert("RGB"))
                    self.tracker.picture(name, image, step)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _points(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield steps and values of a log; a line that is being written, or is damaged, is none yet."""
    for line in lines:
        try:
            found = json.loads(line)
            step = round(float(found["kimg"]) * 1000)
        except (ValueError, TypeError, KeyError, OverflowError):
            continue
        yield step, _numbers({k: v for k, v in found.items() if k not in _NO_CURVES})


def _numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers among values, those of mappings inside by names with slashes."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = float(value)
    return found


@contextmanager
def following(
    choice: TrackerChoice | None, training: Path, name: str, settings: Mapping[str, Any]
) -> Iterator[Follower | None]:
    """Track a training while the block runs; without a choice nothing happens.

    Args:
        training: its folder.
        name: of the run, for people.
        settings: of the training, JSON values.
    """
    if choice is None:
        yield None
        return
    follower = Follower(choice, training, name, settings)
    follower.start()
    try:
        yield follower
    finally:
        follower.finish()
