"""Reader of NumPy arrays of images, and the bases of the readers of HDF5 and Zarr.

Sources are ``images.npy``, ``images.npz`` and ``images.npz:key``.
"""

from __future__ import annotations

import logging
import zipfile
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from anowild.arrays import Array, map_array, read_header
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
from anowild.files import DAMAGED_ZIP, is_file

log = logging.getLogger("anowild")

SUFFIXES = (".npy", ".npz")

#: Bytes of a chunked array that are read at a time, unless its chunks are larger.
BLOCK = 4 << 20
#: Bytes that are read at once where a part cannot be: the largest chunk, and the largest array of an .npz
#: file in Fortran order.
MAX_AT_ONCE = 256 << 20
#: Chunks that are read at once, at most: HDF5 takes 2 to 3 kB for each, however little it holds.
MOST_CHUNKS = 1 << 16
#: Times that deflate shrinks data at most; other methods may do better.
DEFLATE_RATIO, _OTHER_RATIO = 1040, 1 << 20
#: Of more images than this, one in a hundred has to be stored at least.
MANY = 100_000

_DAMAGES = (
    ValueError,
    OSError,
    KeyError,
    RuntimeError,  # encrypted
    *DAMAGED_ZIP,
    MemoryError,
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
        _say_reading(shape, self.name)
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
            shape, _, dtype = read_header(stream)
            self._describe(shape, dtype)
            info = archive.getinfo(self._member)
            held = info.file_size - stream.tell()
        deflated = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if held > info.compress_size * (DEFLATE_RATIO if deflated else _OTHER_RATIO) + BLOCK:
            raise UserError(
                f"{source}: claims {held:,} bytes in {info.compress_size:,} compressed ones; it is damaged, "
                "write or copy it again"
            )
        if held != self.row_bytes * shape[0]:
            raise UserError(
                f"{source}: is not a readable array file (its shape {list(shape)} needs "
                f"{self.row_bytes * shape[0]} bytes, it has {held}); write or copy it again"
            )

    @staticmethod
    def takes(source: str) -> bool:
        path, _ = split_key(source, SUFFIXES)
        return path.suffix.lower() in SUFFIXES and is_file(path)

    def _rows(self, start: int) -> Iterator[Array | Exception]:
        if self._array is not None:
            yield from (np.array(row) for row in self._array[start:])
            return
        assert self._member is not None
        number = start
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._member) as stream:
                read_header(stream)
                stream.seek(start * self.row_bytes, 1)
                while number < self.shape[0]:
                    data = stream.read(self.row_bytes)
                    yield np.frombuffer(data, self.dtype).reshape(self.shape[1:])
                    number += 1
            if start:  # a stream that was begun in the middle does not check what is before
                with zipfile.ZipFile(self.path) as archive, archive.open(self._member) as stream:
                    while stream.read(BLOCK):
                        pass
        except _DAMAGES as error:
            if "CRC-32" in str(error):  # told at the end of the stream, wherever the damage is
                raise UserError(
                    f"{self.name}: its checksum is wrong, and nobody can tell which of its images are "
                    "damaged; write or copy it again"
                ) from error
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
                chunk = chosen.chunks or (1,)
                _check_store(self.name, chosen, self._stored_chunks(chosen))
        except UserError:
            raise
        except Exception as error:  # of all kinds, on damaged files
            raise UserError(
                f"{self.path}: cannot be read ({failure_reason(error)}); write or copy it again"
            ) from error
        # Whole chunks at a time, because a chunk would be unpacked again for each of its rows.
        self._along = along = chunk[0]
        fitting = max(1, BLOCK // self.row_bytes)
        most = MOST_CHUNKS // _chunks_side_by_side(chosen.shape, chunk)
        wanted = along * max(1, min(fitting // along, most))
        self._block = max(1, min(wanted, MAX_AT_ONCE // self.row_bytes))

    @abstractmethod
    def _open(self) -> AbstractContextManager[Mapping[str, Any]]:
        """Open the store, and return its arrays by their paths."""

    @abstractmethod
    def _stored_chunks(self, array: Any) -> int | None:
        """Return how many chunks of an array are stored; None: it is not in chunks, and is stored whole."""

    def _check_chunks(self, array: Any, start: int, stop: int) -> None:
        """Raise ValueError if a chunk of these rows unpacks to more than it should; not all formats need this."""

    def _find_labels(self, arrays: Mapping[str, Any]) -> Array | None:
        group, slash, _ = self._key.rpartition("/")
        count = arrays[self._key].shape[:1]
        for name in ("label", "labels"):
            labels = arrays.get(group + slash + name)
            if labels is not None and labels.shape == count:
                self._check_chunks(labels, 0, *count)
                return np.asarray(labels[:])
        return None

    def _rows(self, start: int) -> Iterator[Array | Exception]:
        with self._open() as arrays:
            array = arrays[self._key]
            while start < self.shape[0]:
                stop = min((start // self._block + 1) * self._block, self.shape[0])
                try:
                    self._check_chunks(array, start, stop)
                    block: Iterable[Array | Exception] = np.asarray(array[start:stop])
                except Exception:  # of all kinds, on damaged chunks
                    block = self._by_chunks(array, start, stop)
                yield from block
                start = stop

    def _by_chunks(self, array: Any, start: int, stop: int) -> Iterator[Array | Exception]:
        """Yield rows chunk by chunk, to lose only the damaged chunks; each is unpacked once."""
        while start < stop:
            end = min((start // self._along + 1) * self._along, stop)
            try:
                self._check_chunks(array, start, end)
                yield from np.asarray(array[start:end])
            except Exception as error:
                yield from repeat(error, end - start)
            start = end


def _check_store(name: str, array: Any, stored: int | None) -> None:
    """Check how an array is stored.

    Args:
        name: for messages.
        array: of HDF5 or Zarr.
        stored: number of its chunks that are stored; None: all of it is.

    Raises:
        UserError: in chunks that are too large or too many to be read, or hardly any image is stored.
    """
    chunk = array.chunks or (1,)
    beside = _chunks_side_by_side(array.shape, chunk)
    if beside > MOST_CHUNKS:
        raise UserError(
            f"{name}: is stored in chunks of {list(chunk)}, so an image lies in {beside:,} of them, of which at "
            f"most {MOST_CHUNKS:,} can be read at once; write it again in larger chunks, such as one image each"
        )
    size = int(np.prod(chunk, dtype=object)) * array.dtype.itemsize
    if size > MAX_AT_ONCE:
        raise UserError(
            f"{name}: is stored in chunks of {size:,} bytes, of which at most {MAX_AT_ONCE:,} can be read at "
            "once; write it again in smaller chunks, such as one image each"
        )
    count = array.shape[0]
    if stored is not None and count > MANY and stored * chunk[0] * 100 < count:
        raise UserError(
            f"{name}: claims {count:,} images, of which at most {stored * chunk[0]:,} are stored; write it "
            "again"
        )


def _chunks_side_by_side(shape: Sequence[int], chunk: Sequence[int]) -> int:
    """Return in how many chunks the first rows of an array lie; 1 for an array that is stored whole."""
    pairs = zip(shape[1:], chunk[1:], strict=False)
    return int(np.prod([-(-side // along) for side, along in pairs], dtype=object))


def load_array(source: str) -> Array:
    """Load the array of a .npy file or of ``file.npz:key``; arrays of objects are refused.

    Raises:
        UserError: damaged, of objects, or with several arrays and no key.
    """
    path, key = split_key(source, SUFFIXES)
    try:
        if path.suffix.lower() == ".npy":
            return map_array(path, "r")
        with np.load(path, allow_pickle=False) as archive:
            found = _key_of(path, key, archive.files)
            with archive.zip.open(f"{found}.npy") as stream:
                shape, _, dtype = read_header(stream)
            size = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if size > MAX_AT_ONCE:
                raise UserError(
                    f"{source}: is in Fortran order, and {size:,} bytes are too many to be read at once; "
                    "save it as .npy, or after numpy.ascontiguousarray"
                )
            return archive[found]
    except _DAMAGES as error:
        raise UserError(
            f"{source}: is not a readable array file ({failure_reason(error)}); write or copy it again"
        ) from error


def to_images(array: Array, name: str) -> Array:
    """View an array as [N, H, W, C].

    Of four axes, the channels are the second, [N, C, H, W], or the last, [N, H, W, C]: the one that
    leaves square images; else the one of at most 4; else the shorter one; else the last. Where another
    reading would fit as well, a warning says which one was taken.

    Args:
        array: [N, H, W], [N, H, W, C] or [N, C, H, W].
        name: for messages.

    Raises:
        UserError: another number of axes, no images, values that are no images, or a single color image.
    """
    _check(array.shape, array.dtype, name)
    _say_reading(array.shape, name)
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
    if len(shape) == 3 and shape[2] <= 4:
        raise UserError(
            f"{name}: its shape {list(shape)} may be that of one color image, [H, W, C]; give "
            f"[1, {shape[0]}, {shape[1]}, {shape[2]}]"
        )


def _view(array: Array) -> Array:
    if array.ndim == 3:
        return array[..., None]
    return np.moveaxis(array, 1, -1) if _channels_first(array.shape) else array


def _channels_first(shape: Sequence[int]) -> bool:
    if len(shape) != 4:
        return False
    _, a, b, c = shape
    if min(a, c) <= 4:
        return a <= 4 < c
    if a == b or b == c:
        return b == c != a
    return a < c


def _say_reading(shape: Sequence[int], name: str) -> None:
    """Warn of an array that can be read in two ways."""
    if len(shape) == 3 and shape[0] in (3, 4):
        log.warning(
            "%s: its shape %s is read as %d gray images of %dx%d; one color image would be %s",
            name, list(shape), shape[0], shape[2], shape[1], [1, *shape],
        )  # fmt: skip
    elif len(shape) == 4 and min(shape[1], shape[3]) > 4:
        n, height, width, channels = shape
        order = "[N, H, W, C]"
        if _channels_first(shape):
            n, channels, height, width = shape
            order = "[N, C, H, W]"
        log.warning(
            "%s: its shape %s is read as %s, %d images of %dx%d with %d channels; move the axes if that is "
            "wrong", name, list(shape), order, n, width, height, channels,
        )  # fmt: skip


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
                _, fortran, dtype = read_header(stream)
    except _DAMAGES as error:
        raise UserError(
            f"{path}: is not a readable array file ({failure_reason(error)}); write or copy it again"
        ) from error
    return None if fortran or dtype.hasobject else member


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
