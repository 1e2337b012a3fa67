"""The table of suspects: training images that robust training found odd; which, how much, and why."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from anowild.data import ImageSet
from anowild.files import atomic_write, printable
from anowild.scoring import Detector
from anowild.scoring.scores import oddest_first
from anowild.training.robust import Suspects


def write_suspects(detector: Detector, images: ImageSet, suspects: Suspects, path: Path) -> None:
    """Write all training images, the oddest first, as CSV.

    ``oddness`` is the mean raw score over the assessments during training, in nats; ``times_left_out``
    counts the assessments after which the image was left out, ``left_out`` says whether it was at the
    end. ``score`` and the surprises of the single cues are the finished detector's; ``why`` is the cue
    with the largest surprise.

    Raises:
        UserError: the disk is full, or the file cannot be written.
    """
    scores = detector.score(images)
    counted = detector.calibration.counted
    surprises = np.stack(
        [detector.calibration.cues[name].surprise(scores.cues[name]) for name in counted], axis=1
    )
    columns = ("rank", "path", "oddness", "times_left_out", "left_out", "score", "why", *counted)
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(columns)
        for rank, i in enumerate(oddest_first(suspects.oddness), 1):
            table.writerow(
                [
                    rank, printable(images.names[i]), f"{suspects.oddness[i]:.3f}",
                    suspects.times_dropped[i], int(suspects.dropped[i]), f"{scores.score[i]:.3f}",
                    counted[int(surprises[i].argmax())], *(f"{s:.3f}" for s in surprises[i]),
                ]
            )  # fmt: skip
