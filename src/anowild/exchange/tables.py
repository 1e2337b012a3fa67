"""Tables of scores, as `anowild score` and `anowild find` write them, read for other tools."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unicodedata import normalize

from anowild.data.label_file import windows_letters
from anowild.errors import UserError
from anowild.exchange.formats.base import SharedImage
from anowild.files import printable
from anowild.scoring.scores import USUAL_LIMIT
from anowild.scoring.written_table import open_table

log = logging.getLogger("anowild")

#: Columns of views are named so, as ``view_pixels``.
_VIEW = "view_"


class ScoredImages:
    """The images of a table of scores, in its order, found by their names.

    A name is found as it is, or with other slashes, or with its letters composed (Unicode) or encoded
    (Windows-1252) otherwise: a spreadsheet program or another file system may have changed that.

    Args:
        path: of the table, .csv or .parquet.
        threshold: score from which an image is flagged; None: as the column ``odd`` says, or where there is
            none, what 5 % of the training images reach.

    Raises:
        UserError: it cannot be read as a table of scores; two images have the same name.
    """

    def __init__(self, path: Path, threshold: float | None = None) -> None:
        self.path = path
        self.images: list[SharedImage] = []
        spellings: list[set[str]] = []
        unread = 0
        with open_table(path) as table:
            numbers = ["score", *(c for c in table.columns if c == "odd" or c.startswith(_VIEW))]
            if threshold is None and "odd" not in numbers:
                threshold = _usual_limit(path)
            for row in table.rows(numbers):
                if math.isnan(row["score"]):
                    unread += 1
                elif threshold is None and row["odd"] not in (0, 1):
                    raise table.wrong(f"odd is {row['odd']:g}, and has to be 0 or 1")
                else:
                    self.images.append(_image(row, threshold))
                    names = row["path"], windows_letters(row["path"])
                    spellings.append({_loose(printable(name)) for name in names})
        if unread:
            log.warning(
                "%s: %d images without a score, which could not be read, are left out", path, unread
            )
        if not self.images:
            raise UserError(f"{path}: lists no images")
        self._exact: dict[str, int] = {}
        self._loose: dict[str, int | None] = {}  # None: two names are spelled alike
        for number, image in enumerate(self.images):
            if self._exact.setdefault(image.name, number) != number:
                raise UserError(
                    f"{path}: lists {image.name} twice, so nobody can tell which image has which score; score "
                    "these sources one by one"
                )
            for spelled in spellings[number]:
                self._loose[spelled] = None if spelled in self._loose else number
        self._pages = {_file_of(spelled) for spelled in set().union(*spellings)}

    def find(self, name: str) -> int | None:
        """Return the number of an image by its name; None: the table does not list it."""
        name = printable(name)
        found = self._exact.get(name)
        return self._loose.get(_loose(name)) if found is None else found

    def has_pages(self, file: str) -> bool:
        """Whether pages of a file may be listed: names like ``FILE[3]``."""
        return _loose(printable(file)) in self._pages


def _usual_limit(path: Path) -> float:
    log.warning(
        "%s: has no limit, so images that score %.2f or more are flagged, as 5 %% of the training images do; "
        "--threshold sets another",
        path, USUAL_LIMIT,
    )  # fmt: skip
    return USUAL_LIMIT


def _image(row: Mapping[str, Any], threshold: float | None) -> SharedImage:
    score = row["score"]
    return SharedImage(
        name=printable(row["path"]),
        score=score,
        flagged=row["odd"] == 1 if threshold is None else score >= threshold,
        views={
            printable(name.removeprefix(_VIEW)): value
            for name, value in row.items()
            if name.startswith(_VIEW)
        },
        why=printable(row.get("why", "")),
        findings=printable(row.get("findings", "")),
    )


def _loose(name: str) -> str:
    return normalize("NFC", name).replace("\\", "/")


def _file_of(name: str) -> str:
    """Return the file that a page or frame is of, by its name."""
    return _loose(name).rpartition("[")[0]
