"""Reader of folders in the layout of MVTec AD: normal training images, defects by kind, masks."""

from __future__ import annotations

import os
from pathlib import Path

from anowild.data.readers.base import Provenance
from anowild.data.readers.folder import FolderReader, split_of
from anowild.files import is_file, is_folder

MASKS = "ground_truth"


class MVTecReader(FolderReader):
    """Reader of ``train/good/*``, ``test/good/*``, ``test/<defect>/*`` of one category or of several.

    The label is the name of the folder: ``good`` or a defect. Masks are
    ``ground_truth/<defect>/<name>_mask.png`` or ``<name>.png``; they are not read as images.
    """

    def __init__(self, source: str) -> None:
        # Number of folders above train and test.
        self._depth = 0 if _is_category(Path(source)) else 1
        super().__init__(source)

    @staticmethod
    def takes(source: str) -> bool:
        try:
            return is_folder(source) and (_is_category(source) or _holds_categories(source))
        except OSError:
            return False

    def _list(self) -> list[Path]:
        images = []
        for path in super()._list():
            if self._place(path)[:1] == (MASKS,):
                self._passed_over.add(f"masks in {MASKS}", path)
            else:
                images.append(path)
        return images

    def _place(self, path: Path) -> tuple[str, ...]:
        """Return the parts of a path below its category: split, label, name."""
        return path.relative_to(self.root).parts[self._depth :]

    def origin(self, path: Path) -> Provenance:
        place = self._place(path)
        if len(place) < 3:
            return Provenance(source=str(path), split=split_of(place))
        label, rest = place[1], Path(*place[2:])
        masks = Path(self.root, *path.relative_to(self.root).parts[: self._depth], MASKS, label)
        named = (masks / rest.with_name(f"{rest.stem}{end}") for end in ("_mask.png", ".png"))
        mask = next((str(mask) for mask in named if is_file(mask)), None)
        return Provenance(source=str(path), split=split_of(place), label=label, mask=mask)


def _is_category(folder: str | Path) -> bool:
    # These are False, and no error, for a folder that cannot be opened.
    return is_folder(f"{folder}/train/good") and is_folder(f"{folder}/test")


def _holds_categories(folder: str) -> bool:
    with os.scandir(folder) as entries:  # needs no further system calls for many images
        return any(entry.is_dir() and _is_category(entry.path) for entry in entries)
