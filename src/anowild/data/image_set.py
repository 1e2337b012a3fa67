"""Preprocessed images of sources, in memory or as a stream."""

from __future__ import annotations

import hashlib
import logging
import statistics
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anowild.arrays import Array
from anowild.data.dataset.format import PackedReader, PackedSet
from anowild.data.overlap import check_overlap
from anowild.data.preprocessing import Preprocess
from anowild.data.readers import ImageSource, Provenance, Record, SkippedImage, open_source
from anowild.data.readers.arrays import to_images
from anowild.data.readers.base import Shape, passed_over_text
from anowild.data.readers.encoded import failure_reason
from anowild.data.value_range import ValueRange, little_used
from anowild.errors import NoUsableImages, UserError
from anowild.settings import Settings

log = logging.getLogger("anowild")

Source = str | Path | Array
#: Number of left-out images that warnings name; the others are only counted.
NAMED = 10
#: Most images of a source whose shapes decide resolution and channels.
_MAX_SHAPES = 2000


@dataclass
class ImageSet:
    """Preprocessed images, with their names and what was left out.

    Attributes:
        images: the squares that the views see, uint8 or uint16 [M, C, R, R]: one for each of the N images,
            or all of their tiles. The length of the set is M.
        names: of the N images.
        preprocess: that made the squares.
        left_out: images that could not be used.
        known_digest: what tells this set from others, where that is known without reading it.
        owners: number of the image that each square is of, int [M], ascending; None: each is one.
    """

    images: Array
    names: Sequence[str]
    preprocess: Preprocess
    left_out: list[SkippedImage] = field(default_factory=list)
    known_digest: str | None = None
    owners: Array | None = None
    #: What the images held before they were preprocessed; None: not known.
    values: ValueRange | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def groups(self) -> Array:
        """Number of the image that each square is of, int [M]."""
        return np.arange(len(self)) if self.owners is None else self.owners

    @property
    def digest(self) -> str:
        """Hash of the images; of a packed data set its id and split."""
        if self.known_digest is not None:
            return self.known_digest
        data = np.ascontiguousarray(self.images).data
        return hashlib.blake2b(data, digest_size=16).hexdigest()

    @staticmethod
    def load(
        sources: Source | Sequence[Source],
        settings: Settings | None = None,
        preprocess: Preprocess | None = None,
    ) -> ImageSet:
        """Load all images into memory; a single packed data set is mapped instead.

        Args:
            sources: paths as for :func:`anowild.data.readers.open_source`, or arrays [N, H, W],
                [N, H, W, C] or [N, C, H, W].
            settings: decide the preprocessing if ``preprocess`` is not given.
            preprocess: that of a trained model.

        Raises:
            UserError: no image could be read.
        """
        readers = open_all(sources, ["train"])
        if len(readers) == 1 and isinstance(readers[0], PackedReader) and preprocess is None:
            return _mapped(readers[0], settings or Settings())
        return _read(readers, settings, preprocess)

    @staticmethod
    def of_pixels(
        pixels: Array, settings: Settings | None = None, preprocess: Preprocess | None = None
    ) -> ImageSet:
        """Preprocess images [N, H, W, C], with no guess about their axes; else as :meth:`load`."""
        return _read([_InMemory(pixels)], settings, preprocess)


def _read(
    readers: Sequence[ImageSource], settings: Settings | None, preprocess: Preprocess | None
) -> ImageSet:
    """Read and preprocess all images."""
    chosen = preprocess is None
    preprocess = preprocess or choose_preprocess(readers, settings or Settings())
    stream = ImageStream(readers, preprocess)
    parts = list(stream.batches(256))
    if chosen and (warning := little_used(stream.values, preprocess)):
        log.warning("%s", warning)
    images = np.concatenate([part.images for part in parts])
    names = list(chain.from_iterable(part.names for part in parts))
    counts = np.concatenate([np.bincount(part.owners) for part in parts])
    owners = np.repeat(np.arange(len(names)), counts) if preprocess.tiles else None
    return ImageSet(images, names, preprocess, stream.left_out, owners=owners, values=stream.values)


