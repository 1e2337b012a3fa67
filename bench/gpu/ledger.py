"""What of a long measurement is done, on disk: so that it may be cut off anywhere, and goes on."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from anowild.files import read_json, write_json
from anowild.signals import Interrupted

#: A unit is given up after the process has ended in the middle of it so often.
ATTEMPTS = 3
FAILED = "failed"


class Ledger:
    """Results of finished units by name, and the seconds that all starts together have taken.

    Args:
        folder: holds state.json and clock.json.
        changed: called after each unit.
    """

    #: Seconds between two notes of the time: what a kill may hide.
    NOTED_EVERY = 5.0

    def __init__(self, folder: Path, changed: Callable[[], None] = lambda: None) -> None:
        self.changed = changed
        self._state, self._clock = folder / "state.json", folder / "clock.json"
        state = read_json(self._state) if self._state.exists() else {"units": {}, "begun": {}}
        self.units: dict[str, Any] = state["units"]
        self._begun: dict[str, int] = state["begun"]
        self._before = float(read_json(self._clock)) if self._clock.exists() else 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """All time taken so far, that of earlier starts included."""
        return self._before + time.monotonic() - self._started

    @contextmanager
    def noting_time(self) -> Iterator[None]:
        """Inside, the time is written down every few seconds."""
        over = threading.Event()

        def note() -> None:
            while not over.wait(self.NOTED_EVERY):
                write_json(self._clock, self.seconds)

        thread = threading.Thread(target=note, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            write_json(self._clock, self.seconds)

    def unit(self, name: str, work: Callable[[], Any]) -> Any:
        """The result of ``work``, done now or by an earlier start.

        What fails gives ``{"failed": why}``, and is not tried again.
        """
        if name not in self.units:
            begun = self._begun.get(name, 0)
            if begun >= ATTEMPTS:
                result: Any = {FAILED: f"the process ended {begun} times in the middle of this"}
            else:
                self._begun[name] = begun + 1
                self._save()
                result = self._tried(work)
            self.units[name] = result
            self._begun.pop(name, None)
            self._save()
            self.changed()
        return self.units[name]

    def _tried(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Interrupted:
            raise
        except torch.OutOfMemoryError:
            why = "out of memory"
        except Exception as error:  # whatever it is, the other parts are wanted
            why = (str(error).splitlines() or [repr(error)])[0]
        gc.collect()
        return {FAILED: why}

    def _save(self) -> None:
        write_json(self._state, {"units": self.units, "begun": self._begun})


def failure(result: Any) -> str | None:
    """Why a unit failed; None where it did not."""
    return result.get(FAILED) if isinstance(result, dict) else None
