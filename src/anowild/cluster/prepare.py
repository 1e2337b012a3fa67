"""Sources whose images are decoded and preprocessed by the workers of a cluster, for a packed data set."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from anowild.cluster.engine import ray_library, run
from anowild.cluster.pieces import Piece, Pieces, cut
from anowild.data import Preprocess
from anowild.data.dataset.writer import Prepared, PreparedSource, prepare
from anowild.data.readers import Record, SkippedImage
from anowild.data.readers.base import PassedOver, PassedOverTally, Shape
from anowild.data.sources import Source
from anowild.signals import Interrupted

#: Images of a piece, about: they are in memory together, after preprocessing.
IMAGES_A_PIECE = 1024


class PreparingWork:
    """Decodes and preprocesses the images of pieces."""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess

    def __call__(self, piece: Piece) -> tuple[list[Prepared], list[PassedOver]]:
        """Return the images without their originals, and what was passed over."""
        whole = self.preprocess.whole()
        found = []
        with piece.opened() as reader:
            for record in reader:
                image = prepare(record, whole)
                image.pixels = None  # at once: together they may be larger than memory
                found.append(image)
            passed_over = reader.passed_over()
        return found, passed_over


class ClusterSource(PreparedSource):
    """A source that workers read, for a packed data set.

    Args:
        pieces: of the source.
        workers: processes; one for each core of the cluster unless given.
    """

    def __init__(self, pieces: Pieces, workers: int | None) -> None:
        self.cut, self.workers = pieces, workers
        self.packed = None if pieces.reader is None else pieces.reader.packed
        self.preprocess: Preprocess | None = None  # has to be set before images are read
        self._passed_over: list[PassedOver] = []

    def prepared(self, start: int = 0) -> Iterator[Prepared]:
        assert self.preprocess is not None
        self._passed_over = []
        waiting = dict(enumerate(self.cut.pieces))
        skipped = start  # of the pieces that are read
        for number, piece in enumerate(self.cut.pieces):
            if piece.count is None or piece.count > skipped:
                break
            skipped -= piece.count
            del waiting[number]
        work = {"preprocess": self.preprocess}
        results = run(PreparingWork, work, waiting, workers=self.workers, in_order=True)
        done = start
        try:
            with closing(results):
                for result in results:
                    images, passed_over = result.value
                    self._passed_over += passed_over
                    yield from images[skipped:]
                    skipped = max(0, skipped - len(images))
                    done += len(images)
        except KeyboardInterrupt as stop:
            signum = stop.args[0] if stop.args else signal.SIGINT
            raise Interrupted(signum, f"image {done} of {self.cut.source}") from None

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        records = (record for piece in self.cut.pieces for record in _read(piece))
        return islice(records, start, None)

    def shapes(self, most: int) -> Iterator[Shape]:
        """Yield shapes; behind a URL only those of the first piece."""
        if self.cut.reader is not None:
            yield from self.cut.reader.shapes(most)
            return
        with self.cut.pieces[0].opened() as reader:
            yield from reader.shapes(most)

    def files(self) -> Iterable[Path]:
        return [] if self.cut.reader is None else self.cut.reader.files()

    def count(self) -> int | None:
        return self.cut.count

    def passed_over(self) -> list[PassedOver]:
        tally = PassedOverTally()
        for one in self._passed_over:
            tally.add(one.reason, one.first, one.count)
        return tally.entries()


def _read(piece: Piece) -> Iterator[Record | SkippedImage]:
    with piece.opened() as reader:
        yield from reader


def open_sources(
    sources: Source | Sequence[Source], workers: int | None = None
) -> list[ClusterSource]:
    """Open sources that the workers of a cluster will read.

    Raises:
        UserError: Ray is missing, or a source cannot be read.
    """
    ray_library()
    return [ClusterSource(pieces, workers) for pieces in cut(sources, IMAGES_A_PIECE)]
