"""The type of every NumPy array in this package, and arrays that are mapped from files.

Shapes, types and ranges stand in docstrings.
"""

from __future__ import annotations

import mmap
from typing import Any

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
