"""Graceful stops: on Ctrl-C or SIGTERM, long work saves its state and then stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
