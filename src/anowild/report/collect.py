"""One pass over a source: its scores, and the few images that a page shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anowild.data.images import Batch
from anowild.scoring import Detector, Scores, Table
from anowild.scoring.detector import oddest_first

Array = np.ndarray[Any, Any]

#: Images that are kept by chance, of which the ordinary ones may be shown as neighbours.
KEPT = 1000
#: Neighbours of an image that are looked for.
NEIGHBOURS = 3


@dataclass
class Shown:
    """Some images of a source, preprocessed: [K, C, R, R], and where they stood in it."""

    images: Array
    positions: Array  # of the readable images, from 0
    score: Array

    def plus(self, other: Shown) -> Shown:
        return Shown(
            *(np.concatenate(pair) for pair in (
                (self.images, other.images), (self.positions, other.positions),
                (self.score, other.score),
            ))
        )  # fmt: skip

    def part(self, chosen: Array) -> Shown:
        return Shown(self.images[chosen], self.positions[chosen], self.score[chosen])


class Collector:
    """Takes the batches of a source as they are scored; memory holds what is shown alone.

    Args:
        count: images of either kind, the oddest and the most ordinary.
    """

    def __init__(self, detector: Detector, count: int, seed: int = 0) -> None:
        self.detector = detector
        self.count = count
        self.table = Table()
        self._rng = np.random.default_rng(seed)
        shape = (0, detector.preprocess.channels, *(detector.preprocess.resolution,) * 2)
        none = Shown(np.empty(shape, detector.preprocess.dtype), np.empty(0, int), np.empty(0))
        self.oddest, self.ordinary, self._kept = none, none, none

    def take(self, batch: Batch, scores: Scores) -> None:
        """Add a batch; batches come in the order of the source."""
        seen = len(self.table)
        new = Shown(batch.images, np.arange(seen, seen + len(batch.images)), scores.score)
        self.table.append(batch.names, scores)
        everything = self.oddest.plus(new)
        self.oddest = everything.part(oddest_first(everything.score)[: self.count])
        everything = self.ordinary.plus(new)
        self.ordinary = everything.part(oddest_first(-everything.score)[: self.count])
        # A sample by chance of all so far (algorithm R of Vitter 1985).
        room = max(0, KEPT - len(self._kept.positions))
        self._kept = self._kept.plus(new.part(np.arange(min(room, len(new.positions)))))
        for i in range(room, len(new.positions)):
            place = int(self._rng.integers(0, seen + i + 1))
            if place < KEPT:
                for name in ("images", "positions", "score"):
                    getattr(self._kept, name)[place] = getattr(new, name)[i]

    def neighbours(self, images: Shown) -> tuple[Shown, Array]:
        """Ordinary images of the source, and for each of ``images`` the nearest of them.

        Ordinary are those that score below the median; near is what is near in E's latents, in units
        of their spread over generated images.

        Returns:
            The candidates; int64 [K, at most ``NEIGHBOURS``], numbers of them, the nearest first.
        """
        ordinary = self._kept.part(self._kept.score <= np.median(self.table.score))
        if not len(images.positions) or not len(ordinary.positions):
            return ordinary, np.empty((len(images.positions), 0), np.int64)
        here, there = (self.detector.whitened_latents(group.images) for group in (images, ordinary))
        distances = np.square(here[:, None] - there[None]).sum(axis=2)
        same = images.positions[:, None] == ordinary.positions[None]
        distances[same] = np.inf
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBOURS]
        return ordinary, nearest[:, : max(0, len(ordinary.positions) - 1)]
