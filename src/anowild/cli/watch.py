"""The command that scores images as they arrive: watch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from anowild.cli import options
from anowild.shown import shown_limit

#: Where a limit is from, in words.
ORIGINS = {
    "given": "as given",
    "saved": "kept with the model",
    "default": "as 5 % of the training images do",
}


def watch(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Where image files arrive, also in folders below."),
    ],
    model: Annotated[
        Path,
        typer.Option(
            parser=options.model_path,
            metavar="MODEL",
            help="Folder of a trained model, or hf://OWNER/NAME or hf://OWNER/NAME@REVISION.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="FILE", help="Table that grows: scores.parquet or scores.csv."
        ),
    ],
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="SCORE",
            help="Flag from this score on; `saved` is the one that is kept with the model. Unless given, the kept "
            "one if there is one, else what 5 % of the training images reach.",
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Run for each flagged image, with its path as last argument, and ANOWILD_IMAGE, ANOWILD_SCORE and "
            "ANOWILD_WHY in the environment.",
        ),
    ] = None,
    run_seconds: Annotated[
        float, typer.Option(min=0.1, metavar="N", help="After so long a command is killed.")
    ] = 60.0,
    post: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Post each flagged image as JSON, again until it is taken."
        ),
    ] = None,
    interval: Annotated[
        float, typer.Option(min=0.01, metavar="SECONDS", help="Between looks at the folder.")
    ] = 1.0,
    table_every: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Between writings of the table, at least."),
    ] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Score what is there, and end.")] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "float32",
) -> None:
    """Score image files as they arrive in a folder, each once, until Ctrl-C; the same command goes on.

    Each flagged image is printed, and can start a command or be posted to an address.
    """
    from anowild.files import for_terminal
    from anowild.scoring.saved_limit import limit_in_use
    from anowild.watching.watch import WatchOptions, watch

    given = None if threshold is None else options.limit_of(threshold, model)
    detector = options.load_detector(model, device, threads, precision)
    limit = limit_in_use(model, given)
    origin = "saved" if threshold == "saved" else limit.origin

    def say(text: str) -> None:
        print(for_terminal(text), flush=True)

    def begun() -> None:
        # Not among the flagged images, which programs read.
        text = (
            f"watching {folder}: what scores {shown_limit(limit.score)} or more is flagged ({ORIGINS[origin]}); "
            "Ctrl-C ends"
        )
        print(for_terminal(text), file=sys.stderr, flush=True)

    chosen = WatchOptions(interval, once, table_every, run, run_seconds, post)
    found = watch(detector, folder, out, limit.score, chosen, say, begun)
    waiting = f", {found.waiting} files not scored yet" if found.waiting else ""
    say(
        f"{out}: {found.scored} images scored, {found.flagged} of them flagged (score {shown_limit(limit.score)} or more), "
        f"{found.unreadable} unreadable{waiting}; {found.recorded} in the table"
    )
    for kind, count in found.undelivered.items():
        if count:
            options.print_error(
                f"anowild: --{kind}: {count} flagged images are not done; the same command goes on with them"
            )
