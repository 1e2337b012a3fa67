"""Reader of HDF5: ``images.h5``, ``images.hdf5``, ``images.h5:path/to/dataset``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from anowild.data.readers.arrays import StoreReader
from anowild.data.readers.base import split_key
from anowild.files import is_file
from anowild.libraries import library

SUFFIXES = (".h5", ".hdf5")


class Hdf5Reader(StoreReader):
    """Reader of one dataset of an HDF5 file, in blocks of whole chunks."""

    SUFFIXES: ClassVar[tuple[str, ...]] = SUFFIXES

    @staticmethod
    def takes(source: str) -> bool:
        path, _ = split_key(source, SUFFIXES)
        return path.suffix.lower() in SUFFIXES and is_file(path)

    @contextmanager
    def _open(self) -> Iterator[Mapping[str, Any]]:
        h5py = library("h5py", self.path)
        with h5py.File(self.path, "r") as file:
            arrays: dict[str, Any] = {}

            def add(name: str, item: Any) -> None:
                # External and virtual datasets could read any file of the user.
                if (
                    isinstance(item, h5py.Dataset)
                    and item.shape is not None
                    and not _is_in_other_files(item)
                ):
                    arrays[name] = item

            file.visititems(add)  # does not follow links to other files either
            yield arrays

    def _stored_chunks(self, array: Any) -> int | None:
        if array.chunks is None:
            return None if array.id.get_storage_size() else 0
        return int(array.id.get_num_chunks())


def _is_in_other_files(dataset: Any) -> bool:
    return bool(dataset.is_virtual or dataset.external)
