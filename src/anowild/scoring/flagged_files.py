"""Copies of the image files that a limit flags."""

from __future__ import annotations

import filecmp
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from anowild.data import open_all
from anowild.data.readers import FolderReader
from anowild.data.readers.folder import PAGE
from anowild.data.sources import Source
from anowild.errors import UserError
from anowild.files import absolute, atomic_write, is_file, printable, unreadable, write_json

log = logging.getLogger("anowild")

#: File by which a folder of copies is known, so that it does not count as images.
MARK = "flagged.json"


class FlaggedFiles:
    """A folder that flagged image files are copied into, by their names relative to what was scored.

    A new folder gets a mark, by which it is passed over where the folder above it is read.

    Args:
        sources: folders of image files, or image files.
        folder: where the copies go; it may have copies of earlier days.

    Raises:
        UserError: a source does not consist of single image files, or ``folder`` lies within one and holds
            other files.
    """

    def __init__(self, sources: Sequence[Source], folder: Path) -> None:
        self.folder = folder
        own = _is_own(folder)
        roots = []
        for source, reader in zip(sources, open_all(sources), strict=True):
            if not isinstance(reader, FolderReader):
                raise UserError(
                    f"{source}: its images are not single files, so flagged ones cannot be copied; give a "
                    "folder of image files, or leave out --copy-flagged"
                )
            root = absolute(reader.root)
            roots.append(root if root.is_dir() else root.parent)
            inside = root.is_dir() and absolute(folder).is_relative_to(root)
            if inside and (not own or absolute(folder) == root):
                raise UserError(
                    f"{folder}: lies in {source}, so the copies would be scored as well; name another folder"
                )
        self.root = Path(os.path.commonpath(roots))
        self._mark = {"flagged_of": [printable(str(root)) for root in roots]} if own else None

    def copy(self, names: Iterable[str]) -> tuple[int, int]:
        """Copy image files; return how many were copied, and how many were there already.

        A file that is there with other content is left as it is, with a warning.

        Raises:
            UserError: a file cannot be read or written.
        """
        copied = there = 0
        for source in dict.fromkeys(map(_file_of, names)):
            if not source.is_file():
                raise UserError(
                    f"{printable(str(source))}: is not there any more; bring it back, or score again"
                )
            target = self.folder / absolute(source).relative_to(self.root)
            if target.exists():
                there += 1
                if not filecmp.cmp(source, target, shallow=False):
                    log.warning("%s: is there with other content, and was not overwritten", target)
                continue
            if self._mark is not None and not copied:
                write_json(self.folder / MARK, self._mark)
            with atomic_write(target) as temporary:
                shutil.copy2(source, temporary)
            copied += 1
        return copied, there


def _is_own(folder: Path) -> bool:
    """Whether a folder is new or empty, or has the mark of copies."""
    try:
        return is_file(folder / MARK) or not any(folder.iterdir())
    except FileNotFoundError:
        return True
    except OSError as error:
        raise unreadable(folder, error) from error


def _file_of(name: str) -> Path:
    """Return the file of an image; pages of one file have its name and a number."""
    page = None if Path(name).is_file() else PAGE.fullmatch(name)
    return Path(page[1] if page else name)
