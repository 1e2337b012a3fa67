"""The command `anowild serve`: scores what it is sent, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from anowild.device import share_freed_memory
from anowild.errors import UserError
from anowild.http.limits import (
    ACCEPTED_AT_ONCE,
    LimitedProtocol,
    most_connections,
    one_line_a_minute,
)
from anowild.http.listening import AnnouncedServer, host_in_url, listen
from anowild.http.security import LOOPBACK, access_rules
from anowild.scoring import Detector
from anowild.scoring.saved_limit import limit_in_use
from anowild.serving.app import Service
from anowild.serving.limits import ServiceLimits

#: Environment variable that holds the token.
TOKEN = "ANOWILD_TOKEN"
#: Characters of a token, at least.
LEAST_TOKEN = 16
#: Seconds that connections get to receive their answers, beyond the time of a request.
GRACE = 5.0
#: Seconds that an idle connection is kept: longer than proxies and clients do, so that they close it, and no
#: request meets a connection that is just being closed. Where there are too many, the idle ones go first.
KEEP_ALIVE = 75
#: Seconds that new requests are told that the service stops, after the last accepted one was answered.
LINGER = 0.3


def serve(
    detector: Detector,
    threshold: float | None = None,
    limits: ServiceLimits | None = None,
    host: str = "127.0.0.1",
    port: int = 8766,
) -> None:
    """Score images that are sent over HTTP, until Ctrl-C or SIGTERM; see `anowild.serve`. Accepted requests are finished."""
    token = _token(host)
    share_freed_memory()
    with listen(host, port) as listening:
        port = listening.getsockname()[1]
        service = Service(detector, limit_in_use(detector.folder, threshold), limits)
        try:
            service.scorer.warm_up()
            _collect_requests_alone()
            with one_line_a_minute():
                _server(service, host, port, token).run([listening])
        finally:
            service.close()
    print(f"stopped; {service.metrics.images} images were scored", flush=True)


def _collect_requests_alone() -> None:
    """Keep what is there for good out of the garbage collection.

    The collector waits until a quarter as many objects are new as there are in all: beside the million of PyTorch's,
    40 MB of requests that are done.
    """
    gc.collect()
    gc.freeze()


def _server(service: Service, host: str, port: int, token: str | None) -> uvicorn.Server:
    """Return the server of a service, to be run with a listening socket.

    Args:
        service: answers requests.
        host: address that the socket listens on.
        port: of that socket.
        token: required with requests; None: none is.
    """
    limits = service.limits
    hosts, _ = access_rules(host, port, token=False)

    class Protocol(LimitedProtocol):
        """HTTP whose bodies have a little more time than the service gives, so that it says so itself."""

        def body_seconds(self) -> float:
            return limits.seconds + GRACE

    config = uvicorn.Config(
        service.app(hosts, token),
        http=Protocol, ws="none", loop="asyncio", lifespan="off",
        limit_concurrency=most_connections(limits.connections), backlog=ACCEPTED_AT_ONCE,
        log_level="warning", access_log=False, server_header=False,
        timeout_keep_alive=KEEP_ALIVE, timeout_graceful_shutdown=round(GRACE),
    )  # fmt: skip

    def say() -> None:
        print(f"images are scored at http://{host_in_url(host)}:{port}/score", flush=True)
        if token is not None and TOKEN not in os.environ:
            print(f"token, new each time unless {TOKEN} has one: {token}", flush=True)
        print("Ctrl-C stops the service", flush=True)

    return _DrainingServer(config, say, service)


class _DrainingServer(AnnouncedServer):
    """A server that finishes what it has accepted before it stops; a second signal stops it at once."""

    def __init__(
        self, config: uvicorn.Config, announce: Callable[[], None], service: Service
    ) -> None:
        super().__init__(config, announce)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Accept no more. The signal is not raised again at the end: stopping is success."""
        self._service.admission.draining = True
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the accepted requests; new ones are refused with 503 meanwhile."""
        admission = self._service.admission
        admission.draining = True
        while admission.requests and not self.force_exit:
            await asyncio.sleep(0.05)
        if not self.force_exit:
            await asyncio.sleep(LINGER)
        await super().shutdown(sockets)


def _token(host: str) -> str | None:
    """Return the token that requests need; None: only this machine reaches the address, and none is set."""
    given = os.environ.get(TOKEN)
    if given is not None:
        if (
            len(given) < LEAST_TOKEN
            or not given.isascii()
            or not given.isprintable()
            or " " in given
        ):
            raise UserError(
                f"{TOKEN}: a token has {LEAST_TOKEN} or more characters of ASCII and no blanks; choose another one"
            )
        return given
    return None if host in LOOPBACK else secrets.token_urlsafe(24)
