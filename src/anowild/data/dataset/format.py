"""Format of a packed data set: preprocessed images in mapped files, and a manifest of their origin.

    DATASET/
      dataset.json        recipe, preprocessing, counts, findings
      manifest.parquet    a row for each image of the sources, also for those left out (`COLUMNS`)
      images/train.npy    uint8 or uint16 [N, C, R, R], readable by NumPy
      images/test.npy     if there is a test split
      images/tiles.npy    their tiles, [M, C, R, R], if images are scored by tiles; there is no test split then
      thumbnails.bin      WebP files one after the other, if the set was made to be looked at
      contact_sheet.png   frames and crops, if objects were cut out of frames

Opening a data set takes milliseconds for any number of images: data are read when they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from anowild.arrays import Array, map_array
from anowild.checked import Count, checked
from anowild.data.checks import MEASURES
from anowild.data.dataset.thumbnails import Thumbnails
from anowild.data.preprocessing import Preprocess
from anowild.data.readers.base import PassedOver, Provenance, Reader, Record, Shape, SkippedImage
from anowild.errors import UserError
from anowild.files import exists, is_file, is_folder, read_json, remade
from anowild.libraries import library

FORMAT = 1
DESCRIPTION, MANIFEST, IMAGES, TILES = "dataset.json", "manifest.parquet", "images", "tiles.npy"
#: What an unfinished data set is made of.
RECIPE = "recipe.json"
THUMBNAILS = "thumbnails.bin"
SPLITS = ("train", "test")

#: Columns of the manifest: Arrow type, meaning. All but ``name`` may be null.
COLUMNS: Mapping[str, tuple[str, str]] = {
    "name": ("string", "unique in the data set"),
    "source": ("string", "file of the image"),
    "frame": ("int64", "page, video frame or row in that file, from 0"),
    "top": ("int32", "first row of a crop in its frame; negative where it was padded"),
    "left": ("int32", "first column of a crop in its frame"),
    "height": ("int32", "of the image before preprocessing, in pixels"),
    "width": ("int32", "of the image before preprocessing, in pixels"),
    "channels": ("int16", "of the image before preprocessing"),
    "dtype": ("string", "of the image before preprocessing"),
    "split": ("string", "train or test"),
    "index": ("int64", "row in images/SPLIT.npy; null: left out"),
    "label": ("string", "class, as the source names it"),
    "anomaly": ("bool_", "whether a protocol calls the class anomalous"),
    "injected": ("bool_", "whether it was injected into training (anowild contaminate)"),
    "mask": ("string", "file of the ground-truth mask"),
    "hash": (
        "uint64",
        "BLAKE2b of the packed pixels (of the tiles, if there are any); equal images have equal hashes",
    ),
    "perceptual": ("uint64", "sign hash of low frequencies; near-equal images differ in few bits"),
    "mean": ("float32", "mean of the packed pixels, from 0 to 255 or 65535"),
    "deviation": ("float32", "standard deviation of the packed pixels"),
    "clipped": ("float32", "share of pixels that were beyond black or white"),
    "duplicate_of": ("int64", "row in this table of the first equal image"),
    "near_duplicate_of": ("int64", "row in this table of a near-equal image"),
    "finding": ("string", "finding on the content of the image"),
    "left_out": ("string", "reason for leaving it out; null: it is in the data set"),
    "raw_name": ("binary", "bytes of the name, where it is no valid text"),
    "part": ("int16", "number of the source that it is from, as they were given"),
    **{name: ("float32", f"of the original: {meaning}") for name, meaning in MEASURES.items()},
    "tiles": ("int32", "number of its tiles in tiles.npy"),
    "thumbnail": ("int64", "first byte in thumbnails.bin"),
    "thumbnail_bytes": ("int32", "length in thumbnails.bin"),
}


def _field(found: Any) -> Any:
    """Return the field of a manifest as it should be; one that is not ours, as it is."""
    return schema([found.name]).field(0) if found.name in COLUMNS else found


def schema(columns: Iterable[str] = COLUMNS) -> Any:
    """Return the pyarrow schema of the manifest, or of some of its columns."""
    pa = library("pyarrow", "the manifest")
    return pa.schema([(name, getattr(pa, COLUMNS[name][0])()) for name in columns])


def is_packed_set(path: Path) -> bool:
    """Whether a folder looks like a packed data set."""
    return is_file(path / DESCRIPTION) and is_folder(path / IMAGES)


@dataclass(frozen=True)
class _Leaks:
    """Test images that are in training too."""

    equal: Count
    near: Count
    done: Literal["refuse", "drop", "keep"]

    def __post_init__(self) -> None:
        if self.done == "refuse" and (self.equal or self.near):
            raise ValueError("done is 'refuse', yet there are some")


@dataclass(frozen=True)
class _Findings:
    """What a data set says of its images, as far as it is shown; how many each."""

    equal: Count
    near_equal: Count
    leaks: _Leaks
    left_out: Mapping[str, Count]
    images: Mapping[str, Count]
    modes: Mapping[str, Count]
    sizes: Mapping[str, Count]
    different_sizes: Count


class PackedSet:
    """Packed data set, opened for reading.

    Args:
        path: folder of the data set.

    Raises:
        UserError: it is missing, incomplete, or of another format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        description = self.path / DESCRIPTION
        if not is_file(description):
            raise UserError(
                f"{self.path}: is not a packed data set (it has no {DESCRIPTION}); make one with "
                "anowild prepare"
            )
        value = read_json(description)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise UserError(
                f"{description}: is not of format {FORMAT}, the only one that can be read; prepare the "
                "data set again"
            )
        try:
            self.preprocess = checked(Preprocess, value["preprocess"], "preprocess")
            self.id = checked(str, value["id"], "id")
            self.counts = checked(dict[str, Count], value["images"], "images")
            if not self.counts or not set(self.counts) <= set(SPLITS):
                raise ValueError(f"splits {list(self.counts)}")
            checked(Count, value["left_out"], "left_out")
            known = {f.name for f in fields(_Findings)}
            found = {name: item for name, item in value["findings"].items() if name in known}
            checked(_Findings, found, "findings")
            self.passed_over = checked(
                list[PassedOver], value.get("passed_over", []), "passed_over"
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{description}: is damaged ({error!r}); {remade(self.path)}"
            ) from error
        self.description = value

    def __len__(self) -> int:
        return sum(self.counts.values())

    def images(self, split: str) -> Array:
        """Map the images of a split into memory: uint8 or uint16 [N, C, R, R]."""
        return self._mapped(self.path / IMAGES / f"{split}.npy", self.counts[split])

    def squares(self, split: str) -> tuple[Array, Array | None]:
        """Map what the views see of the images of a split: their tiles, or the images themselves.

        Returns:
            uint8 or uint16 [M, C, R, R]; and the number of the image that each tile is of, int [M],
            ascending, or None where there are no tiles.
        """
        if not self.preprocess.tiles:
            return self.images(split), None
        counts = self.manifest(["tiles"], split)["tiles"].to_numpy()
        owners = np.repeat(np.arange(len(counts)), counts)
        return self._mapped(self.path / IMAGES / TILES, len(owners)), owners

    def _mapped(self, path: Path, count: int) -> Array:
        p = self.preprocess
        try:
            # Copy on write, because PyTorch warns about read-only arrays.
            images = map_array(path, "c")
        except OSError as error:
            raise UserError(
                f"{path}: is missing ({error.strerror}); {remade(self.path)}"
            ) from error
        except (ValueError, EOFError) as error:
            raise UserError(f"{path}: is damaged; {remade(self.path)}") from error
        expected = (count, p.channels, p.resolution, p.resolution)
        if images.shape != expected or images.dtype != p.dtype:
            raise UserError(
                f"{path}: holds {images.dtype} {list(images.shape)} where {DESCRIPTION} says "
                f"{p.dtype} {list(expected)}; {remade(self.path)}"
            )
        return images

    def manifest(self, columns: Sequence[str] | None = None, split: str | None = None) -> Any:
        """Read the manifest as a pyarrow Table.

        Args:
            columns: to read; None: all.
            split: only rows of its images, in their order; None: all rows.
        """
        pa = library("pyarrow", self.path)
        parquet, compute = library("pyarrow.parquet", self.path), library("pyarrow.compute", "")
        path = self.path / MANIFEST
        wanted = None if columns is None else list(columns)
        if split is not None and wanted is not None:
            wanted = list(dict.fromkeys([*wanted, "split", "index"]))
        try:
            table = parquet.read_table(path, columns=wanted)
            table = table.cast(pa.schema([_field(field) for field in table.schema]))
            table.validate(full=True)  # such as text that is no UTF-8
            if split is not None:
                field = compute.field
                table = table.filter((field("split") == split) & field("index").is_valid())
                table = table.sort_by("index")
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"{path}: is missing or damaged ({error}); {remade(self.path)}"
            ) from error
        if split is not None and len(table) != self.counts[split]:
            raise UserError(
                f"{path}: lists {len(table)} images for {split} where {DESCRIPTION} says "
                f"{self.counts[split]}; {remade(self.path)}"
            )
        return table if columns is None else table.select(list(columns))

    def thumbnails(self, split: str) -> Sequence[bytes]:
        """Open the thumbnails of the images of a split, WebP files.

        Raises:
            UserError: the set was made without thumbnails.
        """
        table = self.manifest(["thumbnail", "thumbnail_bytes"], split)
        if table["thumbnail"].null_count:
            raise UserError(f"{self.path}: was made without thumbnails; prepare it again")
        starts, sizes = (column.to_numpy() for column in table.columns)
        return Thumbnails(self.path / THUMBNAILS, starts, sizes)

    def names(self, split: str) -> Sequence[str]:
        """Return the names of the images of a split, which are read when they are first used."""
        return _Column(self, split, "name")


