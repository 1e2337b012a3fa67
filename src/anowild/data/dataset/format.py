"""The packed data set: preprocessed images in mapped files, and a manifest of where they are from.

    DATASET/
      dataset.json        how it was made, the preprocessing, counts, what the quality gate found
      manifest.parquet    a row for each image of the sources, also for those left out (`COLUMNS`)
      images/train.npy    uint8 or uint16 [N, C, R, R]; any NumPy opens it
      images/test.npy     where there is a test split
      contact_sheet.png   what was cut, where objects were cut out of frames

Opening it takes milliseconds, however many images there are: nothing is read before it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar, overload

import numpy as np

from anowild.arrays import Array
from anowild.data.preprocessing import Preprocess
from anowild.data.readers.base import Provenance, Reader, Record, Shape, SkippedImage, library
from anowild.errors import UserError
from anowild.files import read_json

FORMAT = 1
DESCRIPTION, MANIFEST, IMAGES = "dataset.json", "manifest.parquet", "images"
SPLITS = ("train", "test")

#: The manifest's columns: Arrow type, meaning. Every one but ``name`` may be null.
COLUMNS: Mapping[str, tuple[str, str]] = {
    "name": ("string", "unique in the data set"),
    "source": ("string", "file that the image is from"),
    "frame": ("int64", "page, video frame or row in that file, from 0"),
    "top": ("int32", "first row of a crop in its frame; below 0 where it was filled up"),
    "left": ("int32", "first column of a crop in its frame"),
    "height": ("int32", "of the image before preprocessing, in pixels"),
    "width": ("int32", "of the image before preprocessing, in pixels"),
    "channels": ("int16", "of the image before preprocessing"),
    "dtype": ("string", "of the image before preprocessing"),
    "split": ("string", "train or test"),
    "index": ("int64", "row in images/SPLIT.npy; null: left out"),
    "label": ("string", "class, as the source names it"),
    "anomaly": ("bool_", "whether a protocol calls the class anomalous"),
    "injected": ("bool_", "whether it was put into training on purpose (anowild contaminate)"),
    "mask": ("string", "file of the ground-truth mask"),
    "hash": ("uint64", "BLAKE2b of the packed pixels: equal for equal images"),
    "perceptual": ("uint64", "sign hash of low frequencies: near for near-equal images"),
    "mean": ("float32", "of the packed pixels, from 0 to 255 or 65535"),
    "deviation": ("float32", "standard deviation of the packed pixels"),
    "clipped": ("float32", "share of pixels that were beyond black or white"),
    "duplicate_of": ("int64", "row in this table of the first equal image"),
    "near_duplicate_of": ("int64", "row in this table of an image that hardly differs"),
    "finding": ("string", "what the quality gate says of the image"),
    "left_out": ("string", "why it was left out; null: it was not"),
}


def schema(columns: Iterable[str] = COLUMNS) -> Any:
    """The pyarrow schema of the manifest, or of some of its columns."""
    pa = library("pyarrow", "the manifest")
    return pa.schema([(name, getattr(pa, COLUMNS[name][0])()) for name in columns])


def is_packed_set(path: Path) -> bool:
    """Return whether a folder looks like a packed data set."""
    return (path / DESCRIPTION).is_file() and (path / IMAGES).is_dir()


class PackedSet:
    """A packed data set, opened.

    Raises:
        UserError: it is not there, not whole, or of another version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        description = self.path / DESCRIPTION
        if not description.is_file():
            raise UserError(f"{self.path}: is not a packed data set (it has no {DESCRIPTION})")
        value = read_json(description)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise UserError(f"{description}: is not of format {FORMAT}, the only one that is read")
        try:
            self.preprocess = Preprocess(**value["preprocess"])
            self.id = str(value["id"])
            self.counts = {str(split): int(n) for split, n in value["images"].items()}
            if not set(self.counts) <= set(SPLITS):
                raise ValueError(f"splits {list(self.counts)}")
            if not {"equal", "near_equal", "leaks", "left_out"} <= set(value["findings"]):
                raise KeyError("findings")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{description}: is damaged ({error!r})") from error
        self.description = value

    def __len__(self) -> int:
        return sum(self.counts.values())

    def images(self, split: str) -> Array:
        """The images of a split, mapped, not read: uint8 or uint16 [N, C, R, R]."""
        path = self.path / IMAGES / f"{split}.npy"
        p = self.preprocess
        try:
            # Copy on write: PyTorch warns of arrays that it could not write to.
            images = np.load(path, mmap_mode="c", allow_pickle=False)
        except OSError as error:
            raise UserError(f"{path}: is missing ({error.strerror}); prepare it again") from error
        except (ValueError, EOFError) as error:
            raise UserError(f"{path}: is damaged; prepare the data set again") from error
        expected = (self.counts[split], p.channels, p.resolution, p.resolution)
        if images.shape != expected or images.dtype != p.dtype:
            raise UserError(
                f"{path}: holds {images.dtype} {list(images.shape)} where {DESCRIPTION} says "
                f"{p.dtype} {list(expected)}; prepare the data set again"
            )
        return images

    def manifest(self, columns: Sequence[str] | None = None, split: str | None = None) -> Any:
        """The manifest as a pyarrow Table; with ``split`` the rows of its images, in their order."""
        pa = library("pyarrow", self.path)
        parquet, compute = library("pyarrow.parquet", self.path), library("pyarrow.compute", "")
        path = self.path / MANIFEST
        wanted = None if columns is None else list(columns)
        if split is not None and wanted is not None:
            wanted = list(dict.fromkeys([*wanted, "split", "index"]))
        try:
            table = parquet.read_table(path, columns=wanted)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path}: is missing or damaged ({error})") from error
        if split is not None:
            field = compute.field
            table = table.filter((field("split") == split) & field("index").is_valid())
            table = table.sort_by("index")
            if len(table) != self.counts[split]:
                raise UserError(
                    f"{path}: tells of {len(table)} images for {split} where {DESCRIPTION} says "
                    f"{self.counts[split]}; prepare the data set again"
                )
        return table if columns is None else table.select(list(columns))

    def names(self, split: str) -> Sequence[str]:
        """Names of the images of a split, read when the first of them is asked for."""
        return _Column(self, split, "name")


