"""Reader of multi-resolution TFRecords, as the tools of the progressive GAN write them.

Each resolution of the images has its own file: ``name-r05.tfrecords`` holds images of 32x32 pixels (2 to
the power of 5). The file of the largest resolution is read.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from anowild.arrays import Array, read_array
from anowild.data.readers.base import (
    PassedOver,
    PassedOverTally,
    Provenance,
    Reader,
    Record,
    Shape,
    SkippedImage,
)
from anowild.data.readers.folder import beside, holds_images, is_image
from anowild.data.readers.listing import of_ending
from anowild.errors import UserError
from anowild.files import DAMAGED_ZIP, is_file, is_folder
from anowild.libraries import library

_RESOLUTION = re.compile(r"-r(\d{1,2})$")
_SUFFIX, _LABELS = ".tfrecords", ".labels"
_MAX_BYTES = 1 << 28  # of a record; a larger one is taken for damage


@dataclass(frozen=True)
class _Part:
    """Files of one set: the images of the largest resolution, and their labels, if there are any."""

    records: str
    labels: str | None


class TFRecordReader(Reader):
    """Reader of a ``.tfrecords`` file, or of a folder or a zip file of them that holds no image files.

    The checksums of all records are verified. Labels are the numbers of the classes, from a NumPy array
    ``name-*.labels`` beside the records.
    """

    def __init__(self, source: str) -> None:
        self.path = Path(source)
        self.crc32c = library("google_crc32c", source).value
        self.zipped = self.path.suffix.lower() == ".zip"
        with _as_user_error(self.path):
            if is_file(self.path) and not self.zipped:
                names = [name for name in _names(self.path.parent) if name.endswith(_LABELS)]
                self.parts = [_Part(self.path.name, _labels_of(self.path.name, names))]
                names = []
            else:
                names = _names(self.path)
                self.parts = _largest(names)
        if not self.parts:
            raise UserError(f"{source}: holds no files *{_SUFFIX}; give a folder that does")
        self._passed_over = PassedOverTally()
        read = {name for part in self.parts for name in (part.records, part.labels)}
        smaller = [n for n in names if n.lower().endswith(_SUFFIX) and n not in read]
        for name in smaller:
            self._passed_over.add("smaller copies of the same images", self._place(name))
        if is_folder(self.path):
            known = [self.path / name for name in (*read, *smaller) if name]
            beside(self.path, known, self._passed_over)
        else:
            for name in names:
                if name not in {*read, *smaller} and not name.endswith("/"):
                    self._passed_over.add(of_ending(name), self._place(name))

    @staticmethod
    def takes(source: str) -> bool:
        path = Path(source)
        try:
            if is_folder(path) or (is_file(path) and path.suffix.lower() == ".zip"):
                names = _names(path)
                found = any(name.lower().endswith(_SUFFIX) for name in names)
                images = holds_images(path) if is_folder(path) else any(map(is_image, names))
                return found and not images
            return is_file(path) and path.suffix.lower() == _SUFFIX
        except Exception:  # of many kinds, on damaged zip files
            return False

    def files(self) -> Iterable[Path]:
        if self.zipped:
            return [self.path]
        names = [name for part in self.parts for name in (part.records, part.labels) if name]
        return [self._folder / name for name in names]

    def shapes(self, most: int) -> Iterator[Shape]:
        for part in self.parts[:most]:  # all images of a part have one size
            for row, example in self._examples(part.records, 0):
                height, width, channels = self._pixels(part.records, row, example).shape
                yield height, width, channels
                break

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for part in self.parts:
            labels = self._read_labels(part.labels)
            rows = 0
            for row, example in self._examples(part.records, start):
                rows = row + 1
                if row < start:
                    continue
                # Missing labels are reported at the end, when their number is known.
                label = None if labels is None or row >= len(labels) else str(labels[row])
                pixels = self._pixels(part.records, row, example)
                source = self.path if self.zipped else self._folder / part.records
                origin = Provenance(source=str(source), frame=row, label=label)
                yield Record(f"{self._place(part.records)}[{row}]", pixels, origin)
            if labels is not None and len(labels) != rows:
                raise UserError(
                    f"{self._place(part.records)}: has {rows} images, but "
                    f"{self._place(str(part.labels))} has {len(labels)} labels; get both again"
                )
            start = max(0, start - rows)

    def passed_over(self) -> list[PassedOver]:
        return self._passed_over.entries()

    @property
    def _folder(self) -> Path:
        return self.path if is_folder(self.path) else self.path.parent

    def _place(self, name: str) -> str:
        return f"{self.path}/{name}" if self.zipped else str(self._folder / name)

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        with _as_user_error(self._place(name)):
            if self.zipped:
                with zipfile.ZipFile(self.path) as archive, archive.open(name) as member:
                    yield member
            else:
                with (self._folder / name).open("rb") as file:
                    yield file

    def _examples(self, name: str, start: int) -> Iterator[tuple[int, bytes]]:
        """Yield number and content of the records of a file; those before ``start`` are empty."""
        row = 0
        with self._opened(name) as file:
            try:
                while head := file.read(12):
                    length = self._checked_length(head)
                    if row < start:
                        # Reading the last byte shows that the record is complete.
                        file.seek(length + 3, io.SEEK_CUR)
                        if len(file.read(1)) != 1:
                            raise EOFError
                        yield row, b""
                    else:
                        data = file.read(length + 4)
                        if len(data) != length + 4:
                            raise EOFError
                        self._check(data)
                        yield row, data[:-4]
                    row += 1
            except (ValueError, *DAMAGED_ZIP) as error:
                raise self._damaged(name, row, str(error) or "it is cut off") from error

    def _checked_length(self, head: bytes) -> int:
        if len(head) != 12:
            raise EOFError
        self._check(head)
        (length,) = struct.unpack("<Q", head[:8])
        if length > _MAX_BYTES:
            raise ValueError("it claims to be larger than any image")
        return length

    def _check(self, data: bytes) -> None:
        """Verify the masked CRC-32C in the last four bytes."""
        crc = self.crc32c(data[:-4])
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        if data[-4:] != struct.pack("<I", masked):
            raise ValueError("its checksum is wrong")

    def _pixels(self, name: str, row: int, example: bytes) -> Array:
        """Return the pixels [H, W, C] of an example, which holds [C, H, W]."""
        try:
            features = _parse_example(example)
            shape, data = features.get("shape"), features.get("data")
            if not isinstance(shape, list) or not isinstance(data, bytes):
                raise ValueError("it has no features 'shape' and 'data'")
            if len(shape) != 3 or math.prod(shape) != len(data) or not data:
                raise ValueError(f"its {len(data)} bytes do not fit its shape {shape[:4]}")
            return np.frombuffer(data, np.uint8).reshape(shape).transpose(1, 2, 0)
        except ValueError as error:
            raise self._damaged(name, row, str(error)) from error

    def _damaged(self, name: str, row: int, why: str) -> UserError:
        return UserError(
            f"{self._place(name)}: record {row} is damaged ({why}); get the file again"
        )

    def _read_labels(self, name: str | None) -> Array | None:
        """Read the number of the class of each image, int64 [N]."""
        if name is None:
            return None
        try:
            with self._opened(name) as file:
                labels = read_array(file)
        except (ValueError, EOFError) as error:
            raise UserError(
                f"{self._place(name)}: is no NumPy array of labels ({error}); get it again, or remove it"
            ) from error
        if labels.ndim == 2 and labels.shape[1] > 1:  # one column for each class
            labels = labels.argmax(axis=1)
        if labels.ndim not in (1, 2) or labels.dtype.kind not in "uif":
            raise UserError(
                f"{self._place(name)}: has {labels.dtype} labels of shape {list(labels.shape)}; "
                "give numbers [images] or [images, classes], or remove the file"
            )
        return labels.reshape(len(labels)).astype(np.int64)


@contextmanager
def _as_user_error(place: object) -> Iterator[None]:
    try:
        yield
    except DAMAGED_ZIP as error:
        raise UserError(f"{place}: is damaged ({error}); get the file again") from error
    except OSError as error:
        raise UserError(
            f"{place}: cannot be read ({error.strerror or error}); check the file"
        ) from error
    except RuntimeError as error:  # raised by zipfile for encrypted members
        raise UserError(f"{place}: is locked with a password; unpack it first") from error


def _names(path: Path) -> list[str]:
    """List the files in a folder or in a zip file, without hidden ones."""
    if is_folder(path):
        names = [entry.name for entry in path.iterdir() if is_file(entry)]
    else:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    hidden = (".", "__MACOSX")
    return sorted(n for n in names if not any(p.startswith(hidden) for p in n.split("/")))


def _largest(names: Iterable[str]) -> list[_Part]:
    """Choose for each set the file of the largest resolution; sorted by name."""
    names = list(names)
    best: dict[str, tuple[int, str]] = {}
    for name in names:
        if name.lower().endswith(_SUFFIX):
            prefix, resolution = _split_name(name)
            best[prefix] = max(best.get(prefix, (-1, "")), (resolution, name))
    return [_Part(name, _labels_of(name, names)) for _, (_, name) in sorted(best.items())]


def _split_name(name: str) -> tuple[str, int]:
    """Divide ``x/name-r05.tfrecords`` into ``x/name`` and 5."""
    stem = name[: -len(_SUFFIX)]
    found = _RESOLUTION.search(stem)
    return (stem[: found.start()], int(found[1])) if found else (stem, 0)


def _labels_of(records: str, names: Iterable[str]) -> str | None:
    prefix, _ = _split_name(records)
    pattern = re.compile(rf"{re.escape(prefix)}(-r\w+)?{re.escape(_LABELS)}")
    return next((name for name in names if pattern.fullmatch(name)), None)


# A parser of protocol buffers for tf.train.Example alone. A message is a sequence of fields. A field has
# a tag (number and kind), and then a varint, or a length and as many bytes, or 4 or 8 bytes.


def _parse_example(data: bytes) -> dict[str, bytes | list[int]]:
    """Parse the features of an Example that hold one string of bytes, or integers.

    Raises:
        ValueError: it is no Example.
    """
    features: dict[str, bytes | list[int]] = {}
    for entry in _nested(memoryview(data), 1, 1):
        key, value = b"", memoryview(b"")
        for number, field in _fields(entry):
            if number == 1:
                key = bytes(_message(field))
            elif number == 2:
                value = _message(field)
        name = key.decode("utf-8", "replace")
        if strings := list(_nested(value, 1, 1)):
            features[name] = bytes(strings[0])
        elif integers := list(_integers(value)):
            features[name] = integers
    return features


def _nested(data: memoryview, *path: int) -> Iterator[memoryview]:
    """Yield the messages at a path of field numbers."""
    for number, field in _fields(data):
        if number == path[0]:
            if len(path) == 1:
                yield _message(field)
            else:
                yield from _nested(_message(field), *path[1:])


def _integers(feature: memoryview) -> Iterator[int]:
    for values in _nested(feature, 3):
        for number, field in _fields(values):
            if number == 1 and isinstance(field, int):
                yield field
            elif number == 1:  # packed: several in one field
                at, packed = 0, _message(field)
                while at < len(packed):
                    value, at = _varint(packed, at)
                    yield value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("it is no tf.train.Example")
        if at + size > len(data):
            raise ValueError("it is no tf.train.Example")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Read a number of 7 bits for each byte, lowest first; returns the number and where it ends."""
    value = 0
    for place in range(10):
        if at + place >= len(data):
            break
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("it is no tf.train.Example")


def _message(field: int | memoryview) -> memoryview:
    if isinstance(field, int):
        raise ValueError("it is no tf.train.Example")
    return field
