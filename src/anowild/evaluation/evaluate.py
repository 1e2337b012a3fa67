"""The evaluation of a detector on labeled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anowild.data.sources import Source
from anowild.errors import UserError
from anowild.evaluation.labels import UNKNOWN, LabelCollector, Labels, counts
from anowild.evaluation.metrics import Quality, qualities
from anowild.scoring import Detector, Table
from anowild.scoring.scores import USUAL_LIMIT
from anowild.scoring.stream import open_stream, score_pass
from anowild.scoring.thresholds import check_score


@dataclass(frozen=True)
class Evaluation:
    """Quality of the score and of each cue, and the images it was measured on."""

    columns: dict[str, Quality]  # ``score`` and the cues, by name
    threshold: float  # score from which an image is flagged
    normal: int  # images
    anomalous: int
    flagged: int
    left_out: int  # could not be read
    unlabelled: int  # do not count; spelled as JSON output has had it


def evaluate(
    model: Detector | str | Path,
    sources: Source | Sequence[Source],
    labels: Labels,
    threshold: float | None = None,
) -> Evaluation:
    """Score a labeled source and measure the ranking; see `anowild.evaluate`."""
    threshold = USUAL_LIMIT if threshold is None else threshold
    check_score(threshold, "a threshold")
    detector = Detector.of(model)
    table, collector = Table(detector.cue_names, views=detector.view_names), LabelCollector(labels)
    score_pass(detector, open_stream(detector, sources), table, collector)
    known = collector.truth != UNKNOWN
    truth, scores = collector.truth[known], table.scores.select(known)
    if len(np.unique(truth)) < 2:
        raise UserError(
            f"{labels.source}: all {len(truth)} images have the label {truth[0]}; "
            "an evaluation needs normal images (0) and anomalies (1)"
        )
    normal, anomalous = counts(truth)
    return Evaluation(
        qualities(scores.columns(), truth, threshold),
        threshold,
        normal=normal,
        anomalous=anomalous,
        flagged=int((scores.score >= threshold).sum()),
        left_out=table.left_out,
        unlabelled=int((~known).sum()),
    )
