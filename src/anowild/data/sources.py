"""Sources of images as they are given: one or several, each a path, a URL or an array."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np

from anowild.arrays import Array
from anowild.data.dataset.format import PackedReader
from anowild.data.overlap import check_overlap
from anowild.data.readers import ImageSource, Record, SkippedImage, open_source
from anowild.data.readers.arrays import to_images
from anowild.data.readers.base import Shape

Source = str | Path | Array


class ArraySource(ImageSource):
    """Images of an array [N, H, W, C]."""

    def __init__(self, images: Array) -> None:
        self.images = images

    def count(self) -> int:
        return len(self.images)

    def files(self) -> Iterable[Path]:
        return []

    def shapes(self, most: int) -> Iterator[Shape]:
        return repeat(self.images.shape[1:], min(most, len(self.images)))

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for row in range(start, len(self.images)):
            yield Record(f"array[{row}]", self.images[row])


def open_all(
    sources: Source | Sequence[Source], splits: Sequence[str] | None = None
) -> list[ImageSource]:
    """Open one source or several.

    Args:
        sources: as for :meth:`ImageSet.load`.
        splits: splits to read of packed data sets whose source names none (``DATASET:test`` does).

    Raises:
        UserError: a source cannot be opened, or two of them overlap.
    """
    listed = listed_sources(sources)
    readers: list[ImageSource] = []
    for source in listed:
        if isinstance(source, np.ndarray):
            readers.append(ArraySource(to_images(source, "array")))
        elif PackedReader.takes(str(source)):
            readers.append(PackedReader(str(source), splits))
        else:
            readers.append(open_source(source))
    check_overlap(listed, readers)
    return readers


def listed_sources(sources: Source | Sequence[Source]) -> list[Source]:
    """Return one source or several as a list."""
    return [sources] if isinstance(sources, str | Path | np.ndarray) else list(sources)


def source_name(source: Source) -> str:
    """Return the path of a source, or a text that tells an array from any other."""
    if not isinstance(source, np.ndarray):
        return str(source)
    digest = hashlib.blake2b(np.ascontiguousarray(source).data, digest_size=16).hexdigest()
    return f"array {source.dtype} {list(source.shape)} {digest}"
