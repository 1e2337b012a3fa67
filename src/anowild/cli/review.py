"""Commands about people's decisions: review, marks, clean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from anowild.cli import options
from anowild.errors import UserError


def review(
    model: options.ModelOrTable,
    sources: options.MaybeSources = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FOLDER",
            help="Folder of the review; of a table unless given `review` inside of it.",
        ),
    ] = None,
    browser: options.Browser = True,
    host: options.Host = "127.0.0.1",
    port: options.Port = 8765,
    token: options.Token = True,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Score the images even if this model has done so; marks are kept."
        ),
    ] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> None:
    """Look at the images in a browser, the oddest first, and mark them; marks are kept in OUT."""
    from anowild import api

    if options.is_table(model, sources):
        if again:
            raise UserError("--again scores images, and a table has their scores; leave it out")
        api.review_table(model, out, host, port, token=token, open_browser=browser)
        return
    if out is None:
        raise UserError("name the folder of the review: anowild review MODEL IMAGES -o FOLDER")
    assert sources is not None
    detector = options.load_detector(model, device, threads)
    api.review(detector, sources, out, host, port, again, token=token, open_browser=browser)


def marks(
    out: Annotated[
        Path,
        typer.Argument(metavar="REVIEW", help="Folder of a review, or what `anowild find` made."),
    ],
    to: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="FILE", help="marks.csv, .json or .parquet."),
    ],
) -> None:
    """Write the marks of a review, for a table or for `evaluate --labels marks.csv --partial`."""
    from anowild.reviewing.export import write_marks

    print(f"{to}: {write_marks(out, to)} marks")


def clean(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="REVIEW",
            help="Folder of a review, or what `anowild find` made; or a table with a column odd.",
        ),
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
        str | None,
        typer.Option(
            metavar="SCORE",
            help="Review only: unmarked images go from this score on; `saved` is the limit kept with --model.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            parser=options.model_path,
            metavar="MODEL",
            help="For --threshold saved: folder of the model.",
        ),
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
    from anowild.reviewing import quarantine

    if undo is not None:
        print(f"{quarantine.undo(undo)} images moved back from {undo}")
        return
    if source is None or out is None:
        raise UserError("name a review and a new folder: anowild clean REVIEW -o OUT")
    limit = None if threshold is None else options.limit_of(threshold, model)
    for reason, count in sorted(api.clean(source, out, how, limit).items()):
        print(f"{count:8}  {reason}")
    print(f"{out / cleaning.LOG}: each image, and why")
    if how == "quarantine":
        print(f"to move them back: {options.command_line('clean', '--undo', out)}")
    elif how != "list":
        trained = options.new_name(out.with_name(f"{out.name}_model"))
        print(f"next: {options.command_line('train', out / cleaning.IMAGES, '-o', trained)}")
