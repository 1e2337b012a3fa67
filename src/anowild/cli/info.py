"""Commands that show what AnoWild is: settings, networks, demo."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from anowild.cli import options
from anowild.presets import preset
from anowild.settings import Settings


def networks(
    preset_name: options.PresetArgument,
    as_json: options.AsJson = False,
    changes: options.Changes = None,
) -> None:
    """Print the layers of G, D and E, as the paper's appendix tabulates them."""
    chosen = options.settings_of(preset_name, changes)
    from anowild.paper.tables import MISPRINTS, tables

    found = tables(
        chosen.resolution or chosen.max_resolution,
        chosen.channels or 1,
        chosen.fmap_base,
        chosen.fmap_max,
        chosen.latent_size,
    )
    if as_json:
        print(json.dumps({name: table.to_json() for name, table in found.items()}, indent=2))
        return
    for name, table in found.items():
        print(f"{name.capitalize():24} {'Params':>10}  {'OutputShape':22} WeightShape")
        for row in table.rows:
            params = "-" if row.params is None else row.params
            print(f"{row.name:24} {params:>10}  {row.output_shape:22} {row.weight_shape or '-'}")
        print(f"{'Total':24} {table.total:>10}\n")
    for line in MISPRINTS.get(preset_name, ()):
        print(f"Misprint in the appendix: {line}")


def settings(
    preset_name: options.PresetArgument = "laptop",
    changes: options.Changes = None,
) -> None:
    """Print every setting of a preset: value, unit, where it is from, what it means."""
    chosen, values = preset(preset_name), options.settings_of(preset_name, changes)
    print(f"{preset_name}: {chosen.summary}\n")
    for field in dataclasses.fields(Settings):
        unit = f" {field.metadata['unit']}" if field.metadata["unit"] else ""
        print(f"{field.name} = {getattr(values, field.name)}{unit}")
        print(f"    {field.metadata['meaning']} [{chosen.source_of(field.name)}]")


def demo(
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="FOLDER", help="Folder of images, report, table."),
    ] = Path("demo"),
    kimg: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Length of each training, in thousands of images shown; 12, about a minute, unless given.",
        ),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of anomalies hidden in the training set."),
    ] = 0.05,
    seed: Annotated[int, typer.Option(metavar="N", help="Of everything that is drawn.")] = 0,
    threads: options.Threads = None,
) -> None:
    """Find digits that are hidden among others, and compare what is found with other methods."""
    from anowild.demo import run_demo

    run_demo(out, rate, seed, kimg, threads)
