"""Decisions as a file: CSV, JSON or Parquet, a row for each mark."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anowild.errors import UserError
from anowild.files import atomic_write, printable
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import MARKS, Mark, Store, consensus

#: Media types by ending.
FORMATS = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}
COLUMNS = ("path", "label", "verdict", "reviewer", "time", "agreed", "score")
#: What ``label`` says of a verdict; `anowild evaluate --labels` reads it.
LABELS = {"keep": "0", "odd": "1", "unsure": ""}


def encode_marks(session: ReviewSession, marks: Sequence[Mark], kind: str) -> bytes:
    """All marks that stand, in the order they were made; ``agreed`` is what all reviewers say.

    Raises:
        KeyError: another kind of file.
        UserError: Parquet, and pyarrow is not installed.
    """
    FORMATS[kind]
    scores = dict(zip(session.names, session.score.tolist(), strict=True))
    agreed = consensus(list(marks))
    rows: list[dict[str, Any]] = [
        {
            "path": mark.image
            if kind == "csv" and _has_bytes(mark.image)
            else printable(mark.image),
            "label": LABELS[agreed[mark.image]],
            "verdict": mark.verdict,
            "reviewer": mark.reviewer,
            "time": mark.time,
            "agreed": agreed[mark.image],
            "score": scores.get(mark.image),
        }
        for mark in marks
    ]
    if kind == "json":
        return json.dumps(rows, indent=1).encode()
    if kind == "csv":
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, COLUMNS)
        table.writeheader()
        table.writerows(rows)
        # As the tables of scores have it: names are the bytes that the system knows.
        return text.getvalue().encode("utf-8", "surrogateescape")
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError(
            "Parquet needs pyarrow: pip install 'anowild[formats]', or take CSV"
        ) from None
    types = {"score": pa.float64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), data)
    return data.getvalue()


def _has_bytes(name: str) -> bool:
    """Whether a name stands for bytes; half a character does not."""
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def write_marks(folder: Path, path: Path) -> int:
    """Write the marks of the review in ``folder``; how many there are.

    Raises:
        UserError: there is no review, or the file has another ending or cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UserError(
            f"{path}: marks are written as .csv, .json or .parquet; give such an ending"
        )
    if not (folder / MARKS).exists():
        raise UserError(f"{folder}: holds no review; make one with `anowild review`")
    store = Store(folder / MARKS)
    try:
        marks = store.marks()
    finally:
        store.close()
    data = encode_marks(ReviewSession.load(folder), marks, kind)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return len(marks)
