"""The command `anowild review`: scores the images once, then serves the page until Ctrl-C."""

from __future__ import annotations

import os
import socket
import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from anowild.data.image_set import Source
from anowild.errors import UserError
from anowild.files import exclusive_lock, printable
from anowild.reviewing.app import Review
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.security import access_rules
from anowild.reviewing.session import (
    FACTS,
    IMAGES,
    SCORES,
    ReviewSession,
    warn_unmatched_marks,
)
from anowild.reviewing.store import MARKS, Store
from anowild.scoring import Detector


def serve(
    detector: Detector,
    sources: Source | Sequence[Source],
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 8765,
    again: bool = False,
    model: Path | None = None,
    open_browser: bool = False,
) -> None:
    """Serve the review in ``folder``, after scoring the images unless this model has scored them already.

    Args:
        detector: scores and explains the images.
        sources: the images.
        folder: of the review; created if it does not exist.
        host: address to listen on.
        port: 0 takes any free port.
        again: score in any case. The marks are kept, since they belong to the names of images.
        model: folder of the model, which keeps the limit.
        open_browser: whether to open the page in this machine's browser.

    Raises:
        UserError: the port is in use, another server runs in the folder, or the source cannot be scored.
    """
    refuse_foreign_folder(folder)
    with exclusive_lock(folder, ANOTHER_SERVER), Server(host, port) as server:
        session = ReviewSession.make(folder, detector, sources, again)
        store = Store(folder / MARKS)
        try:
            warn_unmatched_marks(session, store)
            review = Review(
                Ranking(session, detector), store, session.images.title, model, server.local
            )
            print(f"marks are kept in {folder / MARKS}", flush=True)
            server.run(review, open_browser)
        finally:
            store.close()


ANOTHER_SERVER = "another server uses this folder; use or stop that server"


class Server:
    """A server of a review: listens from the beginning, so that a browser that comes early waits.

    Args:
        host: address to listen on.
        port: 0 takes any free port.

    Raises:
        UserError: the address cannot be used.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self._listening = host, listen(host, port)
        self.port: int = self._listening.getsockname()[1]
        self._hosts, self._token = access_rules(host, self.port)
        #: Whether only browsers on this machine reach it.
        self.local = self._token is None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    @property
    def url(self) -> str:
        """The address of the page."""
        name = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        name = f"[{name}]" if ":" in name else name
        query = "" if self._token is None else f"?token={self._token}"
        return f"http://{name}:{self.port}/{query}"

    def run(self, review: Review, open_browser: bool = False) -> None:
        """Serve until Ctrl-C or SIGTERM."""
        config = uvicorn.Config(
            review.app(self._hosts, self._token),
            log_level="warning", access_log=False, server_header=False, lifespan="off",
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        with suppress(KeyboardInterrupt):
            _Announced(config, lambda: self._announce(review, open_browser)).run([self._listening])

    def _announce(self, review: Review, open_browser: bool) -> None:
        print(f"{len(review.ranking.session)} images; open {self.url}", flush=True)
        if self.local and not os.environ.get("DISPLAY") and os.environ.get("SSH_CONNECTION"):
            forward = f"ssh -L {self.port}:localhost:{self.port} {socket.gethostname()}"
            print(f"on your own machine first: {forward}", flush=True)
        print("Ctrl-C stops the server", flush=True)
        if open_browser:
            threading.Thread(target=webbrowser.open, args=[self.url], daemon=True).start()


class _Announced(uvicorn.Server):
    """A server that says where it is once Ctrl-C stops it in an orderly way."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; browsers that connect before the server runs have to wait.

    Raises:
        UserError: the address cannot be used.
    """
    if not host:
        raise UserError("--host is empty; give an address such as 127.0.0.1 or 0.0.0.0")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen on {host}, port {port} ({reason}); give another port with --port, or 0 "
            "for any free port"
        ) from error
    return listening


def refuse_foreign_folder(folder: Path) -> None:
    """Check that a folder is new, empty, or a review.

    Raises:
        UserError: it holds other files.
    """
    ours = {FACTS, SCORES, IMAGES, MARKS, "lock"}
    if not folder.is_dir():
        return
    found = {path.name for path in folder.iterdir()}
    if found and not found & {FACTS, MARKS, "lock"}:
        other = min(found - ours or found)
        raise UserError(
            f"{folder}: is no review, but holds other files ({printable(other)}); name a new folder"
        )
