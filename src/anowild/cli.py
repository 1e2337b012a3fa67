"""The command line. Thin: every command calls the public functions and prints what they return."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import math
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from anowild.errors import UserError
from anowild.presets import FAST, PRESETS, preset
from anowild.settings import Settings
from anowild.signals import Interrupted
from anowild.version import VERSION

if TYPE_CHECKING:
    from anowild.data.crops import CropSettings

app = typer.Typer(
    name="anowild",
    help="Finds the odd images in a folder that nobody has labeled.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Sources = Annotated[
    list[str],
    typer.Argument(
        help="Folders, zips and tars of images, arrays (file.npz:key), videos, packed data sets "
        "(DATASET:test), ..."
    ),
]
Device = Annotated[
    str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; all unless given.")]
Precision = Annotated[
    str,
    typer.Option(help="Of scoring: float32, or bfloat16: faster on new devices, nearly the same."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change any setting; `anowild settings` lists them."),
]  # fmt: skip


def _crops(text: str, *names: str, **more: Any) -> Any:
    """An option under a heading of its own in the help."""
    return typer.Option(*names, help=text, rich_help_panel="Crops of objects", **more)


def _line(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Where to draw the line (one of these)")


Budget = Annotated[int | None, _line("Flag the oddest: so many as you can look at.")]
Expected = Annotated[float | None, _line("Flag the share of anomalies that you expect.")]
Fdr = Annotated[
    float | None, _line("Flag so that at most this share of the flags is false, on average.")
]
CalibrationSources = Annotated[
    list[str] | None,
    _line("For --fdr: images like the normal ones, not trained on; may be repeated."),
]
Auto = Annotated[bool, _line("Flag what lies apart from the rest, if anything does.", "--auto")]
Partial = Annotated[
    bool, typer.Option("--partial", help="Images without a label do not count, as in a review.")
]


@app.command()
def prepare(
    sources: Sources,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the data set.")],
    test: Annotated[
        list[str] | None, typer.Option(help="A source of the test split; may be repeated.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side in pixels: 8, 16, ... 512.")] = None,
    changes: Changes = None,
    labels: Annotated[
        str | None, typer.Option(help="CSV with path and label, or an array of labels.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="Model whose preprocessing to use, so that it can score.")
    ] = None,
    leaks: Annotated[
        str, typer.Option(help="Test images that are in training too: refuse, drop or keep them.")
    ] = "refuse",
    crop_objects: Annotated[
        bool, _crops("The images are frames: cut objects out of them.", "--crop-objects")
    ] = False,
    object_size: Annotated[
        float | None, _crops("Typical diameter of an object, in pixels of the frame.")
    ] = None,
    contrast: Annotated[
        float | None,
        _crops("Least contrast of an object, in multiples of the noise; 4 by default."),
    ] = None,
    crop_side: Annotated[
        int | None, _crops("Side of a crop in pixels; else twice the object size.")
    ] = None,
    padding: Annotated[
        str | None,
        _crops("At the frame's border: shift the crop (default), reflect, edge, zero, or skip it."),
    ] = None,
    levels: Annotated[
        str | None,
        _crops(
            "Black and white by percentiles of each 'frame' (default) or the whole 'video', or LOW,HIGH."
        ),
    ] = None,
    percentiles: Annotated[str | None, _crops("The two percentiles; 0.1,99.9 by default.")] = None,
    masks: Annotated[
        list[str] | None,
        _crops("Instance masks instead of detection, a source for each of the others."),
    ] = None,
    thin: Annotated[
        str | None,
        _crops(
            "Drop crops that hardly moved and changed: SIZES,SHARE as 0.1,0.03 (default); 0: off."
        ),
    ] = None,
    every: Annotated[int | None, _crops("Read only every so many frames.", min=1)] = None,
) -> None:
    """Turn images, arrays, archives or videos into a packed data set that trains fast."""
    from anowild import preparation
    from anowild.data.dataset.finalize import LEAKS
    from anowild.data.dataset.summary import sentences

    if leaks not in LEAKS:
        raise UserError(f"--leaks takes {', '.join(LEAKS)}, not '{leaks}'")
    given: dict[str, Any] = {
        "object_size": object_size, "contrast": contrast, "side": crop_side, "padding": padding,
        "every": every,
    }  # fmt: skip
    if percentiles is not None:
        given["percentiles"] = _two(percentiles, "--percentiles")
    if levels in ("frame", "video"):
        given["levels"] = levels
    elif levels is not None:
        given |= {"levels": "fixed", "grays": _two(levels, "--levels")}
    if thin is not None:
        still, changed = (0.0, 0.0) if thin == "0" else _two(thin, "--thin")
        given |= {"still": still, "changed": changed}
    packed = preparation.prepare(
        sources, out, _changed(preparation.PREPARED, changes, resolution=size),
        test=test or (), labels=labels, like=like, leaks=leaks,  # type: ignore[arg-type]
        crops=_crop_settings(crop_objects, given), masks=masks or (),
    )  # fmt: skip
    for line in sentences(packed):
        print(line)
    print(f"next: anowild train {out} -o model")


@app.command()
def contaminate(
    dataset: Annotated[Path, typer.Argument(help="Packed data set with labels.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the new data set.")],
    rate: Annotated[float, typer.Option(help="Share of anomalies in the new training split.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    normal: Annotated[
        list[str] | None, typer.Option(help="Label of normal images; may be repeated.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="cifar10-one-vs-rest, cifar10-vehicles-vs-animals, mnist-one-vs-rest."),
    ] = None,
) -> None:
    """Put known anomalies into the training split, for honest experiments."""
    from anowild import preparation

    packed = preparation.contaminate(dataset, out, rate, seed, normal or (), protocol)
    facts = packed.description["contamination"]
    counts = ", ".join(f"{split}: {count}" for split, count in packed.counts.items())
    print(
        f"{out}: {counts} images; {len(facts['indices'])} of the training images are anomalies, "
        f"listed in {out / 'dataset.json'}"
    )
    print(f"next: anowild train {out} -o model; anowild evaluate model {out}:test --labels source")


@app.command()
def train(
    sources: Sources,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the model.")],
    preset_name: Annotated[str, typer.Option("--preset", help=", ".join(PRESETS))] = "laptop",
    kimg: Annotated[float | None, typer.Option(help="Length, in thousands of images.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is drawn.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side in pixels: 8, 16, ... 512.")] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Less work a step than the paper's: see docs/speed.md.")
    ] = False,
    robust: Annotated[
        bool,
        typer.Option("--robust", help="Leave suspects out; they are listed in suspects.csv."),
    ] = False,
    changes: Changes = None,
    device: Device = "auto",
    threads: Threads = None,
    dry_run: Annotated[bool, typer.Option(help="Print the settings and stop.")] = False,
) -> None:
    """Train a detector on unlabeled images, or go on with a training that was stopped."""
    settings = _changed(
        preset(preset_name).settings().replace(**(FAST if fast else {}), robust=robust), changes,
        kimg=kimg, seed=seed, resolution=resolution,
    )  # fmt: skip
    if dry_run:
        print(json.dumps(settings.to_json(), indent=2))
        return
    from anowild import api

    detector = api.train(sources, out, settings, device, threads)
    minutes = detector.facts["seconds"] / 60
    print(f"{out}: trained for {detector.facts['kimg']:g} kimg in {minutes:.1f} minutes")
    if settings.robust:
        print(f"suspects, the oddest first: {out / 'suspects.csv'}")
    print(f"next: anowild score {out} IMAGES -o scores.csv")


@app.command()
def score(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    sources: Sources,
    out: Annotated[Path, typer.Option("-o", "--out", help="scores.csv or scores.parquet.")],
    device: Device = "auto",
    threads: Threads = None,
    precision: Precision = "float32",
    show: Annotated[int, typer.Option(min=0, help="Print the oddest images.")] = 10,
    budget: Budget = None,
    expected: Expected = None,
    fdr: Fdr = None,
    calibration: CalibrationSources = None,
    auto: Auto = False,
) -> None:
    """Score images and write a ranked table, the oddest first; draw a line through it if asked."""
    from anowild import api
    from anowild.device import select_device
    from anowild.scoring import Detector

    rule = api.threshold_rule(
        budget=budget, expected=expected, fdr=fdr, auto=auto, calibration=calibration
    )
    detector = Detector.load(model, select_device(device, threads), precision)  # type: ignore[arg-type]
    table = api.score(detector, sources, out, rule)
    for row in islice(table.ranked(), show):
        print(f"{row.rank:6}  {row.score:8.3f}  {row.path!a}")
    share = (table.score >= Detector.threshold()).mean()
    print(
        f"{out}: {len(table)} images, {table.left_out} left out; {100 * share:.1f} % score {Detector.threshold():.2f} or more, "
        "as 5 % of the training images do"
    )
    if table.threshold is not None:
        line = table.threshold
        print(
            f"flagged: {line.flagged} ({'none' if line.score is None else f'score {line.score:.4g} or more'})"
        )
        print(f"promise: {line.promise}\nassumption: {line.assumption}")


@app.command()
def report(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    sources: Sources,
    out: Annotated[Path, typer.Option("-o", "--out", help="report.html.")],
    labels: Annotated[
        str | None, typer.Option(help="As for `evaluate`: adds how good the ranking is.")
    ] = None,
    normal: Annotated[
        list[str] | None, typer.Option(help="With labels: those that are normal.")
    ] = None,
    partial: Partial = False,
    show: Annotated[int, typer.Option(min=1, max=500, help="Images in each gallery.")] = 24,
    device: Device = "auto",
    threads: Threads = None,
    budget: Budget = None,
    expected: Expected = None,
    fdr: Fdr = None,
    calibration: CalibrationSources = None,
    auto: Auto = False,
) -> None:
    """Score images and write one page about them: the oddest, why they are, and where the line is."""
    from anowild import api
    from anowild.device import select_device
    from anowild.evaluation.labels import Labels
    from anowild.reporting.page import write_report
    from anowild.scoring import Detector

    rule = api.threshold_rule(
        budget=budget, expected=expected, fdr=fdr, auto=auto, calibration=calibration
    )
    if normal and labels is None:
        raise UserError("--normal says which labels are normal: give --labels as well")
    if partial and labels is None:
        raise UserError("--partial is about labels: give --labels as well")
    truth = None if labels is None else Labels(labels, normal or (), partial)
    detector = Detector.load(model, select_device(device, threads))
    write_report(model, sources, out, rule, truth, show, detector)
    print(f"{out}: open it in a browser")


@app.command()
def review(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    sources: Sources,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the review.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8765,
    again: Annotated[
        bool, typer.Option("--again", help="Score once more; the marks are kept.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Look at the images in a browser, the oddest first, and mark them; marks are kept in OUT."""
    from anowild.device import select_device
    from anowild.reviewing.serve import serve
    from anowild.scoring import Detector

    serve(Detector.load(model, select_device(device, threads)), sources, out, host, port, again)


