"""Originals: the pixels of an image as its source has them, read again when somebody asks for them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from anowild.arrays import Array
from anowild.data.readers import ImageSource, Record, encoded
from anowild.data.readers.folder import is_image
from anowild.data.sources import open_all
from anowild.errors import UserError


class Originals:
    """Reader of single originals, by the file or the place in the source that they are from; thread-safe.

    Args:
        sources: as they were given, for images that are no files of their own.
        base_dir: folder that relative paths refer to.
    """

    def __init__(self, sources: Sequence[str], base_dir: Path) -> None:
        self.sources, self.base_dir = list(sources), base_dir
        self._lock = threading.Lock()
        self._reader = lru_cache(maxsize=4)(self._open)

    def path(self, source: str | None) -> Path | None:
        """Return the file of an image that is a file of its own; None: it is not."""
        if source is None or not is_image(source):
            return None
        return self.base_dir / source

    def pages(self, source: str | None) -> int:
        """Return how many pages the file of an image has; 1 where it is not a file of its own."""
        path = self.path(source)
        return 1 if path is None else encoded.page_count(path)

    def read(
        self,
        source: str | None,
        frame: int | None,
        part: int,
        position: int,
        page: int | None = None,
    ) -> Array:
        """Read the pixels of an image, [H, W, C].

        Args:
            source: file of the image, as its manifest names it.
            frame: page of that file.
            part: number of the source that the image is from.
            position: number of the image in that source.
            page: another page of the same file.

        Raises:
            UserError: it is not there any more, or cannot be read.
        """
        path = self.path(source)
        if path is not None:
            return _read_page(path, frame or 0 if page is None else page)
        if not 0 <= part < len(self.sources):
            raise UserError("the source of this image is not known; only its thumbnail is left")
        with self._lock:
            for record in self._reader(part).records(position):
                if isinstance(record, Record):
                    return record.pixels
                raise UserError(f"{record.name}: cannot be read ({record.reason})")
        raise UserError(f"{self.sources[part]}: has no image {position} any more")

    def _open(self, part: int) -> ImageSource:
        return open_all(str(self.base_dir / self.sources[part]))[0]


def _read_page(path: Path, page: int) -> Array:
    try:
        for number, _, pixels in encoded.decode(path, animated=True):
            if number == page:
                return pixels
    # Decoders raise errors of many kinds on damaged files.
    except Exception as error:
        raise UserError(f"{path}: cannot be read ({encoded.failure_reason(error)})") from error
    raise UserError(f"{path}: has no page {page} any more")
