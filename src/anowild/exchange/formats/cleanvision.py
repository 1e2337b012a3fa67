"""An issue of CleanVision: a table to be joined with ``Imagelab.issues``.

CleanVision has two columns for an issue, ``is_<issue>_issue`` and ``<issue>_score`` (from 0 to 1, the lower the
worse), and the paths of the images as index; it saves its own as issues.csv in the same form.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anowild.data.spreadsheet import write_spreadsheet
from anowild.exchange.formats.base import Format, Options, SharedImage, text_of

ISSUES, SUMMARY = "issues.csv", "issue_summary.csv"
ISSUE = "anowild_odd"


class CleanVision(Format):
    """issues.csv, and issue_summary.csv with the number of images that have the issue."""

    name = "cleanvision"

    def write(self, images: Sequence[SharedImage], folder: Path, options: Options) -> None:
        columns = ["", f"is_{ISSUE}_issue", f"{ISSUE}_score"]
        rows = ((text_of(image.file), image.flagged, image.p_value) for image in images)
        with (folder / ISSUES).open("w", newline="", encoding="utf-8") as file:
            write_spreadsheet(file, columns, rows)
        with (folder / SUMMARY).open("w", newline="", encoding="utf-8") as file:
            count = sum(image.flagged for image in images)
            write_spreadsheet(file, ["issue_type", "num_images"], [(ISSUE, count)])


FORMAT = CleanVision()
