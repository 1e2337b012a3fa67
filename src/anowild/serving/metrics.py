"""What the service counts, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anowild.arrays import Array
from anowild.scoring.drift import Drift

#: Upper ends of the histograms: seconds, and images.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one service, in a registry of their own; safe to share between threads.

    Args:
        threshold: score from which images count as flagged.
        waiting: returns how many images are accepted and not answered yet.
        training_images: how many images the model was trained on; None: not known.
    """

    def __init__(
        self, threshold: float, waiting: Callable[[], int], training_images: int | None = None
    ) -> None:
        self._threshold = threshold
        self.drift = Drift(training_images)
        self._registry = registry = CollectorRegistry()
        self.seconds = Histogram(
            "anowild_request_seconds", "From the header of a request to its answer.",
            ["route", "status"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._refused = Counter(
            "anowild_refused", "Requests that were refused.", ["reason"], registry=registry
        )
        self._scored = Counter(
            "anowild_images_scored", "Images that were scored.", registry=registry
        )
        self._flagged = Counter(
            "anowild_images_flagged", "Images whose score reaches the threshold.", registry=registry
        )
        self._batch = Histogram(
            "anowild_batch_images", "Images that were scored together.", buckets=_IMAGES, registry=registry
        )  # fmt: skip
        gauges = {
            "anowild_queue_images": ("Images that are accepted and not answered yet.", waiting),
            "anowild_drift_distance": (
                "Distance of the last scores from those of the training images, from 0 to 1.",
                self.drift.distance,
            ),
            "anowild_drift_limit": (
                "Distance from which the images have drifted away.",
                self.drift.limit,
            ),
        }
        for name, (meaning, function) in gauges.items():
            Gauge(name, meaning, registry=registry).set_function(function)
        ProcessCollector(registry=registry)

    def refused(self, reason: str) -> None:
        """Count a refusal."""
        self._refused.labels(reason).inc()

    def scored(self, scores: Array) -> None:
        """Count a batch of images by their scores, [N]."""
        self._scored.inc(len(scores))
        self._flagged.inc(int((scores >= self._threshold).sum()))
        self._batch.observe(len(scores))

    @property
    def images(self) -> int:
        """How many images were scored."""
        return int(self._registry.get_sample_value("anowild_images_scored_total") or 0)

    def text(self) -> bytes:
        """Return all of it in Prometheus's format."""
        return generate_latest(self._registry)


class Timed:
    """ASGI middleware that measures how long answers take, by route and status.

    Args:
        app: the application.
        metrics: where that is counted.
        routes: paths that are told apart; others are one.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Iterable[str]) -> None:
        self.app, self.metrics, self.routes = app, metrics, frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            route = scope["path"] if scope["path"] in self.routes else "other"
            seconds = time.perf_counter() - begun
            self.metrics.seconds.labels(route, str(status)).observe(seconds)
