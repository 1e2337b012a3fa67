"""The process of a command: its streams, what it says of errors, and its exit codes."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from anowild.errors import UserError
from anowild.files import for_terminal
from anowild.signals import Interrupted

#: Exit code of `score` and `prepare` where more images were left out than used.
MOSTLY_LEFT_OUT = 4


def run(command: Callable[[], object]) -> None:
    """Run a command; a user's mistake gives one sentence and exit code 1."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this process
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the end
    # Names may hold bytes that are no text: shown escaped, rather than not at all.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        # Files and pipes get no codes of a terminal, whatever these ask for.
        for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE"):
            os.environ.pop(name, None)
    try:
        command()
    except (UserError, Interrupted) as error:
        sys.exit(_status(error))
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer turns Ctrl-C into an exit without a word.
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        print_error("stopped; give the same command again")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        print_error(f"anowild: {error.filename or 'a file'}: {error.strerror or error}")
        sys.exit(1)


def exit_status(command: Callable[[], int]) -> int:
    """Run the command of a module, as a trial or a benchmark, and return its exit status.

    What :func:`run` says of mistakes and stops is said here as well.
    """
    try:
        return command()
    except (UserError, Interrupted) as error:
        return _status(error)


def _status(error: UserError | Interrupted) -> int:
    """Print why a command ended; return 128 + the signal's number if it was stopped, 1 if it was refused."""
    if isinstance(error, Interrupted):
        print_error(str(error))
        return 128 + error.signum
    print_error(f"anowild: {error}")
    return 1


def launched_together() -> bool:
    """Whether torchrun, or what sets the same variables, started this process as one of several."""
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return all(name in os.environ for name in names) and os.environ["WORLD_SIZE"] != "1"


class StderrHandler(logging.Handler):
    """Writes to what sys.stderr is at the time: a progress bar puts itself in between."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("anowild: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        print_error(self.format(record))


def print_error(text: str) -> None:
    """Print a line on stderr; characters that are no text, or control a terminal, are escaped."""
    print(for_terminal(text), file=sys.stderr, flush=True)


def mostly_left_out(used: int, left_out: int) -> bool:
    """Say so if more images were left out than used, and return whether they were."""
    if left_out > used:
        print_error(
            f"anowild: {left_out} of {used + left_out} images were left out, more than half; the results "
            f"are of the others alone (exit code {MOSTLY_LEFT_OUT})"
        )
    return left_out > used
