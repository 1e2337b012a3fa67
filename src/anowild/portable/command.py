"""`anowild score MODEL.onnx IMAGES`, for installations without PyTorch and Typer."""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.data.spreadsheet import write_spreadsheet
from anowild.errors import UserError
from anowild.files import atomic_write, check_place, for_terminal
from anowild.portable.model import Images, PortableModel
from anowild.process import MOSTLY_LEFT_OUT, StderrHandler, mostly_left_out
from anowild.progress import bar
from anowild.shown import shown_limit, shown_score


def main(arguments: Sequence[str] | None = None) -> None:
    """Score images by an exported model, the oddest first: print them, or write a table.

    Raises:
        UserError: as :class:`PortableModel` and :class:`Images`, or the table cannot be written.
    """
    given = _parsed(sys.argv[2:] if arguments is None else arguments)
    logging.getLogger("anowild").handlers[:] = [StderrHandler()]
    if given.out is not None:
        if given.out.suffix.lower() != ".csv":
            raise UserError(f"{given.out}: scores of an exported model are written as .csv")
        check_place(given.out)
    model = PortableModel(given.model, given.threads)
    images = Images(model, given.images)
    names: list[str] = []
    found: list[Array] = []
    with bar("scoring, images", images.count()) as shown:
        for name, outputs in images:
            names.append(name)
            found.append(np.hstack([outputs["score"], outputs["views"], outputs["cues"]]))
            shown.update(len(names) + len(images.left_out))
    limit = model.facts.threshold if given.threshold is None else given.threshold
    values = np.stack(found)
    order = np.argsort(-values[:, 0], kind="stable")
    if given.out is not None:
        _write(given.out, model, names, values, order, limit)
    trained = model.facts.training_images
    _print(names, values, order, limit, given, len(images.left_out), trained)
    if mostly_left_out(len(names), len(images.left_out)):
        sys.exit(MOSTLY_LEFT_OUT)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "anowild score", description="Scores images by a model that anowild export wrote."
    )
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="folders, archives, arrays")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write a table, scores.csv")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "--threshold", type=_finite, metavar="SCORE", help="score from which images are flagged"
    )
    parser.add_argument(
        "--show", type=_whole, default=10, metavar="N", help="how many of the oddest are printed"
    )
    parser.add_argument("--threads", type=_whole, metavar="N", help="CPU threads; 0: as there are")
    return parser.parse_args(arguments)


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' is no finite number")
    return value


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of 0 or more")
    return int(text)


def _write(
    path: Path,
    model: PortableModel,
    names: Sequence[str],
    values: Array,
    order: Array,
    limit: float,
) -> None:
    """Write the table, with the columns of `anowild score` but the reasons."""
    views = [f"view_{view}" for view in model.facts.views]
    columns = ["path", "score", "rank", *views, *model.facts.cues, "odd"]

    def row(rank: int, i: int) -> list[Any]:
        score, *rest = values[i].tolist()
        return [names[i], score, rank, *rest, int(score >= limit)]

    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        write_spreadsheet(file, columns, (row(rank, i) for rank, i in enumerate(order, 1)))


def _print(
    names: Sequence[str],
    values: Array,
    order: Array,
    limit: float,
    given: argparse.Namespace,
    left_out: int,
    images: int | None,
) -> None:
    if given.json:
        for rank, i in enumerate(order, 1):
            score = float(values[i, 0])
            odd = score >= limit
            print(json.dumps({"path": names[i], "score": score, "rank": rank, "odd": bool(odd)}))
        return
    for rank, i in islice(enumerate(order, 1), given.show):
        shown = shown_score(float(values[i, 0]), images)
        print(for_terminal(f"{rank:6}  {shown:>7}  {names[i]}"))
    where = "" if given.out is None else f"{given.out}: "
    flagged = int((values[:, 0] >= limit).sum())
    print(
        f"{where}{len(names)} images, {left_out} left out; flagged: {flagged} (score {shown_limit(limit)} or more)"
    )
