"""Sources -> a set of preprocessed images, in memory or as a stream."""

from __future__ import annotations

import logging
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anowild.config import Settings
from anowild.data.preprocess import Preprocess
from anowild.data.readers import Reader, Record, Unreadable, open_source
from anowild.data.readers.arrays import to_images
from anowild.data.readers.base import Shape
from anowild.errors import UserError

log = logging.getLogger("anowild")

Array = np.ndarray[Any, Any]
Source = str | Path | Array
#: Files named one by one in warnings before the rest is only counted.
NAMED = 10
#: Images of a source whose shapes decide resolution and channels, at most.
LOOKED_AT = 2000


@dataclass
class ImageSet:
    """Preprocessed images: uint8 [N, C, R, R], one name each, and what was left out."""

    images: Array
    names: list[str]
    preprocess: Preprocess
    left_out: list[Unreadable] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    @staticmethod
    def load(
        sources: Source | Sequence[Source],
        settings: Settings | None = None,
        preprocess: Preprocess | None = None,
    ) -> ImageSet:
        """Read everything into memory.

        Args:
            sources: paths as for :func:`open_source`, or arrays [N, H, W], [N, H, W, C] or
                [N, C, H, W].
            settings: decide the preprocessing, where ``preprocess`` is not given.
            preprocess: of a trained model.

        Raises:
            UserError: nothing could be read.
        """
        readers = open_all(sources)
        preprocess = preprocess or choose_preprocess(readers, settings or Settings())
        stream = ImageStream(readers, preprocess)
        parts = list(stream.batches(256))
        images = np.concatenate([part.images for part in parts])
        names = list(chain.from_iterable(part.names for part in parts))
        return ImageSet(images, names, preprocess, stream.left_out)


class _InMemory(Reader):
    """A reader over an array that is there already."""

    KIND = "array"

    def __init__(self, source: Any) -> None:
        self.images = to_images(source, "array")

    @staticmethod
    def takes(source: str) -> bool:
        return False

    def count(self) -> int:
        return len(self.images)

    def files(self) -> Iterable[Path]:
        return []

    def shapes(self, most: int) -> Iterator[Shape]:
        return repeat(self.images.shape[1:], min(most, len(self.images)))

    def records(self, start: int = 0) -> Iterator[Record | Unreadable]:
        for row in range(start, len(self.images)):
            yield Record(f"array[{row}]", self.images[row])


def open_all(sources: Source | Sequence[Source]) -> list[Reader]:
    """Readers for one source or several."""
    listed = [sources] if isinstance(sources, str | Path | np.ndarray) else list(sources)
    readers: list[Reader] = []
    for source in listed:
        readers.append(_InMemory(source) if isinstance(source, np.ndarray) else open_source(source))
    return readers


def choose_preprocess(readers: Iterable[Reader], settings: Settings) -> Preprocess:
    """Fill in what the settings leave to the images: resolution and channels."""
    resolution, channels = settings.resolution, settings.channels
    if resolution is None or channels is None:
        shapes = list(chain.from_iterable(reader.shapes(LOOKED_AT) for reader in readers))
        if resolution is None:
            side = statistics.median_low([min(s[:2]) for s in shapes]) if shapes else 8
            fitting = 1 << max(3, int(side - 1).bit_length())
            resolution = min(fitting, settings.max_resolution, 512)
        if channels is None:
            channels = max((s[2] for s in shapes), default=1)
    return Preprocess(
        resolution, channels, settings.fit, settings.bits,
        settings.black, settings.white, settings.contrast,
    )  # fmt: skip


class Batch(NamedTuple):
    """Some images of a stream, uint8 [n, C, R, R], and where in the sources they stood."""

    names: list[str]
    positions: list[int]
    images: Array


def _batch(parts: list[tuple[str, int, Array]]) -> Batch:
    names, positions, images = zip(*parts, strict=True)
    return Batch(list(names), list(positions), np.stack(images))


class ImageStream:
    """Preprocessed batches, in order; memory does not grow with the number of images.

    ``left_out`` fills while the stream is read; each entry is also logged as a warning, the
    first ones by name.
    """

    def __init__(self, readers: Sequence[Reader], preprocess: Preprocess) -> None:
        self.readers = readers
        self.preprocess = preprocess
        self.left_out: list[Unreadable] = []

    def count(self) -> int | None:
        """Number of images, readable or not; None where only reading tells."""
        counts = [reader.count() for reader in self.readers]
        return None if None in counts else sum(count or 0 for count in counts)

    def batches(self, size: int) -> Iterator[Batch]:
        """All images that can be used, ``size`` at a time.

        Raises:
            UserError: at the end, if there was none.
        """
        waiting: list[tuple[str, int, Array]] = []
        used = 0
        for position, record in enumerate(chain.from_iterable(self.readers)):
            if isinstance(record, Unreadable):
                self._leave_out(record)
                continue
            try:
                waiting.append((record.name, position, self.preprocess(record.pixels)))
            except ValueError as error:
                self._leave_out(Unreadable(record.name, str(error)))
                continue
            used += 1
            if len(waiting) == size:
                yield _batch(waiting)
                waiting = []
        if waiting:
            yield _batch(waiting)
        if not used:
            raise UserError(self._nothing_left())
        if len(self.left_out) > NAMED:
            log.warning("%d images were left out in all", len(self.left_out))

    def _leave_out(self, image: Unreadable) -> None:
        self.left_out.append(image)
        if len(self.left_out) <= NAMED:
            log.warning("left out %s: %s", image.name, image.reason)

    def _nothing_left(self) -> str:
        """The sentence for a user whose images were all left out."""
        reasons = Counter(image.reason for image in self.left_out).most_common(3)
        listed = "; ".join(f"{reason} ({count}x)" for reason, count in reasons)
        first = self.left_out[0].name if self.left_out else "the source"
        count = len(self.left_out)
        return f"none of the {count} images can be used, beginning with {first}: {listed}"
