"""Limits of a server: open connections, time for a request, and lines of log.

Connections that wait are closed before their sender is known, so nobody can keep others out by opening
many. This module imports nothing from anowild, so that it can be audited alone.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds for the whole header of a request, and for its body.
HEADER_SECONDS, BODY_SECONDS = 10.0, 30.0
#: Seconds in which the other side has to read some of an answer that does not fit into the system's buffers.
READ_SECONDS = 30.0
#: Most connections, and the descriptors that are left for images, marks and connections to be closed.
MOST_CONNECTIONS, RESERVED = 200, 24
#: Connections that are accepted at once, before those beyond the limit are closed.
ACCEPTED_AT_ONCE = 4
#: Seconds from one line of log to the next.
LOG_SECONDS = 60.0


class LimitedProtocol(H11Protocol):
    """HTTP of uvicorn, with deadlines for requests, and a limit on connections that closes idle ones.

    The limit is ``limit_concurrency`` of the server's configuration. Beyond it the connection is closed
    that has waited longest for a request: first of those that have never sent one, then of the others.
    A request that is being answered is never broken off.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._most = self.limit_concurrency
        self.limit_concurrency = None  # uvicorn would refuse the new request, and keep idle ones
        self._since = 0.0  # when it began to wait for a request
        self._awaited: object = None  # the part of a request that has to come
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection; close another one if there are too many."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._watch()
        open_ones = [
            c for c in self.connections
            if isinstance(c, LimitedProtocol) and not c.transport.is_closing()
        ]  # fmt: skip
        waiting = [c for c in open_ones if c.cycle is None or c.cycle.response_complete]
        if self._most is not None and len(open_ones) > self._most and waiting:
            min(waiting, key=lambda c: (c.cycle is not None, c._since)).transport.abort()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Take data of a request."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        super().connection_lost(exc)
        self._stop_watching()
        self._stop_unread()

    def pause_writing(self) -> None:
        """Wait for the other side to read, but not for ever."""
        super().pause_writing()
        self._unread = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on with an answer that is being read."""
        super().resume_writing()
        self._stop_unread()

    def _watch(self) -> None:
        """Set a deadline for the part of a request that has to come next, unless it is awaited already."""
        awaited = self.conn.their_state
        if awaited is self._awaited:
            return
        self._stop_watching()
        self._awaited = awaited
        seconds = {h11.IDLE: HEADER_SECONDS, h11.SEND_BODY: self.body_seconds()}.get(awaited)
        if seconds is not None:
            self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def body_seconds(self) -> float:
        """Return the seconds for the body of a request."""
        return BODY_SECONDS

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def most_connections(most: int = MOST_CONNECTIONS) -> int:
    """Return how many connections, ``most`` or less, this process can hold and still open images."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY:
        return most
    used = len(list(Path("/dev/fd").iterdir()))
    return max(8, min(most, allowed - used - RESERVED))


class OneLine(logging.Filter):
    """A filter that passes one line a minute, which says how many were held back since the last."""

    def __init__(self) -> None:
        super().__init__()
        self._last = -LOG_SECONDS
        self._held = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a record; it is shortened to one line."""
        now = time.monotonic()
        if now - self._last < LOG_SECONDS:
            self._held += 1
            return False
        text = record.getMessage().strip().partition("\n")[0]
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({record.exc_info[1]!r:.200})"
        if self._held:
            text += f" (and {self._held} more since the last line)"
        record.msg, record.args = text, ()
        record.exc_info = record.exc_text = record.stack_info = None
        self._last, self._held = now, 0
        return True


@contextmanager
def one_line_a_minute() -> Iterator[None]:
    """Hold the log of the server down to one line a minute, however much fails."""
    # uvicorn's own; that of the event loop, which tells of connections that it cannot accept; of bodies
    names = ("uvicorn.error", "uvicorn.asgi", "asyncio", "python_multipart.multipart")
    loggers = [logging.getLogger(name) for name in names]
    line = OneLine()
    for logger in loggers:
        logger.addFilter(line)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(line)
