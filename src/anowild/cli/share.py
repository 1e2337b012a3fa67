"""The command that writes scored images for other tools: share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from anowild.cli import options
from anowild.exchange.formats import format_names


def share(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="scores.csv or .parquet, of `anowild score`.")
    ],
    sources: options.Sources,
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help=f"One of {', '.join(format_names())}.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="New folder.")],
    marks: Annotated[
        Path | None,
        typer.Option(metavar="REVIEW", help="Folder of a review, or its marks as a file."),
    ] = None,
    how: Annotated[
        Literal["reference", "links", "hardlinks", "copies"] | None,
        typer.Option(
            help="Name the image files where they are, or put links, hard links or copies into OUT; as the format "
            "has it unless given. Images that are no files of their own are written as PNG."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            help="Flag from this score on; unless given, as the table's column odd says, or without one, from what "
            "5 % of the training images reach.",
        ),
    ] = None,
    url_prefix: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="label-studio: what addresses of images begin with; their paths follow, relative to the folder "
            "that all have in common.",
        ),
    ] = None,
    by_limit: Annotated[
        bool,
        typer.Option("--by-limit", help="anomalib: the limit decides about images without a mark."),
    ] = False,
) -> None:
    """Write scored images as another tool reads them, such as FiftyOne or Label Studio."""
    from anowild import api

    counts = api.share(
        table, sources, to, out, marks=marks, how=how, threshold=threshold, url_prefix=url_prefix,
        by_limit=by_limit,
    )  # fmt: skip
    for what, count in counts.items():
        print(f"{count:8}  {what}")
    print(f"{out}: for {to}; docs/tools.md says how to open it")
    options.check_left_out(counts["shared"], counts["missing"])
