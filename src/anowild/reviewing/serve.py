"""The command `anowild review`: scores the images once, then serves the page until Ctrl-C."""

from __future__ import annotations

import os
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from anowild.data.sources import Source
from anowild.errors import UserError
from anowild.files import exclusive_lock, printable
from anowild.http.limits import (
    ACCEPTED_AT_ONCE,
    LimitedProtocol,
    most_connections,
    one_line_a_minute,
)
from anowild.http.listening import AnnouncedServer, host_in_url, listen
from anowild.http.security import LOOPBACK, access_rules
from anowild.reviewing.app import Review
from anowild.reviewing.folder import ANOTHER_SERVER, FACTS, IMAGES, REVIEWED, SCORES, write_reviewed
from anowild.reviewing.store import MARKS, Store
from anowild.scoring.partitions import PartitionedTable

if TYPE_CHECKING:
    from anowild.scoring import Detector


def serve(
    detector: Detector,
    sources: Source | Sequence[Source],
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    again: bool = False,
    model: Path | None = None,
    open_browser: bool = False,
    token: bool = True,
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
        token: whether the page can only be opened with the token in the address that is printed.

    Raises:
        UserError: the port is in use, another server runs in the folder, or the source cannot be scored.
    """
    from anowild.reviewing.ranking import Ranking
    from anowild.reviewing.session import ReviewSession, warn_unmatched_marks

    with opened(folder, host, port, token) as (server, store):
        session = ReviewSession.make(folder, detector, sources, again)
        warn_unmatched_marks(session, store.marks())
        ranking = Ranking(session, detector)
        review = Review(ranking, store, session.images.title, model, server.local)
        print(f"marks are kept in {folder / MARKS}", flush=True)
        server.run(review, open_browser)


def serve_table(
    table: Path,
    folder: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    open_browser: bool = False,
    token: bool = True,
) -> None:
    """Serve the review of a table in parts; other arguments as for :func:`serve`.

    Args:
        table: folder of the table.
        folder: of the review; unless given, ``review`` in the table's folder.

    Raises:
        UserError: the port is in use, another server runs in the folder, there is no whole table, or DuckDB is not
            installed.
    """
    from anowild.reviewing.table import TableCatalog

    rows = PartitionedTable(table)
    folder = table / "review" if folder is None else folder
    with opened(folder, host, port, token) as (server, store):
        write_reviewed(folder, rows)
        title = ", ".join(rows.facts.sources)
        review = Review(TableCatalog(rows), store, title, None, server.local)
        print(f"marks are kept in {folder / MARKS}", flush=True)
        server.run(review, open_browser)


@contextmanager
def opened(folder: Path, host: str, port: int, token: bool) -> Iterator[tuple[Server, Store]]:
    """Take a review's folder for one server: its lock, a server that listens, and the marks.

    Raises:
        UserError: the port is in use, another server runs in the folder, or it is no review.
    """
    refuse_foreign_folder(folder)
    with (
        exclusive_lock(folder, ANOTHER_SERVER),
        Server(host, port, token) as server,
        closing(Store(folder / MARKS)) as store,
    ):
        yield server, store


class Server:
    """A server of a review: listens from the beginning, so that a browser that comes early waits.

    Args:
        host: address to listen on.
        port: 0 takes any free port.
        token: whether requests need the token that is part of the printed address.

    Raises:
        UserError: the address cannot be used, or other machines reach it and no token is required.
    """

    def __init__(self, host: str, port: int, token: bool = True) -> None:
        #: Whether only this machine reaches it.
        self.local = host in LOOPBACK
        if not token and not self.local:
            raise UserError(
                f"--no-token is for this machine alone, and others reach {host}; leave one of the two out"
            )
        self.host, self.listening = host, listen(host, port)
        self.port: int = self.listening.getsockname()[1]
        self._hosts, self._token = access_rules(host, self.port, token)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.listening.close()

    @property
    def url(self) -> str:
        """The address of the page."""
        query = "" if self._token is None else f"?token={self._token}"
        return f"http://{host_in_url(self.host)}:{self.port}/{query}"

    def run(self, review: Review, open_browser: bool = False) -> None:
        """Serve until Ctrl-C or SIGTERM."""
        running = self.of(review, lambda: self._announce(review, open_browser))
        with suppress(KeyboardInterrupt), one_line_a_minute():
            running.run([self.listening])

    def of(self, review: Review, announce: Callable[[], None] = lambda: None) -> uvicorn.Server:
        """Return the server of a review, to be run with :attr:`listening`.

        Args:
            review: what is served.
            announce: called once the server answers.
        """
        config = uvicorn.Config(
            review.app(self._hosts, self._token),
            http=LimitedProtocol, ws="none", loop="asyncio", lifespan="off",
            limit_concurrency=most_connections(), backlog=ACCEPTED_AT_ONCE,
            log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2,
        )  # fmt: skip
        return AnnouncedServer(config, announce)

    def _announce(self, review: Review, open_browser: bool) -> None:
        print(f"{len(review.catalog)} images; open {self.url}", flush=True)
        if self.local and not os.environ.get("DISPLAY") and os.environ.get("SSH_CONNECTION"):
            forward = f"ssh -L {self.port}:localhost:{self.port} {socket.gethostname()}"
            print(f"on your own machine first: {forward}", flush=True)
        print("Ctrl-C stops the server", flush=True)
        if open_browser:
            threading.Thread(target=webbrowser.open, args=[self.url], daemon=True).start()


def refuse_foreign_folder(folder: Path) -> None:
    """Check that a folder is new, empty, or a review.

    Raises:
        UserError: it holds other files.
    """
    ours = {FACTS, SCORES, IMAGES, MARKS, REVIEWED, "lock"}
    if not folder.is_dir():
        return
    found = {path.name for path in folder.iterdir()}
    # Trainings and other work have a lock as well.
    review = found & {FACTS, MARKS, REVIEWED} or ("lock" in found and found <= ours)
    if found and not review:
        other = min(found - ours or found)
        raise UserError(
            f"{folder}: is no review, but holds other files ({printable(other)}); name a new folder"
        )
