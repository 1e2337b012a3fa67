"""Writer of images and of segments of the manifest; a killed process loses little."""

from __future__ import annotations

import json
import os
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.data.dataset import quality
from anowild.data.dataset.format import COLUMNS, IMAGES, SPLITS, THUMBNAILS, TILES, schema
from anowild.data.dataset.thumbnails import ThumbnailFile
from anowild.data.label_file import LabelFile
from anowild.data.preprocessing import Preprocess
from anowild.data.readers import ImageSource, Provenance, Record, SkippedImage
from anowild.data.readers.encoded import failure_reason
from anowild.data.value_range import ValueRange
from anowild.errors import UserError
from anowild.files import as_user_error, atomic_write, printable
from anowild.libraries import library
from anowild.progress import bar
from anowild.signals import Interrupted, StopRequest, stop_request

#: Limits of the images that wait to be written, in number, bytes and seconds: a kill loses no more.
CHUNK_IMAGES, CHUNK_BYTES, CHUNK_SECONDS = 4096, 32 << 20, 10.0
#: Columns that are filled in at the end, when all images are known.
DEFERRED_COLUMNS = ("duplicate_of", "near_duplicate_of", "finding")
_STREAMED_COLUMNS = tuple(name for name in COLUMNS if name not in DEFERRED_COLUMNS)

#: Key of a segment's metadata: what the images up to its end held.
_VALUES = b"values"


@dataclass
class Part:
    """Sources whose images belong to the same split.

    Args:
        readers: the sources.
        split: 'train' or 'test'; None: as the source says, else 'train'.
    """

    readers: Sequence[ImageSource]
    split: str | None = None


@dataclass
class Prepared:
    """An image as a data set holds it, or the reason why it is left out.

    Args:
        name: of the image.
        origin: of the image.
        row: what the manifest says of the original: type, sides, channels, clipped share, ``left_out``.
        image: [C, R, R]; None: it is left out.
        tiles: [n, C, R, R]; None: they were not asked for.
        values: of the original; None: it was prepared already.
        pixels: the original, where it is at hand.
    """

    name: str
    origin: Provenance
    row: dict[str, Any]
    image: Array | None = None
    tiles: Array | None = None
    values: ValueRange | None = None
    pixels: Array | None = None


class PreparedSource(ImageSource):
    """Source of images that are prepared elsewhere."""

    @abstractmethod
    def prepared(self, start: int = 0) -> Iterator[Prepared]:
        """Yield all images from number ``start`` on, without their pixels."""


def prepare(
    record: Record | SkippedImage,
    whole: Preprocess,
    tiled: Preprocess | None = None,
    done: bool = False,
) -> Prepared:
    """Preprocess an image.

    Args:
        record: as a reader yields it.
        whole: preprocessing without tiles.
        tiled: preprocessing of tiles, where they are wanted as well.
        done: whether the pixels are of another data set, and preprocessed.
    """
    if isinstance(record, SkippedImage):
        return Prepared(record.name, record.origin, {"left_out": printable(record.reason)})
    pixels = record.pixels
    row: dict[str, Any] = {"dtype": str(pixels.dtype)}
    row["height"], row["width"], row["channels"] = pixels.shape
    found = Prepared(record.name, record.origin, row, pixels=pixels)
    try:
        image = np.moveaxis(pixels, -1, 0) if done else whole(pixels)
        found.tiles = None if tiled is None else tiled.squares(pixels)
    except (ValueError, MemoryError) as error:
        row["left_out"] = failure_reason(error)
        return found
    found.image = image
    if not done:
        found.values = ValueRange()
        found.values.add(pixels)
    if whole.black is not None and whole.white is not None and not done:
        row["clipped"] = float(((pixels < whole.black) | (pixels > whole.white)).mean())
    return found


