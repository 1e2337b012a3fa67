"""The command export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anowild.cli import options
from anowild.shown import shown_limit


def export(
    model: options.Model,
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="model.onnx, model.xml (OpenVINO), model.pt2 (PyTorch) or page.html (scores in a browser).",
        ),
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="onnx, openvino, torch or page; what the ending of FILE says unless given.",
        ),
    ] = None,
    pixels: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Of the images that it will take: uint8, uint16 or float32; that of the model unless given.",
        ),
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Of a page: dist of npm's package onnxruntime-web; node_modules/onnxruntime-web/dist unless given.",
        ),
    ] = None,
) -> None:
    """Write a model as one file for other runtimes: from raw images to scores, heat map and all."""
    from anowild import api

    facts = api.export(model, out, kind, pixels, runtime)
    print(
        f"{out}: takes {facts.pixels} images, flags scores of {shown_limit(facts.threshold)} or more"
    )
    if out.suffix.lower() == ".onnx":
        print(f"next: {options.command_line('score', out, 'IMAGES')}")
