"""A command tried in a forked process, with limits of time and memory: how did it end?"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anowild import cli

#: Seconds and bytes that a command may take.
SECONDS, MEMORY = 20.0, 2 << 30
OUTCOMES = ("sentence", "result", "traceback", "hang", "signal")
FAILED = OUTCOMES[2:]


@dataclass
class Attempt:
    """How a command ended."""

    outcome: str
    said: str
    megabytes: float  # resident at most; 0 for a command that was killed
    seconds: float

    @staticmethod
    def of(arguments: list[str], folder: Path, limited: bool = True) -> Attempt:
        """Run a command in a forked process."""
        with tempfile.TemporaryFile() as out, mmap.mmap(-1, 8) as peak:
            started = time.perf_counter()
            child = os.fork()
            if not child:
                _run(arguments, folder, out.fileno(), peak, limited)
            hung, status = _wait(child, SECONDS if limited else 600.0)
            out.seek(0)
            said = out.read().decode("utf-8", "backslashreplace")
            kilobytes = int.from_bytes(peak[:], "little")
        code = os.waitstatus_to_exitcode(status)
        outcome = (
            "hang" if hung else "signal" if code < 0 else
            "traceback" if "Traceback" in said or code == 99 else "result" if code == 0 else "sentence"
        )  # fmt: skip
        return Attempt(outcome, said, kilobytes / 1e3, time.perf_counter() - started)


def _run(arguments: list[str], folder: Path, out: int, peak: mmap.mmap, limited: bool) -> None:
    """Be the forked process: run a command, tell the most memory that was resident, in kB, and end."""
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = open(1, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the parent
        if limited:
            mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY,) * 2)
        sys.argv = ["anowild", *arguments]
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        (line,) = (
            line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
        )
        peak[:] = int(line.split()[1]).to_bytes(8, "little")
    finally:
        os._exit(code)


def _wait(child: int, seconds: float) -> tuple[bool, int]:
    """Wait for a process, and kill it when its time is over."""
    end, pause = time.monotonic() + seconds, 0.001
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return False, status
        if time.monotonic() > end:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return True, status
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
