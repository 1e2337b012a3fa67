"""Graceful stops: on Ctrl-C or SIGTERM, long work saves its state and then stops."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from anowild.errors import UserError


class Interrupted(Exception):
    """Long work was stopped by a signal, after its state was saved.

    Args:
        signum: of the signal.
        reached: how far the work was, for the message.
    """

    def __init__(self, signum: int, reached: str) -> None:
        super().__init__(f"stopped at {reached}; the same command goes on from there")
        self.signum = signum


class StopRequest:
    """A request to stop, made by a signal; a second Ctrl-C interrupts at once."""

    signum: int | None = None  # of the first signal

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request; outside the main thread they cannot be handled."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, request) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status(command: Callable[[], int]) -> int:
    """Run a module's command, and print on stderr if it was stopped or refused.

    Returns:
        The command's exit status; 128 + the signal's number if it was stopped, 1 if it was refused.
    """
    try:
        return command()
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 128 + stopped.signum
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
