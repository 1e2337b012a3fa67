"""Interface of sources of images and of readers, and helpers that several readers share."""

from __future__ import annotations

import tarfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anowild.arrays import Array
from anowild.files import printable

if TYPE_CHECKING:
    from anowild.data.dataset.format import PackedSet

#: Height, width and channels of an image.
Shape = tuple[int, int, int]

#: Size of an image in bytes, encoded or not, beyond which it is taken for damage and not unpacked.
MAX_IMAGE_BYTES = 1 << 30
#: Most pixels of an image or a video frame, the bound of Pillow against decompression bombs.
MAX_PIXELS = 178_956_970

#: Bytes of a tar header beyond the first 512, such as a long name, at most; and the types of such headers.
_MAX_HEADER = 1 << 20
_FURTHER_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """Origin of an image, as far as its source tells."""

    source: str | None = None  # the file
    frame: int | None = None  # page, video frame or row in that file, from 0
    position: tuple[int, int] | None = None  # top and left of a crop in its frame, in pixels
    split: str | None = None  # train or test
    label: str | None = None  # the class, as the source names it
    mask: str | None = None  # file of the ground-truth mask
    anomaly: bool | None = None  # whether a protocol calls the class anomalous
    injected: bool | None = None  # whether it was injected into training


@dataclass(frozen=True)
class Record:
    """Image with its name, unique in the source, and its pixels [H, W, C] as stored."""

    name: str
    pixels: Array
    origin: Provenance = Provenance()


@dataclass(frozen=True)
class SkippedImage:
    """Image that is left out; ``reason`` is a clause that says why."""

    name: str
    reason: str
    origin: Provenance = Provenance()


@dataclass(frozen=True)
class PassedOver:
    """Entries of a source that are not read as images, all for the same reason.

    Args:
        reason: what they are, in the plural, such as "files that end in .txt".
        count: how many there are.
        first: name of the first.
    """

    reason: str
    count: int
    first: str


#: The reason for passing over files that have nothing in common.
OTHERS = "files of other kinds"


class PassedOverTally:
    """Count of what a reader passes over, by reason."""

    #: Numbers as endings may make many; those beyond are counted together.
    MOST_REASONS = 30

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, name: object, number: int = 1) -> None:
        """Count entries; ``name`` is kept if it is the first of its reason."""
        if reason not in self._found and len(self._found) >= self.MOST_REASONS:
            reason = OTHERS
        count, first = self._found.get(reason, (0, str(name)))
        self._found[reason] = (count + number, first)

    def entries(self) -> list[PassedOver]:
        """Return what was counted, the most frequent reason first."""
        found = [PassedOver(reason, *rest) for reason, rest in self._found.items()]
        return sorted(found, key=lambda one: -one.count)


def passed_over_text(found: Sequence[PassedOver], most: int = 5) -> str:
    """Describe in one line what was passed over; at most ``most`` reasons are named."""
    named = [f"{one.reason}: {one.count} (first: {printable(one.first)})" for one in found[:most]]
    if found[most:]:
        named.append(f"other reasons: {sum(one.count for one in found[most:])}")
    return f"passed over: {'; '.join(named)}"


class ImageSource(ABC):
    """Stream of images, always in the same order, in memory that does not grow with their number."""

    #: Called now and then by sources that may work for long without an image to show for it. It may
    #: raise, to stop them.
    idle: Callable[[], None] = staticmethod(lambda: None)
    #: The packed data set that the images are from; None: the images are not preprocessed.
    packed: PackedSet | None = None

    @abstractmethod
    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        """Yield all images from number ``start`` on; earlier ones are not decoded where possible."""

    @abstractmethod
    def shapes(self, most: int) -> Iterator[Shape]:
        """Yield the shapes of at most ``most`` images, spread over the source where possible.

        Headers are read instead of pixels where the format has them. Unreadable images are omitted.
        """

    @abstractmethod
    def files(self) -> Iterable[Path]:
        """Return the files that are read: their sizes and times tell whether the source has changed."""

    def count(self) -> int | None:
        """Return the number of images, readable or not; None where only reading tells."""
        return None

    def passed_over(self) -> list[PassedOver]:
        """Return what is not read as an image, and is not among the records either.

        Archives that are read as a stream know it when all records have been read, or read their headers.
        """
        return []

    def pieces(self, size: int) -> Sequence[ImageSource] | None:
        """Cut the source into sources of about ``size`` images, which together are this one, in its order.

        Pieces are small, and can be sent to other processes. What was passed over on opening is told by the first.

        Returns:
            None where the format has no such pieces.
        """
        return None

    def __iter__(self) -> Iterator[Record | SkippedImage]:
        return self.records()


class Section(ImageSource):
    """Images ``start`` to ``stop``, without the last, of another source."""

    def __init__(self, source: ImageSource, start: int, stop: int) -> None:
        self.source, self.start, self.stop = source, start, stop
        self.packed = source.packed

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        first = self.start + start
        return islice(self.source.records(first), max(0, self.stop - first))

    def shapes(self, most: int) -> Iterator[Shape]:
        return self.source.shapes(most)

    def files(self) -> Iterable[Path]:
        return self.source.files()

    def count(self) -> int:
        return self.stop - self.start

    def passed_over(self) -> list[PassedOver]:
        return self.source.passed_over()


class Reader(ImageSource):
    """Source of images that is opened by a path.

    Raises:
        UserError: on construction, if nothing at the path can be read.
    """

    @abstractmethod
    def __init__(self, source: str) -> None: ...

    @staticmethod
    @abstractmethod
    def takes(source: str) -> bool:
        """Whether this reader is the one for ``source``; cheap, and never raises."""


def split_key(source: str, suffixes: Collection[str]) -> tuple[Path, str | None]:
    """Divide ``file.npz:key`` into file and key, if the file ends in one of ``suffixes``."""
    head, colon, key = source.rpartition(":")
    if colon and head.lower().rstrip("/").endswith(tuple(suffixes)):
        return Path(head), key
    return Path(source), None


def check_pixels(height: int, width: int, size: int = 0, most: int = MAX_PIXELS) -> None:
    """Check the size that an image claims.

    Args:
        height: in pixels.
        width: in pixels.
        size: in bytes, decoded.
        most: pixels, at most; the bound on bytes is in proportion.

    Raises:
        ValueError: it is beyond ``most`` pixels, or that share of ``MAX_IMAGE_BYTES``.
    """
    if height * width > most:
        raise ValueError(f"it claims {width}x{height} pixels, more than the limit of {most:,}")
    most_bytes = MAX_IMAGE_BYTES * most // MAX_PIXELS
    if size > most_bytes:
        raise ValueError(f"it claims {size:,} bytes of pixels, more than {most_bytes:,}")


def spread(count: int, most: int) -> range:
    """Return at most ``most`` of the numbers from 0 to ``count`` - 1, evenly spread."""
    return range(0, count, max(1, -(-count // most)))


def open_tar(path: Path) -> tarfile.TarFile:
    """Open a tar file, compressed or not; headers that claim to be huge are not read into memory.

    Raises:
        Exception: of many kinds, on damaged files.
    """
    return tarfile.open(path, tarinfo=_BoundedHeader)


class _BoundedHeader(tarfile.TarInfo):
    """Header of a member, whose further headers (a long name, the facts of PAX) have a bound."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _FURTHER_HEADERS and self.size > _MAX_HEADER:
            raise tarfile.ReadError(f"a header claims to have {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def drain(archive: tarfile.TarFile) -> None:
    """Read a compressed tar file to its end, so that its checksum is verified."""
    while archive.fileobj is not None and archive.fileobj.read(1 << 14):
        pass