def _mapped(reader: PackedReader, settings: Settings) -> ImageSet:
    """Map a split of a packed data set into memory, without reading it."""
    packed, split = reader.packed, reader.splits[0]
    preprocess = choose_preprocess([reader], settings)
    images, owners = packed.squares(split)
    return ImageSet(
        images,
        packed.names(split),
        preprocess,
        known_digest=f"{packed.id}:{split}",
        owners=owners,
        values=ValueRange.from_json(packed.description.get("values")),
    )


class _InMemory(ImageSource):
    """Images of an array [N, H, W, C]."""

    def __init__(self, images: Array) -> None:
        self.images = images

    def count(self) -> int:
        return len(self.images)

    def files(self) -> Iterable[Path]:
        return []

    def shapes(self, most: int) -> Iterator[Shape]:
        return repeat(self.images.shape[1:], min(most, len(self.images)))

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for row in range(start, len(self.images)):
            yield Record(f"array[{row}]", self.images[row])


def open_all(
    sources: Source | Sequence[Source], splits: Sequence[str] | None = None
) -> list[ImageSource]:
    """Open one source or several.

    Args:
        sources: as for :meth:`ImageSet.load`.
        splits: splits to read of packed data sets whose source names none (``DATASET:test`` does).

    Raises:
        UserError: a source cannot be opened, or two of them overlap.
    """
    listed = listed_sources(sources)
    readers: list[ImageSource] = []
    for source in listed:
        if isinstance(source, np.ndarray):
            readers.append(_InMemory(to_images(source, "array")))
        elif PackedReader.takes(str(source)):
            readers.append(PackedReader(str(source), splits))
        else:
            readers.append(open_source(source))
    check_overlap(listed, readers)
    return readers


def listed_sources(sources: Source | Sequence[Source]) -> list[Source]:
    """Return one source or several as a list."""
    return [sources] if isinstance(sources, str | Path | np.ndarray) else list(sources)


def source_name(source: Source) -> str:
    """Return the path of a source, or a text that tells an array from any other."""
    if not isinstance(source, np.ndarray):
        return str(source)
    digest = hashlib.blake2b(np.ascontiguousarray(source).data, digest_size=16).hexdigest()
    return f"array {source.dtype} {list(source.shape)} {digest}"


def choose_preprocess(readers: Iterable[ImageSource], settings: Settings) -> Preprocess:
    """Choose the preprocessing for sources.

    Packed data sets bring their own. Otherwise it follows the settings; a resolution or number of
    channels that they leave open is chosen by the shapes of the images.

    Raises:
        UserError: packed data sets differ from each other or from the settings.
    """
    readers = list(readers)
    packed = [reader.packed for reader in readers if reader.packed is not None]
    if packed:
        return _agreed(packed, settings)
    resolution, channels = settings.resolution, settings.channels
    if resolution is None or channels is None:
        shapes = list(chain.from_iterable(reader.shapes(_MAX_SHAPES) for reader in readers))
        if resolution is None:
            side = statistics.median_low([min(s[:2]) for s in shapes]) if shapes else 8
            side = min(side, settings.tiles or side)
            fitting = 1 << max(3, int(side - 1).bit_length())
            resolution = min(fitting, settings.max_resolution, 512)
        if channels is None:
            channels = _usual_channels(shapes)
    return Preprocess(
        resolution, channels, settings.fit, settings.bits,
        settings.black, settings.white, settings.contrast, settings.tiles,
    )  # fmt: skip


def _usual_channels(shapes: Sequence[Shape]) -> int:
    """Return 1 if all images are gray, 3 if some are in color; or another number if most images have it."""
    counts = Counter(shape[2] for shape in shapes)
    usual = counts[1] + counts[3]
    other, most = max(
        counts.items(), key=lambda item: (item[0] not in (1, 3)) * item[1], default=(1, 0)
    )
    if other not in (1, 3) and most > usual:
        return other
    return 3 if counts[3] else 1


def _agreed(packed: Sequence[PackedSet], settings: Settings) -> Preprocess:
    first = packed[0]
    for other in packed[1:]:
        if other.preprocess != first.preprocess:
            raise UserError(
                f"{other.path}: was prepared with other settings than {first.path}; prepare one of them "
                "again"
            )
    default = Settings()
    for name, value in first.preprocess.to_json().items():
        wanted = getattr(settings, name)
        if wanted not in (value, getattr(default, name)):
            raise UserError(
                f"{first.path}: was prepared with {name} {value}, not {wanted}; prepare it again, "
                f"or omit {name}"
            )
    return first.preprocess


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
