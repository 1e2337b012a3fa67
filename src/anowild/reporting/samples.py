"""One pass over a source: its scores, and the few images that a page shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anowild.arrays import Array
from anowild.data.image_set import Batch
from anowild.scoring import Detector, Scores, Table
from anowild.scoring.detector import oddest_first


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

    def __init__(self, detector: Detector, count: int) -> None:
        self.detector = detector
        self.count = count
        self.table = Table()
        shape = (0, detector.preprocess.channels, *(detector.preprocess.resolution,) * 2)
        none = Shown(np.empty(shape, detector.preprocess.dtype), np.empty(0, int), np.empty(0))
        self.oddest, self.ordinary = none, none

    def take(self, batch: Batch, scores: Scores) -> None:
        """Add a batch; batches come in the order of the source."""
        seen = len(self.table)
        new = Shown(batch.images, np.arange(seen, seen + len(batch.images)), scores.score)
        self.table.append(batch.names, scores)
        everything = self.oddest.plus(new)
        self.oddest = everything.part(oddest_first(everything.score)[: self.count])
        everything = self.ordinary.plus(new)
        self.ordinary = everything.part(oddest_first(-everything.score)[: self.count])
