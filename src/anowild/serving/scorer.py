"""The queue of the service: images of many requests, scored together in one thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.scoring import Detector
from anowild.scoring.scores import Scores

log = logging.getLogger("anowild")

#: Seconds that the first image of a batch waits for others.
DELAY = 0.005
#: Share of the last batch in the seconds that an image takes.
_NEWEST = 0.2


@dataclass(frozen=True)
class ScoredImage:
    """What is known about one image."""

    score: float
    views: dict[str, float]
    cues: dict[str, float]
    reasons: list[str]
    tile: int | None  # the oddest tile, where images are seen in tiles


@dataclass(frozen=True)
class _Job:
    """Work that waits: an image, or a function that needs the detector for itself."""

    squares: Array
    run: Callable[[], Any] | None
    future: Future[Any]


class Scorer:
    """A thread that scores what waits, as many images at a time as the views compute at once.

    What an image scores does not depend on the others: views compute in batches of one size.

    Args:
        detector: scores; no other thread may use it meanwhile.
        scored: is told the scores of each batch, [N], from the thread.
        progressed: is called from the thread whenever less waits than before.
    """

    def __init__(
        self,
        detector: Detector,
        scored: Callable[[Array], None],
        progressed: Callable[[], None],
    ) -> None:
        self.detector = detector
        self._scored, self._progressed = scored, progressed
        self._waiting: deque[_Job] = deque()
        self._squares = 0  # of what waits or is being scored
        self._changed = threading.Condition()
        self._closed = False
        self.pace = 0.01  # seconds that an image takes at present, where many wait
        self._thread = threading.Thread(target=self._work, name="anowild-scorer", daemon=True)
        self._thread.start()

    @property
    def squares(self) -> int:
        """How many squares wait or are being scored: images, or their tiles."""
        return self._squares

    def warm_up(self) -> None:
        """Score a black image, so that the first request does not wait for what is done once.

        Raises:
            UserError: the model is damaged.
        """
        p = self.detector.preprocess
        black = np.zeros((1, p.channels, p.resolution, p.resolution), p.dtype)
        self.run(black, lambda: self.detector.score(black)).result()

    def submit(self, squares: Array) -> Future[ScoredImage]:
        """Score one image, its squares [n, C, R, R]. Any thread may call this."""
        return self._add(squares, None)

    def run(self, squares: Array, function: Callable[[], Any]) -> Future[Any]:
        """Call a function that uses the detector on squares. Any thread may call this."""
        return self._add(squares, function)

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _add(self, squares: Array, function: Callable[[], Any] | None) -> Future[Any]:
        job = _Job(squares, function, Future())
        with self._changed:
            if self._closed:
                raise RuntimeError("the scorer is closed")
            self._waiting.append(job)
            self._squares += len(squares)
            self._changed.notify()
        return job.future

    def _work(self) -> None:
        while jobs := self._next():
            wanted = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            begun = time.perf_counter()
            if wanted and wanted[0].run is not None:
                self._call(wanted[0], wanted[0].run)
            elif wanted:
                self._score(wanted)
                self._keep_pace(wanted, time.perf_counter() - begun)
            with self._changed:
                self._squares -= sum(len(job.squares) for job in jobs)
            del jobs, wanted  # the images, before the next ones are waited for
            self._progressed()

    def _keep_pace(self, jobs: Sequence[_Job], seconds: float) -> None:
        """Note what an image takes in full batches, which take no longer than others."""
        squares = sum(len(job.squares) for job in jobs)
        size = min(view.batch_size for view in self.detector.views)
        share = squares / (-(-squares // size) * size)
        self.pace += _NEWEST * (seconds * share / len(jobs) - self.pace)

    def _next(self) -> list[_Job]:
        """Wait for work, and take what fits into one batch; none at the end."""
        size = self.detector.batch_size
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            if self._waiting[0].run is None:
                self._changed.wait_for(lambda: self._squares >= size or self._closed, DELAY)
            jobs = [self._waiting.popleft()]
            found = len(jobs[0].squares)
            while self._waiting and jobs[0].run is None and self._waiting[0].run is None:
                found += len(self._waiting[0].squares)
                if found > size:
                    break
                jobs.append(self._waiting.popleft())
            return jobs

    def _call(self, job: _Job, function: Callable[[], Any]) -> None:
        try:
            job.future.set_result(function())
        except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
            job.future.set_exception(error)

    def _score(self, jobs: Sequence[_Job]) -> None:
        """Score images together; one that cannot be scored fails alone."""
        try:
            found = self._scored_images([job.squares for job in jobs])
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._score([job])
                return
            if not isinstance(error, UserError):
                log.exception("an image could not be scored")
            jobs[0].future.set_exception(error)
            return
        for job, one in zip(jobs, found, strict=True):
            job.future.set_result(one)

    def _scored_images(self, images: Sequence[Array]) -> list[ScoredImage]:
        squares = images[0] if len(images) == 1 else np.concatenate(images)
        owners = np.repeat(np.arange(len(images)), [len(image) for image in images])
        scores = self.detector.score(squares, owners)
        self._scored(scores.score)
        reasons = self.detector.reasons(scores)
        return [_scored_image(scores, i, [r.text for r in why]) for i, why in enumerate(reasons)]


def _scored_image(scores: Scores, number: int, reasons: list[str]) -> ScoredImage:
    return ScoredImage(
        float(scores.score[number]),
        {name: float(values[number]) for name, values in scores.views.items()},
        {name: float(values[number]) for name, values in scores.cues.items()},
        reasons,
        None if scores.tile is None else int(scores.tile[number]),
    )
