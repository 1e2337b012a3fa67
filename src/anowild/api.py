"""The main jobs, station by station: train on a source, score a source, evaluate with labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anowild.arrays import Array
from anowild.data import ImageSet, ImageStream, open_all
from anowild.data.image_set import Batch, Source
from anowild.device import select_device
from anowild.errors import UserError
from anowild.evaluation.labels import UNKNOWN, Labels, counts
from anowild.evaluation.metrics import Quality, qualities
from anowild.presets import preset
from anowild.scoring import Detector, Scores
from anowild.scoring.judge import judge_of
from anowild.scoring.stream import for_each_batch, score, threshold_rule
from anowild.scoring.suspects import write_suspects
from anowild.settings import Settings
from anowild.training import train as train_networks

__all__ = ["evaluate", "score", "threshold_rule", "train"]

log = logging.getLogger("anowild")

#: Fewer training images than this get a warning.
FEW_IMAGES = 200


def train(
    sources: Source | Sequence[Source],
    out: str | Path,
    settings: Settings | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Detector:
    """Train a detector on unlabeled images, or go on with a training that was stopped.

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
    torch_device = select_device(device, threads)
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


@dataclass(frozen=True)
class Evaluation:
    """Quality by column, and what it was measured on."""

    columns: dict[str, Quality]
    threshold: float
    normal: int
    anomalous: int
    flagged: int
    left_out: int
    unlabeled: int  # images that do not count


def evaluate(
    model: Detector | str | Path,
    sources: Source | Sequence[Source],
    labels: Labels,
    threshold: float | None = None,
) -> Evaluation:
    """Score a labeled source and measure the ranking, with 95 % bootstrap intervals.

    Args:
        threshold: score from which an image is flagged; unless given, the one that 5 % of the
            training images reach. Labels never choose it.

    Raises:
        UserError: as for :func:`score`; or labels are missing, or all of one kind.
    """
    detector = model if isinstance(model, Detector) else Detector.load(model)
    stream = ImageStream(open_all(sources), detector.preprocess)
    labels.begin(stream.count())  # says before the work, not after it, what is wrong
    truths: list[Array] = []
    parts: list[Scores] = []

    def take(batch: Batch, scores: Scores) -> None:
        truths.append(labels.of(batch.names, batch.positions, known=batch.origins))
        parts.append(scores)

    for_each_batch(detector, stream, take)
    truth, scores = labels.end(truths, len(stream.left_out)), Scores.concatenate(parts)
    known = truth != UNKNOWN
    unlabeled = int((~known).sum())
    truth, scores = truth[known], scores.part(known)
    if len(np.unique(truth)) < 2:
        raise UserError(
            f"{labels.source}: all {len(truth)} images have the label {truth[0]}; "
            "an evaluation needs normal images (0) and anomalies (1)"
        )
    if threshold is None:
        threshold = Detector.threshold()
    normal, anomalous = counts(truth)
    return Evaluation(
        qualities(scores.columns(), truth, threshold),
        threshold,
        normal=normal,
        anomalous=anomalous,
        flagged=int((scores.score >= threshold).sum()),
        left_out=len(stream.left_out),
        unlabeled=unlabeled,
    )
