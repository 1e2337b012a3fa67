"""A sink of the scoring pass that keeps the oddest and the most ordinary images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anowild.arrays import Array
from anowild.data.image_set import Batch
from anowild.scoring import Detector, Scores
from anowild.scoring.scores import oddest_first


@dataclass
class ImageSample:
    """Some preprocessed images of a source, with their positions and scores."""

    images: Array  # [K, C, R, R]
    positions: Array  # [K], among the readable images of the source, from 0
    score: Array  # [K]

    def concat(self, other: ImageSample) -> ImageSample:
        """Return both samples as one, this one first."""
        return ImageSample(
            np.concatenate((self.images, other.images)),
            np.concatenate((self.positions, other.positions)),
            np.concatenate((self.score, other.score)),
        )

    def select(self, indices: Array) -> ImageSample:
        """Return the images at the given indices."""
        return ImageSample(self.images[indices], self.positions[indices], self.score[indices])


class TopKCollector:
    """Collector of the images with the highest and the lowest scores.

    ``oddest`` and ``ordinary`` hold at most ``count`` images each, the most extreme first.
    """

    def __init__(self, detector: Detector, count: int) -> None:
        self.count = count
        p = detector.preprocess
        shape = (0, p.channels, p.resolution, p.resolution)
        empty = ImageSample(np.empty(shape, p.dtype), np.empty(0, int), np.empty(0))
        self.oddest, self.ordinary = empty, empty
        self._seen = 0

    def begin(self, count: int | None) -> None:
        """Do nothing; part of the protocol of a sink."""

    def take(self, batch: Batch, scores: Scores) -> None:
        """Update both samples with a batch."""
        positions = np.arange(self._seen, self._seen + len(batch.images))
        self._seen += len(batch.images)
        new = ImageSample(batch.images, positions, scores.score)
        joined = self.oddest.concat(new)
        self.oddest = joined.select(oddest_first(joined.score)[: self.count])
        joined = self.ordinary.concat(new)
        self.ordinary = joined.select(oddest_first(-joined.score)[: self.count])

    def end(self, left_out: int) -> None:
        """Do nothing; part of the protocol of a sink."""
