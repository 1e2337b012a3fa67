"""Tables in text files: CSV as spreadsheet programs, pandas and AnoWild write it.

Read are UTF-8 with or without a byte order mark, and UTF-16; cells between commas, semicolons or tabs;
headers in any case, with blanks around them. Written is CSV in which no text is a formula.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from anowild.errors import UserError
from anowild.files import open_regular, printable

#: What may stand between cells.
DELIMITERS = ",;\t"
#: Text that spreadsheet programs take as a formula (OWASP, "CSV Injection"), perhaps escaped already.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
_WHOLE = re.compile(r"([+-]?\d+)[.,]0+")


class Spreadsheet:
    """An open table: its columns, and an iterator over its rows.

    Rows are dictionaries by column name; a cell that is missing at the end of a row is empty, and rows
    without any text are passed over. Where a row has cells beyond the last column, those that begin with
    a blank belong to the text before them, if that gives a cell for each column.

    Args:
        path: of the file, for messages.
        file: the file, after its byte order mark.
        needed: columns that there have to be, in lower case.

    Raises:
        UserError: there is no header with these columns, or a row has cells beyond the last column.
    """

    def __init__(self, path: Path, file: TextIO, needed: Sequence[str]) -> None:
        self.path = path
        self._file = file
        self._skipped = 0  # lines before the first row
        header = self._next_line()
        if re.fullmatch(
            r"sep=.\r?\n?", header
        ):  # which Excel reads, and some programs write for it
            header = self._next_line()
        self._header = printable(header.strip())[:120]
        for delimiter in DELIMITERS:
            names = next(csv.reader([header], delimiter=delimiter), [])
            #: Names of the columns, in lower case.
            self.columns = [name.strip().lower() for name in names]
            if all(self.columns.count(name) == 1 for name in needed):
                self.delimiter = delimiter
                return
        raise UserError(
            f"{path}: needs one column each of {', '.join(needed)}, and its first line is "
            f"{self._header!r}; give it a header with these names, between commas, semicolons or tabs"
        )

    @property
    def line(self) -> int:
        """The number of the line that the last row ends on, from 1."""
        return self._skipped + self._rows.line_num

    def __iter__(self) -> Iterator[dict[str, str]]:
        self._rows = csv.reader(self._file, delimiter=self.delimiter)
        width = len(self.columns)
        for cells in self._rows:
            if not any(cells):
                continue
            if any(cells[width:]):
                cells = self._joined(cells)
                if len(cells) != width:
                    raise UserError(
                        f"{self.path}, line {self.line}: has more cells than the header "
                        f"{self._header!r}, which has {width}; put text that holds the separator "
                        "into double quotes"
                    )
            cells += [""] * (width - len(cells))
            yield dict(zip(self.columns, map(_unescaped, cells), strict=False))

    def number(self, text: str) -> float:
        """Parse a number, whose decimal mark may be a comma where no comma stands between cells.

        Raises:
            ValueError: it is no number.
        """
        return float(text if self.delimiter == "," else text.replace(",", "."))

    def _joined(self, cells: list[str]) -> list[str]:
        """Join cells of text that holds the separator and a blank, which nobody put into quotes."""
        joined = cells[:1]
        for cell in cells[1:]:
            if cell.startswith(" "):
                joined[-1] += self.delimiter + cell
            else:
                joined.append(cell)
        return joined

    def _next_line(self) -> str:
        """Return the next line that is not blank; empty at the end of the file."""
        while line := self._file.readline():
            self._skipped += 1
            if line.strip():
                break
        return line


@contextmanager
def open_spreadsheet(path: Path, needed: Sequence[str], what: str) -> Iterator[Spreadsheet]:
    """Open a table in a text file.

    File names keep bytes that are no UTF-8, as the file system's functions do.

    Args:
        path: of the file.
        needed: columns that there have to be, in lower case.
        what: the table is read as, for messages.

    Raises:
        UserError: the file cannot be read, is no such table, or, inside the context, a row cannot be
            read.
    """
    try:
        with open_regular(path) as data:
            encoding = _encoding(data.read(2))
            data.seek(0)
            errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
            file = io.TextIOWrapper(data, encoding, errors, newline="")
            yield Spreadsheet(path, file, needed)
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path}: cannot be read as {what} ({reason}); check the file, or make it again"
        ) from error


def write_spreadsheet(
    file: TextIO, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a table as CSV; text that starts a formula gets an apostrophe, which reading takes off."""
    table = csv.writer(file)
    table.writerow(columns)
    table.writerows([_escaped(cell) for cell in row] for row in rows)


def as_label(text: str) -> str:
    """Return a label without blanks around it; a whole number as such, as 1 for ``1.0``."""
    text = text.strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def starts_formula(text: str) -> bool:
    """Whether a spreadsheet program may take a text as a formula."""
    return _FORMULA.match(text) is not None and not _NUMBER.fullmatch(text)


def _escaped(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and starts_formula(cell) else cell


def _unescaped(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _encoding(start: bytes) -> str:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # Without a byte order mark: letters of a header have a zero byte each.
    if b"\0" in start:
        return "utf-16-be" if start[0] == 0 else "utf-16-le"
    return "utf-8-sig"
