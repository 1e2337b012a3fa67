"""Export of marks as CSV, JSON or Parquet, with one row for each mark."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from anowild.data.spreadsheet import write_spreadsheet
from anowild.errors import UserError
from anowild.files import atomic_write, printable
from anowild.libraries import parquet_library
from anowild.reviewing.folder import review_in, table_of
from anowild.reviewing.store import Mark, consensus, marks_in

#: Media types by file extension.
FORMATS = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}
COLUMNS = ("path", "label", "verdict", "tags", "reviewer", "time", "agreed", "score", "findings")
#: Value of the column ``label`` by verdict, as `anowild evaluate --labels` reads it.
LABELS = {"keep": "0", "remove": "1", "interesting": "1", "unsure": "", None: ""}


#: What is known of images by name: score, and what the checks found.
Said = Callable[[Iterable[str]], dict[str, tuple[float, str]]]


def encode_marks(said_of: Said, marks: Sequence[Mark], kind: str) -> bytes:
    """Encode marks as a file.

    The column ``agreed`` is the consensus of all reviewers, ``label`` its label, and ``findings`` names what
    cheap checks of the original found.

    Args:
        said_of: gives scores and findings of images.
        marks: in the order of the rows.
        kind: csv, json or parquet.

    Raises:
        KeyError: ``kind`` is another one.
        UserError: Parquet is asked for, and its library is not installed.
    """
    FORMATS[kind]
    agreed = consensus(list(marks))
    said = said_of({mark.image for mark in marks})

    def written(name: str) -> str:
        return name if kind == "csv" and _has_bytes(name) else printable(name)

    rows: list[dict[str, Any]] = [
        {
            "path": written(mark.image),
            "label": LABELS[agreed.get(mark.image)],
            "verdict": mark.verdict or "",
            "tags": ";".join(mark.tags),
            "reviewer": mark.reviewer,
            "time": mark.time,
            "agreed": agreed.get(mark.image, ""),
            "score": said.get(mark.image, (None, ""))[0],
            "findings": written(said.get(mark.image, (None, ""))[1]),
        }
        for mark in marks
    ]
    if kind == "json":
        return json.dumps(rows, indent=1).encode()
    if kind == "csv":
        text = io.StringIO(newline="")
        write_spreadsheet(text, COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
        # As in tables of scores: names are written as the bytes of the file system.
        return text.getvalue().encode("utf-8", "surrogateescape")
    pa, parquet = parquet_library()
    types = {"score": pa.float64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    data = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), data)
    return data.getvalue()


def _has_bytes(name: str) -> bool:
    """Whether a name has a form in bytes; names with lone surrogates may have none."""
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _said_of(folder: Path) -> Said:
    """Open what a review knows of its images: its session, or the table that it is of."""
    table = table_of(folder)
    if table is not None:
        from anowild.reviewing.table import TableCatalog

        return TableCatalog(table).said_of
    from anowild.reviewing.session import ReviewSession  # with PyTorch

    return ReviewSession.load(folder).said_of


def write_marks(folder: Path, path: Path) -> int:
    """Write the marks of the review in ``folder`` to a file, and return their number.

    Raises:
        UserError: there is no review, or nothing is marked in it; or the file has an unknown extension or cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UserError(
            f"{path}: marks are written as .csv, .json or .parquet; give such an ending"
        )
    folder = review_in(folder)
    marks = marks_in(folder)
    if not marks:
        raise UserError(f"{folder}: holds no marks yet; open it with `anowild review`")
    data = encode_marks(_said_of(folder), marks, kind)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return len(marks)
