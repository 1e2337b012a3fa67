"""The command that scores over HTTP: serve."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from anowild.cli import options
from anowild.errors import UserError


def _limit(text: str, metavar: str = "N") -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        metavar=metavar, help=text, rich_help_panel="What is refused"
    )
    return option


def serve(
    model: options.Model,
    host: options.Host = "127.0.0.1",
    port: options.Port = 8766,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="SCORE",
            help="Limit from which images are flagged; else the one that is saved with the model, or what 5 % of the training images reach.",
        ),
    ] = None,
    queue: Annotated[int, _limit("Beyond so many images that wait: 429.")] = 256,
    images: Annotated[int, _limit("Requests of more images: 413.")] = 1000,
    body: Annotated[float, _limit("Requests that are larger: 413.", "MIB")] = 64,
    bodies: Annotated[float, _limit("All requests together: 429.", "MIB")] = 512,
    unpacked: Annotated[float, _limit("Zips that unpack to more: 413.", "MIB")] = 256,
    pixels: Annotated[int, _limit("Images of more pixels are not decoded.")] = 50_000_000,
    seconds: Annotated[float, _limit("Requests that take longer.", "S")] = 60,
    connections: Annotated[int, _limit("Idle connections beyond so many are closed.")] = 500,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "float32",
) -> None:
    """Score images that programs send over HTTP, until Ctrl-C; docs/serve.md says how.

    Other machines need a token: that in ANOWILD_TOKEN, else one is drawn and printed.
    """
    from anowild.serving import require_libraries

    require_libraries()
    from anowild.serving.limits import MIB, ServiceLimits
    from anowild.serving.serve import serve as run

    for name, mebibytes in (("body", body), ("bodies", bodies), ("unpacked", unpacked)):
        if not math.isfinite(mebibytes):
            raise UserError(f"--{name} {mebibytes}: give a number of MiB above 0")
    limits = ServiceLimits(
        queue, images, round(body * MIB), round(bodies * MIB), round(unpacked * MIB), pixels, seconds, connections,
    )  # fmt: skip
    limit = None if threshold is None else options.limit_of(threshold, model)
    detector = options.load_detector(model, device, threads, precision)
    run(detector, limit, limits, host, port)
