"""Label files: a CSV with the columns ``path`` and ``label``, or an array."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import numpy as np

from anowild.data.readers.arrays import SUFFIXES, load_array
from anowild.data.readers.base import split_key
from anowild.errors import UserError


class LabelFile:
    """Labels by path, or by position among the images of the source.

    Args:
        source: a CSV file; or an array file (``labels.npy``, ``file.npz:key``) with one entry for each
            image of the source, in the same order.

    Raises:
        UserError: the file cannot be read as labels.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.by_path: dict[str, tuple[str, int]] | None = None  # label and line in the file
        self.by_position: list[str] | None = None
        self._matched: dict[str, str] = {}  # path in the file -> the image that it labels
        path, _ = split_key(source, SUFFIXES)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"{source}: cannot be read as a file of labels ({error.strerror})"
            ) from error
        #: Hash of the file and its name.
        self.digest = hashlib.blake2b(os.fsencode(source) + data, digest_size=16).hexdigest()
        if path.suffix.lower() not in SUFFIXES:
            self.by_path = _read_csv(path)
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
            UserError: it has no label.
        """
        found = self._find(name, position)
        if found is None:
            raise UserError(f"{self.source}: has no label for {name}; add one")
        return found[2]

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
        raise UserError(
            f"{self.source}: {path} may mean {other} or {whole}; give images and labels by full paths"
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
        # The file may have been written in another folder: the longest suffix of the path matches. A crop
        # without a label of its own has the label of its frame, and a frame that of its file.
        for whole in (name, name.rpartition("@")[0], name.rpartition("[")[0]):
            parts = Path(whole).parts
            for start in range(len(parts)):
                path = str(Path(*parts[start:]))
                if path in self.by_path:
                    return str(Path(whole)), path, self.by_path[path][0]
        return None

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


def _are_two_files(one: str, other: str) -> bool:
    """Return whether two images (or the files that they are part of) exist and are different files."""
    files = [Path(name.rpartition("[")[0] or name) for name in (one, other)]
    try:
        return not files[0].samefile(files[1])
    except (OSError, ValueError):
        return False


def _read_csv(path: Path) -> dict[str, tuple[str, int]]:
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            if not {"path", "label"} <= set(rows.fieldnames or ()):
                raise UserError(f"{path}: has no header with 'path' and 'label'; add one")
            found: dict[str, tuple[str, int]] = {}
            for row in rows:
                image, label = str(Path(row["path"] or "")), (row["label"] or "").strip()
                before = found.setdefault(image, (label, rows.line_num))
                if before[0] != label:
                    raise UserError(
                        f"{path}: lines {before[1]} and {rows.line_num} give {image} different labels; "
                        "remove one"
                    )
            return found
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as labels ({error})") from error
