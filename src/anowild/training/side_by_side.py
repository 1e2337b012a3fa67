"""Trainings of several networks side by side, each in a process of its own with its share of the threads.

    python -m anowild.training.side_by_side

is such a process: it reads a job, a line of JSON, from its standard input, and reports lines of JSON on its
standard output. When its input ends, as the process that started it is gone, it saves its state and stops.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import torch

from anowild.data import ImageSet, Preprocess
from anowild.device import configure_process
from anowild.errors import UserError, ViewUnavailable
from anowild.files import atomic_write
from anowild.progress import Bars, bars, report_to
from anowild.settings import Settings
from anowild.signals import Interrupted, stop_request

log = logging.getLogger("anowild")

#: Seconds between checks for Ctrl-C.
POLL = 0.2
#: Holds the images while processes run, unless they are mapped from a file anyway.
IMAGES = "images.raw"

Report = dict[str, Any]


def run_pieces(
    names: Sequence[str], images: ImageSet, settings: Settings, folder: Path, device: torch.device
) -> None:
    """Run pieces of the fits of views (`fitting.pieces_of`) to their ends, as many at a time as threads.

    Does nothing on a GPU, with a single thread, or for a single piece: then the fits train by themselves.
    The piece of a view that cannot be used ends early, and the fit will say why.

    Raises:
        UserError: of a piece; or a process was killed.
        Interrupted: by Ctrl-C or SIGTERM, after all have saved their states.
    """
    threads = torch.get_num_threads()
    at_a_time = min(threads, len(names))
    if device.type != "cpu" or at_a_time < 2:
        return
    with stop_request() as stop, _images_file(images, folder) as stored, bars() as shown:
        job = {
            "settings": settings.to_json(),
            "preprocess": images.preprocess.to_json(),
            "images": stored,
            "digest": images.digest,
            "folder": str(folder),
            "threads": threads // at_a_time,
        }
        waiting = list(names)
        running: dict[str, _Process] = {}
        try:
            while waiting or running:
                while waiting and len(running) < at_a_time:
                    name = waiting.pop(0)
                    running[name] = _Process({**job, "piece": name})
                if stop.signum is not None:
                    raise Interrupted(stop.signum, "the training of the networks")
                for name in [name for name, process in running.items() if process.ended(shown)]:
                    running.pop(name).check(name)
        finally:
            for process in running.values():
                process.stop()


class _Process:
    """A process that runs a piece."""

    def __init__(self, job: dict[str, Any]) -> None:
        # In a session of its own, so that Ctrl-C reaches the parent alone, which then stops all.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "anowild.training.side_by_side"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": str(job["threads"])},
        )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        self.reports: SimpleQueue[Report | None] = SimpleQueue()
        self.error: Report | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.reports.put(json.loads(line))
        self.reports.put(None)

    def ended(self, shown: Bars) -> bool:
        """Pass reports on for a moment; return whether the process has ended."""
        while True:
            try:
                report = self.reports.get(timeout=POLL)
            except Empty:
                return False
            if report is None:
                self.process.wait()
                return True
            if "done" in report:
                shown.update(**report)
            elif "level" in report:
                log.log(report["level"], "%s", report["text"])
            else:
                self.error = report
            if self.reports.empty():
                return False

    def check(self, name: str) -> None:
        """Raise what ended the process, unless it is for the fit to say; see :func:`run_pieces`."""
        code = self.process.returncode
        if self.error is not None:
            if not self.error["unavailable"]:
                raise UserError(self.error["error"])
        elif code > 128:
            raise Interrupted(code - 128, f"the training '{name}'")
        elif code:
            cause = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            raise UserError(
                f"the training '{name}' {cause}; if memory ran out, train on fewer threads or at a lower "
                "resolution; the same command goes on from the last state"
            )

    def stop(self) -> None:
        """Have the process save its state, and wait for its end."""
        self.process.terminate()
        self.process.wait()


@contextmanager
def _images_file(images: ImageSet, folder: Path) -> Iterator[dict[str, Any]]:
    """Give the place of the images in a file, which is written if there is none: the arguments of memmap."""
    array = images.images
    facts = {"dtype": str(array.dtype), "shape": list(array.shape)}
    if isinstance(array, np.memmap) and array.flags.c_contiguous and array.filename is not None:
        yield {**facts, "filename": str(array.filename), "offset": int(array.offset)}
        return
    path = folder / IMAGES
    try:
        with atomic_write(path) as temporary:
            np.ascontiguousarray(array).tofile(temporary)
        yield {**facts, "filename": str(path), "offset": 0}
    finally:
        path.unlink(missing_ok=True)


def main() -> int:
    """Run the job on standard input; return the exit status."""
    from anowild.training.fitting import FAILURES, failure, pieces_of

    reports = sys.stdout
    sys.stdout = sys.stderr  # for whatever prints
    lock = threading.Lock()

    def report(**values: Any) -> None:
        with lock:
            print(json.dumps(values), file=reports, flush=True)

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            report(level=record.levelno, text=record.getMessage())

    job = json.loads(sys.stdin.readline())
    log.addHandler(Handler())
    log.setLevel(logging.INFO)
    log.propagate = False
    report_to(report)

    def follow_parent() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow_parent, daemon=True).start()
    configure_process(job["threads"])
    settings = Settings.from_json(job["settings"])
    stored = {**job["images"], "shape": tuple(job["images"]["shape"])}
    array = np.memmap(mode="r", **stored)
    preprocess = Preprocess(**job["preprocess"])
    images = ImageSet(array, range(len(array)), preprocess, known_digest=job["digest"])  # type: ignore[arg-type]
    try:
        pieces = {k: v for view in settings.views for k, v in pieces_of(view, settings).items()}
        piece = pieces[job["piece"]]
        piece(images, settings, Path(job["folder"]), torch.device("cpu"))
    except Interrupted as stopped:
        return 128 + stopped.signum
    except UserError as error:
        report(error=str(error), unavailable=isinstance(error, ViewUnavailable))
        return 1
    except FAILURES as error:
        report(error=failure(job["piece"], error), unavailable=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
