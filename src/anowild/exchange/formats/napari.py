"""Points and shapes of napari: where scored crops lie in the frames of a video, a stack or single images.

napari reads CSV files with the columns ``axis-0``, ``axis-1``, ...: points with properties, one a row, and shapes
with one row for each corner, which have no properties. So flagged crops also have shapes of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

from anowild.data.spreadsheet import write_spreadsheet
from anowild.exchange.formats.base import Box, Format, Options, SharedImage
from anowild.files import printable

POINTS, SHAPES, FLAGGED = "points.csv", "shapes.csv", "flagged.shapes.csv"


class Napari(Format):
    """FRAMES.points.csv, FRAMES.shapes.csv and FRAMES.flagged.shapes.csv for each file of frames.

    Axes are frame, row and column, or row and column where a file is one frame. Point number n is the center
    of shape number n.
    """

    name = "napari"
    needs = "box"
    ways = ()

    def write(self, images: Sequence[SharedImage], folder: Path, options: Options) -> None:
        by_file: dict[str, list[tuple[SharedImage, Box]]] = {}
        for image in images:
            assert image.box is not None
            by_file.setdefault(image.box.source, []).append((image, image.box))
        names: set[str] = set()
        for source, crops in by_file.items():
            stem = base = printable(PurePath(source).name)
            number = 2
            while stem.casefold() in names:  # files of the same name in different folders
                stem, number = f"{base}-{number}", number + 1
            names.add(stem.casefold())
            _write_points(folder / f"{stem}.{POINTS}", crops)
            _write_shapes(folder / f"{stem}.{SHAPES}", [box for _, box in crops])
            flagged = [box for image, box in crops if image.flagged]
            if flagged:  # napari does not read a file without shapes
                _write_shapes(folder / f"{stem}.{FLAGGED}", flagged)


def _write_points(path: Path, crops: Sequence[tuple[SharedImage, Box]]) -> None:
    axes = len(_frame(crops[0][1])) + 2
    columns = ["index", *_axes(axes), "score", "p_value", "flagged", "mark", "name", "reasons"]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = (
            [
                number, *_frame(box), box.top + (box.height - 1) / 2, box.left + (box.width - 1) / 2,
                image.score, image.p_value, int(image.flagged), image.verdict or "", image.name, image.why,
            ]
            for number, (image, box) in enumerate(crops)
        )  # fmt: skip
        write_spreadsheet(file, columns, rows)


def _write_shapes(path: Path, boxes: Sequence[Box]) -> None:
    columns = ["index", "shape-type", "vertex-index", *_axes(len(_frame(boxes[0])) + 2)]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = (
            [number, "rectangle", vertex, *_frame(box), row, column]
            for number, box in enumerate(boxes)
            for vertex, (row, column) in enumerate(_corners(box))
        )
        write_spreadsheet(file, columns, rows)


def _corners(box: Box) -> list[tuple[float, float]]:
    """Return row and column of the corners; a pixel reaches half a pixel beyond its coordinates."""
    top, left = box.top - 0.5, box.left - 0.5
    bottom, right = top + box.height, left + box.width
    return [(top, left), (top, right), (bottom, right), (bottom, left)]


def _frame(box: Box) -> list[int]:
    return [] if box.frame is None else [box.frame]


def _axes(count: int) -> list[str]:
    return [f"axis-{number}" for number in range(count)]


FORMAT = Napari()
