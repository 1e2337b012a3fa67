"""The images that a page shows: the oddest and the most ordinary of a scoring pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anowild.arrays import Array
from anowild.data.image_set import Batch
from anowild.scoring import Detector, Scores
from anowild.scoring.scores import oddest_first


@dataclass
class ImageSample:
    """Some images of a source, preprocessed, [K, C, R, R], and where they stood in it."""

    images: Array
    positions: Array  # among the readable images, from 0
    score: Array

    def concat(self, other: ImageSample) -> ImageSample:
        """Join two samples."""
        return ImageSample(
            np.concatenate((self.images, other.images)),
            np.concatenate((self.positions, other.positions)),
            np.concatenate((self.score, other.score)),
        )

    def select(self, chosen: Array) -> ImageSample:
        """Return some of the images, by their numbers."""
        return ImageSample(self.images[chosen], self.positions[chosen], self.score[chosen])


class TopKCollector:
    """A sink of the scoring pass that keeps the images with the highest and the lowest scores.

    Args:
        count: images of either kind.
    """

    def __init__(self, detector: Detector, count: int) -> None:
        self.count = count
        p = detector.preprocess
        shape = (0, p.channels, p.resolution, p.resolution)
        empty = ImageSample(np.empty(shape, p.dtype), np.empty(0, int), np.empty(0))
        self.oddest, self.ordinary = empty, empty
        self._seen = 0

    def begin(self, count: int | None) -> None:
        """Do nothing; see :class:`Sink`."""

    def take(self, batch: Batch, scores: Scores) -> None:
        """Keep what belongs to the highest or lowest scores so far."""
        positions = np.arange(self._seen, self._seen + len(batch.images))
        self._seen += len(batch.images)
        new = ImageSample(batch.images, positions, scores.score)
        joined = self.oddest.concat(new)
        self.oddest = joined.select(oddest_first(joined.score)[: self.count])
        joined = self.ordinary.concat(new)
        self.ordinary = joined.select(oddest_first(-joined.score)[: self.count])

    def end(self, left_out: int) -> None:
        """Do nothing; see :class:`Sink`."""
