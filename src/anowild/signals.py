"""Ctrl-C and SIGTERM ask for a stop; long work saves first and then stops."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from anowild.errors import UserError


class Interrupted(Exception):
    """Long work was asked to stop; what it had reached is saved.

    Args:
        reached: how far it was, for the message.
    """

    def __init__(self, signum: int, reached: str) -> None:
        super().__init__(f"stopped at {reached}; the same command goes on from there")
        self.signum = signum


class StopRequest:
    """``signum`` is set by the first signal; a second Ctrl-C interrupts at once."""

    signum: int | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Listen for SIGINT and SIGTERM; outside the main thread nothing is listened for."""
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
    """What a module's command returns; where it was stopped or refused, that is said on stderr."""
    try:
        return command()
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 128 + stopped.signum
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