class _Column(Sequence[str]):
    """A column of the manifest that is read when it is first used."""

    def __init__(self, packed: PackedSet, split: str, name: str) -> None:
        self._packed, self._split, self._name = packed, split, name

    @cached_property
    def _values(self) -> Any:
        return self._packed.manifest([self._name], self._split).column(0)

    def __len__(self) -> int:
        return self._packed.counts[self._split]

    @overload
    def __getitem__(self, item: int) -> str: ...
    @overload
    def __getitem__(self, item: slice) -> list[str]: ...
    def __getitem__(self, item: int | slice) -> str | list[str]:
        if isinstance(item, slice):
            return list(self._values[item.start : item.stop].to_pylist())[:: item.step or 1]
        return str(self._values[item].as_py())


class PackedReader(Reader):
    """The images of a packed data set, ``DATASET`` or ``DATASET:test``, train before test."""

    KIND: ClassVar[str] = "packed data set"

    def __init__(self, source: str, splits: Sequence[str] | None = None) -> None:
        path, split = _split_off(source)
        self.packed: PackedSet = PackedSet(path)
        if split is not None:
            if split not in self.packed.counts:
                raise UserError(
                    f"{path}: has no images for '{split}'; it has {', '.join(self.packed.counts)}"
                )
            splits = [split]
        self.splits = [name for name in splits or SPLITS if name in self.packed.counts]
        if not self.splits:
            raise UserError(f"{path}: has no images for {' or '.join(splits or SPLITS)}")

    @staticmethod
    def takes(source: str) -> bool:
        return is_packed_set(_split_off(source)[0])

    def count(self) -> int:
        return sum(self.packed.counts[split] for split in self.splits)

    def files(self) -> Iterable[Path]:
        return [self.packed.path / DESCRIPTION]

    def shapes(self, most: int) -> Iterator[Shape]:
        p = self.packed.preprocess
        return repeat((p.resolution, p.resolution, p.channels), min(most, self.count()))

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for split in self.splits:
            images = self.packed.images(split)
            first = min(start, len(images))
            start -= first
            if first == len(images):
                continue
            columns = ["name", "source", "frame", "top", "left", "label", "anomaly", "mask"]
            table = self.packed.manifest(columns, split).slice(first)
            rows = (row for part in table.to_batches(4096) for row in part.to_pylist())
            for image, row in zip(images[first:], rows, strict=True):
                position = None if row["top"] is None else (row["top"], row["left"])
                origin = Provenance(
                    row["source"], row["frame"], position, split, row["label"], row["mask"],
                    row["anomaly"],
                )  # fmt: skip
                yield Record(row["name"], np.moveaxis(image, 0, -1), origin)


def _split_off(source: str) -> tuple[Path, str | None]:
    """``DATASET:test`` -> the folder and the split."""
    head, colon, split = source.rpartition(":")
    if colon and split in SPLITS and not Path(source).exists():
        return Path(head), split
    return Path(source), None
