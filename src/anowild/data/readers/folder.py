"""Folders of image files, nested or not, and single image files."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from anowild.data.readers import encoded
from anowild.data.readers.base import Provenance, Reader, Record, Shape, SkippedImage, spread
from anowild.errors import UserError

#: Names of folders that say what their images are for.
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}


class FolderReader(Reader):
    """PNG, JPEG, TIFF, BMP and WebP files, in the order of their paths, page by page.

    Links to folders are not followed; names that begin with a dot, and packed data sets, finished
    or not, are passed over. What lies in
    a folder ``train`` or ``test`` right below the source belongs to that split.
    """

    KIND: ClassVar[str] = "folder of images, or an image file"

    def __init__(self, source: str) -> None:
        if not source:
            raise UserError("a source has to have a name; '.' is the current folder")
        self.root = Path(source)
        self.others = 0
        if self.root.is_file():
            self.paths = [self.root]
        else:
            self.paths = sorted(self._walk())
        if not self.paths:
            found = f"its {self.others} files are of other kinds" if self.others else "it is empty"
            raise UserError(
                f"{self.root}: holds no images ({found}); "
                f"these endings are read: {', '.join(sorted(encoded.SUFFIXES))}"
            )

    @staticmethod
    def takes(source: str) -> bool:
        path = Path(source)
        return path.is_dir() or (path.is_file() and path.suffix.lower() in encoded.SUFFIXES)

    def _walk(self) -> Iterator[Path]:
        def failed(error: OSError) -> None:
            raise UserError(f"{error.filename}: cannot be read ({error.strerror})")

        for folder, folders, files in os.walk(self.root, onerror=failed):
            folders[:] = [
                name
                for name in folders
                if not name.startswith(".") and not _is_packed(Path(folder, name))
            ]
            for name in files:
                if name.startswith("."):
                    continue
                if Path(name).suffix.lower() in encoded.SUFFIXES and not _waits(Path(folder, name)):
                    yield Path(folder, name)
                else:
                    self.others += 1

    def count(self) -> int | None:
        return None if any(is_tiff(path.name) for path in self.paths) else len(self.paths)

    def files(self) -> Iterable[Path]:
        return self.paths

    def shapes(self, most: int) -> Iterator[Shape]:
        for i in spread(len(self.paths), most):
            try:
                yield encoded.shape(self.paths[i])
            except Exception:
                continue

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        entries = ((path.name, partial(self._read, path)) for path in self.paths)
        return records_from(start, entries)

    def _read(self, path: Path) -> Iterator[Record | SkippedImage]:
        return read_pages(path, str(path), self.origin(path))

    def origin(self, path: Path) -> Provenance:
        """What the place of a file tells about it."""
        parts = path.relative_to(self.root).parts if path != self.root else (path.name,)
        return Provenance(source=str(path), split=split_of(parts))


def read_pages(
    file: encoded.File, name: str, origin: Provenance
) -> Iterator[Record | SkippedImage]:
    """The records of one encoded file; of several pages, each has its number behind its name."""
    try:
        for page, pages, pixels in encoded.decode(file):
            if pages == 1:
                yield Record(name, pixels, origin)
            else:
                yield Record(f"{name}[{page}]", pixels, replace(origin, frame=page))
    # Pillow's decoders raise these, and more, on damaged files.
    except Exception as error:
        yield SkippedImage(name, encoded.why(error), origin)


def records_from(
    start: int, files: Iterable[tuple[str, Callable[[], Iterator[Record | SkippedImage]]]]
) -> Iterator[Record | SkippedImage]:
    """The records of many encoded files from number ``start`` on.

    Args:
        start: how many records to pass over; only TIFFs among them are decoded.
        files: the name of each, and what reads its records.
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
    """Whether a file of this name is an encoded image, by its ending."""
    return Path(name).suffix.lower() in encoded.SUFFIXES


def is_tiff(name: str) -> bool:
    """Whether a file of this name may hold several pages, each an image."""
    return Path(name).suffix.lower() in (".tif", ".tiff")


def split_of(parts: Sequence[str]) -> str | None:
    """The split that the first folder of a path below its source names, if one does."""
    return SPLITS.get(parts[0].lower()) if len(parts) > 1 else None


def split_of_shard(path: Path) -> str | None:
    """The split that a packed file names as a word: ``train-00000-of-00002.parquet``."""
    named = {SPLITS[word] for word in re.findall("[a-z]+", path.name.lower()) if word in SPLITS}
    return named.pop() if len(named) == 1 else None


def shards(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The packed files in a folder that holds neither image files nor folders; sorted."""
    found = []
    try:
        for entry in os.scandir(folder):
            if entry.name.startswith("."):
                continue
            if entry.is_dir() or is_image(entry.name):
                return []
            if entry.name.lower().endswith(tuple(suffixes)):
                found.append(Path(entry.path))
    except OSError:
        return []
    return sorted(found)


def _is_packed(folder: Path) -> bool:
    made = (folder / "dataset.json").is_file() or (folder / "recipe.json").is_file()
    return made and (folder / "images").is_dir()


def _waits(path: Path) -> bool:
    """Whether reading would wait for somebody to write: a pipe, a device, a socket."""
    try:
        kind = path.stat().st_mode
    except OSError:
        return False  # reading it will tell
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))
