"""Scoring over HTTP: the command `anowild serve`.

`app` has the routes and `answers` their schema; `uploads` finds the images in a request's body, `scorer` scores
the images of many requests together, `heatmap` draws, `limits` refuses, `access` says who may ask, `metrics`
counts, and `serve` runs it all until it is stopped.
"""

from __future__ import annotations

from anowild.libraries import require


def require_libraries() -> None:
    """Raise UserError, which says what to install, unless the libraries of the extra ``serve`` are there."""
    for library in ("fastapi", "python_multipart", "prometheus_client"):
        require("services", library)