class _Column(Sequence[str]):
    """Column of the manifest that is read when it is first used."""

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
    """Images of a packed data set, ``DATASET`` or ``DATASET:test``, train before test.

    Of a set with tiles, the pixels of an image are all of its tiles, [n, R, R, C].

    Args:
        source: folder of the data set, with or without a split.
        splits: splits to read if the source names none; None: all.
    """

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
            first = min(start, self.packed.counts[split])
            start -= first
            if first == self.packed.counts[split]:
                continue
            images = self._images(split, first)
            columns = ["name", "source", "frame", "top", "left", "label", "anomaly", "mask"]
            table = self.packed.manifest(columns, split).slice(first)
            rows = (row for part in table.to_batches(4096) for row in part.to_pylist())
            for image, row in zip(images, rows, strict=True):
                position = None if row["top"] is None else (row["top"], row["left"])
                origin = Provenance(
                    row["source"], row["frame"], position, split, row["label"], row["mask"],
                    row["anomaly"],
                )  # fmt: skip
                pixels = np.array(image[...])  # copied at once: the file may be cut meanwhile
                yield Record(row["name"], np.moveaxis(pixels, -3, -1), origin)

    def _images(self, split: str, first: int) -> Iterable[Array]:
        squares, owners = self.packed.squares(split)
        if owners is None:
            return squares[first:]
        ends = np.searchsorted(owners, np.arange(first, self.packed.counts[split]), "right")
        start = np.searchsorted(owners, first)
        return np.split(squares[start:], ends[:-1] - start)


def _split_off(source: str) -> tuple[Path, str | None]:
    """Divide ``DATASET:test`` into the folder and the split."""
    head, colon, split = source.rpartition(":")
    if colon and split in SPLITS and not exists(source):
        return Path(head), split
    return Path(source), None
