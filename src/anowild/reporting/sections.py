"""The parts of a report: cards, findings, tables, notes and training curves."""

from __future__ import annotations

import errno
import json
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from markupsafe import Markup

from anowild.arrays import Array
from anowild.checked import Amount, Range, checked
from anowild.data.checks import KINDS
from anowild.data.readers import Provenance
from anowild.errors import UserError
from anowild.evaluation.labels import FEW, UNKNOWN, Labels, counts, fewest
from anowild.evaluation.metrics import qualities
from anowild.files import open_regular, printable
from anowild.reporting import charts
from anowild.reporting.embedding import Embedded, Thumbnail
from anowild.reviewing import pictures as drawings
from anowild.reviewing.images import ReviewImages
from anowild.reviewing.pictures import Picture
from anowild.reviewing.query import Query
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.session import ReviewSession
from anowild.scoring import Detector
from anowild.scoring.explain import Reason
from anowild.scoring.scores import oddest_first
from anowild.scoring.thresholds import Threshold
from anowild.scoring.written_table import open_table
from anowild.training.tick_log import read_lines

log = logging.getLogger("anowild")

#: Images of the strip at the top, at most; cards of flagged images; cards with pictures of the views.
IN_STRIP, MOST_FLAGGED, EXPLAINED = 20, 200, 48
#: Alike images on a card, images of a finding, and the most ordinary ones, at most.
ALIKE, IN_FINDING, ORDINARY = 10, 12, 24
#: Reasons for leaving files out that are listed, at most.
MOST_REASONS = 12
#: Reference images beside each image of a card.
NEIGHBORS = 3
#: Percentile of the maps of all images on cards that gets the brightest color.
BRIGHTEST = 99.5
#: Bytes of a picture of the training, at most, and how every PNG begins.
LARGEST_GRID, PNG = 16 << 20, b"\x89PNG\r\n\x1a\n"
#: A value that can be drawn.
LossValue = Annotated[float, Range(-1e300, 1e300)]
#: Labels in words.
LABEL_WORDS = {0: "labeled normal", 1: "labeled anomalous", UNKNOWN: "without a label"}


@dataclass(frozen=True)
class Results:
    """Everything that is known about the images of a session, N of them."""

    detector: Detector
    ranking: Ranking
    threshold: Threshold
    truth: Array | None  # [N], labels; None: not given

    @property
    def session(self) -> ReviewSession:
        """The scored images."""
        return self.ranking.session


@dataclass(frozen=True)
class Card:
    """An odd image, with others that are like it."""

    image: Thumbnail
    label: str
    reasons: Sequence[Reason]
    findings: Sequence[str]
    views: Sequence[tuple[str, str]]  # name and score
    pictures: Sequence[Picture]
    neighbors: Sequence[Picture]
    alike: Sequence[Thumbnail]
    more: int  # alike images without a thumbnail

    @property
    def count(self) -> int:
        """How many images the card stands for."""
        return 1 + len(self.alike) + self.more


@dataclass(frozen=True)
class FoundKind:
    """What one cheap check found."""

    title: str
    meaning: str
    count: int
    images: Sequence[tuple[Thumbnail, str]]  # the first ones, and what is said of each


def labels_of(images: ReviewImages, labels: Labels) -> Array:
    """Look up the labels of images, int64 [N], also by their positions in the source.

    Raises:
        UserError: an image has no label, or the labels are a list of another length.
    """
    table = images.packed.manifest(["index", "label", "anomaly"])
    used = table["index"].is_valid().to_numpy()
    rows = table.filter(table["index"].is_valid())
    known = [
        Provenance(label=label, anomaly=anomaly)
        for label, anomaly in zip(
            rows["label"].to_pylist(), rows["anomaly"].to_pylist(), strict=True
        )
    ]
    labels.begin(len(table))
    found = labels.of(images.names, np.flatnonzero(used).tolist(), known=known)
    return labels.end([found], len(table) - len(rows))


def score_histogram(results: Results) -> Markup:
    """Draw the histogram of the scores, by label where labels are given."""
    scores, truth = results.session.score, results.truth
    groups = {"images": scores}
    if truth is not None:
        groups = {title: scores[truth == value] for value, title in LABEL_WORDS.items()}
    groups = {title: group for title, group in groups.items() if len(group)}
    return charts.histogram(groups, results.threshold.score, "score")


def beyond_note(count: int | None, highest: float) -> str:
    """Say from which score on the training images say no more; empty if no score is as high.

    Args:
        count: number of the training images; None: not known.
        highest: score of all.
    """
    if not count or highest <= math.log10(count):
        return ""
    return (
        f"Beyond {math.floor(10 * math.log10(count)) / 10:.1f} the {count:,} training images say no more: "
        "there the score ranks images, but is no share."
    )


