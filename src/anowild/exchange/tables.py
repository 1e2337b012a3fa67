"""Tables of scores, as `anowild score` and `anowild find` write them, read for other tools."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unicodedata import normalize

from anowild.data.spreadsheet import open_spreadsheet
from anowild.errors import UserError
from anowild.exchange.formats.base import SharedImage
from anowild.files import check_regular, printable
from anowild.libraries import parquet_library
from anowild.scoring.scores import USUAL_LIMIT

log = logging.getLogger("anowild")

#: Columns of views are named so, as ``view_pixels``.
_VIEW = "view_"


class ScoredImages:
    """The images of a table of scores, in its order, found by their names.

    A name is found as it is, or with other slashes, or with its letters composed otherwise (Unicode): a
    spreadsheet program or another file system may have changed that.

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
        unread = 0
        try:
            for row in _rows(path):
                if math.isnan(
                    float(row["score"])
                ):  # as of a file that `anowild watch` could not read
                    unread += 1
                    continue
                if threshold is None and "odd" not in row:
                    threshold = _usual_limit(path)
                self.images.append(_image(row, threshold))
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            raise UserError(
                f"{path}: cannot be read as a table of scores ({error}); make it again with `anowild score`"
            ) from error
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
            spelled = _loose(image.name)
            self._loose[spelled] = None if spelled in self._loose else number
        self._pages = {_file_of(image.name) for image in self.images}

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
    score = float(row["score"])
    if not math.isfinite(score):
        raise ValueError(f"the score of {printable(str(row['path']))} is {score}")
    if threshold is not None:
        flagged = score >= threshold
    elif row["odd"] in (0, 1):
        flagged = bool(row["odd"])
    else:
        raise ValueError(f"odd is {row['odd']} for {printable(str(row['path']))}")
    return SharedImage(
        name=printable(str(row["path"])),
        score=score,
        flagged=flagged,
        views={
            printable(name.removeprefix(_VIEW)): float(value)
            for name, value in row.items()
            if name.startswith(_VIEW)
        },
        why=printable(row.get("why") or ""),
        findings=printable(row.get("findings") or ""),
    )


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a table, with numbers in the columns of numbers."""
    if path.suffix.lower() == ".parquet":
        pa, parquet = parquet_library()
        check_regular(path)
        try:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    yield from batch.to_pylist()
        except pa.ArrowException as error:
            raise ValueError(str(error)) from error
        return
    with open_spreadsheet(path, ("path", "score"), "a table of scores") as table:
        numbers = [c for c in table.columns if c in ("score", "odd") or c.startswith(_VIEW)]
        for row in table:
            yield {**row, **{column: table.number(row[column]) for column in numbers}}


def _loose(name: str) -> str:
    return normalize("NFC", name).replace("\\", "/")


def _file_of(name: str) -> str:
    """Return the file that a page or frame is of, by its name."""
    return _loose(name).rpartition("[")[0]
