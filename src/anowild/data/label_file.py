"""Labels from a file: a CSV with the columns ``path`` and ``label``, or an array."""

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
        source: a CSV file; or an array file (``labels.npy``, ``file.npz:key``) with as many
            entries as the source has images, in the same order.

    Raises:
        UserError: it cannot be read as labels.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.by_path: dict[str, tuple[str, int]] | None = None  # label and line in the file
        self.by_position: list[str] | None = None
        self._meant: dict[str, str] = {}  # path in the file -> the image that it was found to mean
        path, _ = split_key(source, SUFFIXES)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"{source}: cannot be read as a file of labels ({error.strerror})"
            ) from error
        #: Tells these labels from any others.
        self.digest = hashlib.blake2b(os.fsencode(source) + data, digest_size=16).hexdigest()
        if path.suffix.lower() not in SUFFIXES:
            self.by_path = _read_csv(path)
            return
        values = load_array(source)
        if values.ndim != 1 or values.dtype.kind not in "biuU":
            raise UserError(f"{source}: labels are a list of whole numbers or words")
        if values.dtype.kind == "b":
            values = values.astype(np.uint8)
        self.by_position = [str(value) for value in values.tolist()]

    def begin(self, images: int | None) -> None:
        """A pass over the images begins, of so many as far as that is known; as :meth:`check_count`."""
        self._meant.clear()
        if images is not None:
            self.check_count(images)

    def of(self, name: str, position: int) -> str:
        """The label of an image. Raises UserError if it has none."""
        found = self._find(name, position)
        if found is None:
            raise UserError(f"{self.source}: has no label for {name}")
        return found[2]

    def if_any(self, name: str, position: int) -> str | None:
        """The label of an image; None where it has none.

        As not all images have one, a path in the file must not serve for two. What is spelled in full
        is meant: as the image is, or from here.

        Raises:
            UserError: a path may mean two images; or labels are counted, and there are fewer.
        """
        found = self._find(name, position)
        if found is None:
            return None
        whole, path, label = found
        if whole != path and _are_two_files(whole, path):
            return None
        other = self._meant.setdefault(path, whole)
        if other == whole:
            return label
        if other == path:
            return None
        raise UserError(
            f"{self.source}: {path} may mean {other} or {whole}; give the images, and the labels, by "
            "full paths"
        )

    def _find(self, name: str, position: int) -> tuple[str, str, str] | None:
        """The image, or its frame or file; the path in the file that means it; and its label."""
        if self.by_position is not None:
            if position >= len(self.by_position):
                raise UserError(
                    f"{self.source}: has {len(self.by_position)} labels, and there are more images"
                )
            return name, name, self.by_position[position]
        assert self.by_path is not None
        # The list may have been written from another place: the longest end of the path counts.
        # What has no label of its own has its frame's, and a frame its file's.
        for whole in (name, name.rpartition("@")[0], name.rpartition("[")[0]):
            parts = Path(whole).parts
            for start in range(len(parts)):
                path = str(Path(*parts[start:]))
                if path in self.by_path:
                    return str(Path(whole)), path, self.by_path[path][0]
        return None

    def check_count(self, images: int) -> None:
        """Raises UserError if the labels are counted, and not as many as the images."""
        if self.by_position is not None and len(self.by_position) != images:
            raise UserError(
                f"{self.source}: has {len(self.by_position)} labels for {images} images"
            )


def _are_two_files(one: str, other: str) -> bool:
    """Whether both are there, or what they are parts of, and they are not the same."""
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
                raise UserError(f"{path}: labels need a header with 'path' and 'label'")
            found: dict[str, tuple[str, int]] = {}
            for row in rows:
                image, label = str(Path(row["path"] or "")), (row["label"] or "").strip()
                before = found.setdefault(image, (label, rows.line_num))
                if before[0] != label:
                    raise UserError(
                        f"{path}: lines {before[1]} and {rows.line_num} give {image} different labels"
                    )
            return found
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as labels ({error})") from error
