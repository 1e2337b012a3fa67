"""The command `anowild review`: scores the images once, then serves the page until Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from anowild.data.image_set import Source
from anowild.errors import UserError
from anowild.files import exclusive_lock, printable
from anowild.reviewing.session import (
    FACTS,
    NAMES,
    NUMBERS,
    PICTURES,
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
) -> None:
    """Serve the review in ``folder``, after scoring the images unless this model has scored them already.

    Args:
        detector: scores and explains the images.
        sources: the images.
        folder: of the review; created if it does not exist.
        host: address to listen on.
        port: 0 takes any free port.
        again: score in any case. The marks are kept, since they belong to the names of images.

    Raises:
        UserError: a library is missing, the port is in use, another server runs in the folder, or
            the source cannot be scored.
    """
    check_installed()
    import uvicorn

    from anowild.reviewing.app import Review
    from anowild.reviewing.security import access_rules

    _refuse_foreign_folder(folder)
    with exclusive_lock(folder, "another server uses this folder; use or stop that server"):
        listening = listen(host, port)
        with listening:
            if again or not ReviewSession.matches(folder, detector, sources):
                ReviewSession.make(folder, detector, sources)
            session, store = ReviewSession.load(folder), Store(folder / MARKS)
            warn_unmatched_marks(session, store)
            shown = [sources] if isinstance(sources, str | Path) else list(sources)
            title = ", ".join(printable(str(source)) for source in shown)
            port = listening.getsockname()[1]
            hosts, token = access_rules(host, port)
            app = Review(session, detector, store, title).app(hosts, token)
            name = socket.gethostname() if host in ("0.0.0.0", "::") else host
            name = f"[{name}]" if ":" in name else name
            query = "" if token is None else f"?token={token}"
            print(f"{len(session)} images; open http://{name}:{port}/{query}", flush=True)
            print(f"Ctrl-C stops the server; marks are kept in {folder / MARKS}", flush=True)
            config = uvicorn.Config(
                app, log_level="warning", access_log=False, server_header=False, lifespan="off"
            )
            server = uvicorn.Server(config)
            try:
                server.run(sockets=[listening])
            except KeyboardInterrupt:
                pass
            finally:
                store.close()


def check_installed() -> None:
    """Check that the libraries of the extra `review` are installed.

    Raises:
        UserError: one is missing.
    """
    for library in ("starlette", "uvicorn"):
        if find_spec(library) is None:
            raise UserError(f"a review needs {library}: pip install 'anowild[review]'")


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


def _refuse_foreign_folder(folder: Path) -> None:
    """Check that a folder is new, empty, or a review.

    Raises:
        UserError: it holds other files.
    """
    ours = {FACTS, NAMES, NUMBERS, PICTURES, MARKS, "lock"}
    if not folder.is_dir():
        return
    found = {path.name for path in folder.iterdir()}
    if found and not found & {FACTS, MARKS, "lock"}:
        other = min(found - ours or found)
        raise UserError(
            f"{folder}: is no review, but holds other files ({printable(other)}); name a new folder"
        )
