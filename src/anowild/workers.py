"""Processes that do a piece of work for this one.

A worker reads a job, a line of JSON, from its standard input, and reports lines of JSON on its standard
output: progress, log messages, and an error. When its input ends, as the process that started it is
gone, it saves its state and stops.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from anowild.errors import UserError, ViewUnavailable
from anowild.progress import Bars, report_to
from anowild.signals import Interrupted

log = logging.getLogger("anowild")

Report = dict[str, Any]

#: Seconds between checks for Ctrl-C.
POLL = 0.2


def python_command(module: str) -> list[str]:
    """Return the command that runs a module in a process of its own.

    ``-P``: not what is in the current folder, which may be one of images, with files as ``json.py``.
    """
    return [sys.executable, "-P", "-m", module]


def environment(threads: int) -> dict[str, str]:
    """Return the environment of such a process; it finds this package also where that is not installed."""
    here = str(Path(__file__).absolute().parents[1])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if here not in (*paths, sysconfig.get_paths()["purelib"]):
        paths.append(here)
    return os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(paths)}


class Worker:
    """A process that runs a module whose main function is :func:`work`.

    Args:
        module: that is run.
        job: JSON values.
        threads: CPU threads of the process.
    """

    def __init__(self, module: str, job: dict[str, Any], threads: int) -> None:
        # In a session of its own, so that Ctrl-C reaches the parent alone, which then stops all.
        self.process = subprocess.Popen(
            python_command(module),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env=environment(threads),
        )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        self.reports: SimpleQueue[Report | None] = SimpleQueue()
        self.error: Report | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                try:
                    report = json.loads(line)
                except ValueError:
                    report = None
                if isinstance(report, dict):
                    self.reports.put(report)
                else:  # of a library, or of what the interpreter runs first
                    print(line, end="", file=sys.stderr, flush=True)
        finally:
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
        """Raise what ended the process; not where a view cannot be used, as its fit raises the same again.

        Raises:
            UserError: of the work; or the process was killed.
            Interrupted: it was stopped.
        """
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


def work(run: Callable[[dict[str, Any]], None]) -> int:
    """Run the job on standard input; return the exit status.

    Args:
        run: does the job. A UserError is reported, an Interrupted becomes the exit status.
    """
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
    try:
        run(job)
    except Interrupted as stopped:
        return 128 + stopped.signum
    except UserError as error:
        report(error=str(error), unavailable=isinstance(error, ViewUnavailable))
        return 1
    return 0