@app.command()
def marks(
    out: Annotated[Path, typer.Argument(metavar="REVIEW", help="Folder of a review.")],
    to: Annotated[Path, typer.Option("-o", "--out", help="marks.csv, .json or .parquet.")],
) -> None:
    """Write the marks of a review, for a table or for `evaluate --labels marks.csv --partial`."""
    from anowild.reviewing.export import write_marks

    print(f"{to}: {write_marks(out, to)} marks")


@app.command()
def clean(
    source: Annotated[
        Path,
        typer.Argument(metavar="REVIEW", help="Folder of a review, or a table with a column odd."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="New folder.")],
    how: Annotated[
        str, typer.Option(help="What stays, as links, copies, or only a list.")
    ] = "links",
    above: Annotated[
        float | None,
        typer.Option(help="Of a review: what nobody decided on goes if it scores so much."),
    ] = None,
) -> None:
    """Write the images that stay, and why each stays or goes; the originals are not touched."""
    from anowild.reviewing import clean as cleaning

    for reason, count in sorted(cleaning.clean(source, out, how, above).items()):
        print(f"{count:8}  {reason}")
    print(f"{out / cleaning.LOG}: each image, and why")
    if how != "list":
        print(f"next: anowild train {out / cleaning.IMAGES} -o model")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    sources: Sources,
    labels: Annotated[
        str,
        typer.Option(
            help="CSV with path and label; .npy or file.npz:key of 0 and 1; or 'folders'."
        ),
    ],
    normal: Annotated[
        list[str] | None, typer.Option(help="With 'folders': name of a folder of normal images.")
    ] = None,
    partial: Partial = False,
    threshold: Annotated[
        float | None, typer.Option(help="Score that flags; else what 5 % of training reach.")
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    precision: Precision = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a model on labeled images: AUROC, average precision, F1, with 95 % intervals."""
    from anowild import api
    from anowild.device import select_device
    from anowild.evaluation.labels import Labels
    from anowild.scoring import Detector

    if threshold is not None and not math.isfinite(threshold):
        raise UserError(f"--threshold {threshold}: has to be a number")
    truth = Labels(labels, normal or (), partial)
    detector = Detector.load(model, select_device(device, threads), precision)  # type: ignore[arg-type]
    result = api.evaluate(detector, sources, truth, threshold)
    if as_json:
        print(json.dumps(dataclasses.asdict(result), indent=2))
        return
    table = Table("", "AUROC", "average precision", f"F1 at {result.threshold:.3f}")
    for name, quality in result.columns.items():
        table.add_row(
            name,
            str(quality.auroc),
            str(quality.average_precision),
            str(quality.f1) if quality.f1 else "",
        )
    Console().print(table)
    print(
        f"{result.normal} normal images, {result.anomalous} anomalies, {result.flagged} flagged, "
        f"{result.left_out} left out, {result.unlabeled} without a label; intervals: 95 %, bootstrap"
    )


@app.command()
def networks(
    preset_name: Annotated[str, typer.Argument(metavar="PRESET", help=", ".join(PRESETS))],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    changes: Changes = None,
) -> None:
    """Print the layers of G, D and E, as the paper's appendix tabulates them."""
    settings = _settings(preset_name, changes)
    from anowild.paper.tables import MISPRINTS, tables

    found = tables(
        settings.resolution or settings.max_resolution,
        settings.channels or 1,
        settings.fmap_base,
        settings.fmap_max,
        settings.latent_size,
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


@app.command()
def settings(
    preset_name: Annotated[
        str, typer.Argument(metavar="PRESET", help=", ".join(PRESETS))
    ] = "laptop",
    changes: Changes = None,
) -> None:
    """Print every setting of a preset: value, unit, where it is from, what it means."""
    chosen, values = preset(preset_name), _settings(preset_name, changes)
    print(f"{preset_name}: {chosen.summary}\n")
    for field in dataclasses.fields(Settings):
        unit = f" {field.metadata['unit']}" if field.metadata["unit"] else ""
        print(f"{field.name} = {getattr(values, field.name)}{unit}")
        print(f"    {field.metadata['meaning']} [{chosen.source_of(field.name)}]")


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder of model, table, pictures.")
    ] = Path("demo"),
    kimg: Annotated[float | None, typer.Option(help="Length, in thousands of images.")] = None,
    rate: Annotated[
        float, typer.Option(help="Share of anomalies hidden in the training set.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    threads: Threads = None,
) -> None:
    """Train on real digits with others hidden among them, and show what is found."""
    from anowild.demo import run_demo

    run_demo(out, rate, seed, kimg, threads)


data_app = typer.Typer(help="Known data sets, and what is in a packed one.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100, mnist or fashion-mnist.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to download into.")],
) -> None:
    """Download a known data set, or go on with the download; the checksums are verified."""
    from anowild.data.download import fetch as fetch_files

    files = fetch_files(name, out)
    for path in files:
        print(path)
    source = files[0] if len(files) == 1 else out
    print(f"next: anowild prepare {source} -o {name}")


