"""`anowild review`: score once, then serve the page until Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from anowild.data.images import Source
from anowild.errors import UserError
from anowild.files import locked, printable
from anowild.review.scored import Scored
from anowild.review.store import MARKS, Store
from anowild.scoring import Detector


def serve(
    detector: Detector,
    sources: Source | Sequence[Source],
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 8765,
    again: bool = False,
) -> None:
    """Serve the review in ``folder``; images are scored first, unless this model has scored them.

    Args:
        port: 0 takes any free one.
        again: score in any case. Marks belong to names, and stay.

    Raises:
        UserError: a library is missing, the port is in use, another server runs in the folder, or as
            in scoring.
    """
    try:
        import uvicorn

        from anowild.review.app import Review, where_to_listen
    except ImportError as error:
        raise UserError(f"a review needs {error.name}: pip install 'anowild[review]'") from error
    with locked(folder, "another server runs there; use that one, or stop it"):
        listening = listen(host, port)
        with listening:
            if again or Scored.weights_id(folder) != detector.weights_id:
                Scored.make(folder, detector, sources)
            scored, store = Scored.load(folder), Store(folder / MARKS)
            shown = [sources] if isinstance(sources, str | Path) else list(sources)
            title = ", ".join(printable(str(source)) for source in shown)
            port = listening.getsockname()[1]
            hosts, token = where_to_listen(host, port)
            app = Review(scored, detector, store, title).app(hosts, token)
            name = f"[{host}]" if ":" in host else host
            query = "" if token is None else f"?token={token}"
            listening.listen(128)  # from now on a browser waits, and is not refused
            print(f"{len(scored)} images; open http://{name}:{port}/{query}", flush=True)
            print(f"Ctrl-C ends it; marks are in {folder / MARKS}", flush=True)
            config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
            server = uvicorn.Server(config)
            try:
                server.run(sockets=[listening])
            except KeyboardInterrupt:
                pass
            finally:
                store.close()


def listen(host: str, port: int) -> socket.socket:
    """Before anything is scored: whether the address can be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen on {host}, port {port} ({reason}): give another with --port, or 0 for "
            "any free one"
        ) from error
    return listening