def chosen(results: Results, shown: int, all_flagged: bool) -> Array:
    """Choose the images that get a card, the oddest first: one of each group of alike images.

    Args:
        shown: cards.
        all_flagged: more cards where more is flagged, up to ``MOST_FLAGGED``.
    """
    order = results.ranking.select(Query(group=True), [])
    if all_flagged:
        flagged = int(results.threshold.flags(results.session.score[order]).sum())
        shown = max(shown, min(flagged, MOST_FLAGGED))
    return order[:shown]


def cards(results: Results, numbers: Array, embedded: Embedded) -> list[Card]:
    """Make a card for each image, by its number."""
    detector, ranking, session = results.detector, results.ranking, results.session
    # Room is given to what matters most: first the images, then what the views make of them.
    images = [embedded.thumbnail(number) for number in numbers.tolist()]
    pictures, neighbors = _explained(results, images[:EXPLAINED], embedded)
    scores = session.scores.select(numbers)
    reasons = detector.reasons(scores)
    made = []
    for i, image in enumerate(images):
        others = ranking.members([image.number])[1:].tolist()
        made.append(
            Card(
                image=image,
                label="" if results.truth is None else LABEL_WORDS[results.truth[image.number]],
                reasons=reasons[i],
                findings=list(map(printable, ranking.kinds_of.get(image.number, {}).values())),
                views=[
                    (name, ranking.shown_score(float(values[i])))
                    for name, values in scores.views.items()
                ],
                pictures=pictures[i] if i < len(pictures) else [],
                neighbors=neighbors[i] if i < len(neighbors) else [],
                alike=[embedded.thumbnail(number) for number in others[:ALIKE]],
                more=len(others[ALIKE:]),
            )
        )
    return made


def _explained(
    results: Results, images: Sequence[Thumbnail], embedded: Embedded
) -> tuple[list[list[Picture]], list[list[Picture]]]:
    """Return for each image the pictures that the views make of it, and ordinary images like it."""
    if not images:
        return [], []
    stored = results.session.deciding(np.array([image.number for image in images]))
    drawn = drawings.explanation_pictures(
        results.detector.explain(stored), [image.name for image in images], BRIGHTEST
    )
    near = []
    for image, found in zip(images, results.detector.neighbors(stored, NEIGHBORS), strict=True):
        alt = f"Ordinary training image that is similar to {image.name}"
        near.append([Picture(drawings.image_url(picture), "", alt) for picture in found])
    return [embedded.pictures(d) for d in drawn], [embedded.pictures(n) for n in near]


def picture_legend(cards: Sequence[Card]) -> str:
    """Say in one sentence what the small pictures of a card show."""
    titles = [picture.title for picture in cards[0].pictures] if cards else []
    return "; ".join(f"{title}: {drawings.MEANINGS[title]}" for title in titles)


def findings(results: Results, embedded: Embedded) -> list[FoundKind]:
    """Return what cheap checks of the originals found, by kind."""
    found = []
    for finding in results.session.images.findings:
        first = zip(finding.numbers[:IN_FINDING], finding.texts, strict=False)
        images = [(embedded.thumbnail(number), printable(text)) for number, text in first]
        found.append(FoundKind(*KINDS[finding.kind], len(finding.numbers), images))
    return found


def ordinary(results: Results, shown: int, embedded: Embedded) -> list[Thumbnail]:
    """Return the images with the lowest scores, the most ordinary first."""
    order = oddest_first(-results.session.score)[: min(shown, ORDINARY)]
    return [embedded.thumbnail(number) for number in order.tolist()]


def quality_rows(results: Results, others: Mapping[str, Array]) -> list[list[str]] | None:
    """Return a table of how well the ranking fits the labels; None: all labels are equal.

    ``others`` are more scores of the same images, [N] each.
    """
    assert results.truth is not None
    known = results.truth != UNKNOWN
    truth, scores = results.truth[known], results.session.scores.select(known)
    if len(np.unique(truth)) < 2:
        return None
    columns = scores.columns() | {name: values[known] for name, values in others.items()}
    rows = [["ranked by", "AUROC", "average precision"]]
    rows += [
        [name.replace("_", " "), str(quality.auroc), str(quality.average_precision)]
        for name, quality in qualities(columns, truth).items()
    ]
    return rows


def quality_notes(results: Results) -> list[str]:
    """Say how many anomalies were flagged, and what the labels cannot say."""
    assert results.truth is not None
    known = results.truth != UNKNOWN
    truth, flags = results.truth[known], results.threshold.flags(results.session.score[known])
    hits, anomalies = int((flags & (truth == 1)).sum()), counts(truth)[1]
    notes = [
        f"{hits} of the {int(flags.sum())} flagged images are labeled anomalous.",
        f"{hits} of the {anomalies} images that are labeled anomalous are flagged.",
    ]
    if fewest(truth) < FEW:
        notes.append(f"There are only {fewest(truth)} of one kind: these figures say little.")
    if not known.all():
        notes.append(f"{int((~known).sum())} images are without a label, and do not count.")
    return notes