class ImageFile:
    """Growing .npy file of images, [N, C, R, R].

    Args:
        path: of the file; its folder is created.
        preprocess: gives shape and type of an image.
        count: number of images to keep of an existing file; the rest is cut off.

    Raises:
        UserError: the disk is full, or the file cannot be written.
    """

    def __init__(self, path: Path, preprocess: Preprocess, count: int = 0) -> None:
        self.path, self.count = path, count
        self._shape = (preprocess.channels, preprocess.resolution, preprocess.resolution)
        self._dtype = preprocess.dtype
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("r+b" if path.exists() else "w+b")
            self._write_header()
            end = self._file.tell() + count * int(np.prod(self._shape)) * self._dtype.itemsize
            if self._file.seek(0, os.SEEK_END) < end:
                raise UserError(
                    f"{path}: is damaged (too short); delete {path.parent.parent} to start again"
                )
            self._file.seek(end)
            self._file.truncate()
        except OSError as error:
            raise as_user_error(error, path) from error

    def append(self, images: Array) -> None:
        """Append images [n, C, R, R]; a kill may lose them until :meth:`flush`."""
        try:
            self._file.write(np.ascontiguousarray(images, self._dtype).data)
        except OSError as error:
            raise as_user_error(error, self.path) from error
        self.count += len(images)

    def flush(self) -> None:
        """Write everything to the disk."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise as_user_error(error, self.path) from error

    def close(self) -> None:
        """Write the final count, and close the file."""
        try:
            self._write_header()
            self.flush()
            self._file.close()
        except OSError as error:
            raise as_user_error(error, self.path) from error

    def _write_header(self) -> None:
        # NumPy reserves space for the largest count, so the length of the header never changes.
        self._file.seek(0)
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self.count, *self._shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)


class PackedSetWriter:
    """Writer of images and segments of the manifest into an unfinished data set.

    A segment is written after its images, and its name records the position in the sources and the
    size of the image files. Whatever a killed process wrote beyond that is cut off.

    Args:
        folder: of the unfinished data set.
        preprocess: applied to every image.
        labels: labels of the images; None: as the sources say.
        pictures: whether to keep thumbnails, and measures of the originals, for people who look.
    """

    def __init__(
        self,
        folder: Path,
        preprocess: Preprocess,
        labels: LabelFile | None = None,
        pictures: bool = False,
    ) -> None:
        self.folder, self.preprocess, self.labels = folder, preprocess, labels
        p = preprocess
        size = p.resolution**2 * p.channels * p.dtype.itemsize
        self.chunk = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // size))
        done = segments(folder)
        reached = [int(n) for n in done[-1].stem.split("-")[1:]] if done else [0] * 8
        self.number, self.reader, self.position, self.total = reached[:4]
        self.files = {
            split: ImageFile(folder / IMAGES / f"{split}.npy", preprocess, count)
            for split, count in zip(SPLITS, reached[4:], strict=False)
        }
        self.thumbnails = (
            ThumbnailFile(folder / THUMBNAILS, preprocess, reached[6]) if pictures else None
        )
        self.tiles = (
            ImageFile(folder / IMAGES / TILES, preprocess, reached[7]) if preprocess.tiles else None
        )
        #: What the images held before they were preprocessed.
        self.values = _values(done[-1]) if done else ValueRange()
        self.rows: list[dict[str, Any]] = []
        self.flushed = time.monotonic()
        self.waiting: dict[str, list[Array]] = {split: [] for split in SPLITS}

    def run(self, parts: Sequence[Part]) -> None:
        """Pack all images that are not packed yet.

        Raises:
            UserError: a source or the disk fails.
            Interrupted: by Ctrl-C or SIGTERM, after the images read so far were written.
        """
        readers = [(reader, part) for part in parts for reader in part.readers]
        counts = [reader.count() for reader, _ in readers]
        total = None if None in counts else sum(n or 0 for n in counts)
        with stop_request() as stop, bar("preparing, images", total, self.total) as shown:
            for number, (reader, part) in enumerate(readers):
                if number < self.reader:
                    continue
                start = self.position if number == self.reader else 0
                self.reader, self.position = number, start
                reader.idle = partial(self._stop_if_asked, stop)
                packed = reader.packed
                prepared = packed is not None and packed.preprocess == self.preprocess
                for image in self._prepared(reader, start, prepared):
                    self._take(image, part.split)
                    waited = time.monotonic() - self.flushed
                    if len(self.rows) >= self.chunk or waited > CHUNK_SECONDS:
                        self._flush()
                    if self.total % 64 == 0:
                        shown.update(self.total)
                    self._stop_if_asked(stop)
            self._flush()
            self._stop_if_asked(stop)
        if self.labels is not None:
            self.labels.check_count(self.total)
        for file in self.files.values():
            file.close()
            if not file.count:
                file.path.unlink()
        if self.thumbnails is not None:
            self.thumbnails.close()
        if self.tiles is not None:
            self.tiles.close()

    def _stop_if_asked(self, stop: StopRequest) -> None:
        if stop.signum is not None:
            self._flush()
            raise Interrupted(stop.signum, f"image {self.total}")

    def _prepared(self, reader: ImageSource, start: int, done: bool) -> Iterator[Prepared]:
        if isinstance(reader, PreparedSource):
            return reader.prepared(start)
        whole = self.preprocess.whole()
        tiled = self.preprocess if self.tiles is not None else None
        return (prepare(record, whole, tiled, done) for record in reader.records(start))

    def _take(self, image: Prepared, split: str | None) -> None:
        origin = image.origin
        row: dict[str, Any] = dict.fromkeys(_STREAMED_COLUMNS)
        row |= {
            "name": printable(image.name),
            "raw_name": _raw(image.name),
            "source": None if origin.source is None else printable(origin.source),
            "frame": origin.frame,
            "split": split or origin.split or "train",
            "label": None if origin.label is None else printable(origin.label),
            "anomaly": origin.anomaly,
            "injected": origin.injected,
            "mask": None if origin.mask is None else printable(origin.mask),
            "part": self.reader,
        }
        if origin.position is not None:
            row["top"], row["left"] = origin.position
        if self.labels is not None:
            row["label"] = printable(self.labels.of(image.name, self.total))
        row |= image.row
        if image.image is not None:
            self._add(image, image.image, row)
        self.rows.append(row)
        self.position += 1
        self.total += 1

    def _add(self, image: Prepared, squeezed: Array, row: dict[str, Any]) -> None:
        """Have the pixels of an image wait to be written."""
        if image.values is not None:
            self.values.merge(image.values)
        waiting = self.waiting[row["split"]]
        row["index"] = self.files[row["split"]].count + len(waiting)
        waiting.append(squeezed)
        if self.thumbnails is not None and image.pixels is not None:
            self.thumbnails.add(image.pixels)
        if self.tiles is not None and image.tiles is not None:
            self.tiles.append(image.tiles)
            row["tiles"] = len(image.tiles)
            row["hash"] = int(quality.content_hashes(image.tiles[None])[0])

    def _flush(self) -> None:
        """Write the waiting images, and then the segment of the manifest that lists them."""
        self.flushed = time.monotonic()
        if not self.rows:
            return
        if self.thumbnails is not None:
            shown = [row for row in self.rows if row["index"] is not None]
            for row, found in zip(shown, self.thumbnails.flush(), strict=True):
                row |= found
        if self.tiles is not None:
            self.tiles.flush()
        for split, waiting in self.waiting.items():
            if not waiting:
                continue
            images = np.stack(waiting)
            measured = {} if self.tiles is not None else {"hash": quality.content_hashes(images)}
            measured |= {
                "perceptual": quality.perceptual_hashes(images),
                "mean": images.mean(axis=(1, 2, 3), dtype=np.float64),
                "deviation": images.std(axis=(1, 2, 3), dtype=np.float64),
            }
            rows = [r for r in self.rows if r["index"] is not None and r["split"] == split]
            for name, values in measured.items():
                for row, value in zip(rows, values.tolist(), strict=True):
                    row[name] = value
            self.files[split].append(images)
            self.files[split].flush()
            waiting.clear()
        self.number += 1
        counts = [self.files[split].count for split in SPLITS]
        reached = [self.number, self.reader, self.position, self.total, *counts]
        reached.append(0 if self.thumbnails is None else self.thumbnails.size)
        reached.append(0 if self.tiles is None else self.tiles.count)
        name = f"segment-{'-'.join(f'{n:010d}' for n in reached)}.parquet"
        pa, parquet = library("pyarrow", self.folder), library("pyarrow.parquet", self.folder)
        about = {_VALUES: json.dumps(self.values.to_json())}
        table = pa.Table.from_pylist(self.rows, schema=schema(_STREAMED_COLUMNS))
        table = table.replace_schema_metadata(about)
        with atomic_write(self.folder / name) as temporary:
            parquet.write_table(table, temporary)
        self.rows.clear()


def _raw(name: str) -> bytes | None:
    """Return the bytes of a name that is no valid text, as the file system has them."""
    if printable(name) == name:
        return None
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return None


def _values(segment: Path) -> ValueRange:
    """Return what the images up to the end of a segment held."""
    about = library("pyarrow.parquet", segment).read_schema(segment).metadata or {}
    return ValueRange.from_json(json.loads(about.get(_VALUES, b"null"))) or ValueRange()


def segments(folder: Path) -> list[Path]:
    """Return the complete segments of an unfinished manifest, in order."""
    return sorted(folder.glob("segment-*.parquet"))
