"""Label files: a CSV with the columns ``path`` and ``label``, or an array."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable
from functools import cached_property
from itertools import takewhile
from pathlib import Path

import numpy as np

from anowild.data.readers.arrays import SUFFIXES, load_array
from anowild.data.readers.base import split_key
from anowild.data.spreadsheet import as_label, open_spreadsheet
from anowild.errors import UserError
from anowild.files import open_regular, printable


class LabelFile:
    """Labels by path, or by position among the images of the source.

    Paths mean the same image if one ends with the other; of several, the one with the longest common end
    counts. Backslashes are slashes, a drive is left out, composed and decomposed letters are equal
    (Unicode NFC), and bytes that are no UTF-8 are letters of Windows-1252.

    Args:
        source: a table as :func:`open_spreadsheet` reads it, with columns ``path`` and ``label``; or an array file (``labels.npy``, ``file.npz:key``) with one entry for each
            image of the source, in the same order.

    Raises:
        UserError: the file cannot be read as labels.
    """

    def __init__(self, source: str | Path) -> None:
        self.source = source = os.fspath(source)
        self.by_path: dict[str, tuple[str, int]] | None = None  # label and line in the file
        self.by_position: list[str] | None = None
        self._matched: dict[str, str] = {}  # path in the file -> the image that it labels
        path, _ = split_key(source, SUFFIXES)
        try:
            with open_regular(path) as file:
                data = file.read()
        except OSError as error:
            raise UserError(
                f"{source}: cannot be read as a file of labels ({error.strerror}); check the path"
            ) from error
        #: Hash of the file and its name.
        self.digest = hashlib.blake2b(os.fsencode(source) + data, digest_size=16).hexdigest()
        if path.suffix.lower() not in SUFFIXES:
            self.by_path = _read_table(path)
            return
        values = load_array(source)
        if values.ndim != 1 or values.dtype.kind not in "biuU":
            raise UserError(
                f"{source}: holds no labels; give a one-dimensional array of integers or words"
            )
        if values.dtype.kind == "b":
            values = values.astype(np.uint8)
        self.by_position = [str(value) for value in values.tolist()]

    def begin(self, images: int | None) -> None:
        """Begin a pass over the images.

        Args:
            images: their number; None: not known.

        Raises:
            UserError: as :meth:`check_count`.
        """
        self._matched.clear()
        if images is not None:
            self.check_count(images)

    def of(self, name: str, position: int) -> str:
        """Return the label of an image.

        Args:
            name: of the image.
            position: of the image in the source, from 0.

        Raises:
            UserError: it has no label; or a path matches two images.
        """
        found = self._find(name, position)
        if found is None:
            raise UserError(f"{self.source}: has no label for {name}; add one")
        whole, path, label = found
        other = self._matched.setdefault(path, whole)
        if not _may_be_one(other, whole):
            raise self._two(path, other, whole)
        return label

    def if_any(self, name: str, position: int) -> str | None:
        """Return the label of an image, or None where it has none.

        Not all images need a label here, so a path in the file must not match two images. A path that
        names an image in full, as the image itself does or from the current folder, matches that image.

        Args:
            name: of the image.
            position: of the image in the source, from 0.

        Raises:
            UserError: a path matches two images; or an array has fewer labels than there are images.
        """
        found = self._find(name, position)
        if found is None:
            return None
        whole, path, label = found
        if whole != path and _are_two_files(whole, path):
            return None
        other = self._matched.setdefault(path, whole)
        if other == whole:
            return label
        if other == path:
            return None
        raise self._two(path, other, whole)

    def unmatched(self) -> list[str]:
        """Return the paths in the file that have matched no image since the pass began; none of an array."""
        return [path for path in self.by_path or () if path not in self._matched]

    def _two(self, path: str, one: str, other: str) -> UserError:
        return UserError(
            f"{self.source}: {path} may mean {one} or {other}; give images and labels by full paths"
        )

    def _find(self, name: str, position: int) -> tuple[str, str, str] | None:
        """Find a label: returns the image (or its frame or file), the path that matches it, the label."""
        if self.by_position is not None:
            if position >= len(self.by_position):
                raise UserError(
                    f"{self.source}: has {len(self.by_position)} labels, and there are more images; "
                    "give one label for each image"
                )
            return name, name, self.by_position[position]
        assert self.by_path is not None
        # A crop without a label of its own has the label of its frame, and a frame that of its file.
        for whole in (name, name.rpartition("@")[0], name.rpartition("[")[0]):
            path = self._path_of(whole)
            if path is not None:
                return str(Path(whole)), path, self.by_path[path][0]
        return None

    def _path_of(self, name: str) -> str | None:
        """Find the path in the file that means an image: the one with the longest common end.

        Raises:
            UserError: several do, and have different labels.
        """
        # The file may have been written in another folder, above or below this one.
        parts = _spelling(name).split("/")
        for start in range(len(parts)):
            paths = self._spellings.get("/".join(parts[start:]), [])
            if start == 0 and not paths:
                paths = [path for path in self._longer(name) if not _are_two_files(name, path)]
            if paths:
                return self._agreeing(name, paths)
        return None

    def _agreeing(self, name: str, paths: list[str]) -> str:
        """Return the one of some paths that is spelled as the image, or the first if their labels agree.

        Raises:
            UserError: they have different labels.
        """
        assert self.by_path is not None
        spelled = f"/{Path(name)}"
        for path in paths:
            if spelled.endswith(f"/{path.lstrip('/')}"):
                return path
        for path in paths:
            if self.by_path[path][0] != self.by_path[paths[0]][0]:
                raise UserError(
                    f"{self.source}: {printable(paths[0])} and {printable(path)} may both mean "
                    f"{printable(name)}, and have different labels; give images and labels by full paths"
                )
        return paths[0]

    @cached_property
    def _spellings(self) -> dict[str, list[str]]:
        """The paths in the file by what they have in common with other spellings."""
        found: dict[str, list[str]] = {}
        for path in self.by_path or ():
            found.setdefault(_spelling(path), []).append(path)
        return found

    @cached_property
    def _backwards(self) -> list[str]:
        """The spellings, each from its last folder to its first, in order."""
        return sorted(_backwards(spelling) for spelling in self._spellings)

    def _longer(self, name: str) -> list[str]:
        """Return the paths in the file that end with the name of an image."""
        start = _backwards(_spelling(name)) + "/"
        first = bisect_left(self._backwards, start)
        ends = takewhile(
            lambda i: self._backwards[i].startswith(start), range(first, len(self._backwards))
        )
        return [p for i in ends for p in self._spellings[_backwards(self._backwards[i])]]

    def check_count(self, images: int) -> None:
        """Check that an array has one label for each image.

        Raises:
            UserError: it has not.
        """
        if self.by_position is not None and len(self.by_position) != images:
            raise UserError(
                f"{self.source}: has {len(self.by_position)} labels for {images} images; "
                "give one label for each image"
            )


def words_of(labels: str | Iterable[str]) -> list[str]:
    """Return one label or several as a list of words in lower case."""
    given = [labels] if isinstance(labels, str) else labels
    return [str(label).lower() for label in given]


def _are_two_files(one: str, other: str) -> bool:
    """Whether two images (or the files that they are part of) exist and are different files."""
    files = [Path(name.rpartition("[")[0] or name) for name in (one, other)]
    try:
        return not files[0].samefile(files[1])
    except (OSError, ValueError):
        return False


def _may_be_one(one: str, other: str) -> bool:
    """Whether two names may be those of one image, spelled from two folders."""
    a, b = (f"/{_spelling(name)}" for name in (one, other))
    return a.endswith(b) or b.endswith(a)


def _spelling(path: str) -> str:
    """Return what the spellings of a path on other systems and from other folders have in common."""
    path = os.path.normpath(re.sub("^[A-Za-z]:", "", windows_letters(path).replace("\\", "/")))
    return unicodedata.normalize("NFC", re.sub(r"^(\.\.(/|$)|/)+", "", path))


def windows_letters(path: str) -> str:
    """Return a path in which bytes that are no UTF-8 are letters of Windows-1252, as Excel saves them."""
    try:
        return os.fsencode(path).decode()
    except UnicodeError:
        return re.sub("[\udc80-\udcff]", lambda byte: _letter(byte[0]), path)


def _letter(byte: str) -> str:
    """Return the letter of Windows-1252 that a byte stands for, where it stands for one."""
    return os.fsencode(byte).decode("cp1252", "surrogateescape")


def _backwards(path: str) -> str:
    return "/".join(reversed(path.split("/")))


def _read_table(path: Path) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    with open_spreadsheet(path, ("path", "label"), "labels") as rows:
        for row in rows:
            if not row["path"]:
                raise UserError(f"{path}, line {rows.line}: has no path; add it or remove the line")
            image, label = str(Path(row["path"])), as_label(row["label"])
            before = found.setdefault(image, (label, rows.line))
            if before[0] != label:
                raise UserError(
                    f"{path}: lines {before[1]} and {rows.line} give {image} different labels; "
                    "remove one"
                )
    return found
