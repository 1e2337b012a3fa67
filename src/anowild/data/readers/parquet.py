"""Reader of Parquet files with a column of encoded images, as Hugging Face datasets write them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

from anowild.data.readers import encoded
from anowild.data.readers.base import (
    ImageSource,
    PassedOver,
    PassedOverTally,
    Provenance,
    Reader,
    Record,
    Section,
    Shape,
    SkippedImage,
    split_key,
    spread,
)
from anowild.data.readers.folder import shards, split_of_shard
from anowild.errors import UserError
from anowild.files import is_file, is_folder
from anowild.libraries import library

SUFFIXES = (".parquet",)

_ROWS = 16  # in memory at a time, at most
_MAX_CELL = 256 << 20  # bytes of a larger cell are taken for damage, and not decoded
#: Encoded images hardly become smaller: a column of more than `_IMPLAUSIBLE` bytes that was compressed to
#: less than this share of them is not unpacked.
_IMPLAUSIBLE, _LEAST_SHARE = 1 << 30, 0.01
_BUFFER = 1 << 20  # bytes of a column that are read at a time, instead of a whole row group


class ParquetReader(Reader):
    """Reader of a column of image bytes, or of structs with a field ``bytes``, in a file or a folder.

    ``file.parquet:column`` selects the column. A column ``label`` or ``labels`` gives the labels; the
    schema may list names for its numbers. The name of the file may give the split
    (``train-00000-of-00002.parquet``). Only the first page of a TIFF is read.
    """

    def __init__(self, source: str) -> None:
        self.root, self._wanted = split_key(source, SUFFIXES)
        self._passed_over = PassedOverTally()
        self._pages = PassedOverTally()
        self.paths = [self.root]
        if is_folder(self.root):
            self.paths = shards(self.root, SUFFIXES, self._passed_over)
        self._library = library("pyarrow.parquet", self.root)
        self._files: dict[Path, _File | Exception] = {}
        for path in self.paths:
            try:
                self._files[path] = _File(path, self._library, self._wanted)
            except UserError:
                raise
            except Exception as error:  # not Parquet, or damaged
                self._files[path] = error
        errors = [found for found in self._files.values() if isinstance(found, Exception)]
        if len(errors) == len(self._files):
            reason = encoded.failure_reason(errors[0]) if errors else "it holds no Parquet files"
            raise UserError(
                f"{self.root}: is not readable as Parquet ({reason}); copy or download it again"
            )

    @staticmethod
    def takes(source: str) -> bool:
        path, _ = split_key(source, SUFFIXES)
        if is_folder(path):
            return bool(shards(path, SUFFIXES))
        return path.suffix.lower() in SUFFIXES and is_file(path)

    def count(self) -> int:
        # A damaged file counts as one image that is left out.
        return sum(file.count if isinstance(file, _File) else 1 for file in self._files.values())

    def pieces(self, size: int) -> list[ImageSource]:
        """Return sources of whole row groups, each of one file."""
        found: list[ImageSource] = []
        for path, file in self._files.items():
            start = stop = 0
            groups = file.groups if isinstance(file, _File) else [1]
            for number, rows in enumerate(groups, start=1):
                stop += rows
                if stop - start < size and number < len(groups):
                    continue
                piece = copy(self)
                piece.paths, piece._files = [path], {path: file}
                if found:
                    piece._passed_over = PassedOverTally()
                found.append(Section(piece, start, stop))
                start = stop
        return found

    def passed_over(self) -> list[PassedOver]:
        return [*self._passed_over.entries(), *self._pages.entries()]

    def files(self) -> Iterable[Path]:
        return self.paths

    def shapes(self, most: int) -> Iterator[Shape]:
        files = [file for file in self._files.values() if isinstance(file, _File)]
        groups = [(file, group) for file in files for group in range(len(file.groups))]
        chosen = spread(len(groups), most)
        for i in chosen:
            file, group = groups[i]
            # Only the first rows of a group are read.
            yield from file.shapes(group, max(1, most // len(chosen)))

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        self._pages = PassedOverTally()
        for path, file in self._files.items():
            if isinstance(file, _File):
                yield from file.records(start, self._pages)
                start = max(0, start - file.count)
            elif start:
                start -= 1
            else:
                yield SkippedImage(
                    str(path), encoded.failure_reason(file), Provenance(source=str(path))
                )


class _File:
    """Parquet file: its columns of images and labels, and the number of rows of its row groups.

    Raises:
        UserError: it has no such column.
        Exception: it is no Parquet file.
    """

    def __init__(self, path: Path, library: Any, wanted: str | None) -> None:
        self.path = path
        self.split = split_of_shard(path)
        self._library = library
        with self._open() as file:
            schema = file.schema_arrow
            columns = {field.name: field.type for field in schema}
            self.column = _choose(path, wanted, columns)
            facts = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            self.groups = [group.num_rows for group in facts]
            self._sizes = [_sizes(group, self.column) for group in facts]
        self.count = sum(self.groups)
        self.label = next((name for name in ("label", "labels") if name in columns), None)
        self._names = _class_names(schema.metadata or {}, self.label)

    def _open(self) -> Any:
        return self._library.ParquetFile(self.path, buffer_size=_BUFFER, pre_buffer=False)

    def records(self, start: int, passed_over: PassedOverTally) -> Iterator[Record | SkippedImage]:
        first = 0
        with self._open() as file:
            for group, rows in enumerate(self.groups):
                if start < first + rows:
                    for number, cell, label in self._cells(file, group, first, start):
                        yield self._record(number, cell, label, passed_over)
                first += rows

    def shapes(self, group: int, most: int) -> Iterator[Shape]:
        with self._open() as file:
            for number, cell, _ in self._cells(file, group, 0, 0):
                if number == most:
                    return
                try:
                    yield encoded.shape(io.BytesIO(_bytes(cell)))
                except Exception:
                    continue

    def _cells(
        self, file: Any, group: int, first: int, start: int
    ) -> Iterator[tuple[int, Any, Any]]:
        """Yield number, image and label of each row of a group; for a damaged row, the exception."""
        number, end = first, first + self.groups[group]
        columns = [self.column] + ([self.label] if self.label else [])
        unpacked, packed = self._sizes[group]
        if unpacked > _MAX_CELL * self.groups[group] or (
            unpacked > _IMPLAUSIBLE and packed < _LEAST_SHARE * unpacked
        ):
            error = ValueError(f"the images of its row group claim to hold {unpacked} bytes")
            yield from ((row, error, None) for row in range(max(number, start), end))
            return
        # No cell is larger than its column, so a batch is no larger than the bound, or one cell.
        rows = max(1, min(_ROWS, _MAX_CELL // max(unpacked, 1)))
        batches = file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)
        while number < end:
            try:
                batch = next(batches)
                if number + len(batch) > start:
                    images = _cells_of(batch.column(self.column))
                    labels = batch.column(self.label).to_pylist() if self.label else None
            except Exception as error:  # the rows beyond the damage cannot be found either
                if isinstance(error, StopIteration):
                    error = ValueError("the row is not there")
                yield from ((row, error, None) for row in range(max(number, start), end))
                return
            for row in range(max(number, start), number + len(batch)):
                yield row, images[row - number], labels[row - number] if labels else None
            number += len(batch)

    def _record(
        self, number: int, cell: Any, label: Any, passed_over: PassedOverTally
    ) -> Record | SkippedImage:
        name = f"{self.path}[{number}]"
        origin = Provenance(
            source=str(self.path), frame=number, split=self.split, label=self._label(label)
        )
        try:
            _, pages, pixels = next(encoded.decode(io.BytesIO(_bytes(cell))))
        # Pillow's decoders raise these, and more, on damaged images.
        except Exception as error:
            return SkippedImage(name, encoded.failure_reason(error), origin)
        if pages > 1:
            passed_over.add("further pages of images in cells", name, pages - 1)
        return Record(name, pixels, origin)

    def _label(self, label: Any) -> str | None:
        if isinstance(label, int) and not isinstance(label, bool) and self._names:
            # -1 stands for test images whose class is withheld.
            return self._names[label] if 0 <= label < len(self._names) else None
        return None if label is None else str(label)


def _sizes(group: Any, column: str) -> tuple[int, int]:
    """Return how many bytes the column of a row group has unpacked and packed, or its largest field."""
    found = [group.column(i) for i in range(group.num_columns)]
    named = [c for c in found if c.path_in_schema.partition(".")[0] == column]
    return max(
        ((c.total_uncompressed_size, c.total_compressed_size) for c in named), default=(0, 0)
    )


def _cells_of(column: Any) -> list[Any]:
    """Return the cells of a part of a column; for one that is too large, the exception."""
    held = column.field("bytes") if str(column.type).startswith("struct") else column
    if str(held.type) == "binary_view":  # has no such function
        held = held.cast("large_binary")
    sizes = library("pyarrow.compute", "").binary_length(held).to_pylist()
    return [
        ValueError(f"the cell holds {size} bytes") if (size or 0) > _MAX_CELL else column[i].as_py()
        for i, size in enumerate(sizes)
    ]


def _bytes(cell: Any) -> bytes:
    """Return the bytes of the image in a cell.

    Raises:
        Exception: the cell has none, or could not be read.
    """
    if isinstance(cell, Exception):
        raise cell
    if isinstance(cell, dict):
        if cell["bytes"] is None and cell.get("path"):
            raise ValueError(f"it holds only a path, {cell['path']}, and no image")
        cell = cell["bytes"]
    if not cell:
        raise ValueError("the cell is empty")
    return bytes(cell)


def _choose(path: Path, wanted: str | None, columns: dict[str, Any]) -> str:
    """Return the name of the column that holds the images."""
    held = ", ".join(f"{name} ({kind})" for name, kind in columns.items()) or "none"
    candidates = [name for name, kind in columns.items() if _may_be_images(kind)]
    if wanted is not None:
        if wanted not in candidates:
            problem = "holds no images" if wanted in columns else "is not there"
            raise UserError(f"{path}: the column '{wanted}' {problem}; the columns are {held}")
        return wanted
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise UserError(f"{path}: has no column of encoded images; the columns are {held}")
    raise UserError(
        f"{path}: has several columns that may be images; name one of them, "
        f"as in {path}:{candidates[0]} (there are {', '.join(candidates)})"
    )


def _may_be_images(kind: Any) -> bool:
    fields = {field.name: field.type for field in kind} if str(kind).startswith("struct") else {}
    return str(fields.get("bytes", kind)) in ("binary", "large_binary", "binary_view")


def _class_names(metadata: dict[bytes, bytes], column: str | None) -> list[str]:
    """Return the class names of a column, which Hugging Face datasets store in the schema."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        names = feature["names"]
    except (KeyError, TypeError, ValueError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []
