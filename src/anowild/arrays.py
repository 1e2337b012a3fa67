"""The type of every NumPy array in this package, and arrays that are mapped from files.

Shapes, types and ranges stand in docstrings.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Literal

import numpy as np

from anowild.errors import UserError

Array = np.ndarray[Any, Any]


class MappedArray(np.memmap[Any, Any]):
    """Array in a mapped file, which is checked before each access: `array[rows]`, or the next row of a loop.

    Where a file was cut short, an access would end the process with SIGBUS. What remains is a file that is cut
    between the check and the access, or while the whole array is read at once. Made of what `numpy.memmap`
    gives by `view(MappedArray)`.
    """

    def __getitem__(self, index: Any) -> Any:
        """Return a part of the array.

        Raises:
            UserError: the file is shorter than when it was mapped.
        """
        mapped: mmap.mmap | None = getattr(self, "_mmap", None)
        if mapped is not None:
            start = self.offset - self.offset % mmap.ALLOCATIONGRANULARITY
            if mapped.size() < start + len(mapped):
                raise UserError(
                    f"{self.filename}: was cut short while it was read; make or copy it again"
                )
        found = super().__getitem__(index)
        # What is copied out of the file is an array like any other.
        if isinstance(found, MappedArray) and getattr(found, "_mmap", None) is None:
            return found.view(np.ndarray)
        return found

    def __array_wrap__(self, array: Array, context: Any = None, return_scalar: bool = False) -> Any:
        plain = array.view(np.ndarray)
        return plain[()] if return_scalar else plain


def map_array(path: Path, mode: Literal["r", "c"]) -> MappedArray:
    """Map the array of a .npy file into memory; arrays of objects are refused.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it holds no such array, or less than its header claims.
    """
    with _damage_as_value_error():
        return np.lib.format.open_memmap(path, mode).view(MappedArray)


def read_array(file: IO[bytes]) -> Array:
    """Read an array from an open .npy file; errors as for :func:`map_array`."""
    with _damage_as_value_error():
        return np.lib.format.read_array(file, allow_pickle=False)


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a .npy file: shape, whether in Fortran order, type; errors as for :func:`map_array`."""
    with _damage_as_value_error():
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(file)
        raise ValueError(f"version {version} of the format cannot be read")


#: What NumPy raises, beside ValueError, on a damaged header, which it reads as literals of Python.
_DAMAGES = (
    TokenError, SyntaxError, TypeError, OverflowError, RecursionError, IndexError, KeyError, AttributeError,
)  # fmt: skip


@contextmanager
def _damage_as_value_error() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise ValueError("it does not fit into memory") from error
    except _DAMAGES as error:
        raise ValueError("its header is damaged") from error
