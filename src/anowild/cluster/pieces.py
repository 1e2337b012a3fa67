"""Pieces of sources: each is read by one process, and their order and limits are always the same."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np

from anowild.data.dataset.build import fingerprint
from anowild.data.readers import ImageSource
from anowild.data.readers.base import PassedOver, Section
from anowild.data.sources import Source, listed_sources, open_all
from anowild.errors import UserError
from anowild.files import exists

#: Images of a piece, about, where the format lets us choose: what a worker that is killed has to do again.
IMAGES_A_PIECE = 8192


class Piece(ABC):
    """Some consecutive images of a source; small, so that it can be sent to the process that reads them."""

    #: Number of images; None where only reading tells.
    count: int | None = None

    @abstractmethod
    def opened(self) -> AbstractContextManager[ImageSource]:
        """Open the images.

        Raises:
            UserError: they cannot be read where this is called.
        """


@dataclass(frozen=True)
class LocalPiece(Piece):
    """Images of files that all workers see under the same path.

    Args:
        source: that they belong to.
        reader: of these images alone; None: the source is opened, and its images from ``start`` to ``stop`` are read.
        stop: behind the last image; None: to the end.
    """

    source: str
    reader: ImageSource | None = None
    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.reader is not None:
            object.__setattr__(self, "count", self.reader.count())
        elif self.stop is not None:
            object.__setattr__(self, "count", self.stop - self.start)

    @contextmanager
    def opened(self) -> Iterator[ImageSource]:
        reader = self.reader
        if reader is None:
            reader = open_all([self.source])[0]
            if self.stop is not None:
                reader = _Later(reader, self.start, self.stop)
        # Where the files are missing, all images would be left out.
        elif not any(exists(path) for path in reader.files()) and not exists(self.source):
            raise UserError(
                f"{self.source}: is not there on a machine of the cluster; local paths have to be the same on "
                "all machines, or give an address such as s3://"
            )
        yield reader


class _Later(Section):
    """Images of a source, of which only the first section says what was passed over."""

    def passed_over(self) -> list[PassedOver]:
        return [] if self.start else super().passed_over()


@dataclass(frozen=True)
class Pieces:
    """All pieces of a source.

    Args:
        source: as it was given.
        pieces: in the order of the images.
        digest: of names, sizes and times of the files: tells whether the source has changed.
        reader: of the whole source; None: it is behind a URL.
    """

    source: str
    pieces: Sequence[Piece]
    digest: str
    reader: ImageSource | None = None

    @property
    def count(self) -> int | None:
        """Number of images; None where only reading tells."""
        return total(self.pieces)


def total(pieces: Sequence[Piece]) -> int | None:
    """Return how many images some pieces have; None where only reading tells."""
    counts = [piece.count for piece in pieces]
    return None if None in counts else sum(count or 0 for count in counts)


def cut(sources: Source | Sequence[Source], size: int = IMAGES_A_PIECE) -> list[Pieces]:
    """List sources and cut them into pieces; of the same files always in the same way.

    Args:
        sources: paths as for :func:`anowild.data.readers.open_source`, or URLs as for
            :func:`anowild.cluster.remote.remote_pieces`.
        size: images of a piece, about. A shard of WebDataset is one piece, and so is any file behind a URL.

    Raises:
        UserError: a source cannot be read; arrays, which are in no file.
    """
    from anowild.cluster.remote import is_remote, remote_pieces

    found = []
    for source in listed_sources(sources):
        if isinstance(source, np.ndarray):
            raise UserError(
                "arrays in memory are scored by one process; give files to --engine ray"
            )
        text = str(source)
        found.append(remote_pieces(text, size) if is_remote(text) else _local_pieces(text, size))
    return found


def digest_of(found: Sequence[Pieces]) -> str:
    """Return a digest of all files of some sources."""
    return hashlib.blake2b(
        "".join(one.digest for one in found).encode(), digest_size=16
    ).hexdigest()


def _local_pieces(source: str, size: int) -> Pieces:
    reader = open_all([source])[0]
    parts = reader.pieces(size)
    pieces: list[Piece]
    if parts is not None:
        pieces = [LocalPiece(source, part) for part in parts]
    else:
        count = reader.count()
        sections = [(0, None)] if count is None else [
            (start, min(start + size, count)) for start in range(0, count, size)
        ]  # fmt: skip
        pieces = [LocalPiece(source, None, *section) for section in sections]
    return Pieces(source, pieces, fingerprint([reader]), reader)
