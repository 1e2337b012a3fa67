"""The main jobs, station by station: train on a source, score a source, evaluate with labels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anowild.config import Settings, preset
from anowild.data import ImageSet, ImageStream, ahead, open_all
from anowild.data.images import Batch, Source
from anowild.device import choose_device
from anowild.errors import UserError
from anowild.progress import bar
from anowild.scoring import Detector, Scores, Table, thresholds
from anowild.scoring.judge import judge_of
from anowild.scoring.suspects import write_suspects
from anowild.scoring.table import check_output
from anowild.scoring.thresholds import Threshold
from anowild.study.labels import UNKNOWN, Labels
from anowild.study.metrics import Estimate, auroc, average_precision, estimate, f1_at
from anowild.training import train as train_networks

log = logging.getLogger("anowild")

Array = np.ndarray[Any, Any]

#: Images decoded and scored at a time, at most, but no fewer than a pass takes; and how many times
#: as many are decoded ahead.
CHUNK, AHEAD = 128, 3
#: Fewer training images than this get a warning.
FEW_IMAGES = 200


def train(
    sources: Source | Sequence[Source],
    out: str | Path,
    settings: Settings | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Detector:
    """Train a detector on unlabelled images, or go on with a training that was stopped.

    Args:
        sources: folders, image files or array files (``file.npz:key``), or arrays.
        out: the model's folder; the training state lies in its subfolder ``training``. Robust
            training leaves suspects.csv there: which training images are odd, and why.
        settings: the preset ``laptop`` unless given.

    Raises:
        UserError: nothing to train on, another run in ``out``, a full disk, divergence.
        anowild.signals.Interrupted: by Ctrl-C or SIGTERM; the same call goes on.
    """
    settings = settings or preset("laptop").settings()
    out = Path(out)
    torch_device = choose_device(device, threads)
    images = ImageSet.load(sources, settings)
    p = images.preprocess
    log.info(
        "training on %d images of %dx%d, %d channel(s); %d left out",
        len(images), p.resolution, p.resolution, p.channels, len(images.left_out),
    )  # fmt: skip
    if len(images) < FEW_IMAGES:
        log.warning("only %d images: expect little of what is learnt from them", len(images))
    judge = judge_of(images, settings) if settings.robust else None
    trained = train_networks(images, settings, out / "training", torch_device, judge)
    if trained.lod > 0:
        log.warning(
            "the training ended at level of detail %.2f, before it had grown to full resolution: "
            "scores see images at %d pixels",
            trained.lod, p.resolution >> int(trained.lod),
        )  # fmt: skip
    detector = Detector.from_training(trained, images, settings)
    detector.save(out)
    if trained.suspects is not None:
        write_suspects(detector, images, trained.suspects, out / "suspects.csv")
    return detector


def score(
    model: Detector | str | Path,
    sources: Source | Sequence[Source],
    out: str | Path | None = None,
    rule: Rule | None = None,
) -> Table:
    """Scores of a source; ``rows()`` are ranked, and also written to ``out`` (.csv or .parquet).

    Streams: memory holds neither the images nor, with ``out``, their names.

    Args:
        rule: where to draw the line: see :func:`threshold_rule`. The table then has a
            ``threshold``, and what is written a column ``odd``.

    Raises:
        UserError: the model or the source cannot be used, or the file cannot be written.
    """
    path = None if out is None else Path(out)
    if path is not None:
        check_output(path)
    detector = model if isinstance(model, Detector) else Detector.load(model)
    stream = ImageStream(open_all(sources), detector.preprocess)
    if rule is not None:
        rule.prepare(detector)
    table = Table(path)
    for_each_batch(detector, stream, lambda batch, scores: table.append(batch.names, scores))
    table.left_out = len(stream.left_out)
    if rule is not None:
        table.threshold = rule.draw(detector, table)
    if path is not None:
        table.write(path, table.threshold)
    return table


@dataclass(frozen=True)
class Rule:
    """Draws a line through a table of scores."""

    prepare: Callable[[Detector], None]  # before anything is scored
    draw: Callable[[Detector, Table], Threshold]


def threshold_rule(
    *,
    budget: int | None = None,
    expected: float | None = None,
    fdr: float | None = None,
    auto: bool = False,
    calibration: Source | Sequence[Source] | None = None,
) -> Rule | None:
    """How :func:`score` draws the line, by one of four rules of `anowild.scoring.thresholds`.

    Args:
        budget: how many images can be looked at.
        expected: the share of anomalies that is expected.
        fdr: the share of false alarms among the flagged that is borne, on average.
        auto: where the scores fall apart by themselves, if they do.
        calibration: for ``fdr``: images like the normal ones, on which was not trained.

    Returns:
        None where no rule is asked for.

    Raises:
        UserError: more than one rule, or what belongs to another one.
    """
    given = [budget is not None, expected is not None, fdr is not None, auto]
    if sum(given) > 1:
        raise UserError("one threshold at a time: a budget, an expected share, an fdr, or auto")
    if fdr is not None and calibration is None:
        raise UserError(
            "a false discovery rate needs calibration images: some like the normal ones, that "
            "were not trained on (--calibration)"
        )
    if fdr is None and calibration is not None:
        raise UserError("calibration images belong to a false discovery rate (--fdr)")
    # What cannot be is said before the images are scored, not after it.
    if budget is not None:
        thresholds.check_budget(budget)
    if expected is not None:
        thresholds.check_share("an expected share", expected)
    if fdr is not None:
        thresholds.check_share("a false discovery rate", fdr)
    usual: Array | None = None

    def prepare(detector: Detector) -> None:
        nonlocal usual
        if calibration is not None:
            usual = score(detector, calibration).score

    def rule(detector: Detector, table: Table) -> Threshold:
        if budget is not None:
            return thresholds.budget(table.score, budget)
        if expected is not None:
            return thresholds.expected(table.score, expected)
        if fdr is not None:
            assert usual is not None
            return thresholds.false_discovery_rate(table.score, usual, fdr)
        return thresholds.gap(table.score, detector.calibration.oddness(table.scores.cues))

    return Rule(prepare, rule) if any(given) else None


def for_each_batch(
    detector: Detector, stream: ImageStream, take: Callable[[Batch, Scores], None]
) -> None:
    """Score a stream, and hand over each batch with its scores; the next ones are read meanwhile."""
    size = detector.pass_size
    batches = stream.batches(max(1, CHUNK // size) * size)
    with (
        bar("scoring, images", stream.count()) as shown,
        ahead(batches, AHEAD, stream.stop) as read,
    ):
        for batch in read:
            take(batch, detector.score(batch.images))
            shown.update(batch.positions[-1] + 1)


@dataclass(frozen=True)
class Quality:
    """How well one column ranks anomalies above normal images."""

    auroc: Estimate
    average_precision: Estimate
    f1: Estimate | None  # at the threshold; for the combined score only


@dataclass(frozen=True)
class Evaluation:
    """Quality by column, and what it was measured on."""

    columns: dict[str, Quality]
    threshold: float
    normal: int
    anomalous: int
    flagged: int
    left_out: int
    unlabelled: int  # images that do not count


def evaluate(
    model: Detector | str | Path,
    sources: Source | Sequence[Source],
    labels: Labels,
    threshold: float | None = None,
) -> Evaluation:
    """Score a labelled source and measure the ranking, with 95 % bootstrap intervals.

    Args:
        threshold: score from which an image is flagged; unless given, the one that 5 % of the
            training images reach. Labels never choose it.

    Raises:
        UserError: as for :func:`score`; or labels are missing, or all of one kind.
    """
    detector = model if isinstance(model, Detector) else Detector.load(model)
    stream = ImageStream(open_all(sources), detector.preprocess)
    count = stream.count()
    if count is not None:
        labels.check_count(count)  # before the work, not after it
    truths: list[Array] = []
    parts: list[Scores] = []

    def take(batch: Batch, scores: Scores) -> None:
        truths.append(labels.of(batch.names, batch.positions, known=batch.origins))
        parts.append(scores)

    for_each_batch(detector, stream, take)
    truth, scores = np.concatenate(truths), Scores.concatenate(parts)
    labels.check_count(len(truth) + len(stream.left_out))
    known = truth != UNKNOWN
    unlabelled = int((~known).sum())
    if not known.any():
        raise UserError(f"{labels.source}: has no label for any of the {len(truth)} images")
    truth, scores = truth[known], scores.part(known)
    if len(np.unique(truth)) < 2:
        raise UserError(
            f"{labels.source}: all {len(truth)} images have the label {truth[0]}; "
            "an evaluation needs normal images (0) and anomalies (1)"
        )
    if threshold is None:
        threshold = Detector.threshold()
    return Evaluation(
        qualities(scores, truth, threshold),
        threshold,
        normal=int((truth == 0).sum()),
        anomalous=int((truth == 1).sum()),
        flagged=int((scores.score >= threshold).sum()),
        left_out=len(stream.left_out),
        unlabelled=unlabelled,
    )


def qualities(scores: Scores, truth: Array, threshold: float | None) -> dict[str, Quality]:
    """How well score and cues rank what is labelled 1 above what is labelled 0; both have to be there.

    Args:
        threshold: from which the score flags; None: no F1.
    """
    found = {}
    for name, values in scores.columns().items():
        flag = f1_at(threshold) if name == "score" and threshold is not None else None
        found[name] = Quality(
            auroc=estimate(auroc, truth, values),
            average_precision=estimate(average_precision, truth, values),
            f1=None if flag is None else estimate(flag, truth, values),
        )
    return found
