"""The web application of the service: its routes, and what becomes of a request."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from anowild.arrays import Array
from anowild.data import Preprocess
from anowild.data.readers import Record, SkippedImage
from anowild.data.readers.encoded import failure_reason
from anowild.errors import UserError
from anowild.files import printable
from anowild.scoring import Detector
from anowild.scoring.heat_map import heat_map
from anowild.scoring.saved_limit import LimitInUse
from anowild.scoring.scores import p_value
from anowild.serving import answers
from anowild.serving.access import OPEN, Access
from anowild.serving.heatmap import base_picture, draw
from anowild.serving.limits import Admission, Refusal, ServiceLimits, Ticket
from anowild.serving.metrics import Metrics, Timed
from anowild.serving.scorer import ScoredImage, Scorer
from anowild.serving.uploads import NAMELESS, ImageFile, open_body, read_body, records
from anowild.version import VERSION

log = logging.getLogger("anowild")

T = TypeVar("T")

#: Threads that decode and preprocess.
DECODERS = min(4, os.cpu_count() or 1)
#: Batches that wait to be scored, at most, before more images are decoded.
AHEAD = 4
#: Images of a request that are decoded in one go, and their pixels, before others have their turn.
CHUNK, CHUNK_PIXELS = 16, 1 << 22
#: Tiles of an image that a heat map is drawn for, at most: their pictures are in memory together.
MOST_TILES = 2048


@dataclass(frozen=True)
class Prepared:
    """An image as the views see it; or why it cannot be used."""

    name: str
    squares: Array | None = None  # [n, C, R, R]
    size: tuple[int, int] = (0, 0)  # width and height of the original
    error: str | None = None


class Service:
    """What answers requests with one detector.

    Args:
        detector: scores and explains.
        threshold: from which images are flagged.
        limits: on what is accepted.
    """

    def __init__(
        self, detector: Detector, threshold: LimitInUse, limits: ServiceLimits | None = None
    ) -> None:
        self.detector, self.threshold = detector, threshold
        self.limits = limits or ServiceLimits()
        self.admission = Admission(self.limits, lambda: self.scorer.pace)
        trained = detector.training_images
        self.metrics = Metrics(threshold.score, lambda: self.admission.images, trained)
        self.scorer = Scorer(detector, self._scored, self._progressed)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool = ThreadPoolExecutor(DECODERS, "anowild-decoder")
        self._decoding = asyncio.Semaphore(DECODERS)
        self._hungry = asyncio.Event()
        self._hungry.set()

    def close(self) -> None:
        """End the threads, after what they are doing."""
        self.admission.draining = True
        self._pool.shutdown()
        self.scorer.close()

    def app(self, hosts: frozenset[str] = frozenset(), token: str | None = None) -> ASGIApp:
        """Return the ASGI application; see `Access` for the parameters."""
        # Pages of documentation would load scripts from elsewhere.
        app = FastAPI(
            title="AnoWild", version=VERSION, docs_url=None, redoc_url=None, redirect_slashes=False,
            description="Scores images: how unlike the training images they are, and why.",
        )  # fmt: skip
        problems = {
            status: answers.problem(meaning) for status, meaning in answers.PROBLEMS.items()
        }
        app.add_api_route(
            "/score", self.score, methods=["POST"], response_model=answers.Scores,
            response_model_exclude_none=True, openapi_extra=answers.REQUEST, responses=problems,
            summary="Score images",
        )  # fmt: skip
        app.add_api_route(
            "/heatmap", self.heatmap, methods=["POST"], openapi_extra=answers.REQUEST,
            response_class=answers.Png, responses=problems | {404: answers.problem("No view has heat maps")},
            summary="Draw where one image is odd",
        )  # fmt: skip
        app.add_api_route("/model", self.model, response_model=answers.Model, summary="What scores")
        app.add_api_route(
            OPEN, self.health, response_model=answers.State, summary="Whether it runs"
        )
        app.add_api_route(
            "/ready", self.ready, response_model=answers.State, responses={503: problems[503]},
            summary="Whether it takes images now",
        )  # fmt: skip
        app.add_api_route(
            "/metrics", self.numbers, response_class=answers.Text, summary="For Prometheus"
        )
        app.add_exception_handler(Refusal, self._refuse)
        timed = Timed(app, self.metrics, [route.path for route in app.routes])  # type: ignore[attr-defined]
        return Access(timed, hosts, token, self.metrics.refused)

    # Routes

    async def score(self, request: Request) -> Response:
        """Score one image, several as multipart/form-data, or a zip of them."""
        with self.admission.accepted() as ticket:
            async with self._in_time(ticket):
                files = await self._files(request, ticket)
                found = await _unless_gone(request, self._score(files))
        if len(found) == 1 and "error" in found[0]:
            raise Refusal(422, "image", f"{found[0]['name']}: {found[0]['error']}")
        return JSONResponse(
            {
                "model": self.detector.checksum,
                "threshold": self.threshold.score,
                "images": found,
            }
        )

    async def heatmap(self, request: Request) -> Response:
        """Draw a heat map over one image, scaled for it alone: PNG."""
        with self.admission.accepted() as ticket:
            async with self._in_time(ticket):
                files = await self._files(request, ticket)
                return answers.Png(await _unless_gone(request, self._draw(files)))

    async def model(self) -> Response:
        """Say what scores: the model, its views and cues, and the threshold."""
        detector = self.detector
        images = detector.training_images
        return JSONResponse(
            {
                "anowild": VERSION,
                "checksum": detector.checksum,
                "views": [view.name for view in detector.views],
                "cues": [
                    {"name": cue.name, "view": view.name, "meaning": cue.meaning}
                    for view in detector.views
                    for cue in view.cues
                    if cue.name in detector.cue_names
                ],
                "preprocess": detector.preprocess.to_json(),
                "training_images": images,
                "threshold": self.threshold.score,
                "threshold_from": self.threshold.origin,
            }
        )

    async def health(self) -> Response:
        """Say that the process runs."""
        return JSONResponse({"status": "alive"})

    async def ready(self) -> Response:
        """Say whether images are taken now."""
        if self.admission.draining:
            raise HTTPException(503, "The service is being stopped.")
        if self.admission.full:
            raise HTTPException(503, "Too many images wait.")
        return JSONResponse({"status": "ready"})

    async def numbers(self) -> Response:
        """Return counts and latencies in Prometheus's format."""
        return answers.Text(self.metrics.text())

    # What they are made of

    async def _refuse(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        self.metrics.refused(error.reason)
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)

    @asynccontextmanager
    async def _in_time(self, ticket: Ticket) -> AsyncIterator[None]:
        """Refuse what takes too long: the sender's fault until the whole body has come."""
        try:
            async with asyncio.timeout(self.limits.seconds):
                yield
        except TimeoutError:
            if not ticket.complete:
                raise Refusal(
                    408, "time", f"The body did not come within {self.limits.seconds:g} s."
                ) from None
            raise Refusal(503, "time", "It took too long; send fewer images.", 5) from None

    async def _files(self, request: Request, ticket: Ticket) -> list[ImageFile]:
        """Read the body of a request, and list its images."""
        body = await read_body(request, self.limits, ticket)
        name = printable(request.query_params.get("name") or NAMELESS)
        kind = request.headers["content-type"]
        files = await self._run(lambda: open_body(body, kind, name, self.limits))
        ticket.expect(len(files))
        return files

    async def _run(self, function: Callable[[], T]) -> T:
        """Run a function in the pool of decoders."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def _decode(self, function: Callable[[], T]) -> T:
        """Decode in the pool, once few enough images wait to be scored: so they do not fill the memory."""
        self._loop = asyncio.get_running_loop()
        async with self._decoding:
            await self._hungry.wait()
            return await self._run(function)

    def _follow(self, future: Any) -> asyncio.Future[Any]:
        """Wait for the scorer; others decode only while it has little to do."""
        self._feed()
        return asyncio.wrap_future(future)

    def _progressed(self) -> None:
        """Let others decode, from the scorer's thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                self._loop.call_soon_threadsafe(self._feed)

    def _feed(self) -> None:
        if self.scorer.squares < AHEAD * self.detector.batch_size:
            self._hungry.set()
        else:
            self._hungry.clear()

    async def _score(self, files: Sequence[ImageFile]) -> list[dict[str, Any]]:
        """Score images, in their order."""
        waiting: list[tuple[Prepared, asyncio.Future[ScoredImage] | None]] = []
        images = records(files, self.limits)
        try:
            more = True
            while more:
                chunk, more = await self._decode(lambda: self._next(images))
                waiting += [self._submitted(image) for image in chunk]
                del chunk
            return [await self._entry(image, future) for image, future in waiting]
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()

    def _submitted(self, image: Prepared) -> tuple[Prepared, asyncio.Future[ScoredImage] | None]:
        """Hand an image to the scorer, and keep what its answer needs."""
        kept = Prepared(image.name, None, image.size, image.error)
        if image.squares is None:
            return kept, None
        return kept, self._follow(self.scorer.submit(image.squares))

    def _next(self, images: Iterator[Record | SkippedImage]) -> tuple[list[Prepared], bool]:
        """Decode and preprocess the next images; return them, and whether there may be more."""
        chunk: list[Prepared] = []
        squares = pixels = 0
        for record in images:
            image = _prepared(record, self.detector.preprocess)
            chunk.append(image)
            squares += 0 if image.squares is None else len(image.squares)
            pixels += image.size[0] * image.size[1]
            enough = squares >= self.detector.batch_size or pixels >= CHUNK_PIXELS
            if enough or len(chunk) == CHUNK:
                return chunk, True
        return chunk, False

    async def _entry(
        self, image: Prepared, future: asyncio.Future[ScoredImage] | None
    ) -> dict[str, Any]:
        """Return what is answered about one image."""
        if future is None:
            return {"name": image.name, "error": image.error}
        try:
            scored = await future
        except UserError as error:
            return {"name": image.name, "error": printable(str(error))}
        entry = {
            "name": image.name,
            "score": scored.score,
            "p_value": float(p_value(scored.score)),
            "flagged": scored.score >= self.threshold.score,
            "views": scored.views,
            "cues": scored.cues,
            "reasons": scored.reasons,
        }
        if scored.tile is not None:
            width, height = image.size
            top, left, tall, wide = self.detector.preprocess.boxes(height, width)[scored.tile]
            entry["box"] = [left, top, wide, tall]
        return entry

    def _scored(self, scores: Array) -> None:
        """Count a batch, and say once that the images have drifted away, or are as before again."""
        self.metrics.scored(scores)
        if told := self.metrics.drift.follow(scores):
            log.warning("%s", told)

    async def _draw(self, files: Sequence[ImageFile]) -> bytes:
        if len(files) > 1:
            raise Refusal(400, "images", "Send one image; a heat map is of one.")
        preprocess, limits = self.detector.preprocess, self.limits

        def decode() -> tuple[Prepared, Any]:
            record = next(records(files, limits))
            if record.name != files[0].name:
                raise Refusal(400, "images", f"{files[0].name} has several pages; send one image.")
            image = _prepared(record, preprocess)
            return image, base_picture(record.pixels) if isinstance(record, Record) else None

        image, picture = await self._decode(decode)
        squares, (width, height) = image.squares, image.size
        if squares is None:
            raise Refusal(422, "image", f"{image.name}: {image.error}")
        if len(squares) > MOST_TILES:
            raise Refusal(
                413, "tiles", f"The image has {len(squares)} tiles; heat maps are drawn of {MOST_TILES}."
            )  # fmt: skip
        heat = await self._follow(
            self.scorer.run(squares, lambda: heat_map(self.detector, squares, width, height))
        )
        if heat is None:
            raise Refusal(404, "heat", "No view of this model says where an image is odd.")
        return await self._run(lambda: draw(picture, heat, preprocess, width, height))


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do work for a request whose body has come, unless the client leaves.

    Raises:
        Refusal: it has left, and nobody reads this.
    """
    leaving, working = asyncio.ensure_future(request.receive()), asyncio.ensure_future(work)
    try:
        await asyncio.wait({leaving, working}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Refusal(400, "left", "The client has left.")
    finally:
        leaving.cancel()
        working.cancel()


def _prepared(record: Record | SkippedImage, preprocess: Preprocess) -> Prepared:
    """Preprocess one image."""
    if isinstance(record, SkippedImage):
        return Prepared(record.name, error=record.reason)
    height, width = record.pixels.shape[:2]
    try:
        return Prepared(record.name, preprocess.squares(record.pixels), (width, height))
    except (ValueError, MemoryError) as error:
        return Prepared(record.name, error=failure_reason(error))