@data_app.command()
def show(
    dataset: Annotated[Path, typer.Argument(help="Packed data set.")],
    listed: Annotated[int, typer.Option(min=0, help="Images named for each finding.")] = 20,
) -> None:
    """Say what a packed data set holds, and what its quality gate found."""
    from anowild.data.dataset.format import PackedSet
    from anowild.data.dataset.summary import sentences

    for line in sentences(PackedSet(dataset), listed):
        print(line)


study_app = typer.Typer(
    help="Experiments: how well methods find known anomalies at known contamination.",
    no_args_is_help=True,
)
app.add_typer(study_app, name="study")
Study = Annotated[Path, typer.Option("-o", "--out", help="Folder of the study.")]


@study_app.command("run")
def study_run(
    out: Study,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the image sets; digits_* need none.")
    ] = None,
    sets: Annotated[
        str, typer.Option(help="With commas: see docs/results.md.")
    ] = "digits_3,digits_blurred",
    rates: Annotated[str, typer.Option(help="Contamination, with commas.")] = "0,0.05,0.1",
    methods: Annotated[str, typer.Option(help="With commas.")] = "joint,untrained,pca,knn,contrast",
    seeds: Annotated[int, typer.Option(min=1, help="How many, from 0.")] = 3,
    kimg: Annotated[float | None, typer.Option(help="Length of each training.")] = None,
    preset_name: Annotated[str, typer.Option("--preset", help=", ".join(PRESETS))] = "laptop",
    changes: Changes = None,
    search_steps: Annotated[int, typer.Option(min=0, help="Of AnoGAN's latent search.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Cells at a time.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each.")] = 1,
    dry_run: Annotated[bool, typer.Option(help="Print the cost and stop.")] = False,
) -> None:
    """Run what is not done yet of a study: sets x rates x methods x seeds."""
    import os

    from anowild.device import gpus, select_device
    from anowild.study import sweep

    settings = _changed(preset(preset_name).settings(), changes, kimg=kimg)
    cells = sweep.plan(
        data, sets.split(","), _numbers(rates, "--rates"), methods.split(","), range(seeds),
        settings, search_steps,
    )  # fmt: skip
    devices = gpus() or ["cpu"]
    print(sweep.cost(cells, out, select_device(devices[0], threads)), flush=True)
    if dry_run:
        return
    if jobs is None:
        jobs = len(devices) if gpus() else max(1, (os.cpu_count() or 1) // threads)
    failed = sweep.run(cells, out, jobs, threads, devices)
    for folder in failed:
        reason = (folder / "error.txt").read_text(errors="replace").strip().splitlines()
        _say(f"anowild: {folder}: failed ({reason[-1] if reason else 'no reason given'})")
    print(f"next: anowild study table -o {out}")
    if failed:
        raise typer.Exit(1)


@study_app.command("table")
def study_table(
    out: Study,
    metric: Annotated[str, typer.Option(help="auroc or average_precision.")] = "auroc",
    parquet: Annotated[Path | None, typer.Option(help="Also write all rows there.")] = None,
    rates: Annotated[str, typer.Option(help="Of the paired differences.")] = "0.05,0.1",
    plots: Annotated[Path | None, typer.Option(help="Folder for the plots.")] = None,
    brief: Annotated[bool, typer.Option("--brief", help="One row for each method.")] = False,
) -> None:
    """Print the results of a study as Markdown: tables, paired differences, lists of suspects."""
    from anowild.study import tables

    if metric not in ("auroc", "average_precision"):
        raise UserError(f"--metric is auroc or average_precision, not '{metric}'")
    results = tables.collect(out)
    if parquet is not None:
        tables.write_parquet(tables.rows_of(results), parquet)
    print(tables.markdown(results, metric, brief))
    print(tables.comparisons(results, _numbers(rates, "--rates"), metric))
    print(tables.suspects(results))
    if plots is not None:
        from anowild.study.plots import draw_all

        for path in draw_all(results, out, plots):
            print(path)


@app.callback(invoke_without_command=True)
def _common(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say what is done.")] = False,
) -> None:
    if version:
        print(f"anowild {VERSION}")
        raise typer.Exit
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("anowild: %(message)s"))
    logger = logging.getLogger("anowild")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO if verbose else logging.WARNING)


