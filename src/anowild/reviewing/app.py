"""The web application of a review: shows images, stores marks, and serves nothing else.

A request refers to an image by its index, never to a file by its path.
"""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.files import printable
from anowild.reporting import images
from anowild.reviewing.export import FORMATS, encode_marks
from anowild.reviewing.security import HEADERS, Guard, cookie_name
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import (
    MAX_REVIEWER_LENGTH,
    VERDICTS,
    Store,
    consensus,
    is_valid_reviewer,
)
from anowild.scoring import Detector, Scores
from anowild.scoring.scores import oddest_first

Handler = Callable[[Request], Awaitable[Response]]

#: Maximum number of images in one response.
MAX_IMAGES = 240
#: Maximum length of a request body, in bytes.
MAX_BODY = 4096
#: Side in pixels to which larger images are reduced for the grid.
THUMBNAIL = 64
#: Reference images in the detail view of an image.
NEIGHBORS = 5
#: Name of the order that is learned from the marks.
RERANKED = "marks"

_STATIC = {"review.js": "text/javascript", "review.css": "text/css"}


class InvalidReviewerName(ValueError):
    """The name of a reviewer has the wrong length, or contains control characters."""


class Review:
    """Request handlers of a review.

    Args:
        session: the scored images.
        detector: explains images and finds their neighbors.
        store: keeps the marks.
        title: title of the page.
    """

    def __init__(
        self, session: ReviewSession, detector: Detector, store: Store, title: str
    ) -> None:
        self.session, self.detector, self.store, self.title = session, detector, store, title
        self.secret = secrets.token_urlsafe(24)
        # Part of the addresses of pictures, so that a browser does not show cached ones of another run.
        self._run = secrets.token_hex(4)
        self._order = lru_cache(maxsize=4)(self._make_order)
        self._marks = lru_cache(maxsize=1)(lambda version: store.marks())

    def app(self, hosts: frozenset[str] = frozenset(), token: str | None = None) -> ASGIApp:
        """Return the ASGI application, behind a :class:`Guard`."""
        routes = [
            Route("/", self._handled(self.page)),
            Route("/static/{name}", self._handled(self.static)),
            Route("/api/info", self._handled(self.info)),
            Route("/api/order", self._handled(self.order)),
            Route("/api/scores", self._handled(self.sorted_scores)),
            Route("/api/rows", self._handled(self.rows)),
            Route("/api/sheet", self._handled(self.sheet)),
            Route("/api/detail", self._handled(self.detail)),
            Route("/api/export", self._handled(self.export)),
            Route("/api/mark", self._handled(self.mark), methods=["POST"]),
            Route("/api/undo", self._handled(self.undo), methods=["POST"]),
            Route("/{path:path}", self._handled(self.nothing)),
        ]
        self._token = token
        return Guard(Starlette(routes=routes), hosts, token, self.secret)

    def _handled(self, answer: Callable[[Request, dict[str, Any]], Response]) -> Handler:
        """Run a handler in a thread; an invalid request gets one sentence, never a traceback."""

        async def handler(request: Request) -> Response:
            body: dict[str, Any] = {}
            try:
                if request.method == "POST":
                    body = await _body(request)
                response = await run_in_threadpool(answer, request, body)
            except UserError as error:
                response = PlainTextResponse(printable(str(error)), 500)
            except InvalidReviewerName:
                response = PlainTextResponse(
                    f"The name of a reviewer has 1 to {MAX_REVIEWER_LENGTH} characters and no control characters.",
                    400,
                )
            except (KeyError, ValueError, TypeError, IndexError, RecursionError):
                response = PlainTextResponse("This request is invalid.", 400)
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return handler

    # Requests that read

    def page(self, request: Request, body: dict[str, Any]) -> Response:
        html = _file("index.html").replace("{{secret}}", self.secret)
        response = Response(html, media_type="text/html; charset=utf-8")
        if self._token is not None:
            response.set_cookie(
                cookie_name(self._token), self._token, httponly=True, samesite="strict"
            )
        return response

    def static(self, request: Request, body: dict[str, Any]) -> Response:
        name = request.path_params["name"]
        return Response(_file(name), media_type=f"{_STATIC[name]}; charset=utf-8")

    def nothing(self, request: Request, body: dict[str, Any]) -> Response:
        return PlainTextResponse("Not found.", 404)

    def info(self, request: Request, body: dict[str, Any]) -> Response:
        return JSONResponse(
            {
                "title": printable(self.title),
                "count": len(self.session),
                "sorts": ["score", RERANKED, *self.session.cues],
                "threshold": Detector.threshold(),
                "run": self._run,
            }
        )

    def order(self, request: Request, body: dict[str, Any]) -> Response:
        """Return the indices of the images in an order: int32, little endian."""
        found = self._ordered(request)
        return Response(found.astype("<i4").tobytes(), media_type="application/octet-stream")

    def sorted_scores(self, request: Request, body: dict[str, Any]) -> Response:
        """Return all scores, the highest first: float32, little endian."""
        scores = -np.sort(-self.session.score)
        return Response(scores.astype("<f4").tobytes(), media_type="application/octet-stream")

    def rows(self, request: Request, body: dict[str, Any]) -> Response:
        """Return names, scores and marks of images, by their indices."""
        numbers = self._numbers(request)
        reviewer = request.query_params["reviewer"]
        own, agreed = self._verdicts(reviewer)
        return JSONResponse(
            {
                "names": [printable(self.session.names[i]) for i in numbers],
                "scores": [float(np.float32(self.session.score[i])) for i in numbers],
                "own": [own.get(self.session.names[i]) for i in numbers],
                "all": [agreed.get(self.session.names[i]) for i in numbers],
                **self._progress(own, agreed),
            }
        )

    def sheet(self, request: Request, body: dict[str, Any]) -> Response:
        """Return images side by side, as one row in one PNG."""
        shown = self._thumbnails(self._numbers(request))
        row = shown.transpose(1, 2, 0, 3).reshape(shown.shape[1], shown.shape[2], -1)
        data = io.BytesIO()
        Image.fromarray(row[0] if len(row) == 1 else row.transpose(1, 2, 0)).save(
            data, format="PNG", compress_level=1
        )
        response = Response(data.getvalue(), media_type="image/png")
        response.headers["Cache-Control"] = "private, max-age=3600"
        return response

    def detail(self, request: Request, body: dict[str, Any]) -> Response:
        """Return everything about an image: reasons, cues, pictures, nearest reference images, marks."""
        (number,) = self._numbers(request)
        session, name = self.session, self.session.names[number]
        stored = np.ascontiguousarray(session.pictures[[number]])
        (drawn,) = images.explanation_pictures(self.detector.explain(stored), [printable(name)])
        cues = {cue: values[[number]] for cue, values in session.cues.items()}
        (why,) = self.detector.reasons(Scores(session.score[[number]], cues))
        return JSONResponse(
            {
                "name": printable(name),
                "why": why,
                "score": float(session.score[number]),
                "cues": {cue: float(values[0]) for cue, values in cues.items()},
                "pictures": [[picture.title, picture.url] for picture in drawn],
                "near": [
                    images.image_url(near)
                    for near in self.detector.neighbors(stored, NEIGHBORS)[0]
                ],
                "marks": [
                    [mark.reviewer, mark.verdict] for mark in self.store.marks() if mark.image == name
                ],
            }
        )  # fmt: skip

    def export(self, request: Request, body: dict[str, Any]) -> Response:
        kind = request.query_params["format"]
        data = encode_marks(self.session, self.store.marks(), kind)
        headers = {"Content-Disposition": f'attachment; filename="marks.{kind}"'}
        return Response(data, media_type=FORMATS[kind], headers=headers)

    # Requests that change marks

    def mark(self, request: Request, body: dict[str, Any]) -> Response:
        number, verdict = body["image"], body["verdict"]
        if type(number) is not int or not 0 <= number < len(self.session):
            raise ValueError("image")
        reviewer = _reviewer(body)
        self.store.mark(self.session.names[number], reviewer, verdict)
        return self._marked(reviewer, number)

    def undo(self, request: Request, body: dict[str, Any]) -> Response:
        reviewer = _reviewer(body)
        name = self.store.undo(reviewer, self.session.numbers)
        return self._marked(reviewer, self.session.numbers.get(name) if name else None)

    def _marked(self, reviewer: str, number: int | None) -> Response:
        own, agreed = self._verdicts(reviewer)
        name = None if number is None else self.session.names[number]
        return JSONResponse(
            {
                "image": number,
                "own": None if name is None else own.get(name),
                "all": None if name is None else agreed.get(name),
                **self._progress(own, agreed),
            }
        )

    # Helpers

    def _verdicts(self, reviewer: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return the marks of one reviewer, and the consensus of all, by image name."""
        marks = [m for m in self._marks(self.store.version()) if m.image in self.session.numbers]
        return {m.image: m.verdict for m in marks if m.reviewer == reviewer}, consensus(marks)

    def _progress(self, own: dict[str, str], agreed: dict[str, str]) -> dict[str, Any]:
        count = {v: sum(x == v for x in agreed.values()) for v in VERDICTS}
        return {"progress": {"own": len(own), "all": len(agreed), **count}}

    def _numbers(self, request: Request) -> list[int]:
        numbers = [int(part) for part in request.query_params["images"].split(",")]
        if len(numbers) > MAX_IMAGES or not all(0 <= n < len(self.session) for n in numbers):
            raise ValueError("images")
        return numbers

    def _ordered(self, request: Request) -> Array:
        sort = request.query_params["sort"]
        version = self.store.version() if sort == RERANKED else (0, 0)
        return self._order(sort, version)

    def _make_order(self, sort: str, version: tuple[int, int]) -> Array:
        if sort != RERANKED:
            return self.session.order(sort)
        scores = self.session.reranked_scores(consensus(self.store.marks()))
        return oddest_first(scores).astype(np.int32)

    def _thumbnails(self, numbers: list[int]) -> Array:
        """Return thumbnails, uint8 [N, 1 or 3, r, r]; r is less than twice ``THUMBNAIL``."""
        shown = np.ascontiguousarray(self.session.pictures[numbers])
        shown = shown if shown.shape[1] in (1, 3) else shown[:, :1]
        if shown.dtype == np.uint16:
            shown = (shown >> 8).astype(np.uint8)
        factor = max(1, shown.shape[-1] // THUMBNAIL)  # both are powers of two
        count, channels, side, _ = shown.shape
        blocks = shown.reshape(count, channels, side // factor, factor, side // factor, factor)
        return blocks.mean(axis=(3, 5)).round().astype(np.uint8) if factor > 1 else shown


async def _body(request: Request) -> dict[str, Any]:
    """Parse the body of a request as a JSON object.

    Raises:
        ValueError: it is no JSON, or too long.
        TypeError: it is no object.
    """
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY:
            raise ValueError("too long")
    value = json.loads(data)
    if not isinstance(value, dict):
        raise TypeError("no object")
    return value


def _reviewer(body: dict[str, Any]) -> str:
    """Return the name of the reviewer who makes a change.

    Raises:
        KeyError: there is no name.
        InvalidReviewerName: the name is invalid.
    """
    name = body["reviewer"]
    if not is_valid_reviewer(name):
        raise InvalidReviewerName
    return str(name)


def _file(name: str) -> str:
    """Read a file of the page; only names that are listed here exist."""
    if name not in ("index.html", *_STATIC):
        raise KeyError(name)
    return files("anowild.reviewing").joinpath("static", name).read_text(encoding="utf-8")
