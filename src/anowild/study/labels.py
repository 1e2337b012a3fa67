"""Labels of images, for evaluation only: 1 for an anomaly, 0 for a normal image."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anowild.data.readers.arrays import SUFFIXES, load_array
from anowild.data.readers.base import split_key
from anowild.errors import UserError

Array = np.ndarray[Any, Any]

NORMAL_WORDS = frozenset({"0", "normal", "good", "ok", "false"})
ANOMALY_WORDS = frozenset({"1", "anomaly", "anomalous", "abnormal", "odd", "bad", "defect", "true"})
NORMAL_FOLDERS = frozenset({"normal", "good", "ok", "0"})


class Labels:
    """Where labels come from.

    Args:
        source: a CSV file with the columns ``path`` and ``label``; an array file
            (``labels.npy``, ``file.npz:key``) in the order of the images; or ``folders``, which
            takes what lies in a folder named ``normal`` for normal, all else for anomalous.
        normal: names of such folders, where they are not normal, good, ok or 0.

    Raises:
        UserError: the source cannot be read as labels.
    """

    def __init__(self, source: str, normal: Sequence[str] = ()) -> None:
        self.source = source
        self.normal = frozenset(normal) or NORMAL_FOLDERS
        self._by_path: dict[str, int] | None = None
        self._by_position: Array | None = None
        path, _ = split_key(source, SUFFIXES)
        if source == "folders":
            return
        if not path.is_file():
            raise UserError(f"{source}: there is no such file of labels (or give 'folders')")
        if path.suffix.lower() in SUFFIXES:
            values = load_array(source)
            if values.ndim != 1 or not np.isin(values, (0, 1)).all():
                raise UserError(f"{source}: labels are a list of 0 (normal) and 1 (anomaly)")
            self._by_position = values.astype(np.int64)
        else:
            self._by_path = _read_csv(path)

    def of(self, names: Sequence[str], positions: Sequence[int], total: int) -> Array:
        """Labels, int64 [N], of images by name and by position among the ``total`` of the source.

        Raises:
            UserError: an image has no label.
        """
        if self._by_position is not None:
            if len(self._by_position) != total:
                raise UserError(
                    f"{self.source}: has {len(self._by_position)} labels for {total} images"
                )
            return self._by_position[np.asarray(positions)]
        if self._by_path is None:
            parents = [Path(name).parent.name.lower() for name in names]
            return np.array([int(parent not in self.normal) for parent in parents], np.int64)
        return np.array([self._look_up(name) for name in names], np.int64)

    def _look_up(self, name: str) -> int:
        assert self._by_path is not None
        # The list may have been written from another place: the longest end of the path counts.
        parts = Path(name).parts
        for start in range(len(parts)):
            found = self._by_path.get(str(Path(*parts[start:])))
            if found is not None:
                return found
        raise UserError(f"{self.source}: has no label for {name}")


def _read_csv(path: Path) -> dict[str, int]:
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            if not {"path", "label"} <= set(rows.fieldnames or ()):
                raise UserError(f"{path}: labels need a header with 'path' and 'label'")
            labels = {}
            for row in rows:
                word = (row["label"] or "").strip().lower()
                if word not in NORMAL_WORDS | ANOMALY_WORDS:
                    raise UserError(
                        f"{path}, line {rows.line_num}: the label is '{row['label']}'; "
                        "it has to be 0 (normal) or 1 (anomaly)"
                    )
                labels[str(Path(row["path"] or ""))] = int(word in ANOMALY_WORDS)
            return labels
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as labels ({error})") from error
