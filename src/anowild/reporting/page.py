"""`anowild report`: one HTML file to look at, that needs nothing else."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jinja2 import Environment
from markupsafe import Markup

from anowild.arrays import Array
from anowild.data.dataset.summary import quality_summary
from anowild.data.image_set import Batch, ImageStream, Source, open_all
from anowild.errors import UserError
from anowild.evaluation.labels import FEW, UNKNOWN, Labels, counts, fewest
from anowild.evaluation.metrics import qualities
from anowild.files import check_place, printable, write_text
from anowild.reporting import images as pictures
from anowild.reporting.charts import curve, histogram
from anowild.reporting.samples import Collector, Shown
from anowild.scoring import CUES, Detector, Scores
from anowild.scoring.calibration import COMBINED
from anowild.scoring.stream import Rule, for_each_batch
from anowild.scoring.thresholds import Threshold
from anowild.version import VERSION

#: Images of either kind in the galleries unless more are asked for.
SHOWN = 24
#: Ordinary training images beside each.
NEIGHBORS = 3
#: Files that were left out and are named.
NAMED = 20
#: Percentile of the maps of all shown images that is drawn brightest: colors can be compared.
BRIGHTEST = 99.5
#: Labels in words.
_TRUTHS = {0: "labeled normal", 1: "labeled anomalous", UNKNOWN: "without a label"}


@dataclass(frozen=True)
class Picture:
    """A data URL, and what it shows."""

    url: str
    title: str
    alt: str


@dataclass(frozen=True)
class Card:
    """An image in a gallery."""

    rank: int
    name: str
    score: float
    odd: bool
    label: str
    why: str
    pictures: Sequence[Picture]
    near: Sequence[Picture]


def write_report(
    model: str | Path,
    sources: Source | Sequence[Source],
    out: str | Path,
    rule: Rule | None = None,
    labels: Labels | None = None,
    shown: int = SHOWN,
    detector: Detector | None = None,
    notes: Sequence[str] = (),
    others: Mapping[str, Array] | None = None,
) -> None:
    """Score a source and write a page about it.

    Args:
        model: folder of the model; losses and samples come from its subfolder ``training``.
        rule: where the line is; else at what 5 % of the training images reach.
        labels: for a table of how good the ranking is; they choose nothing.
        shown: images in each gallery.
        detector: the model, if it is loaded already.
        notes: sentences for the top of the page.
        others: other scores of the same images, [N] each, that the labels are held against as well.

    Raises:
        UserError: the model or the source cannot be used, or the page cannot be written.
    """
    model, out = Path(model), Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{out}: a report is written as .html; give it such an ending")
    check_place(out)
    detector = detector or Detector.load(model)
    stream = ImageStream(open_all(sources), detector.preprocess)
    if rule is not None:
        rule.prepare(detector)
    if labels is not None:
        labels.begin(stream.count())  # says before the work, not after it, what is wrong
    collector = Collector(detector, shown)
    truths: list[Array] = []

    def take(batch: Batch, scores: Scores) -> None:
        collector.take(batch, scores)
        if labels is not None:
            truths.append(labels.of(batch.names, batch.positions, known=batch.origins))

    for_each_batch(detector, stream, take)
    table = collector.table
    scores = table.scores
    truth = None if labels is None else labels.end(truths, len(stream.left_out))
    line = rule.draw(detector, table) if rule is not None else _usual_line(table.score)
    facts = detector.facts
    given = [sources] if isinstance(sources, str | Path | np.ndarray) else list(sources)
    where = ", ".join("an array" if isinstance(s, np.ndarray) else printable(str(s)) for s in given)
    values = {
        "title": f"What is odd in {where}",
        "summary": [
            f"{len(table)} images, {len(stream.left_out)} left out; {line.flagged} flagged.",
            f"Scored by {printable(str(model))}: trained on {facts['images']} unlabeled images for "
            f"{facts['kimg']:g} kimg ({facts['seconds'] / 60:.1f} minutes); the networks see "
            f"{detector.preprocess.resolution}x{detector.preprocess.resolution} pixels.",
            *notes,
        ],
        "histogram": _histogram(table.score, truth, line),
        "line": [line.promise, f"Assumption: {line.assumption}"],
        "oddest": _cards(collector, collector.oddest, scores, line, truth),
        "ordinary": _cards(collector, collector.ordinary, scores, line, truth),
        "labeled": truth is not None,
        "quality": None if truth is None else _quality(scores, truth, line, others or {}),
        "cues": _cues(detector, scores),
        "data": _data(stream),
        "curves": _curves(model / "training" / "log.jsonl"),
        "sheets": _sheets(model / "training" / "grids"),
        "settings": sorted((name, str(value)) for name, value in facts["settings"].items()),
        "footer": (
            f"AnoWild {VERSION}, torch {torch.__version__}, Python {platform.python_version()}, "
            f"{datetime.now(UTC).date().isoformat()}"
        ),
    }  # fmt: skip
    template = files("anowild.reporting").joinpath("report.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True).from_string(template).render(values)
    # Halves of characters, which names may hold, are not text.
    write_text(out, page.encode("utf-8", "backslashreplace").decode())


def _usual_line(scores: Array) -> Threshold:
    score = Detector.threshold()
    return Threshold(
        score,
        int((scores >= score).sum()),
        f"Flagged is what scores {score:.2f} or more, as 5 % of the training images do.",
        "none; it is a convention, and promises nothing. The options --budget, --expected, --fdr "
        "and --auto draw lines that do.",
    )


def _histogram(scores: Array, truth: Array | None, line: Threshold) -> Markup:
    groups = {"images": scores}
    if truth is not None:
        groups = {title: scores[truth == value] for value, title in _TRUTHS.items()}
    return histogram({k: v for k, v in groups.items() if len(v)}, line.score, "score")


def _cards(
    collector: Collector, shown: Shown, scores: Scores, line: Threshold, truth: Array | None
) -> list[Card]:
    if not len(shown.positions):
        return []
    detector = collector.detector
    maps = detector.explain(shown.images)
    places = maps.places(BRIGHTEST)
    most = float(np.percentile(np.abs(maps.signed), BRIGHTEST))
    neighbors = detector.neighbors(shown.images, NEIGHBORS)
    chosen = scores.part(shown.positions)
    ranks = scores.ranks()
    cards = []
    for i, (position, why) in enumerate(zip(shown.positions, detector.why(chosen), strict=True)):
        name = printable(collector.table.name(position))
        drawn = [
            Picture(pictures.of_image(maps.seen[i]), "image", f"{name}, as the networks see it"),
            Picture(pictures.of_image(maps.rebuilt[i]), "rebuilt", f"Reconstruction of {name}"),
            Picture(
                pictures.of_signed(maps.signed[i], most), "difference",
                f"Difference of {name} and its reconstruction: blue darker, red brighter",
            ),
            Picture(
                pictures.of_heat(places[i], 1.0), "odd places",
                f"Heat map of where {name} is odd",
            ),
        ]  # fmt: skip
        near = [
            Picture(pictures.of_image(image), "", f"Ordinary training image that is like {name}")
            for image in neighbors[i]
        ]
        label = "" if truth is None else _TRUTHS[truth[position]]
        score = float(shown.score[i])
        odd = line.score is not None and score >= line.score
        cards.append(Card(int(ranks[position]), name, score, odd, label, why, drawn, near))
    return cards


def _quality(
    scores: Scores, truth: Array, line: Threshold, others: Mapping[str, Array]
) -> list[list[str]] | None:
    known = truth != UNKNOWN
    truth, scores = truth[known], scores.part(known)
    if len(np.unique(truth)) < 2:
        return None
    columns = scores.columns() | {name: values[known] for name, values in others.items()}
    rows = [["", "AUROC", "average precision"]]
    rows += [
        [name.replace("_", " "), str(q.auroc), str(q.average_precision)]
        for name, q in qualities(columns, truth).items()
    ]
    flags = line.flags(scores.score)
    hit = int((flags & (truth == 1)).sum())
    rows.append([f"of {int(flags.sum())} flagged, anomalies", str(hit), ""])
    rows.append([f"of {counts(truth)[1]} anomalies, flagged", str(hit), ""])
    if fewest(truth) < FEW:
        rows.append([f"only {fewest(truth)} of one kind: these figures say little", "", ""])
    if not known.all():
        rows.append(["without a label", str(int((~known).sum())), ""])
    return rows


def _cues(detector: Detector, scores: Scores) -> list[list[str]]:
    rows = [["cue", "in the score", "odd side", "median here", "99th percentile here"]]
    for name in CUES:
        cue = detector.calibration.cues[name]
        rows.append(
            [
                name.replace("_", " "), "yes" if name in COMBINED else "no", cue.side,
                f"{np.median(scores.cues[name]):.4g}", f"{np.percentile(scores.cues[name], 99):.4g}",
            ]
        )  # fmt: skip
    return rows


def _data(stream: ImageStream) -> list[str]:
    lines = [line for reader in stream.readers if reader.packed is not None
             for line in quality_summary(reader.packed)]  # fmt: skip
    lines += [
        f"left out {printable(image.name)}: {image.reason}" for image in stream.left_out[:NAMED]
    ]
    if len(stream.left_out) > NAMED:
        lines.append(f"and {len(stream.left_out) - NAMED} more were left out")
    return lines or [
        "Every image could be read. `anowild prepare` also finds duplicates and leaks."
    ]


def _curves(path: Path) -> list[Markup]:
    """Losses over the training; none where the model was copied without its training."""
    try:
        ticks = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []
    kimg = [tick["kimg"] for tick in ticks]
    names = [name for name in ("G_loss", "D_loss", "E_loss") if any(name in t for t in ticks)]
    return [
        curve(kimg, [tick.get(name, float("nan")) for tick in ticks], name.replace("_", " "))
        for name in names
    ]


def _sheets(folder: Path) -> list[Picture]:
    """The last pictures that the training left."""
    sheets = []
    for kind, title in (
        ("samples", "Images that the generator makes of noise, at the end of the training"),
        ("reconstructions", "Training images, and below each its reconstruction"),
    ):
        found = sorted(folder.glob(f"{kind}-*.png"))
        if found:
            sheets.append(Picture(pictures.of_file(found[-1].read_bytes()), title, title))
    return sheets
