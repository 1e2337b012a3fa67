"""Reader of NumPy arrays of images, and the bases of the readers of HDF5 and Zarr.

Sources are ``images.npy``, ``images.npz`` and ``images.npz:key``.
"""

from __future__ import annotations

import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import repeat
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from anowild.arrays import Array, MappedArray
from anowild.data.readers.base import (
    MAX_IMAGE_BYTES,
    Provenance,
    Reader,
    Record,
    Shape,
    SkippedImage,
    split_key,
)
from anowild.data.readers.encoded import failure_reason
from anowild.errors import UserError

SUFFIXES = (".npy", ".npz")

#: Bytes of a chunked array that are read at a time, unless its chunks are larger.
BLOCK = 4 << 20

_DAMAGES = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    RuntimeError,  # encrypted, or of an unknown compression
    zipfile.BadZipFile,
    zlib.error,
)


class StackReader(Reader):
    """Reader of one array, [N, H, W], [N, H, W, C] or [N, C, H, W], row by row.

    A subclass calls :meth:`_describe` on construction, and implements :meth:`_rows`.
    """

    name: str
    path: Path

    def _describe(
        self, shape: Sequence[int], dtype: np.dtype[Any], labels: Array | None = None
    ) -> None:
        """Set shape and type of the array, and one label for each row.

        Raises:
            UserError: the array does not hold images.
        """
        _check(shape, dtype, self.name)
        self.shape, self.dtype, self.labels = tuple(shape), dtype, labels
        self.row_bytes = int(np.prod(shape[1:], dtype=object)) * dtype.itemsize
        if self.row_bytes > MAX_IMAGE_BYTES:
            raise UserError(
                f"{self.name}: its shape {list(shape)} claims images of {self.row_bytes} bytes; "
                "cut them into smaller ones"
            )

    @abstractmethod
    def _rows(self, start: int) -> Iterator[Array | Exception]:
        """Yield the rows from ``start`` on; for a damaged one, the exception."""

    def count(self) -> int:
        return self.shape[0]

    def files(self) -> Iterable[Path]:
        return [self.path]

    def shapes(self, most: int) -> Iterator[Shape]:
        _, *axes = self.shape
        if len(axes) == 2:
            axes = [*axes, 1]
        elif _channels_first(self.shape):
            axes = [*axes[1:], axes[0]]
        return repeat((axes[0], axes[1], axes[2]), min(most, self.count()))

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for number, row in enumerate(self._rows(start), start):
            label = None if self.labels is None else _text(self.labels[number])
            origin = Provenance(source=str(self.path), frame=number, label=label)
            name = f"{self.name}[{number}]"
            if isinstance(row, Exception):
                yield SkippedImage(name, failure_reason(row), origin)
            else:
                native = row.astype(row.dtype.newbyteorder("="), copy=False)
                yield Record(name, _view(native[None])[0], origin)


class ArrayReader(StackReader):
    """Reader of a .npy file, mapped into memory, or of one array of a .npz file, unpacked as a stream."""

    def __init__(self, source: str) -> None:
        self.name = source
        self.path, key = split_key(source, SUFFIXES)
        self._member = _streamable(self.path, key) if self.path.suffix.lower() == ".npz" else None
        self._array: Array | None = None
        if self._member is None:
            self._array = load_array(source)
            self._describe(self._array.shape, self._array.dtype)
            return
        with zipfile.ZipFile(self.path) as archive, archive.open(self._member) as stream:
            shape, _, dtype = _header(stream)
            self._describe(shape, dtype)
            held = archive.getinfo(self._member).file_size - stream.tell()
        if held != self.row_bytes * shape[0]:
            raise UserError(
                f"{source}: is not a readable array file (its shape {list(shape)} needs "
                f"{self.row_bytes * shape[0]} bytes, it has {held}); write or copy it again"
            )

    @staticmethod
    def takes(source: str) -> bool:
        path, _ = split_key(source, SUFFIXES)
        return path.suffix.lower() in SUFFIXES and path.is_file()

    def _rows(self, start: int) -> Iterator[Array | Exception]:
        if self._array is not None:
            yield from (np.array(row) for row in self._array[start:])
            return
        assert self._member is not None
        number = start
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._member) as stream:
                _header(stream)
                stream.seek(start * self.row_bytes, 1)
                while number < self.shape[0]:
                    data = stream.read(self.row_bytes)
                    yield np.frombuffer(data, self.dtype).reshape(self.shape[1:])
                    number += 1
        except _DAMAGES as error:
            # Nothing beyond the damage in a compressed stream can be read.
            yield from repeat(error, self.shape[0] - number)


