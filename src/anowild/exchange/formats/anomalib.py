"""The layout of anomalib's data module ``Folder``: images in ``normal`` and ``abnormal``.

Marks of a review decide. Where that is asked for, the limit decides about images without a mark; it cannot teach
a model more than the one that it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anowild.data.spreadsheet import write_spreadsheet
from anowild.errors import UserError
from anowild.exchange.formats.base import Format, Options, SharedImage

NOTE = "decisions.csv"
NORMAL, ABNORMAL = "normal", "abnormal"
FOLDERS = {"usual": NORMAL, "odd": ABNORMAL}


class Anomalib(Format):
    """normal/, abnormal/ (if any is) and decisions.csv, which says what decided about each image."""

    name = "anomalib"
    ways = ("links", "hardlinks", "copies")
    # What Folder reads; it passes other files over without a word.
    endings = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
    options = frozenset({"by_limit"})

    def folder_of(self, image: SharedImage, options: Options) -> str | None:
        if image.marked is not None:
            return FOLDERS[image.marked]
        # Somebody looked at an image that is marked unsure, and could not tell.
        if options.by_limit and image.verdict is None:
            return ABNORMAL if image.flagged else NORMAL
        return None

    def write(self, images: Sequence[SharedImage], folder: Path, options: Options) -> None:
        if not images:
            raise UserError(
                "no image is marked, so none can be sorted; give the marks of a review (--marks), or let the "
                "limit decide (--by-limit)"
            )
        if not (folder / NORMAL).exists():
            raise UserError(
                "no image is normal, and anomalib trains on normal images; mark some `keep` (--marks), or let the "
                "limit decide (--by-limit)"
            )
        with (folder / NOTE).open("w", newline="", encoding="utf-8") as file:
            columns = ["file", "decided_by", "score", "image"]
            write_spreadsheet(file, columns, map(_row, images))


def _row(image: SharedImage) -> list[object]:
    if image.marked is not None:
        why = f"mark: {image.verdict}"
    else:
        why = f"limit: {'reached' if image.flagged else 'not reached'}"
    return [str(image.inside), why, image.score, image.name]


FORMAT = Anomalib()
