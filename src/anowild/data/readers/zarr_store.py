"""Reader of Zarr 2 and 3: ``images.zarr``, ``images.zarr.zip``, ``images.zarr:path/to/array``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from anowild.data.readers.arrays import MANY, StoreReader
from anowild.data.readers.base import split_key
from anowild.files import exists, is_file, is_folder
from anowild.libraries import library

SUFFIXES = (".zarr", ".zarr.zip")


class ZarrReader(StoreReader):
    """Reader of one array of a Zarr store, a folder or a zip file, in blocks of whole chunks.

    A missing chunk has the fill value of the array, as the format defines.
    """

    SUFFIXES: ClassVar[tuple[str, ...]] = SUFFIXES

    @staticmethod
    def takes(source: str) -> bool:
        path, _ = split_key(source, SUFFIXES)
        if path.name.lower().endswith(".zarr.zip"):
            return is_file(path)
        return path.suffix.lower() == ".zarr" and is_folder(path)

    def files(self) -> Iterable[Path]:
        if is_file(self.path):
            return [self.path]
        return sorted(path for path in self.path.rglob("*") if is_file(path))

    def _check_files(self) -> None:
        """Refuse a store with pipes or devices, whose chunks the library would wait for.

        Raises:
            ValueError: there is one.
        """
        for path in self.path.rglob("*"):
            if exists(path) and not (is_file(path) or is_folder(path)):
                raise ValueError(f"{path.relative_to(self.path)} is a pipe or device, no file")

    @contextmanager
    def _open(self) -> Iterator[Mapping[str, Any]]:
        zarr = library("zarr", self.path)
        if is_file(self.path):
            store = zarr.storage.ZipStore(self.path, mode="r")
        else:
            self._check_files()
            store = zarr.storage.LocalStore(self.path, read_only=True)
        with store:
            root = zarr.open(store, mode="r")
            if isinstance(root, zarr.Array):
                found = {"": root}
            else:
                found = {
                    name: item
                    for name, item in sorted(root.members(max_depth=None))
                    if isinstance(item, zarr.Array)
                }
            yield {name: array for name, array in found.items() if not _unpickles(array)}

    def _stored_chunks(self, array: Any) -> int | None:
        # They are counted by their names: only where it matters.
        return int(array.nchunks_initialized) if array.shape[0] > MANY else None


def _unpickles(array: Any) -> bool:
    """Whether reading an array would unpickle, which could run any code."""
    codecs = (*array.filters, *array.compressors)
    return any("pickle" in f"{type(codec).__name__} {codec}".lower() for codec in codecs)