class StoreReader(StackReader):
    """Reader of one array of a file of named, chunked arrays.

    ``file:key`` selects the array; without a key, only one may hold images. An array ``label`` or
    ``labels`` of the same length in the same group gives the labels.
    """

    SUFFIXES: ClassVar[tuple[str, ...]]

    def __init__(self, source: str) -> None:
        self.name = source
        self.path, key = split_key(source, self.SUFFIXES)
        try:
            with self._open() as arrays:
                self._key = _choose(self.path, key, arrays)
                chosen = arrays[self._key]
                self._describe(chosen.shape, chosen.dtype, self._find_labels(arrays))
                along = (chosen.chunks or (1,))[0]
        except UserError:
            raise
        except Exception as error:  # of all kinds, on damaged files
            raise UserError(
                f"{self.path}: cannot be read ({failure_reason(error)}); write or copy it again"
            ) from error
        # Whole chunks at a time, because a chunk would be unpacked again for each of its rows.
        fitting = max(1, BLOCK // self.row_bytes)
        wanted = max(along, fitting // along * along)
        self._block = max(1, min(wanted, MAX_IMAGE_BYTES // self.row_bytes))

    @abstractmethod
    def _open(self) -> AbstractContextManager[Mapping[str, Any]]:
        """Open the store, and return its arrays by their paths."""

    def _find_labels(self, arrays: Mapping[str, Any]) -> Array | None:
        group, slash, _ = self._key.rpartition("/")
        count = arrays[self._key].shape[:1]
        for name in ("label", "labels"):
            labels = arrays.get(group + slash + name)
            if labels is not None and labels.shape == count:
                return np.asarray(labels[:])
        return None

    def _rows(self, start: int) -> Iterator[Array | Exception]:
        with self._open() as arrays:
            array = arrays[self._key]
            while start < self.shape[0]:
                stop = min((start // self._block + 1) * self._block, self.shape[0])
                try:
                    block: Iterable[Array | Exception] = np.asarray(array[start:stop])
                except Exception:  # of all kinds, on damaged chunks
                    # Row by row, to lose only the damaged ones.
                    block = (_row(array, number) for number in range(start, stop))
                yield from block
                start = stop


def _row(array: Any, number: int) -> Array | Exception:
    try:
        return np.asarray(array[number])
    except Exception as error:
        return error


def load_array(source: str) -> Array:
    """Load the array of a .npy file or of ``file.npz:key``; arrays of objects are refused.

    Raises:
        UserError: damaged, of objects, or with several arrays and no key.
    """
    path, key = split_key(source, SUFFIXES)
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False).view(MappedArray)
        with np.load(path, allow_pickle=False) as archive:
            return archive[_key_of(path, key, archive.files)]
    except _DAMAGES as error:
        raise UserError(
            f"{source}: is not a readable array file ({error}); write or copy it again"
        ) from error


def to_images(array: Array, name: str) -> Array:
    """View an array as [N, H, W, C].

    Four axes are taken as [N, C, H, W] if the second is at most 4 and the last is larger, or if the
    image is a square only then; else as [N, H, W, C].

    Args:
        array: [N, H, W], [N, H, W, C] or [N, C, H, W].
        name: for messages.

    Raises:
        UserError: another number of axes, no images, or values that are no images.
    """
    _check(array.shape, array.dtype, name)
    return _view(array)


def _check(shape: Sequence[int], dtype: np.dtype[Any], name: str) -> None:
    expected = "give [N, H, W], [N, H, W, C] or [N, C, H, W]"
    if len(shape) not in (3, 4):
        raise UserError(f"{name}: has shape {list(shape)}; {expected}")
    if 0 in shape:
        raise UserError(f"{name}: holds no images, its shape is {list(shape)}; {expected}")
    if dtype.kind not in "iubf" or dtype.itemsize > 8:
        raise UserError(
            f"{name}: holds values of type {dtype}; give uint8, uint16, or float in [0, 1]"
        )


def _view(array: Array) -> Array:
    if array.ndim == 3:
        return array[..., None]
    return np.moveaxis(array, 1, -1) if _channels_first(array.shape) else array


def _channels_first(shape: Sequence[int]) -> bool:
    if len(shape) != 4:
        return False
    _, a, b, c = shape
    return (a <= 4 < c) or (b == c != a)


def _key_of(path: Path, key: str | None, keys: Sequence[str]) -> str:
    """Return the key of the array to read in an .npz file."""
    if key is None and len(keys) == 1:
        return keys[0]
    if key is None or key not in keys:
        problem = "holds several arrays" if key is None else f"holds no array '{key}'"
        raise UserError(
            f"{path}: {problem}; name one of them, as in {path}:{keys[0] if keys else 'x'} "
            f"(it has {', '.join(keys) or 'none'})"
        )
    return key


def _streamable(path: Path, key: str | None) -> str | None:
    """Return the member of an .npz file if it can be read row by row, else None.

    Raises:
        UserError: damaged, or with several arrays and no key.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            member = members[_key_of(path, key, list(members))]
            with archive.open(member) as stream:
                _, fortran, dtype = _header(stream)
    except _DAMAGES as error:
        raise UserError(
            f"{path}: is not a readable array file ({error}); write or copy it again"
        ) from error
    return None if fortran or dtype.hasobject else member


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a .npy stream: shape, whether in Fortran order, type."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"version {version} of the format cannot be read")


def _choose(path: Path, key: str | None, arrays: Mapping[str, Any]) -> str:
    """Return the key of the array to read in a store."""
    held = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "nothing"
    if key is not None:
        key = key.strip("/")
        if key not in arrays:
            raise UserError(f"{path}: holds no array '{key}'; it has {held}")
        return key
    candidates = [name for name, array in arrays.items() if _may_be_images(array)]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise UserError(
            f"{path}: holds no array of images, [N, H, W], [N, H, W, C] or [N, C, H, W]; "
            f"it has {held}"
        )
    raise UserError(
        f"{path}: holds several arrays that may be images; name one of them, "
        f"as in {path}:{candidates[0]} (it has {held})"
    )


def _may_be_images(array: Any) -> bool:
    try:
        _check(array.shape, array.dtype, "")
    except UserError:
        return False
    return True


def _text(label: Any) -> str:
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
