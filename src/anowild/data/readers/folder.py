"""Reader of folders of image files, nested or not, and of single image files."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from anowild.data.readers import encoded
from anowild.data.readers.base import Provenance, Reader, Record, Shape, SkippedImage, spread
from anowild.errors import UserError

#: Names of folders that name a split.
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}


class FolderReader(Reader):
    """Reader of PNG, JPEG, TIFF, BMP and WebP files, in the order of their paths, page by page.

    Links to folders are not followed. Names that begin with a dot, and packed data sets, complete or
    not, are skipped. Images in a folder ``train`` or ``test`` directly below the source belong to that
    split.
    """

    def __init__(self, source: str) -> None:
        if not source:
            raise UserError(
                "a source without a name cannot be read; give '.' for the current folder"
            )
        self.root = Path(source)
        self.others: dict[str, list[str]] = {}
        if self.root.is_file():
            self.paths = [self.root]
        else:
            self.paths = sorted(self._walk())
        if not self.paths:
            count = sum(map(len, self.others.values()))
            found = f"its {count} files are of other kinds" if count else "it is empty"
            raise UserError(
                f"{self.root}: holds no images ({found}); give files that end in "
                f"{', '.join(sorted(encoded.SUFFIXES))}"
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
                if Path(name).suffix.lower() in encoded.SUFFIXES and not _would_block(
                    Path(folder, name)
                ):
                    yield Path(folder, name)
                else:
                    ending = Path(name).suffix.lower() or "no ending"
                    self.others.setdefault(ending, []).append(str(Path(folder, name)))

    def count(self) -> int | None:
        return None if any(is_tiff(path.name) for path in self.paths) else len(self.paths)

    def passed_over(self) -> Mapping[str, Sequence[str]]:
        return self.others

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
        """Derive the origin of an image from its path."""
        parts = path.relative_to(self.root).parts if path != self.root else (path.name,)
        return Provenance(source=str(path), split=split_of(parts))


def read_pages(
    file: encoded.File, name: str, origin: Provenance
) -> Iterator[Record | SkippedImage]:
    """Yield the records of one encoded file; each of several pages has its number in its name."""
    try:
        for page, pages, pixels in encoded.decode(file):
            if pages == 1:
                yield Record(name, pixels, origin)
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
    """Return whether a file is an encoded image, by its suffix."""
    return Path(name).suffix.lower() in encoded.SUFFIXES


def is_tiff(name: str) -> bool:
    """Return whether a file may hold several pages, each an image, by its suffix."""
    return Path(name).suffix.lower() in (".tif", ".tiff")


def split_of(parts: Sequence[str]) -> str | None:
    """Return the split that the first folder of a relative path names, or None."""
    return SPLITS.get(parts[0].lower()) if len(parts) > 1 else None


def split_of_shard(path: Path) -> str | None:
    """Return the split that the name of a shard contains as a word (``train-00000-of-00002.parquet``)."""
    named = {SPLITS[word] for word in re.findall("[a-z]+", path.name.lower()) if word in SPLITS}
    return named.pop() if len(named) == 1 else None


def shards(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """List the shards in a folder, sorted; none if it also holds image files or folders."""
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


def _would_block(path: Path) -> bool:
    """Return whether reading a path could block: a pipe, a device, a socket."""
    try:
        kind = path.stat().st_mode
    except OSError:
        return False  # reading it reports the error
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))
