"""Commands about a model: train, score, report, evaluate."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from anowild.cli import options
from anowild.cli.options import Budget, CalibrationSources, ExpectedShare, Fdr, Gap
from anowild.errors import UserError
from anowild.presets import FAST, preset


def train(
    sources: options.Sources,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the model.")],
    preset_name: options.PresetName = "laptop",
    kimg: Annotated[
        float | None, typer.Option(help="Length of each training, in thousands of images.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is drawn.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side in pixels: 8, 16, ... 512.")] = None,
    views: Annotated[
        str | None,
        typer.Option(help="Ways of looking at an image, with commas; all of the preset."),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="For the view pretrained: efficientnet-lite0, timm:NAME, FILE.onnx or "
            "FILE.npy (vectors of the images)."
        ),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Less work a step than the paper's: see docs/speed.md.")
    ] = False,
    robust: Annotated[
        bool,
        typer.Option("--robust", help="Leave out training images that the GAN finds odd."),
    ] = False,
    changes: options.Changes = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    dry_run: Annotated[bool, typer.Option(help="Print the settings and stop.")] = False,
) -> None:
    """Train a detector on unlabeled images, or go on with a training that was stopped."""
    settings = options.changed(
        preset(preset_name).settings().replace(**(FAST if fast else {}), robust=robust), changes,
        kimg=kimg, transforms_kimg=kimg, seed=seed, resolution=resolution, views=views, features=features,
    )  # fmt: skip
    if dry_run:
        print(json.dumps(settings.to_json(), indent=2))
        return
    from anowild import api

    detector = api.train(sources, out, settings, device, threads)
    for name, info in detector.training_info["views"].items():
        length = f" for {info['kimg']:g} kimg" if "kimg" in info else ""
        minutes = f" in {info['seconds'] / 60:.1f} minutes" if "seconds" in info else ""
        print(f"{out}: trained {name}{length}{minutes}")
    for name in detector.training_info["failed"]:
        print(f"{out}: went on without {name}, as said above")
    print(f"training images, the oddest first: {out / 'suspects.csv'}")
    print(f"next: anowild score {out} IMAGES -o scores.csv")


def score(
    model: options.Model,
    sources: options.Sources,
    out: Annotated[Path, typer.Option("-o", "--out", help="scores.csv or scores.parquet.")],
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "float32",
    show: Annotated[int, typer.Option(min=0, help="Print the oddest images.")] = 10,
    budget: Budget = None,
    expected_share: ExpectedShare = None,
    fdr: Fdr = None,
    calibration: CalibrationSources = None,
    gap: Gap = False,
) -> None:
    """Score images and write a ranked table, the oddest first; draw a line through it if asked."""
    from anowild import api

    rule = options.threshold_rule(budget, expected_share, fdr, calibration, gap)
    detector = options.load_detector(model, device, threads, precision)
    table = api.score(detector, sources, out, rule)
    for row in islice(table.ranked(), show):
        print(f"{row.rank:6}  {row.score:8.3f}  {row.path!a}")
    usual = detector.threshold()
    share = (table.score >= usual).mean()
    print(
        f"{out}: {len(table)} images, {table.left_out} left out; {100 * share:.1f} % score {usual:.2f} "
        "or more, as 5 % of the training images do"
    )
    if table.threshold is not None:
        line = table.threshold
        where = "none" if line.score is None else f"score {line.score:.4g} or more"
        print(f"flagged: {line.flagged} ({where})")
        print(f"promise: {line.promise}\nassumption: {line.assumption}")


def report(
    model: options.Model,
    sources: options.Sources,
    out: Annotated[Path, typer.Option("-o", "--out", help="report.html.")],
    labels: Annotated[
        str | None, typer.Option(help="As for `evaluate`: adds how good the ranking is.")
    ] = None,
    normal: options.Normal = None,
    partial: options.Partial = False,
    show: Annotated[int, typer.Option(min=1, max=500, help="Images in each gallery.")] = 24,
    device: options.Device = "auto",
    threads: options.Threads = None,
    budget: Budget = None,
    expected_share: ExpectedShare = None,
    fdr: Fdr = None,
    calibration: CalibrationSources = None,
    gap: Gap = False,
) -> None:
    """Score images and write one page about them: the oddest, why they are, and where the line is."""
    from anowild import api

    rule = options.threshold_rule(budget, expected_share, fdr, calibration, gap)
    truth = options.labels_of(labels, normal, partial)
    detector = options.load_detector(model, device, threads)
    api.report(detector, sources, out, rule, truth, show, folder=model)
    print(f"{out}: open it in a browser")


def evaluate(
    model: options.Model,
    sources: options.Sources,
    labels: Annotated[
        str,
        typer.Option(
            help="CSV with path and label; .npy or file.npz:key of 0 and 1; 'folders' or 'source'."
        ),
    ],
    normal: options.Normal = None,
    partial: options.Partial = False,
    threshold: Annotated[
        float | None, typer.Option(help="Score that flags; else what 5 % of training reach.")
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "float32",
    as_json: options.AsJson = False,
) -> None:
    """Measure a model on labeled images: AUROC, average precision, F1, with 95 % intervals."""
    from anowild import api

    if threshold is not None and not math.isfinite(threshold):
        raise UserError(f"--threshold {threshold}: has to be a number")
    truth = options.labels_of(labels, normal, partial)
    assert truth is not None
    detector = options.load_detector(model, device, threads, precision)
    result = api.evaluate(detector, sources, truth, threshold)
    if as_json:
        print(json.dumps(dataclasses.asdict(result), indent=2))
        return
    table = Table("", "AUROC", "average precision", f"F1 at {result.threshold:.3f}")
    for name, quality in result.columns.items():
        f1 = str(quality.f1) if quality.f1 else ""
        table.add_row(name, str(quality.auroc), str(quality.average_precision), f1)
    Console().print(table)
    print(
        f"{result.normal} normal images, {result.anomalous} anomalies, {result.flagged} flagged, "
        f"{result.left_out} left out, {result.unlabelled} without a label; intervals: 95 %, bootstrap"
    )
