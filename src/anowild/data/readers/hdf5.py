"""Reader of HDF5: ``images.h5``, ``images.hdf5``, ``images.h5:path/to/dataset``."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from anowild.data.readers.arrays import DEFLATE_RATIO, MAX_AT_ONCE, StoreReader
from anowild.data.readers.base import split_key
from anowild.files import is_file
from anowild.libraries import library

SUFFIXES = (".h5", ".hdf5")
#: Numbers of filters: those that compress, and that of deflate.
_DEFLATE = 1
_COMPRESSING = {_DEFLATE, 4, 32000}


class Hdf5Reader(StoreReader):
    """Reader of one dataset of an HDF5 file, in blocks of whole chunks."""

    SUFFIXES: ClassVar[tuple[str, ...]] = SUFFIXES

    def __init__(self, source: str) -> None:
        #: Where chunks begin that are looked at before they are unpacked, by array and first row.
        self._packed: dict[str, dict[int, list[tuple[int, ...]]]] = {}
        super().__init__(source)

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

    def _check_chunks(self, array: Any, start: int, stop: int) -> None:
        # The library unpacks a chunk whole, however large it becomes, before it looks at its size.
        if array.name not in self._packed:
            self._packed[array.name] = _largest_chunks(array)
        along, size = (array.chunks or (1,))[0], _chunk_bytes(array)
        for first in range(start // along * along, stop, along):
            for offset in self._packed[array.name].get(first, ()):
                _, data = array.id.read_direct_chunk(offset)
                unpacker = zlib.decompressobj()
                if len(unpacker.decompress(data, size + 1)) > size or not unpacker.eof:
                    raise ValueError(
                        f"a chunk unpacks to more than its {size:,} bytes, or is damaged"
                    )


def _is_in_other_files(dataset: Any) -> bool:
    return bool(dataset.is_virtual or dataset.external)


def _largest_chunks(array: Any) -> dict[int, list[tuple[int, ...]]]:
    """List, by first row, where the chunks begin that could unpack to more than can be read at once.

    Raises:
        ValueError: the array was compressed twice.
    """
    facts = array.id.get_create_plist()
    filters = [facts.get_filter(i)[0] for i in range(facts.get_nfilters())]
    if sum(number in _COMPRESSING for number in filters) > 1:
        raise ValueError("it was compressed twice")
    found: dict[int, list[tuple[int, ...]]] = {}
    if array.chunks is None or _DEFLATE not in filters:
        return found
    place = filters.index(_DEFLATE)

    def look(chunk: Any) -> None:
        if chunk.size * DEFLATE_RATIO > MAX_AT_ONCE and not chunk.filter_mask >> place & 1:
            found.setdefault(chunk.chunk_offset[0], []).append(tuple(chunk.chunk_offset))

    array.id.chunk_iter(look)
    return found


def _chunk_bytes(array: Any) -> int:
    return int(np.prod(array.chunks or (0,), dtype=object)) * int(array.dtype.itemsize)