def cue_rows(results: Results) -> list[list[str]]:
    """Return a table of the detector's cues, with a header."""
    rows = [
        ["cue", "view", "weight in the score", "odd side", "median here", "99th percentile here"]
    ]
    known, cues = results.detector.calibration.cues, results.session.scores.cues
    for view in results.detector.views:
        for cue in view.cues:
            if cue.name not in known:
                continue
            fitted, values = known[cue.name], cues[cue.name]
            weight = f"{fitted.weight:.2f}" if fitted.counts else "0"
            median, high = f"{np.median(values):.4g}", f"{np.percentile(values, 99):.4g}"
            name = cue.name.replace("_", " ")
            rows.append([name, view.name, weight, fitted.side, median, high])
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


def table_beside(out: Path, results: Results) -> str | None:
    """Return the name of a table of these scores that lies beside the report; None: there is none."""
    path = out.with_name("scores.csv")
    oddest = int(oddest_first(results.session.score)[0])
    try:
        with open_table(path) as table:
            row = next(table.rows(["score"]))
    except (UserError, StopIteration):
        return None
    same = (
        row["path"] == results.session.names[oddest]
        and row["score"] == results.session.score[oddest]
    )
    return path.name if same else None


def training_notes(detector: Detector) -> list[str]:
    """Say what the model was trained on, and for how long."""
    info = detector.training_info
    notes = [f"{info['images']} unlabeled images"] if info.get("images") else []
    for name, view in info.get("views", {}).items():
        facts = []
        if "seconds" in view:
            facts.append(f"{view['seconds'] / 60:.1f} minutes")
        if "kimg" in view:
            facts.append(f"{view['kimg']:.3g} thousand images shown")
        notes.append(f"{name}: {', '.join(facts) or 'at once'}")
    return notes


def loss_curves(path: Path) -> list[Markup]:
    """Draw the losses of a training log; none if there is no such log, as in a copied model.

    Lines that cannot be read, and values that are no numbers, are left out; a warning says how many lines.
    """
    if not path.exists():
        return []
    try:
        lines = read_lines(path)
    except UserError as error:
        log.warning("%s", error)
        return []
    ticks = [tick for line in lines if (tick := _tick(line)) is not None]
    if len(ticks) < len(lines):
        log.warning("%s: %d lines cannot be read and are not drawn", path, len(lines) - len(ticks))
    minutes = [tick.get("seconds", math.nan) / 60 for tick in ticks]
    names = [name for name in dict.fromkeys(chain.from_iterable(ticks)) if name.endswith("_loss")]
    return [
        charts.curve(minutes, [tick.get(name, math.nan) for tick in ticks], name.replace("_", " "))
        for name in names
    ]


def _tick(line: str) -> dict[str, float] | None:
    """Return the finite numbers of a line of a training log; None: it is no such line."""
    try:
        value = checked(dict[str, Any], json.loads(line), "the line")
        checked(Amount, value["kimg"], "kimg")
    except (KeyError, ValueError, RecursionError):
        return None
    found = {}
    for name, item in value.items():
        with suppress(ValueError):
            found[name] = checked(LossValue, item, name)
    return found


def training_grids(folder: Path, embedded: Embedded) -> list[Picture]:
    """Return the last image grids that the training wrote; none if the folder has none.

    A model may come from a stranger: links are not followed, and what is no PNG of a grid's size is left out.
    """
    grids: list[Picture] = []
    for kind, title in (
        ("samples", "Images that the generator makes from noise, at the end of the training"),
        ("reconstructions", "Training images, each above its reconstruction"),
    ):
        found = [
            content for path in sorted(folder.glob(f"{kind}-*.png")) if (content := _grid(path))
        ]
        if found:
            grid = Picture(drawings.png_url(found[-1]), title, title)
            grids += [grid] if embedded.takes(len(grid.url)) else []
    return grids


def _grid(path: Path) -> bytes | None:
    try:
        if path.is_symlink() or path.parent.is_symlink():
            raise OSError(errno.ELOOP, "it is a link")
        with open_regular(path) as file:
            content = file.read(LARGEST_GRID + 1)
        if len(content) > LARGEST_GRID or not content.startswith(PNG):
            raise OSError(errno.EINVAL, "it is no picture that a training draws")
    except OSError as error:
        log.warning("%s: is not shown: %s", path, error.strerror or error)
        return None
    return content
