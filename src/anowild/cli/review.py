"""Commands about people's decisions: review, marks, clean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from anowild.cli import options


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
    from anowild.reviewing.serve import check_installed

    check_installed()
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
        Path,
        typer.Argument(metavar="REVIEW", help="Folder of a review, or a table with a column odd."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="New folder.")],
    how: Annotated[
        Literal["list", "links", "copies"],
        typer.Option(help="What is written of the images that stay."),
    ] = "links",
    above: Annotated[
        float | None,
        typer.Option(
            help="Review only: also remove unmarked images with a score of at least this value."
        ),
    ] = None,
) -> None:
    """Write the images that stay, and why each stays or goes; the originals are not touched."""
    from anowild import api
    from anowild.reviewing.clean import IMAGES, LOG

    for reason, count in sorted(api.clean(source, out, how, above).items()):
        print(f"{count:8}  {reason}")
    print(f"{out / LOG}: each image, and why")
    if how != "list":
        print(f"next: anowild train {out / IMAGES} -o model")
