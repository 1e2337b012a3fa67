"""NumPy arrays: ``images.npy``, ``images.npz``, ``images.npz:key``."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from anowild.data.readers.base import Origin, Reader, Record, Shape, Unreadable, split_key
from anowild.errors import UserError

Array = np.ndarray[Any, Any]


SUFFIXES = (".npy", ".npz")


class ArrayReader(Reader):
    """Images [N, H, W], [N, H, W, C] or [N, C, H, W]."""

    KIND: ClassVar[str] = ".npy or .npz array"

    def __init__(self, source: str) -> None:
        self.name = source
        self.path, _ = split_key(source, SUFFIXES)
        self.images = to_images(load_array(source), source)

    @staticmethod
    def takes(source: str) -> bool:
        path, _ = split_key(source, SUFFIXES)
        return path.suffix.lower() in SUFFIXES and path.is_file()

    def count(self) -> int:
        return len(self.images)

    def files(self) -> Iterable[Path]:
        return [self.path]

    def shapes(self, most: int) -> Iterator[Shape]:
        return repeat(self.images.shape[1:], min(most, len(self.images)))

    def records(self, start: int = 0) -> Iterator[Record | Unreadable]:
        for row in range(start, len(self.images)):
            origin = Origin(source=str(self.path), frame=row)
            yield Record(f"{self.name}[{row}]", np.asarray(self.images[row]), origin)


def load_array(source: str) -> Array:
    """Load an array, never one that would need unpickling.

    Raises:
        UserError: damaged, of objects, or with several arrays and no key.
    """
    path, key = split_key(source, SUFFIXES)
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with np.load(path, allow_pickle=False) as archive:
            keys = archive.files
            if key is None and len(keys) == 1:
                key = keys[0]
            if key not in keys:
                problem = "holds several arrays" if key is None else f"holds no array '{key}'"
                raise UserError(
                    f"{path}: {problem}; name one of them, as in {path}:{keys[0] if keys else 'x'} "
                    f"(it has {', '.join(keys) or 'none'})"
                )
            return archive[key]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{source}: is not a readable array file ({error})") from error


def to_images(array: Array, name: str) -> Array:
    """View an array as [N, H, W, C].

    Four axes are [N, C, H, W] if the second is at most 4 and the last is not, or if only then
    the image is a square; else [N, H, W, C].

    Raises:
        UserError: another number of axes, no images, or values that are not images'.
    """
    expected = "expected [N, H, W], [N, H, W, C] or [N, C, H, W]"
    if array.ndim not in (3, 4):
        raise UserError(f"{name}: has shape {list(array.shape)}; {expected}")
    if 0 in array.shape:
        raise UserError(f"{name}: is empty, of shape {list(array.shape)}")
    if array.dtype.kind not in "ubf" or array.dtype.itemsize > 8:
        raise UserError(
            f"{name}: holds values of type {array.dtype}; images are uint8, uint16, or float in [0, 1]"
        )
    if array.ndim == 3:
        return array[..., None]
    _, a, b, c = array.shape
    if (a <= 4 < c) or (b == c != a):
        return np.moveaxis(array, 1, -1)
    return array
