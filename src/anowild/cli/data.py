"""Commands about images before a training: prepare, contaminate, data fetch, data show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from anowild.cli import completion
from anowild.cli.help import Command
from anowild.cli.options import (
    Changes,
    Engine,
    Sources,
    Workers,
    changed,
    check_left_out,
    check_workers,
    command_line,
    model_path,
    new_name,
    two_numbers,
)
from anowild.errors import UserError
from anowild.files import for_terminal

if TYPE_CHECKING:
    from anowild.data.crops import CropSettings

data_app = typer.Typer(help="Known data sets, and what is in a packed one.", no_args_is_help=True)


def _crops(text: str, *names: str, **more: Any) -> Any:
    """Return an option under a heading of its own in the help."""
    return typer.Option(*names, help=text, rich_help_panel="Crops of objects", **more)


def prepare(
    sources: Sources,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="Folder of the data set.")
    ],
    test: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGES", help="A source of the test split; may be repeated."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="N", help="Side in pixels: 8, 16, ... 512.")
    ] = None,
    changes: Changes = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="CSV with path and label, or an array of labels."),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            parser=model_path,
            metavar="MODEL",
            help="Model whose preprocessing to use, so that it can score.",
        ),
    ] = None,
    leaks: Annotated[
        Literal["refuse", "drop", "keep"],
        typer.Option(help="What to do with test images that are in training too."),
    ] = "refuse",
    crop_objects: Annotated[
        bool, _crops("The images are frames: cut objects out of them.", "--crop-objects")
    ] = False,
    object_size: Annotated[
        float | None,
        _crops("Typical diameter of an object, in pixels of the frame.", metavar="N"),
    ] = None,
    contrast: Annotated[
        float | None,
        _crops(
            "Least contrast of an object, in multiples of the noise; 4 by default.", metavar="N"
        ),
    ] = None,
    crop_side: Annotated[
        int | None, _crops("Side of a crop in pixels; else twice the object size.", metavar="N")
    ] = None,
    padding: Annotated[
        str | None,
        _crops(
            "At the frame's border: shift the crop (default), reflect, edge, zero, or skip it.",
            metavar="HOW",
        ),
    ] = None,
    levels: Annotated[
        str | None,
        _crops(
            "Black and white by percentiles of each 'frame' (default) or the whole 'video', or LOW,HIGH.",
            metavar="HOW",
        ),
    ] = None,
    percentiles: Annotated[
        str | None, _crops("The two percentiles; 0.1,99.9 by default.", metavar="LOW,HIGH")
    ] = None,
    masks: Annotated[
        list[str] | None,
        _crops(
            "Instance masks instead of detection, a source for each of the others.",
            metavar="IMAGES",
        ),
    ] = None,
    thin: Annotated[
        str | None,
        _crops(
            "Drop crops that hardly moved and changed: SIZES,SHARE as 0.1,0.03 (default); 0: off.",
            metavar="SIZES,SHARE",
        ),
    ] = None,
    every: Annotated[
        int | None, _crops("Read only one frame in this many.", min=1, metavar="N")
    ] = None,
    engine: Engine = "process",
    workers: Workers = None,
) -> None:
    """Turn images, arrays, archives or videos into a packed data set that trains fast."""
    from anowild import api
    from anowild.data.dataset.summary import quality_summary

    check_workers(engine, workers)
    given: dict[str, Any] = {
        "object_size": object_size, "contrast": contrast, "side": crop_side, "padding": padding,
        "every": every,
    }  # fmt: skip
    if percentiles is not None:
        given["percentiles"] = two_numbers(percentiles, "--percentiles")
    if levels in ("frame", "video"):
        given["levels"] = levels
    elif levels is not None:
        given |= {"levels": "fixed", "grays": two_numbers(levels, "--levels")}
    if thin is not None:
        max_shift, max_change = (0.0, 0.0) if thin == "0" else two_numbers(thin, "--thin")
        given |= {"max_shift": max_shift, "max_change": max_change}
    packed = api.prepare(
        sources, out, changed(api.PREPARED, changes, resolution=size),
        test=test or (), labels=labels, like=like, leaks=leaks,
        crops=_crop_settings(crop_objects, given), masks=masks or (), engine=engine, workers=workers,
    )  # fmt: skip
    for line in quality_summary(packed):
        print(for_terminal(line))
    print(f"next: {command_line('train', out, '-o', new_name('model'))}")
    leaks_dropped = packed.description["findings"]["leaks"]
    dropped = leaks_dropped["equal"] + leaks_dropped["near"] if leaks == "drop" else 0
    check_left_out(len(packed) + dropped, packed.description["left_out"] - dropped)


def contaminate(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="Packed data set with labels.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="Folder of the new data set.")
    ],
    rate: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of anomalies in the new training split."),
    ],
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the draw of anomalies.")] = 0,
    normal: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="Label of normal images; may be repeated."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="cifar10-one-vs-rest, cifar10-vehicles-vs-animals, mnist-one-vs-rest.",
        ),
    ] = None,
) -> None:
    """Put known anomalies into the training split, for honest experiments."""
    from anowild import api

    packed = api.contaminate(dataset, out, rate, seed, normal or (), protocol)
    facts = packed.description["contamination"]
    counts = ", ".join(f"{split}: {count}" for split, count in packed.counts.items())
    print(
        f"{out}: {counts} images; {len(facts['indices'])} of the training images are anomalies, "
        f"listed in {out / 'dataset.json'}"
    )
    model = new_name("model")
    train = command_line("train", out, "-o", model)
    evaluate = command_line("evaluate", model, f"{out}:test", "--labels", "source")
    print(f"next: {train} && {evaluate}")


@data_app.command(cls=Command)
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="cifar10, cifar100, mnist or fashion-mnist.",
            autocompletion=completion.downloads,
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="Folder to download into.")
    ],
) -> None:
    """Download a known data set, or go on with the download; the checksums are verified."""
    from anowild.data.download import fetch as fetch_files

    files = fetch_files(name, out)
    for path in files:
        print(path)
    source = files[0] if len(files) == 1 else out
    print(f"next: {command_line('prepare', source, '-o', new_name(name))}")


@data_app.command(cls=Command)
def show(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Packed data set.")],
    listed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Images named for each finding.")
    ] = 20,
) -> None:
    """Say what a packed data set holds, and what its quality checks found."""
    from anowild.data import PackedSet
    from anowild.data.dataset.summary import quality_summary

    for line in quality_summary(PackedSet(dataset), listed):
        print(for_terminal(line))


def _crop_settings(wanted: bool, given: dict[str, Any]) -> CropSettings | None:
    from anowild.data.crops import CropSettings

    chosen = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        if chosen:
            raise UserError("sizes, contrast and thinning of crops need --crop-objects")
        return None
    if "object_size" not in chosen:
        raise UserError("--crop-objects needs --object-size, the typical diameter in pixels")
    return CropSettings(**chosen)
