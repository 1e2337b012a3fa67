"""Folders of image files, nested or not, and single image files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import ClassVar

from anowild.data.readers import encoded
from anowild.data.readers.base import Origin, Reader, Record, Shape, Unreadable, spread
from anowild.errors import UserError

#: Names of folders that say what their images are for.
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}


class FolderReader(Reader):
    """PNG, JPEG, TIFF, BMP and WebP files, in the order of their paths, page by page.

    Links to folders are not followed; names that begin with a dot are passed over. What lies in
    a folder ``train`` or ``test`` right below the source belongs to that split.
    """

    KIND: ClassVar[str] = "folder of images, or an image file"

    def __init__(self, source: str) -> None:
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
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                if name.startswith("."):
                    continue
                if Path(name).suffix.lower() in encoded.SUFFIXES:
                    yield Path(folder, name)
                else:
                    self.others += 1

    def count(self) -> int | None:
        # A TIFF may have any number of pages.
        several = any(path.suffix.lower() in (".tif", ".tiff") for path in self.paths)
        return None if several else len(self.paths)

    def files(self) -> Iterable[Path]:
        return self.paths

    def shapes(self, most: int) -> Iterator[Shape]:
        for i in spread(len(self.paths), most):
            try:
                yield encoded.shape(self.paths[i])
            except Exception:
                continue

    def records(self, start: int = 0) -> Iterator[Record | Unreadable]:
        if self.count() is not None:
            for path in self.paths[start:]:
                yield from read_pages(path, str(path), self.origin(path))
            return
        every = (r for path in self.paths for r in read_pages(path, str(path), self.origin(path)))
        yield from islice(every, start, None)

    def origin(self, path: Path) -> Origin:
        """What the place of a file tells about it."""
        parts = path.relative_to(self.root).parts if path != self.root else (path.name,)
        split = SPLITS.get(parts[0].lower()) if len(parts) > 1 else None
        return Origin(source=str(path), split=split)


def read_pages(file: encoded.File, name: str, origin: Origin) -> Iterator[Record | Unreadable]:
    """The records of one encoded file; of several pages, each has its number behind its name."""
    try:
        for page, pages, pixels in encoded.decode(file):
            if pages == 1:
                yield Record(name, pixels, origin)
            else:
                yield Record(f"{name}[{page}]", pixels, replace(origin, frame=page))
    # Pillow's decoders raise these, and more, on damaged files.
    except Exception as error:
        yield Unreadable(name, encoded.why(error), origin)
