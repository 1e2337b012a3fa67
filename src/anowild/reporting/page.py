"""`anowild report`: one HTML file to look at, that needs nothing else."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jinja2 import Environment
from markupsafe import Markup

from anowild.arrays import Array
from anowild.data.dataset.summary import quality_summary
from anowild.data.image_set import ImageStream, Source
from anowild.errors import UserError
from anowild.evaluation.labels import FEW, UNKNOWN, LabelCollector, Labels, counts, fewest
from anowild.evaluation.metrics import qualities
from anowild.files import check_place, printable, write_text
from anowild.reporting import images
from anowild.reporting.charts import curve, histogram
from anowild.reporting.images import Picture
from anowild.reporting.samples import ImageSample, TopKCollector
from anowild.scoring import Detector, Scores, Table
from anowild.scoring.stream import ThresholdRule, open_stream, score_pass
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
    model: Detector | str | Path,
    sources: Source | Sequence[Source],
    out: str | Path,
    rule: ThresholdRule | None = None,
    labels: Labels | None = None,
    shown: int = SHOWN,
    notes: Sequence[str] = (),
    others: Mapping[str, Array] | None = None,
    folder: str | Path | None = None,
) -> None:
    """Score a source and write a page about it; see `anowild.report`.

    Args:
        folder: of the model, where ``model`` is a detector; losses and samples come from its subfolder
            ``training``.
    """
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{out}: a report is written as .html; give it such an ending")
    check_place(out)
    if isinstance(model, Detector):
        detector = model
    else:
        detector, folder = Detector.load(model), model
    stream = open_stream(detector, sources)
    draw = None if rule is None else rule.fit(detector)
    table, samples = Table(detector.cue_names), TopKCollector(detector, shown)
    collector = None if labels is None else LabelCollector(labels)
    score_pass(detector, stream, table, samples, *([] if collector is None else [collector]))
    scores = table.scores
    truth = None if collector is None else collector.truth
    line = _usual_line(table.score) if draw is None else draw(table)
    cards = _CardMaker(detector, table, scores, line, truth)
    given = [sources] if isinstance(sources, str | Path | np.ndarray) else list(sources)
    where = ", ".join("an array" if isinstance(s, np.ndarray) else printable(str(s)) for s in given)
    training = None if folder is None else Path(folder) / "training"
    values = {
        "title": f"What is odd in {where}",
        "summary": [
            f"{len(table)} images, {table.left_out} left out; {line.flagged} flagged.",
            _about_model(detector, folder),
            *notes,
        ],
        "histogram": _histogram(table.score, truth, line),
        "line": [line.promise, f"Assumption: {line.assumption}"],
        "oddest": cards.make(samples.oddest),
        "ordinary": cards.make(samples.ordinary),
        "labeled": truth is not None,
        "quality": None if truth is None else _quality(scores, truth, line, others or {}),
        "cues": _cues(detector, scores),
        "data": _data(stream),
        "curves": [] if training is None else _curves(training / "log.jsonl"),
        "sheets": [] if training is None else _sheets(training / "grids"),
        "settings": sorted(
            (name, str(value)) for name, value in detector.training_info["settings"].items()
        ),
        "footer": (
            f"AnoWild {VERSION}, torch {torch.__version__}, Python {platform.python_version()}, "
            f"{datetime.now(UTC).date().isoformat()}"
        ),
    }
    template = files("anowild.reporting").joinpath("report.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True).from_string(template).render(values)
    # Lone surrogates, which names may hold, are not text.
    write_text(out, page.encode("utf-8", "backslashreplace").decode())


def _about_model(detector: Detector, folder: str | Path | None) -> str:
    info = detector.training_info
    trained = []
    for name, view in info["views"].items():
        length = f" for {view['kimg']:g} kimg" if "kimg" in view else ""
        minutes = f" ({view['seconds'] / 60:.1f} minutes)" if "seconds" in view else ""
        trained.append(f"{name}{length}{minutes}")
    by = "a model" if folder is None else printable(str(folder))
    side = detector.preprocess.resolution
    return (
        f"Scored by {by}: trained on {info['images']} unlabeled images ({', '.join(trained)}); its views "
        f"see {side}x{side} pixels."
    )


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


class _CardMaker:
    """Makes the cards of galleries.

    Args:
        truth: labels [N]; None: without.
    """

    def __init__(
        self, detector: Detector, table: Table, scores: Scores, line: Threshold, truth: Array | None
    ) -> None:
        self.detector, self.table, self.scores = detector, table, scores
        self.line, self.truth = line, truth
        self.ranks = scores.ranks()

    def make(self, sample: ImageSample) -> list[Card]:
        """Make a card of each image."""
        if not len(sample.positions):
            return []
        names = [printable(self.table.name(position)) for position in sample.positions]
        drawn = images.of_explanation(self.detector.explain(sample.images), names, BRIGHTEST)
        neighbors = self.detector.neighbors(sample.images, NEIGHBORS)
        reasons = self.detector.reasons(self.scores.select(sample.positions))
        cards = []
        for i, (position, name) in enumerate(zip(sample.positions, names, strict=True)):
            near = [
                Picture(images.of_image(image), "", f"Ordinary training image that is like {name}")
                for image in neighbors[i]
            ]
            label = "" if self.truth is None else _TRUTHS[self.truth[position]]
            score = float(sample.score[i])
            odd = self.line.score is not None and score >= self.line.score
            rank = int(self.ranks[position])
            cards.append(Card(rank, name, score, odd, label, reasons[i], drawn[i], near))
        return cards


def _quality(
    scores: Scores, truth: Array, line: Threshold, others: Mapping[str, Array]
) -> list[list[str]] | None:
    known = truth != UNKNOWN
    truth, scores = truth[known], scores.select(known)
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
    for name in detector.cue_names:
        cue, values = detector.calibration.cues[name], scores.cues[name]
        counts = "yes" if cue.counts else "no"
        middle, high = f"{np.median(values):.4g}", f"{np.percentile(values, 99):.4g}"
        rows.append([name.replace("_", " "), counts, cue.side, middle, high])
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
    names = [name for name in dict.fromkeys(chain.from_iterable(ticks)) if name.endswith("_loss")]
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
            sheets.append(Picture(images.of_file(found[-1].read_bytes()), title, title))
    return sheets
