"""The web application of a review: shows images, stores marks, and serves nothing else.

A request refers to an image by its number, never to a file by its path.
"""

from __future__ import annotations

import io
import json
import secrets
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from anowild.arrays import Array
from anowild.data.display import THUMBNAIL, smaller_thumbnail
from anowild.errors import UserError
from anowild.files import printable
from anowild.http.security import HEADERS, Guard, cookie_name
from anowild.reviewing.catalog import Catalog, NotOffered, levels_of
from anowild.reviewing.export import FORMATS, encode_marks
from anowild.reviewing.query import query_of
from anowild.reviewing.store import (
    MAX_REVIEWER_LENGTH,
    VERDICTS,
    Mark,
    Store,
    Tally,
    consensus,
    is_valid_reviewer,
    tags_of,
)
from anowild.scoring.explain import TERMS
from anowild.scoring.saved_limit import load_limit, save_limit
from anowild.scoring.scores import reached

Handler = Callable[[Request], Awaitable[Response]]

#: Maximum number of images in one response.
MAX_IMAGES = 240
#: Maximum length of a request body, in bytes; more where the numbers of all images take more.
MAX_BODY, BYTES_AN_IMAGE = 1 << 20, 10
#: Pictures may be kept by the browser: their addresses change with the server's run.
_CACHED = "private, max-age=86400"
#: Media types of the files of the page.
_STATIC = {".js": "text/javascript", ".css": "text/css"}


@dataclass(frozen=True)
class Status:
    """Where the work in the background stands."""

    stage: str = "done"  # training, done or failed
    text: str = ""
    fraction: float | None = None


class InvalidReviewerName(ValueError):
    """The name of a reviewer is not as :func:`is_valid_reviewer` wants it."""


