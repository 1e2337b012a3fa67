"""Reader of folders of image files, nested or not, and of single image files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

from anowild.data.readers import encoded
from anowild.data.readers.base import (
    MAX_PIXELS,
    ImageSource,
    PassedOver,
    PassedOverTally,
    Provenance,
    Reader,
    Record,
    Shape,
    SkippedImage,
    passed_over_text,
    spread,
)
from anowild.data.readers.listing import (
    DANGLING,
    HIDDEN,
    SPECIAL,
    FolderListing,
    is_set_aside,
    of_ending,
)
from anowild.errors import UserError
from anowild.files import is_file, is_folder

#: Name of a page of a file, ``FILE[3]``: the file, and the number of the page.
PAGE = re.compile(r"(.+)\[(\d+)\]", re.DOTALL)
#: Why pages of TIFFs are passed over.
REDUCED = "smaller copies and masks of images in TIFF files"
#: Names of folders that name a split.
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}


class FolderReader(Reader):
    """Reader of PNG, JPEG, TIFF, BMP and WebP files, in the order of their paths, page by page.

    Every folder is read once, linked ones too; see :class:`FolderListing` for what is passed over. Images
    in a folder ``train`` or ``test`` directly below the source belong to that split.

    Args:
        source: folder, or image file.
        paths: the files below the folder that are read; None: all.
    """

    def __init__(self, source: str, paths: Sequence[Path] | None = None) -> None:
        if not source:
            raise UserError(
                "a source without a name cannot be read; give '.' for the current folder"
            )
        self.root = Path(source)
        self._passed_over = PassedOverTally()
        self._pages = PassedOverTally()
        if paths is not None:
            self.paths = list(paths)
            return
        self.paths = [self.root] if is_file(self.root) else self._list()
        if not self.paths:
            others = self._passed_over.entries()
            raise UserError(
                f"{self.root}: holds no images ({passed_over_text(others) if others else 'it is empty'}); "
                f"give files that end in {', '.join(sorted(encoded.SUFFIXES))}"
            )

    def _list(self) -> list[Path]:
        """Return the image files below the folder, sorted."""
        listing = FolderListing(self.root, is_image, self._passed_over)
        return sorted(listing.paths)

    @staticmethod
    def takes(source: str) -> bool:
        return is_folder(source) or (is_file(source) and is_image(source))

    def count(self) -> int | None:
        return None if any(is_tiff(path.name) for path in self.paths) else len(self.paths)

    def pieces(self, size: int) -> list[ImageSource]:
        found: list[ImageSource] = []
        for start in range(0, len(self.paths), size):
            piece = copy(self)
            piece.paths = self.paths[start : start + size]
            if found:
                piece._passed_over = PassedOverTally()
            found.append(piece)
        return found

    def passed_over(self) -> list[PassedOver]:
        return [*self._passed_over.entries(), *self._pages.entries()]

    def files(self) -> Iterable[Path]:
        return self.paths

    def shapes(self, most: int) -> Iterator[Shape]:
        for i in spread(len(self.paths), most):
            try:
                yield encoded.shape(self.paths[i])
            except Exception:
                continue

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        self._pages = PassedOverTally()
        entries = ((path.name, partial(self._read, path)) for path in self.paths)
        return records_from(start, entries)

    def _read(self, path: Path) -> Iterator[Record | SkippedImage]:
        return read_pages(path, str(path), self.origin(path), self._pages)

    def origin(self, path: Path) -> Provenance:
        """Derive the origin of an image from its path."""
        parts = path.relative_to(self.root).parts if path != self.root else (path.name,)
        return Provenance(source=str(path), split=split_of(parts))


def read_pages(
    file: encoded.File,
    name: str,
    origin: Provenance,
    passed_over: PassedOverTally,
    most_pixels: int = MAX_PIXELS,
) -> Iterator[Record | SkippedImage]:
    """Yield the records of one encoded file; each of several pages has its number in its name.

    A page of more than ``most_pixels`` is skipped, and so are those behind it. A TIFF of several pages with
    the ending of another kind is skipped as one image: by its ending alone, :func:`records_from` and
    ``count()`` take it for one.
    """
    count = partial(passed_over.add, REDUCED, name)
    try:
        for page, pages, pixels in encoded.decode(file, passed_over=count, most_pixels=most_pixels):
            if pages == 1:
                yield Record(name, pixels, origin)
            elif is_image(name) and not is_tiff(name):
                raise ValueError(f"it is a TIFF of {pages} pages; rename it to .tif")
            else:
                yield Record(f"{name}[{page}]", pixels, replace(origin, frame=page))
    # Pillow's decoders raise these, and more, on damaged files.
    except Exception as error:
        yield SkippedImage(name, encoded.failure_reason(error), origin)


def records_from(
    start: int, files: Iterable[tuple[str, Callable[[], Iterator[Record | SkippedImage]]]]
) -> Iterator[Record | SkippedImage]:
    """Yield the records of many encoded files from number ``start`` on.

    Args:
        start: number of records to skip; only TIFFs among them are decoded.
        files: name of each file, and a function that reads its records.
    """
    for name, read in files:
        if start and not is_tiff(name):
            start -= 1
            continue
        for record in read():
            if start:
                start -= 1
            else:
                yield record


def is_image(name: str) -> bool:
    """Whether a file is an encoded image, by its suffix."""
    return Path(name).suffix.lower() in encoded.SUFFIXES


def is_tiff(name: str) -> bool:
    """Whether a file may hold several pages, each an image, by its suffix."""
    return Path(name).suffix.lower() in (".tif", ".tiff")


def split_of(parts: Sequence[str]) -> str | None:
    """Return the split that the first folder of a relative path names, or None."""
    return SPLITS.get(parts[0].lower()) if len(parts) > 1 else None


def split_of_shard(path: Path) -> str | None:
    """Return the split that the name of a shard contains as a word (``train-00000-of-00002.parquet``)."""
    named = {SPLITS[word] for word in re.findall("[a-z]+", path.name.lower()) if word in SPLITS}
    return named.pop() if len(named) == 1 else None


def shards(
    folder: Path, suffixes: Collection[str], passed_over: PassedOverTally | None = None
) -> list[Path]:
    """List the shards in a folder, sorted; none if it also holds image files or folders.

    Args:
        folder: to be looked at.
        suffixes: of shards.
        passed_over: counts the other files.
    """
    passed_over = passed_over or PassedOverTally()
    found = []
    try:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if is_set_aside(entry.name):
                passed_over.add(HIDDEN, entry.path)
            elif entry.is_dir() or is_image(entry.name):
                return []
            elif not entry.is_file():
                reason = SPECIAL if Path(entry.path).exists() else DANGLING
                passed_over.add(reason, entry.path)
            elif entry.name.lower().endswith(tuple(suffixes)):
                found.append(Path(entry.path))
            else:
                passed_over.add(of_ending(entry.name), entry.path)
    except OSError:
        return []
    return found


def holds_images(folder: str | Path) -> bool:
    """Whether there are image files in a folder or below it; files of a system do not count."""
    waiting = [str(folder)]
    seen = set()
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                for entry in found:
                    if is_set_aside(entry.name):
                        continue
                    if is_image(entry.name):
                        return True
                    if entry.is_dir() and (real := os.path.realpath(entry.path)) not in seen:
                        seen.add(real)
                        waiting.append(entry.path)
        except OSError:
            continue
    return False


def beside(folder: Path, read: Collection[Path], passed_over: PassedOverTally) -> None:
    """Count what a folder holds beside what is read of it, where no image is in or below it."""
    names = {path.name for path in read}
    for path in sorted(folder.iterdir()):
        if path.name in names:
            continue
        if is_set_aside(path.name):
            passed_over.add(HIDDEN, path)
        elif path.is_dir():
            passed_over.add("folders without images", path)
        else:
            passed_over.add(of_ending(path.name), path)