class _Stderr(logging.Handler):
    """Writes to what sys.stderr is at the time: a progress bar puts itself in between."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(self.format(record))


def _settings(preset_name: str, changes: list[str] | None, **given: float | None) -> Settings:
    return _changed(preset(preset_name).settings(), changes, **given)


def _changed(before: Settings, changes: list[str] | None, **given: float | None) -> Settings:
    pairs: dict[str, str | float] = {}
    for change in changes or ():
        name, equals, value = change.partition("=")
        if not equals:
            raise UserError(f"--set takes NAME=VALUE, not '{change}'")
        pairs[name] = value
    pairs.update({name: value for name, value in given.items() if value is not None})
    return before.replace(**pairs)


def _numbers(text: str, option: str, what: str = "numbers with commas") -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option} takes {what}, not '{text}'") from None


def _two(text: str, option: str) -> tuple[float, float]:
    what = "two numbers with a comma"
    numbers = _numbers(text, option, what)
    if len(numbers) != 2:
        raise UserError(f"{option} takes {what}, not '{text}'")
    return numbers[0], numbers[1]


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


def _say(text: str) -> None:
    print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr, flush=True)


def main() -> None:
    """Entry point: a user's mistake gives one sentence and exit code 1."""
    # Names may hold bytes that are no text: shown escaped, rather than not at all.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except UserError as error:
        _say(f"anowild: {error}")
        sys.exit(1)
    except Interrupted as stopped:
        _say(str(stopped))
        sys.exit(128 + stopped.signum)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer turns Ctrl-C into an exit without a word.
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        _say("stopped; give the same command again")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        _say(f"anowild: {error.filename or 'a file'}: {error.strerror or error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
