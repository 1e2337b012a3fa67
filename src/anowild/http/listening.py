"""Listening sockets, and servers that say when they answer."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import uvicorn

from anowild.errors import UserError
from anowild.files import for_terminal

#: Connections that wait to be accepted, at most.
WAITING = 128


class AnnouncedServer(uvicorn.Server):
    """A server that says where it is once Ctrl-C stops it in an orderly way."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(WAITING)  # asyncio has set it to the number that it accepts at once
        self._announce()


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; browsers that connect before the server runs have to wait.

    Raises:
        UserError: the address cannot be used.
    """
    if not host:
        raise UserError("--host is empty; give an address such as 127.0.0.1 or 0.0.0.0")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: else asyncio leaves Nagle's algorithm on, and an answer waits 40 ms for its second part.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(WAITING)
    except (OSError, OverflowError, TypeError, ValueError) as error:  # of names that are no text
        listening.close()
        reason = getattr(error, "strerror", None) or error
        taken = isinstance(error, OverflowError) or getattr(error, "errno", None) in (
            errno.EADDRINUSE,
            errno.EACCES,
        )
        mend = (
            "give another port with --port, or 0 for any free port"
            if taken
            else "give an address of this machine with --host, such as 127.0.0.1 or 0.0.0.0"
        )
        raise UserError(
            f"cannot listen on {for_terminal(host)}, port {port} ({reason}); {mend}"
        ) from error
    return listening


def host_in_url(host: str) -> str:
    """Return the name of a host in addresses that others open: this machine's where it listens on all."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"[{name}]" if ":" in name else name
