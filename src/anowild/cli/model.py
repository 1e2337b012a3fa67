"""Commands about a model: train, score, report, evaluate, limit."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table as Grid

from anowild.cli import options
from anowild.cli.options import Budget, CalibrationSources, ExpectedShare, Fdr, Gap, Threshold
from anowild.errors import UserError
from anowild.presets import FAST, preset
from anowild.shown import shown_limit, shown_score

if TYPE_CHECKING:
    from anowild.arrays import Array
    from anowild.scoring import Table
    from anowild.scoring.stream import ThresholdRule
    from anowild.scoring.table import Row
    from anowild.scoring.thresholds import Threshold as Limit

#: Exit code of `score --exit-code` where something is flagged.
FLAGGED = 3


def train(
    sources: options.Sources,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="Folder of the model.")
    ],
    preset_name: options.PresetName = "laptop",
    kimg: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Length of each training, in thousands of images shown; 100 is about 10 minutes on two "
            "cores.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Of everything that is drawn.")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(metavar="N", help="Side in pixels: 8, 16, ... 512.")
    ] = None,
    views: options.Views = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="For the view pretrained: efficientnet-lite0, timm:NAME, FILE.onnx or "
            "FILE.npy (vectors of the images).",
        ),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Less work a step than the paper's: see docs/speed.md.")
    ] = False,
    robust: Annotated[
        bool,
        typer.Option("--robust", help="Leave out training images that the GAN finds odd."),
    ] = False,
    tiles: options.Tiles = None,
    changes: options.Changes = None,
    track: Annotated[
        str | None,
        typer.Option(
            metavar="TOOL[:WHERE]",
            help="Draw the curves elsewhere as well: tensorboard, mlflow or wandb; WHERE is a folder or an "
            "address, unless beside the training.",
        ),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the settings and stop.")
    ] = False,
) -> None:
    """Train a detector on unlabeled images, or go on with a training that was stopped.

    On several GPUs or machines: torchrun --nproc-per-node N -m anowild train ...
    """
    settings = options.changed(
        preset(preset_name).settings().replace(**(FAST if fast else {}), robust=robust), changes,
        kimg=kimg, transforms_kimg=kimg, seed=seed, resolution=resolution, views=views, features=features,
        tiles=tiles,
    )  # fmt: skip
    if dry_run:
        from anowild.training.fitting import check_views

        check_views(settings)
        print(json.dumps(settings.to_json(), indent=2))
        return
    from anowild.tracking import parse_choice
    from anowild.training import run
    from anowild.training.distributed import joined

    choice = None if track is None else parse_choice(track)
    with joined(device) as world:
        if not world.first:
            run.take_part(sources, settings, device, threads, world)
            return
        detector = run.train(sources, out, settings, device, threads, choice, world).detector
    for name, info in detector.training_info["views"].items():
        minutes = f" in {info['seconds'] / 60:.1f} minutes" if "seconds" in info else ""
        length = f" ({info['kimg']:g} thousand images shown)" if "kimg" in info else ""
        print(f"{out}: trained {name}{minutes}{length}")
    for name in detector.training_info["failed"]:
        print(f"{out}: went on without {name}, as said above")
    print(f"training images, the oddest first: {out / 'suspects.csv'}")
    table = options.new_name("scores.csv")
    print(f"next: {options.command_line('score', out, *sources, '-o', table)}")


def score(
    model: options.Model,
    sources: options.Sources,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="Write a table: scores.csv, scores.parquet, or - for CSV on the standard output; with --engine "
            "ray a folder.",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON object a line for each image, the oddest first."
        ),
    ] = False,
    new_only: Annotated[
        bool,
        typer.Option(
            "--new-only",
            help="Score only images that the table of -o does not list yet, or whose files have changed, and "
            "add them to it. What is printed, copied and told by the exit code is about these alone.",
        ),
    ] = False,
    copy_flagged: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Copy the files of flagged images into this folder; nothing there is overwritten.",
        ),
    ] = None,
    exit_code: Annotated[
        bool,
        typer.Option(
            "--exit-code", help=f"End with exit code {FLAGGED} if at least one image is flagged."
        ),
    ] = False,
    show: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many of the oddest images are printed.")
    ] = 10,
    threshold: Threshold = None,
    budget: Budget = None,
    expected_share: ExpectedShare = None,
    fdr: Fdr = None,
    calibration: CalibrationSources = None,
    gap: Gap = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "float32",
    engine: options.Engine = "process",
    workers: options.Workers = None,
) -> None:
    """Score images, the oddest first: print them, write a table, flag what reaches a limit."""
    from anowild import api
    from anowild.scoring.flagged_files import FlaggedFiles

    options.check_workers(engine, workers)

    to_stdout = out == Path("-")
    file = None if to_stdout else out
    if to_stdout and as_json:
        raise UserError("--json and -o - both print on the standard output; leave out one")
    if new_only and file is None:
        raise UserError("--new-only needs a table that grows (-o scores.csv)")
    rule = options.threshold_rule(
        model, threshold, budget, expected_share, fdr, calibration, gap
    )  # fmt: skip
    for given, option in ((copy_flagged, "--copy-flagged"), (exit_code, "--exit-code")):
        if given and rule is None:
            raise UserError(f"{option} needs a limit, such as --threshold saved or --budget 20")
    if engine == "ray":
        alone = {
            "--json": as_json,
            "--new-only": new_only,
            "--copy-flagged": copy_flagged is not None,
        }
        _check_ray(file, [option for option, given in alone.items() if given])
        assert file is not None
        _score_with_ray(
            model, sources, file, rule, show, exit_code, workers, device, threads, precision
        )
        return
    copies = None if copy_flagged is None else FlaggedFiles(sources, copy_flagged)
    detector = options.load_detector(model, device, threads, precision)
    table = api.score(detector, sources, file, rule, new_only)
    say: Callable[[str], None] = options.print_error if to_stdout or as_json else print
    if to_stdout:
        _print_csv(table)
    elif as_json:
        _print_json(table)
    else:
        _print_oddest(islice(table.ranked(new_only=True), show), detector.training_images)
    found, scores = table.threshold, table.score[: table.new]
    _print_summary(file, len(table), scores, table.left_out, found, say)
    flagged = [
        row.path
        for row in table.ranked(new_only=True)
        if found is not None and found.is_reached(row.score)
    ]
    if copies is not None:
        copied, there = copies.copy(flagged)
        say(f"{copy_flagged}: {copied} flagged images copied, {there} were there already")
    _end(scores, detector.training_images, table.left_out, exit_code and bool(flagged))


def _check_ray(out: Path | None, others: list[str]) -> None:
    """Raise UserError unless the options of `score` go with --engine ray."""
    if others:
        raise UserError(f"{others[0]} does not go with --engine ray, which writes a folder (-o)")
    if out is None:
        raise UserError("--engine ray writes a folder: name it (-o scores)")


def _score_with_ray(
    model: Path,
    sources: list[str],
    out: Path,
    rule: ThresholdRule | None,
    show: int,
    exit_code: bool,
    workers: int | None,
    device: str,
    threads: int | None,
    precision: Literal["float32", "bfloat16"],
) -> None:
    """Score into a table in parts, and print what the ordinary command prints."""
    from anowild.cluster.score import score as score_pieces
    from anowild.device import configure_process

    threads = threads or 1
    configure_process(threads)  # false discovery rates score their calibration images here
    table = score_pieces(
        model, sources, out, rule,
        workers=workers, device=device, threads=threads, precision=precision,
    )  # fmt: skip
    images = table.facts.training_images
    _print_oddest(table.rows(range(1, min(show, len(table)) + 1)), images)
    left_out = sum(one.count for one in table.left_out)
    _print_summary(out, len(table), table.scores, left_out, table.threshold, print)
    flagged = table.threshold is not None and table.threshold.flagged > 0
    _end(table.scores, images, left_out, exit_code and flagged)


def _end(scores: Array, training_images: int | None, left_out: int, exits_flagged: bool) -> None:
    """Warn of images that are unlike the training images or were left out; exit with FLAGGED if ``exits_flagged``."""
    from anowild.scoring.unlike_training import unlike_training

    unlike = unlike_training(scores, training_images)
    if unlike is not None:
        options.print_error(f"anowild: warning: {unlike}")
    options.check_left_out(len(scores), left_out)
    if exits_flagged:
        raise typer.Exit(FLAGGED)


def _print_oddest(rows: Iterable[Row], training_images: int | None) -> None:
    from anowild.files import for_terminal

    for row in rows:
        score = shown_score(row.score, training_images)
        print(for_terminal(f"{row.rank:6}  {score:>7}  {row.path}  {row.why}".rstrip()))


def _print_csv(table: Table) -> None:
    sys.stdout.flush()
    # Bytes of file names are printed as they are, as in a file.
    text = io.TextIOWrapper(
        sys.stdout.buffer, "utf-8", errors="surrogateescape", newline="", write_through=True
    )
    try:
        table.write(text)
    finally:
        text.detach()


def _print_json(table: Table) -> None:
    for row in table.ranked(new_only=True):
        value: dict[str, Any] = {"path": row.path, "score": row.score, "rank": row.rank}
        if table.threshold is not None:
            value["odd"] = table.threshold.is_reached(row.score)
        print(json.dumps({**value, "why": row.why, "views": row.views}))


def _print_summary(
    file: Path | None,
    images: int,
    scores: Array,
    left_out: int,
    limit: Limit | None,
    say: Callable[[str], None],
) -> None:
    """Say how many images were scored, and what the limit flags.

    Args:
        file: the table; None: none was written.
        images: of the table.
        scores: of the images that were scored now, [n].
        left_out: images that could not be read.
        limit: from which images are flagged; None: none was asked for.
        say: prints a line.
    """
    from anowild.scoring.scores import USUAL_LIMIT

    where = "" if file is None else f"{file}: "
    new = "" if len(scores) == images else f", {len(scores)} of them new"
    among = " of the new" if new else ""
    told = (
        f"; {100 * (scores >= USUAL_LIMIT).mean():.1f} %{among} score {USUAL_LIMIT:.2f} or more "
        "(5 % of the training images do)"
        if len(scores)
        else ""
    )
    say(f"{where}{images} images{new}, {left_out} left out{told}")
    if limit is None:
        return
    if limit.score is None:
        say(f"flagged: none. {limit.promise}\nassumption: {limit.assumption}")
        return
    flagged = (
        f"{limit.flags(scores).sum()} of the new, {limit.flagged} of all" if new else limit.flagged
    )
    say(f"flagged: {flagged} (score {shown_limit(limit.score)} or more)")
    say(f"promise: {limit.promise}\nassumption: {limit.assumption}")


def report(
    model: options.ModelOrTable,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="report.html.")],
    sources: options.MaybeSources = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="As for `evaluate`: adds how good the ranking is."),
    ] = None,
    normal: options.Normal = None,
    partial: options.Partial = False,
    show: Annotated[
        int, typer.Option(min=1, max=500, metavar="N", help="Images in each gallery.")
    ] = 24,
    threshold: Threshold = None,
    budget: Budget = None,
    expected_share: ExpectedShare = None,
    fdr: Fdr = None,
    calibration: CalibrationSources = None,
    gap: Gap = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> None:
    """Score images and write one page about them: the oddest, why they are, and what is flagged."""
    from anowild import api

    rule = options.threshold_rule(model, threshold, budget, expected_share, fdr, calibration, gap)
    if options.is_table(model, sources):
        if labels is not None:
            raise UserError(
                "--labels belong to images that are scored now, not to a table in parts"
            )
        api.report_table(model, out, rule, show)
        print(f"{out}: open it in a browser")
        return
    assert sources is not None
    truth = options.labels_of(labels, normal, partial)
    detector = options.load_detector(model, device, threads)
    api.report(detector, sources, out, rule, truth, show)
    print(f"{out}: open it in a browser")


def evaluate(
    model: options.Model,
    sources: options.Sources,
    labels: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="CSV with path and label; .npy or file.npz:key of 0 and 1; 'folders' or 'source'.",
        ),
    ],
    normal: options.Normal = None,
    partial: options.Partial = False,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="SCORE",
            help="Limit from which images are flagged, or `saved`; else what 5 % of the training images reach.",
        ),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "float32",
    as_json: options.AsJson = False,
) -> None:
    """Measure a model on labeled images: AUROC, average precision, F1, with 95 % intervals."""
    from anowild import api

    limit = None if threshold is None else options.limit_of(threshold, model)
    truth = options.labels_of(labels, normal, partial)
    assert truth is not None
    detector = options.load_detector(model, device, threads, precision)
    result = api.evaluate(detector, sources, truth, limit)
    if as_json:
        print(json.dumps(dataclasses.asdict(result), indent=2))
        return
    table = Grid("", "AUROC", "average precision", f"F1 at {result.threshold:.3f}")
    for name, quality in result.columns.items():
        f1 = str(quality.f1) if quality.f1 else ""
        table.add_row(name, str(quality.auroc), str(quality.average_precision), f1)
    Console().print(table)
    print(
        f"{result.normal} normal images, {result.anomalous} anomalies, {result.flagged} flagged, "
        f"{result.left_out} left out, {result.unlabelled} without a label; intervals: 95 %"
    )


def limit(
    model: options.Model,
    score: Annotated[
        float | None,
        typer.Argument(
            metavar="SCORE",
            help="From which images are flagged; without it, the kept one is printed.",
        ),
    ] = None,
) -> None:
    """Keep a limit with a model, for `--threshold saved`; 1.3 is what 5 % of the training images reach."""
    from anowild import api

    kept = api.limit(model, score)
    if kept is None:
        print(
            f"{model}: no limit is kept; choose one with {options.command_line('limit', model, 2)}"
        )
        return
    print(
        f"{model}: {shown_limit(kept.score)}, kept on {kept.saved}; use it with --threshold saved"
    )