class Review:
    """Request handlers of a review.

    Args:
        catalog: the scored images; :meth:`show` puts another in its place.
        store: keeps the marks.
        title: title of the page.
        model: folder of the model, which keeps the limit; None: it cannot be kept.
        local: whether the browser runs on this machine, so that files can be opened on it.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        title: str,
        model: Path | None = None,
        local: bool = False,
    ) -> None:
        self.store, self.title, self.local = store, title, local
        self.status = Status()
        self.secret = secrets.token_urlsafe(24)
        # Part of the addresses of pictures, so that a browser does not show cached ones of another run.
        self._run = secrets.token_hex(4)
        self._version = 0
        self._marks = lru_cache(maxsize=1)(lambda version: store.marks())
        self._lock = threading.RLock()  # of changes and the tally
        self._tally = Tally()
        self._tallied: tuple[int, int] | None = None  # version of the marks that it counts
        self.show(catalog, model)

    def show(self, catalog: Catalog, model: Path | None) -> None:
        """Show other scores of the same images from now on."""
        with self._lock:
            self.catalog, self.model = catalog, model
            self._version += 1
            self._tallied = None
        # The last orders that do not depend on marks.
        self._selected = lru_cache(maxsize=16)(
            lambda query, start: catalog.window_of(query, [], start)
        )
        self._ranked_levels = lru_cache(maxsize=1)(lambda: levels_of(catalog.ranked_scores))

    def app(self, hosts: frozenset[str] = frozenset(), token: str | None = None) -> ASGIApp:
        """Return the ASGI application, behind a :class:`Guard`."""
        gets = {
            "/": self.page, "/static/{name}": self.static, "/api/info": self.info,
            "/api/status": self.progress, "/api/order": self.order, "/api/levels": self.levels,
            "/api/scores": self.sorted_scores,
            "/api/rows": self.rows, "/api/thumbnail/{number:int}": self.thumbnail,
            "/api/detail": self.detail, "/api/explain": self.explain,
            "/api/original/{number:int}": self.original, "/api/map": self.map,
            "/api/members": self.members, "/api/export": self.export,
        }  # fmt: skip
        posts = {
            "/api/mark": self.mark, "/api/tag": self.tag, "/api/undo": self.undo,
            "/api/limit": self.limit, "/api/open": self.open, "/api/grouped": self.grouped,
        }  # fmt: skip
        routes = [Route(path, self._handled(answer)) for path, answer in gets.items()]
        routes += [
            Route(path, self._handled(answer), methods=["POST"]) for path, answer in posts.items()
        ]
        routes.append(Route("/{path:path}", self._handled(self.nothing)))
        self._token = token
        return Guard(Starlette(routes=routes), hosts, token, self.secret)

    def _handled(self, answer: Callable[[Request, dict[str, Any]], Response]) -> Handler:
        """Run a handler in a thread; an invalid request gets one sentence, never a traceback."""

        async def handler(request: Request) -> Response:
            body: dict[str, Any] = {}
            try:
                if request.method == "POST":
                    body = await _body(request, max(MAX_BODY, BYTES_AN_IMAGE * len(self.catalog)))
                response = await run_in_threadpool(answer, request, body)
            except UserError as error:
                response = PlainTextResponse(printable(str(error)), 500)
            except ClientDisconnect:
                response = Response(status_code=400)  # nobody reads it
            except InvalidReviewerName:
                response = PlainTextResponse(
                    f"The name of a reviewer has 1 to {MAX_REVIEWER_LENGTH} characters, no blanks at its "
                    "ends, no control characters, and begins with none of = + - @.",
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
        kind = _STATIC[Path(name).suffix]
        return Response(_file(name), media_type=f"{kind}; charset=utf-8")

    def nothing(self, request: Request, body: dict[str, Any]) -> Response:
        return PlainTextResponse("Not found.", 404)

    def info(self, request: Request, body: dict[str, Any]) -> Response:
        marks = self._all_marks()
        tags = Counter(tag for mark in marks for tag in mark.tags)
        offers = set(self.catalog.offers) | ({"limit"} if self.model is not None else set())
        return JSONResponse(
            {
                "title": printable(self.title),
                "count": len(self.catalog),
                "run": self._run,
                "version": self._version,
                "marks": VERDICTS,
                "tags": [tag for tag, _ in tags.most_common()],
                "reviewers": sorted({mark.reviewer for mark in marks}),
                "limit": self._limit(),
                "offers": sorted(offers),
                "window": self.catalog.window,
                "thumbnail": THUMBNAIL,
                "local": self.local,
                "terms": [{"term": t, "meaning": meaning} for t, meaning in TERMS.items()],
                **self.catalog.about(),
            }
        )

    def progress(self, request: Request, body: dict[str, Any]) -> Response:
        return JSONResponse({"version": self._version, **asdict(self.status)})

    def order(self, request: Request, body: dict[str, Any]) -> Response:
        """Return the numbers of the images of a query: int32, little endian; ``x-total`` says how many there are."""
        query, start = query_of(request.query_params), int(request.query_params.get("start") or 0)
        if start < 0:
            raise ValueError("start")
        found, total = (
            self.catalog.window_of(query, self._all_marks(), start)
            if query.asks_marks
            else self._selected(query, start)
        )
        response = _binary(found.astype("<i4"))
        response.headers["x-total"] = str(total)
        return response

    def levels(self, request: Request, body: dict[str, Any]) -> Response:
        """Return a histogram of the scores, and how many images reach each limit."""
        return JSONResponse(self._ranked_levels())

    def sorted_scores(self, request: Request, body: dict[str, Any]) -> Response:
        """Return all scores, the highest first: float32, little endian; the map asks for them."""
        if "map" not in self.catalog.offers:
            raise NotOffered
        return _binary(self.catalog.ranked_scores.astype("<f4"))

    def rows(self, request: Request, body: dict[str, Any]) -> Response:
        """Return what tiles show of images, by their numbers."""
        found = self.catalog.rows(self._numbers(request), request.query_params.get("group") == "1")
        names = found["names"]
        said = self._said(request.query_params["reviewer"], names, self.store.marks_of(names))
        return JSONResponse(found | {"names": [printable(name) for name in names]} | said)

    def thumbnail(self, request: Request, body: dict[str, Any]) -> Response:
        """Return a thumbnail; ``side`` asks for one of at most so many pixels."""
        number = self._number(request.path_params["number"])
        data, kind = self.catalog.thumbnail(number), "image/webp"
        if data is None:  # asked for again, as the file may come back
            return Response(_missing(), media_type=kind)
        if side := request.query_params.get("side"):
            if not 1 <= int(side) <= THUMBNAIL:
                raise ValueError("side")
            data, kind = smaller_thumbnail(data, int(side))
        return Response(data, media_type=kind, headers={"Cache-Control": _CACHED})

    def original(self, request: Request, body: dict[str, Any]) -> Response:
        """Return an original at full size, or another page of its file."""
        number = self._number(request.path_params["number"])
        given = request.query_params
        levels = None
        if given.get("low") and given.get("high"):
            levels = (float(given["low"]), float(given["high"]))
        page = int(given["page"]) if given.get("page") else None
        data, kind = self.catalog.original(number, page, levels)
        return Response(data, media_type=kind, headers={"Cache-Control": _CACHED})

    def detail(self, request: Request, body: dict[str, Any]) -> Response:
        """Return what is known about an image, without pictures that take time."""
        number = self._number(int(request.query_params["image"]))
        (name,) = self.catalog.names_of([number])
        me = request.query_params.get("reviewer", "")
        marks = self.store.marks_of([name])
        own = next((mark for mark in marks if mark.reviewer == me), None)
        found = self.catalog.facts(number)
        found["marks"] = [
            {"reviewer": m.reviewer, "verdict": m.verdict, "tags": m.tags} for m in marks
        ]
        found["tags"] = [] if own is None else own.tags
        return JSONResponse(found)

    def explain(self, request: Request, body: dict[str, Any]) -> Response:
        number = self._number(int(request.query_params["image"]))
        return JSONResponse(self.catalog.explanation(number))

    def map(self, request: Request, body: dict[str, Any]) -> Response:
        """Return the places of all images on the map: float32 [N, 2], little endian."""
        places = self.catalog.layout()
        if places is None:
            return PlainTextResponse(
                "The map is being computed; of many images that takes a while.", 503
            )
        return _binary(places.astype("<f4"))

    def members(self, request: Request, body: dict[str, Any]) -> Response:
        """Return the images of the group of an image that pass the filters of a query, the oddest first: int32."""
        number = self._number(int(request.query_params["image"]))
        return _binary(self._members([number], request.query_params).astype("<i4"))

    def grouped(self, request: Request, body: dict[str, Any]) -> Response:
        """Return some images, and those of their groups that pass the filters of a query."""
        numbers = self._listed(body["images"])
        members = self._members(numbers, request.query_params)
        return JSONResponse({"images": list(dict.fromkeys([*numbers, *members.tolist()]))})

    def _members(self, numbers: Sequence[int], parameters: Mapping[str, str]) -> Array:
        """Return the images of the groups of some images that pass the filters of a query, the oddest first."""
        found = self.catalog.members(numbers)
        query = replace(query_of(parameters), group=False)
        shown, _ = self.catalog.window_of(query, self._all_marks())
        return found[np.isin(found, shown)]

    def export(self, request: Request, body: dict[str, Any]) -> Response:
        kind = request.query_params["format"]
        data = encode_marks(self.catalog.said_of, self.store.marks(), kind)
        headers = {"Content-Disposition": f'attachment; filename="marks.{kind}"'}
        return Response(data, media_type=FORMATS[kind], headers=headers)

    # Requests that change something

    def mark(self, request: Request, body: dict[str, Any]) -> Response:
        reviewer, names = _reviewer(body), self._named(body)
        with self._changing():
            self.store.mark(names, reviewer, body["verdict"])
            return self._changed(reviewer, names)

    def tag(self, request: Request, body: dict[str, Any]) -> Response:
        reviewer, names = _reviewer(body), self._named(body)
        with self._changing():
            self.store.tag(names, reviewer, body["tag"], bool(body["on"]))
            return self._changed(reviewer, names)

    def undo(self, request: Request, body: dict[str, Any]) -> Response:
        reviewer = _reviewer(body)
        with self._changing():
            names = self.store.undo(reviewer, self.catalog.knows)
            return self._changed(reviewer, names)

    def limit(self, request: Request, body: dict[str, Any]) -> Response:
        """Keep a limit with the model."""
        score = float(body["score"])
        if not np.isfinite(score):
            raise ValueError("score")
        if self.model is None:
            raise UserError("this model is not kept in a folder, so no limit can be kept with it")
        save_limit(self.model, score)
        return JSONResponse({"limit": self._limit()})

    def open(self, request: Request, body: dict[str, Any]) -> Response:
        """Open the file of an image with the program that the system has for it."""
        path = self.catalog.path(self._number(body["image"]))
        if not self.local:
            raise UserError("files can be opened only on the machine that the server runs on")
        if path is None or not path.is_file():
            raise UserError("this image is not a file of its own, or is not there any more")
        program = "open" if sys.platform == "darwin" else "xdg-open"
        try:
            subprocess.Popen(
                [program, str(path.absolute())],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"{program} cannot be run ({error.strerror}); open {path}") from error
        return JSONResponse({})

    # Helpers

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold off other changes, with the tally in step."""
        with self._lock:
            self._count()
            yield

    def _changed(self, reviewer: str, names: list[str]) -> Response:
        """Count the marks of images that were changed, and answer what is said of them."""
        marks = self.store.marks_of(dict.fromkeys(names))
        of_image: dict[str, list[Mark]] = {name: [] for name in names}
        for mark in marks:
            of_image[mark.image].append(mark)
        for name, its_marks in of_image.items():
            self._tally.take(name, its_marks)
        self._tallied = self.store.version()
        numbers = self.catalog.numbers_of(names)
        return JSONResponse(
            {"images": [numbers[name] for name in names], **self._said(reviewer, names, marks)}
        )

    def _count(self) -> None:
        """Count all marks of the images, unless they are counted already."""
        version = self.store.version()
        if version == self._tallied:
            return
        self._tally = Tally()
        of_image: dict[str, list[Mark]] = {}
        for mark in self.store.marks():
            of_image.setdefault(mark.image, []).append(mark)
        for name, its_marks in of_image.items():
            if self.catalog.knows(name):
                self._tally.take(name, its_marks)
        self._tallied = version

    def _all_marks(self) -> list[Mark]:
        return self._marks(self.store.version())

    def _said(self, reviewer: str, names: list[str], marks: list[Mark]) -> dict[str, Any]:
        """Return what a reviewer and all say of images, by their marks, and how far the review is."""
        own = {m.image: m.verdict for m in marks if m.reviewer == reviewer}
        agreed, tags = consensus(marks), tags_of(marks)
        with self._lock:
            self._count()
            progress = {"own": self._tally.by_reviewer[reviewer], "all": len(self._tally)}
            progress |= {verdict: self._tally.by_verdict[verdict] for verdict in VERDICTS}
        return {
            "own": [own.get(name) for name in names],
            "all": [agreed.get(name) for name in names],
            "tags": [tags.get(name, []) for name in names],
            "progress": progress,
        }

    def _limit(self) -> dict[str, Any]:
        score, saved = self.catalog.limit, False
        if self.model is not None:
            kept = load_limit(self.model)
            score, saved = (score, False) if kept is None else (kept.score, True)
        return {
            "score": score, "saved": saved, "reached": reached(self.catalog.ranked_scores, score),
        }  # fmt: skip

    def _numbers(self, request: Request) -> list[int]:
        numbers = [int(part) for part in request.query_params["images"].split(",")]
        if len(numbers) > MAX_IMAGES:
            raise ValueError("images")
        return self._listed(numbers)

    def _named(self, body: dict[str, Any]) -> list[str]:
        """Return the names of the images of a change."""
        return self.catalog.names_of(self._listed(body["images"]))

    def _listed(self, numbers: Sequence[object]) -> list[int]:
        if not isinstance(numbers, list) or not numbers:
            raise ValueError("images")
        return [self._number(number) for number in numbers]

    def _number(self, number: object) -> int:
        if type(number) is not int or not 0 <= number < len(self.catalog):
            raise ValueError("image")
        return number


@cache
def _missing() -> bytes:
    """Return the picture in the place of one that cannot be read: a crossed-out gray square, as WebP."""
    image = Image.new("RGB", (64, 64), (160, 160, 160))
    draw = ImageDraw.Draw(image)
    for line in ((20, 20, 44, 44), (20, 44, 44, 20)):
        draw.line(line, fill=(90, 90, 90), width=4)
    data = io.BytesIO()
    image.save(data, "WEBP", lossless=True)
    return data.getvalue()


def _binary(values: np.ndarray[Any, Any]) -> Response:
    return Response(values.tobytes(), media_type="application/octet-stream")


async def _body(request: Request, most: int) -> dict[str, Any]:
    """Parse the body of a request, of at most so many bytes, as a JSON object.

    Raises:
        ValueError: it is no JSON, or too long.
        TypeError: it is no object.
    """
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > most:
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


@lru_cache(maxsize=32)
def _file(name: str) -> str:
    """Read a file of the page.

    Raises:
        KeyError: there is no such file.
    """
    folder = files("anowild.reviewing").joinpath("static")
    if name not in {path.name for path in folder.iterdir()}:
        raise KeyError(name)
    return folder.joinpath(name).read_text(encoding="utf-8")
