"""Reader of the idx files of MNIST and similar sets: ``train-images-idx3-ubyte``, ``.gz`` or not."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import IO, Any

import numpy as np

from anowild.arrays import Array
from anowild.data.readers.base import (
    MAX_PIXELS,
    PassedOver,
    PassedOverTally,
    Provenance,
    Reader,
    Record,
    Shape,
    SkippedImage,
)
from anowild.data.readers.folder import beside, holds_images
from anowild.errors import UserError
from anowild.files import is_file, is_folder

_NAME = re.compile(r"[.-]idx3-ubyte(\.gz)?$", re.IGNORECASE)
_IMAGES, _LABELS = 0x0803, 0x0801  # magic numbers: unsigned bytes with 3 axes or 1
_CHUNK = 1 << 20
_GZIP_RATIO = 1040  # times that gzip shrinks data at most


@dataclass(frozen=True)
class _File:
    """File of images, as described by its header."""

    path: Path
    count: int
    height: int
    width: int
    labels: Path | None

    @property
    def split(self) -> str | None:
        name = self.path.name.lower()
        if "train" in name:
            return "train"
        return "test" if "t10k" in name or "test" in name else None


class IdxReader(Reader):
    """Reader of an idx file of images, or of a folder of them: training images first, then test images.

    A folder with image files in or below it is no such folder.

    Labels come from the file of labels with the corresponding name beside it, if there is one.
    """

    def __init__(self, source: str) -> None:
        path = Path(source)
        self._passed_over = PassedOverTally()
        paths = _find(path) if is_folder(path) else [path]
        if not paths:
            raise UserError(
                f"{path}: holds no idx files of images; give *-images-idx3-ubyte files or their folder"
            )
        self.parts = sorted(
            (_describe(path) for path in paths),
            key=lambda part: (("train", "test", None).index(part.split), part.path.name),
        )
        if not self.count():
            raise UserError(f"{path}: holds no images; download it again")
        if is_folder(path):
            beside(path, [*self.files()], self._passed_over)

    @staticmethod
    def takes(source: str) -> bool:
        path = Path(source)
        try:
            if is_folder(path):
                return bool(_find(path)) and not holds_images(path)
            return _is_images(path)
        except OSError:
            return False

    def count(self) -> int:
        return sum(part.count for part in self.parts)

    def passed_over(self) -> list[PassedOver]:
        return self._passed_over.entries()

    def files(self) -> Iterable[Path]:
        return [path for part in self.parts for path in (part.path, part.labels) if path]

    def shapes(self, most: int) -> Iterator[Shape]:
        every = (
            repeat((part.height, part.width, 1), -(-most * part.count // self.count()))
            for part in self.parts
        )
        return islice(chain.from_iterable(every), most)

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for part in self.parts:
            if start < part.count:
                yield from _read(part, start)
            start = max(0, start - part.count)


def _is_images(path: Path) -> bool:
    return _NAME.search(path.name) is not None and is_file(path)


def _find(folder: Path) -> list[Path]:
    """List the files of images; of a compressed and an uncompressed copy, the uncompressed one."""
    found: dict[str, Path] = {}
    # In this order, the uncompressed one of two comes last and replaces the other.
    for path in sorted(folder.iterdir(), key=lambda path: path.name, reverse=True):
        if _is_images(path) and not path.name.startswith("."):
            found[_NAME.sub("", path.name)] = path
    return list(found.values())


def _labels_of(images: Path) -> Path | None:
    stem = _NAME.sub("", images.name)
    head, middle, tail = stem.rpartition("images")
    if not middle:
        return None
    for ending in ("-idx1-ubyte", ".idx1-ubyte", "-idx1-ubyte.gz", ".idx1-ubyte.gz"):
        path = images.with_name(f"{head}labels{tail}{ending}")
        if is_file(path):
            return path
    return None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, compressed or not; damage found while reading becomes a UserError."""
    try:
        opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
        with opener(path, "rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise _cut_off(path) from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); check the file"
        ) from error


def _cut_off(path: Path) -> UserError:
    return UserError(f"{path}: is cut off or damaged; download it again")


def _header(file: IO[bytes], path: Path, magic: int) -> list[int]:
    """Read the sizes of the axes."""
    axes = magic & 0xFF
    header = file.read(4 * (1 + axes))
    if len(header) < 4 * (1 + axes):
        raise _cut_off(path)
    found, *sizes = np.frombuffer(header, ">u4").tolist()
    if found != magic:
        raise UserError(
            f"{path}: is no idx file of bytes with {axes} {'axis' if axes == 1 else 'axes'} "
            f"(it begins with {found:#010x}, not {magic:#010x}); download it again"
        )
    return sizes


def _describe(path: Path) -> _File:
    with _opened(path) as file:
        count, height, width = _header(file, path, _IMAGES)
    if not 0 < height * width <= MAX_PIXELS:
        raise UserError(
            f"{path}: claims images of {height}x{width} pixels; it is damaged, download it again"
        )
    size, needed = path.stat().st_size, 16 + count * height * width
    # The size of the content of a compressed file is only known after reading.
    packed = path.suffix.lower() == ".gz"
    if size * _GZIP_RATIO < needed if packed else size != needed:
        raise UserError(
            f"{path}: has {size} bytes where {count} images of {height}x{width} need {needed}; "
            "download it again"
        )
    return _File(path, count, height, width, _labels_of(path))


def _read_labels(part: _File) -> Array | None:
    if part.labels is None:
        return None
    with _opened(part.labels) as file:
        (count,) = _header(file, part.labels, _LABELS)
        if count != part.count:
            raise UserError(
                f"{part.labels}: has {count} labels for the {part.count} images of "
                f"{part.path}; download both again"
            )
        labels = _filled(file, count, part.labels)
        if file.read(1):
            raise _cut_off(part.labels)
    return labels


def _filled(file: IO[bytes], count: int, path: Path) -> Array:
    """Read so many bytes, in pieces, so that a compressed file needs no second copy of them."""
    out = np.empty(count, np.uint8)
    for start in range(0, count, _CHUNK):
        piece = file.read(min(_CHUNK, count - start))
        out[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        if len(piece) < min(_CHUNK, count - start):
            raise _cut_off(path)
    return out


def _read(part: _File, start: int) -> Iterator[Record]:
    labels = _read_labels(part)
    size = part.height * part.width
    rows_per_chunk = max(1, _CHUNK // size)
    with _opened(part.path) as file:
        file.seek(16 + start * size)
        for first in range(start, part.count, rows_per_chunk):
            rows = min(rows_per_chunk, part.count - first)
            data = _filled(file, rows * size, part.path)
            pixels = data.reshape(rows, part.height, part.width, 1)
            for i in range(rows):
                row = first + i
                label = None if labels is None else str(labels[row])
                origin = Provenance(str(part.path), frame=row, split=part.split, label=label)
                yield Record(f"{part.path}[{row}]", pixels[i], origin)
        # Of a compressed file, this also verifies the checksum at its end.
        if file.read(1):
            raise UserError(
                f"{part.path}: is longer than the {part.count} images that it claims to hold; "
                "download it again"
            )
