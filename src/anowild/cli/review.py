"""Commands about people's decisions: review, marks, clean."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from anowild.cli import options
from anowild.errors import UserError


def review(
    model: options.Model,
    sources: options.Sources,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the review.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8765,
    again: Annotated[
        bool, typer.Option("--again", help="Score once more; the marks are kept.")
    ] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> None:
    """Look at the images in a browser, the oddest first, and mark them; marks are kept in OUT."""
    from anowild import api

    api.review(options.load_detector(model, device, threads), sources, out, host, port, again)


def marks(
    out: Annotated[Path, typer.Argument(metavar="REVIEW", help="Folder of a review.")],
    to: Annotated[Path, typer.Option("-o", "--out", help="marks.csv, .json or .parquet.")],
) -> None:
    """Write the marks of a review, for a table or for `evaluate --labels marks.csv --partial`."""
    from anowild.reviewing.export import write_marks

    print(f"{to}: {write_marks(out, to)} marks")


def clean(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="REVIEW", help="Folder of a review, or a table with a column odd."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FOLDER", help="New folder.")
    ] = None,
    how: Annotated[
        Literal["list", "links", "copies", "quarantine"],
        typer.Option(
            help="Only lists; also links to the images that stay, or copies; or the originals that go "
            "are moved into OUT."
        ),
    ] = "links",
    threshold: Annotated[
        float | None,
        typer.Option(metavar="SCORE", help="Review only: unmarked images go from this score on."),
    ] = None,
    undo: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Move the originals back from this folder's quarantine."
        ),
    ] = None,
) -> None:
    """Drop the images that are marked remove: write what stays and what goes, and why.

    The originals are not touched, unless --how quarantine moves those that go.
    """
    from anowild import api
    from anowild.reviewing import clean as cleaning

    if undo is not None:
        print(f"{cleaning.undo(undo)} images moved back from {undo}")
        return
    if source is None or out is None:
        raise UserError("name a review and a new folder: anowild clean REVIEW -o OUT")
    for reason, count in sorted(api.clean(source, out, how, threshold).items()):
        print(f"{count:8}  {reason}")
    print(f"{out / cleaning.LOG}: each image, and why")
    if how == "quarantine":
        print(f"to move them back: anowild clean --undo {shlex.quote(str(out))}")
    elif how != "list":
        images, model = out / cleaning.IMAGES, out.with_name(f"{out.name}_model")
        print(f"next: anowild train {shlex.quote(str(images))} -o {shlex.quote(str(model))}")
