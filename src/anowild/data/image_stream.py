"""A stream of preprocessed images, in batches, and what a pass over sources leaves out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from anowild.arrays import Array
from anowild.data.dataset.format import PackedSet
from anowild.data.preprocessing import Preprocess
from anowild.data.readers import ImageSource, Provenance, Record, SkippedImage
from anowild.data.readers.base import passed_over_text
from anowild.data.readers.encoded import failure_reason
from anowild.data.value_range import ValueRange
from anowild.errors import NoUsableImages, UserError

log = logging.getLogger("anowild")

#: Number of left-out images that warnings name; the others are only counted.
NAMED = 10


class Batch(NamedTuple):
    """Some images of a stream, n of them."""

    names: list[str]
    positions: list[int]  # these also count the images that were left out
    images: Array  # the squares that the views see, [m, C, R, R]
    origins: list[Provenance]
    owners: Array  # number, in the batch, of the image that each square is of, int [m]


def _batch(parts: list[tuple[str, int, Array, Provenance]]) -> Batch:
    names, positions, images, origins = zip(*parts, strict=True)
    owners = np.repeat(np.arange(len(names)), [len(squares) for squares in images])
    return Batch(list(names), list(positions), np.concatenate(images), list(origins), owners)


class Pass:
    """A pass over all images of some sources, which keeps what was left out and says so.

    ``left_out`` fills while they are read. The first entries are also logged as warnings.

    Args:
        quiet: log nothing.
    """

    def __init__(self, readers: Sequence[ImageSource], quiet: bool = False) -> None:
        self.readers = readers
        self.quiet = quiet
        self.left_out: list[SkippedImage] = []

    def count(self) -> int | None:
        """Return the number of images, readable or not; None where only reading tells."""
        counts = [reader.count() for reader in self.readers]
        return None if None in counts else sum(count or 0 for count in counts)

    def leave_out(self, image: SkippedImage) -> None:
        self.left_out.append(image)
        if len(self.left_out) <= NAMED and not self.quiet:
            log.warning("left out %s: %s", image.name, image.reason)

    def finish(self, used: int) -> None:
        """Say at the end what was left out and passed over.

        Raises:
            NoUsableImages: none of the images was ``used``.
        """
        if not used:
            raise NoUsableImages(self._nothing_left())
        if self.quiet:
            return
        if len(self.left_out) > NAMED:
            log.warning("%d images were left out in all", len(self.left_out))
        passed_over = [one for reader in self.readers for one in reader.passed_over()]
        if passed_over:
            log.warning("%s", passed_over_text(passed_over))

    def _nothing_left(self) -> str:
        """Return the error message for sources without a usable image."""
        if not self.readers:
            return "there is nothing to read; give a folder, a file or an array"
        reasons = Counter(image.reason for image in self.left_out).most_common(3)
        listed = "; ".join(f"{reason} ({count}x)" for reason, count in reasons)
        first = self.left_out[0].name if self.left_out else "the source"
        count = len(self.left_out)
        return f"none of the {count} images can be used, beginning with {first}: {listed}"


class ImageStream(Pass):
    """Stream of preprocessed batches, in order, in memory that does not grow with their number.

    ``left_out`` and ``values`` fill while the stream is read. The first entries are also logged as warnings.

    Args:
        quiet: log nothing.

    Raises:
        UserError: a packed data set has another preprocessing.
    """

    def __init__(
        self, readers: Sequence[ImageSource], preprocess: Preprocess, quiet: bool = False
    ) -> None:
        for reader in readers:
            if reader.packed is not None and reader.packed.preprocess != preprocess:
                raise UserError(_difference(reader.packed, preprocess))
        super().__init__(readers, quiet)
        self.preprocess = preprocess
        self.values = ValueRange()
        self._stopped = False

    def batches(self, size: int) -> Generator[Batch, None, None]:
        """Yield all images that can be used: as many at a time as have ``size`` squares together.

        Raises:
            UserError: at the end, if there was none.
        """
        waiting: list[tuple[str, int, Array, Provenance]] = []
        used = squares = 0
        for position, (reader, record) in enumerate(self._records()):
            if self._stopped:
                return
            if isinstance(record, SkippedImage):
                self.leave_out(record)
                continue
            try:
                image = self._preprocessed(reader, record)
            except (ValueError, MemoryError) as error:
                self.leave_out(SkippedImage(record.name, failure_reason(error), record.origin))
                continue
            waiting.append((record.name, position, image, record.origin))
            used += 1
            squares += len(image)
            if squares >= size:
                yield _batch(waiting)
                waiting, squares = [], 0
        if waiting:
            yield _batch(waiting)
        self.finish(used)

    def stop(self) -> None:
        """End :meth:`batches` before its next image. Any thread may call this."""
        self._stopped = True

    def _records(self) -> Iterator[tuple[ImageSource, Record | SkippedImage]]:
        return ((reader, record) for reader in self.readers for record in reader)

    def _preprocessed(self, reader: ImageSource, record: Record) -> Array:
        """Return the squares of an image, [n, C, R, R]."""
        if reader.packed is None:
            squares = self.preprocess.squares(record.pixels)
            self.values.add(record.pixels)
            return squares
        prepared = np.moveaxis(record.pixels, -1, -3)
        return prepared if prepared.ndim == 4 else prepared[None]


def _difference(packed: PackedSet, preprocess: Preprocess) -> str:
    theirs, ours = packed.preprocess.to_json(), preprocess.to_json()
    differing = [
        f"{name} {theirs[name]}, not {ours[name]}" for name in ours if theirs[name] != ours[name]
    ]
    return (
        f"{packed.path}: was not prepared as the model needs it ({', '.join(differing)}); "
        "give the original images, or prepare them with --like MODEL"
    )
