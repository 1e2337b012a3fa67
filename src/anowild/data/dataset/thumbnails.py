"""Thumbnails of a packed data set: WebP files one after the other in a single file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import overload

from anowild.arrays import Array
from anowild.data import checks
from anowild.data.display import thumbnail
from anowild.data.preprocessing import Preprocess
from anowild.errors import UserError
from anowild.files import as_user_error, remade


class ThumbnailFile:
    """Growing file of thumbnails, which two threads make while the next images are decoded.

    Args:
        path: of the file.
        preprocess: its black and white are those of the thumbnails too.
        size: bytes to keep of an existing file; the rest is cut off.

    Raises:
        UserError: the disk is full, or the file cannot be written.
    """

    THREADS, MOST_WAITING = 2, 16

    def __init__(self, path: Path, preprocess: Preprocess, size: int = 0) -> None:
        self.path, self.size = path, size
        p = preprocess
        self._levels = None if p.black is None or p.white is None else (p.black, p.white)
        self._pool = ThreadPoolExecutor(self.THREADS)
        self._made: list[Future[tuple[bytes, dict[str, float]]]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("r+b" if path.exists() else "w+b")
            if self._file.seek(0, os.SEEK_END) < size:
                raise UserError(
                    f"{path}: is damaged (too short); delete {path.parent} to start again"
                )
            self._file.seek(size)
            self._file.truncate()
        except OSError as error:
            raise as_user_error(error, path) from error

    def add(self, pixels: Array) -> None:
        """Have the thumbnail of an original [H, W, C] made, and the original measured."""
        if len(self._made) >= self.MOST_WAITING:
            self._made[-self.MOST_WAITING].result()  # so that few originals are in memory
        self._made.append(self._pool.submit(self._make, pixels))

    def _make(self, pixels: Array) -> tuple[bytes, dict[str, float]]:
        return thumbnail(pixels, self._levels), checks.measure(pixels, self._levels)

    def flush(self) -> list[dict[str, float]]:
        """Write the thumbnails that were asked for; return the columns of the manifest for each."""
        rows = []
        try:
            for made in self._made:
                data, measured = made.result()
                rows.append({**measured, "thumbnail": self.size, "thumbnail_bytes": len(data)})
                self._file.write(data)
                self.size += len(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise as_user_error(error, self.path) from error
        self._made.clear()
        return rows

    def close(self) -> None:
        """End the threads, and close the file."""
        self._pool.shutdown()
        self._file.close()


class Thumbnails(Sequence[bytes]):
    """WebP files of all images, read when they are asked for; safe in several threads.

    Args:
        path: of the file.
        starts: first byte of each, int [N].
        sizes: length of each in bytes, int [N].

    Raises:
        UserError: the file is missing.
    """

    def __init__(self, path: Path, starts: Array, sizes: Array) -> None:
        self.path, self.starts, self.sizes = path, starts, sizes
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise UserError(
                f"{path}: is missing ({error.strerror}); {remade(path.parent)}"
            ) from error

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, i: int) -> bytes: ...
    @overload
    def __getitem__(self, i: slice) -> list[bytes]: ...
    def __getitem__(self, i: int | slice) -> bytes | list[bytes]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        size = int(self.sizes[i])
        data = os.pread(self._file.fileno(), size, int(self.starts[i]))
        if len(data) < size:
            raise UserError(f"{self.path}: is damaged (too short); {remade(self.path.parent)}")
        return data
