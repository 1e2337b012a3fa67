"""What people decided in a review, from its folder or from a file that `anowild marks` wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from anowild.data.spreadsheet import open_spreadsheet
from anowild.errors import UserError
from anowild.files import check_regular, is_folder, printable, read_json
from anowild.libraries import parquet_library
from anowild.reviewing.folder import review_in
from anowild.reviewing.store import VERDICTS, Mark, consensus, marks_in, tags_of


def read_marks(source: Path) -> dict[str, tuple[str | None, tuple[str, ...]]]:
    """Return the verdict that all reviewers agreed on (else ``unsure``) and the tags, by image.

    Args:
        source: folder of a review; or its marks as .csv, .json or .parquet.

    Raises:
        UserError: it is neither, cannot be read, or has no marks.
    """
    if is_folder(source):
        marks = marks_in(review_in(source))
    else:
        try:
            marks = [_mark(row) for row in _rows(source)]
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            raise UserError(
                f"{source}: cannot be read as marks of a review ({error!r}); write them again with `anowild marks`"
            ) from error
    if not marks:
        raise UserError(f"{source}: holds no marks; mark images with `anowild review` first")
    agreed, tags = consensus(marks), tags_of(marks)
    return {image: (agreed.get(image), tuple(tags.get(image, ()))) for image in agreed | tags}


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    kind = path.suffix.lower()
    if kind == ".json":
        return list(read_json(path))
    if kind == ".parquet":
        pa, parquet = parquet_library()
        check_regular(path)
        try:
            rows: list[Mapping[str, Any]] = parquet.read_table(path).to_pylist()
        except pa.ArrowException as error:
            raise ValueError(str(error)) from error
        return rows
    with open_spreadsheet(path, ("path", "verdict", "reviewer"), "marks of a review") as table:
        return list(table)


def _mark(row: Mapping[str, Any]) -> Mark:
    path, verdict = row["path"], row["verdict"] or None
    if verdict is not None and verdict not in VERDICTS:
        raise ValueError(f"verdict {verdict!r} for {printable(path)}")
    if not isinstance(path, str):
        raise TypeError(f"path {path!r}")
    tags = tuple(tag for tag in (row.get("tags") or "").split(";") if tag)
    return Mark(path, row["reviewer"], verdict, row.get("time") or "", tags)
