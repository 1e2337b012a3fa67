"""A source of any length, scored batch by batch; and a line through what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anowild.arrays import Array
from anowild.data import ImageStream, open_all
from anowild.data.image_set import Batch, Source
from anowild.data.prefetch import prefetch
from anowild.errors import UserError
from anowild.progress import bar
from anowild.scoring import thresholds
from anowild.scoring.detector import Detector, Scores
from anowild.scoring.table import Table, check_output
from anowild.scoring.thresholds import Threshold

#: Images decoded and scored at a time, at most, but no fewer than a pass takes; and how many times
#: as many are decoded ahead.
CHUNK, AHEAD = 128, 3


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
    """StepNoise a line through a table of scores."""

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
        prefetch(batches, AHEAD, stream.stop) as read,
    ):
        for batch in read:
            take(batch, detector.score(batch.images))
            shown.update(batch.positions[-1] + 1)
