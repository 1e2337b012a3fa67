"""The parts of a report: galleries, tables, notes and training curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from markupsafe import Markup

from anowild.arrays import Array
from anowild.data.dataset.summary import quality_summary
from anowild.data.image_set import ImageStream
from anowild.evaluation.labels import FEW, UNKNOWN, counts, fewest
from anowild.evaluation.metrics import qualities
from anowild.files import printable
from anowild.reporting import charts, images
from anowild.reporting.images import Picture
from anowild.reporting.samples import ImageSample
from anowild.scoring import Detector, Scores, Table
from anowild.scoring.thresholds import Threshold

#: Reference images beside each image of a gallery.
NEIGHBORS = 3
#: Skipped images that are listed by name.
MAX_SKIPPED_LISTED = 20
#: Percentile of the maps of all images in a gallery that gets the brightest color.
BRIGHTEST = 99.5
#: Labels in words.
LABEL_WORDS = {0: "labeled normal", 1: "labeled anomalous", UNKNOWN: "without a label"}


@dataclass(frozen=True)
class Results:
    """Everything that one scoring pass found out about a source."""

    detector: Detector
    stream: ImageStream
    table: Table
    scores: Scores
    threshold: Threshold
    truth: Array | None  # [N], labels; None: not given


@dataclass(frozen=True)
class Card:
    """One image in a gallery."""

    rank: int
    name: str
    score: float
    flagged: bool
    label: str
    reason: str
    pictures: Sequence[Picture]
    neighbors: Sequence[Picture]


def score_histogram(results: Results) -> Markup:
    """Draw the histogram of the scores, by label where labels are given."""
    scores, truth = results.table.score, results.truth
    groups = {"images": scores}
    if truth is not None:
        groups = {title: scores[truth == value] for value, title in LABEL_WORDS.items()}
    groups = {title: group for title, group in groups.items() if len(group)}
    return charts.histogram(groups, results.threshold.score, "score")


def gallery(results: Results, sample: ImageSample) -> list[Card]:
    """Make a card for each image of a sample."""
    if not len(sample.positions):
        return []
    detector, ranks = results.detector, results.scores.ranks()
    flags = results.threshold.flags(sample.score)
    names = [printable(results.table.name(position)) for position in sample.positions]
    explanation = detector.explain(sample.images)
    pictures = images.explanation_pictures(explanation, names, BRIGHTEST)
    neighbors = detector.neighbors(sample.images, NEIGHBORS)
    reasons = detector.reasons(results.scores.select(sample.positions))
    cards = []
    for i, (position, name) in enumerate(zip(sample.positions, names, strict=True)):
        alt = f"Ordinary training image that is similar to {name}"
        cards.append(
            Card(
                rank=int(ranks[position]),
                name=name,
                score=float(sample.score[i]),
                flagged=bool(flags[i]),
                label="" if results.truth is None else LABEL_WORDS[results.truth[position]],
                reason=reasons[i],
                pictures=pictures[i],
                neighbors=[Picture(images.image_url(image), "", alt) for image in neighbors[i]],
            )
        )
    return cards


def picture_legend(cards: Sequence[Card]) -> str:
    """Say in one sentence what the pictures of a card show."""
    titles = [picture.title for picture in cards[0].pictures] if cards else []
    return "; ".join(f"{title}: {images.MEANINGS[title]}" for title in titles)


def quality_rows(results: Results, others: Mapping[str, Array]) -> list[list[str]] | None:
    """Return a table of how well the ranking fits the labels; None: all labels are equal.

    ``others`` are more scores of the same images, [N] each.
    """
    assert results.truth is not None
    known = results.truth != UNKNOWN
    truth, scores = results.truth[known], results.scores.select(known)
    if len(np.unique(truth)) < 2:
        return None
    columns = scores.columns() | {name: values[known] for name, values in others.items()}
    rows = [["", "AUROC", "average precision"]]
    rows += [
        [name.replace("_", " "), str(quality.auroc), str(quality.average_precision)]
        for name, quality in qualities(columns, truth).items()
    ]
    flags = results.threshold.flags(scores.score)
    hits = str(int((flags & (truth == 1)).sum()))
    rows.append([f"anomalies among the {int(flags.sum())} flagged images", hits, ""])
    rows.append([f"flagged images among the {counts(truth)[1]} anomalies", hits, ""])
    if fewest(truth) < FEW:
        rows.append([f"only {fewest(truth)} of one kind: these figures say little", "", ""])
    if not known.all():
        rows.append(["without a label", str(int((~known).sum())), ""])
    return rows


def cue_rows(results: Results) -> list[list[str]]:
    """Return a table of the detector's cues, with a header."""
    rows = [
        ["view", "cue", "weight in the score", "odd side", "median here", "99th percentile here"]
    ]
    known = results.detector.calibration.cues
    for view in results.detector.views:
        for cue in view.cues:
            if cue.name not in known:
                continue
            fitted, values = known[cue.name], results.scores.cues[cue.name]
            weight = f"{fitted.weight:.2f}" if fitted.counts else "0"
            median, high = f"{np.median(values):.4g}", f"{np.percentile(values, 99):.4g}"
            name = cue.name.replace("_", " ")
            rows.append([view.name, name, weight, fitted.side, median, high])
    return rows


def odd_side_note(detector: Detector) -> str:
    """Say where odd values lie for which cues."""
    fitted = detector.calibration.cues
    counted = [cue for cue in detector.cues if fitted[cue.name].counts]

    def listed(side: str) -> str:
        return ", ".join(cue.name.replace("_", " ") for cue in counted if cue.odd_side == side)

    notes = []
    if listed("either"):
        notes.append(
            f"The odd side of {listed('either')} was chosen without labels, by the skewness over the "
            "training images."
        )
    if listed("both"):
        notes.append(f"For {listed('both')} values far from the middle are odd, on either side.")
    others = "For the other cues" if notes else "For all cues"
    return " ".join([*notes, f"{others} in the score, a higher value is odder."])


def data_notes(stream: ImageStream) -> list[str]:
    """Say what is known about the quality of the data, and which images were skipped."""
    lines = [
        line
        for reader in stream.readers
        if reader.packed is not None
        for line in quality_summary(reader.packed)
    ]
    lines += [
        f"left out {printable(image.name)}: {image.reason}"
        for image in stream.left_out[:MAX_SKIPPED_LISTED]
    ]
    if len(stream.left_out) > MAX_SKIPPED_LISTED:
        lines.append(f"and {len(stream.left_out) - MAX_SKIPPED_LISTED} more were left out")
    return lines or [
        "Every image could be read. `anowild prepare` also finds duplicates and leaks."
    ]


def loss_curves(path: Path) -> list[Markup]:
    """Draw the losses of a training log; none if there is no such log, as in a copied model."""
    try:
        ticks = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []
    kimg = [tick["kimg"] for tick in ticks]
    names = [name for name in dict.fromkeys(chain.from_iterable(ticks)) if name.endswith("_loss")]
    return [
        charts.curve(kimg, [tick.get(name, float("nan")) for tick in ticks], name.replace("_", " "))
        for name in names
    ]


def training_grids(folder: Path) -> list[Picture]:
    """Return the last image grids that the training wrote; none if the folder has none."""
    grids = []
    for kind, title in (
        ("samples", "Images that the generator makes from noise, at the end of the training"),
        ("reconstructions", "Training images, each above its reconstruction"),
    ):
        found = sorted(folder.glob(f"{kind}-*.png"))
        if found:
            grids.append(Picture(images.png_url(found[-1].read_bytes()), title, title))
    return grids
