"""Tables of scores read back: .csv or .parquet, as commands write them or another program saved them again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anowild.data.spreadsheet import open_spreadsheet
from anowild.errors import UserError
from anowild.files import check_regular
from anowild.libraries import parquet_library

#: Columns of text; all others hold numbers, where others than we have not added some.
TEXTS = ("path", "why", "findings")
#: What to do about a table that cannot be read.
AGAIN = "make the table again with `anowild score`"


class WrittenTable:
    """An open table of scores.

    Args:
        path: of the file.
        columns: their names.
        rows: cells by column.
        place: says where the last row stands, for messages.
        number: parses a cell that is not empty; raises ValueError or TypeError.

    Raises:
        UserError: there are two columns of one name.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str],
        rows: Iterable[Mapping[str, Any]],
        place: Callable[[], str],
        number: Callable[[Any], float],
    ) -> None:
        self.path, self.columns = path, list(columns)
        self._rows, self._place, self._parse = rows, place, number
        twice = [name for name in self.columns if name and self.columns.count(name) > 1]
        if twice:
            raise UserError(f"{path}: has two columns {twice[0]!r}; remove one")

    def rows(self, numbers: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield ``path``, and ``why`` and ``findings`` if there are such columns, as text, and ``numbers``.

        An image without a score, as of a file that `anowild watch` could not read, has a ``score`` that is NaN,
        and so may be all its numbers. Those of other images are finite.

        Raises:
            UserError: a row names no image, or a cell holds something else; the message says where.
        """
        texts = [name for name in TEXTS if name in self.columns]
        for cells in self._rows:
            row: dict[str, Any] = {}
            for name in texts:
                cell = cells[name]
                if not isinstance(cell, str | None):
                    raise self.wrong(f"{name} is {cell!r}, which is no text")
                row[name] = cell or ""
            if not row["path"]:
                raise self.wrong("names no image")
            for name in numbers:
                row[name] = self._number(name, cells[name])
            if not math.isnan(row.get("score", 0.0)):
                for name in numbers:
                    if not math.isfinite(row[name]):
                        raise self.wrong(f"{name} is {cells[name]}, which is no finite number")
            yield row

    def wrong(self, what: str) -> UserError:
        """Return the error for the last row."""
        return UserError(f"{self.path}, {self._place()}: {what}; correct it, or {AGAIN}")

    def _number(self, name: str, cell: Any) -> float:
        if cell is None or cell == "":  # as pandas writes NaN
            return math.nan
        try:
            return self._parse(cell)
        except (ValueError, TypeError):
            raise self.wrong(f"{name} is {cell!r}, which is no number") from None


@contextmanager
def open_table(path: Path) -> Iterator[WrittenTable]:
    """Open a table of scores, .parquet by its ending, else CSV.

    Raises:
        UserError: it cannot be read, or has no columns ``path`` and ``score``.
    """
    if path.suffix.lower() != ".parquet":
        with open_spreadsheet(path, ("path", "score"), "a table of scores") as sheet:
            yield WrittenTable(
                path, sheet.columns, sheet, lambda: f"line {sheet.line}", sheet.number
            )
        return
    pa, parquet = parquet_library()
    try:
        check_regular(path)
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            for needed in ("path", "score"):
                if needed not in names:
                    raise UserError(f"{path}: has no column {needed!r}; {AGAIN}")
            count = 0

            def rows() -> Iterator[Mapping[str, Any]]:
                nonlocal count
                for batch in file.iter_batches():
                    for row in batch.to_pylist():
                        count += 1
                        yield row

            yield WrittenTable(path, names, rows(), lambda: f"row {count}", float)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path}: cannot be read as a table of scores ({error}); {AGAIN}"
        ) from error
