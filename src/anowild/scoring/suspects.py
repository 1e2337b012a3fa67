"""The training images that robust training suspects, as a list: which, how much, and why."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from anowild.data.image_set import ImageSet
from anowild.files import atomic_write, printable
from anowild.scoring.calibration import COMBINED
from anowild.scoring.detector import Detector, oddest_first
from anowild.training.robust import Suspects

COLUMNS = ("rank", "path", "oddness", "times_left_out", "left_out", "score", "why", *COMBINED)


def write_suspects(detector: Detector, images: ImageSet, suspects: Suspects, path: Path) -> None:
    """All training images, the oddest first, as CSV.

    ``oddness`` is the mean over the looks of the sum of surprises, in nats; ``times_left_out``
    counts the looks after which the image was left out, ``left_out`` says whether it was at the
    end. ``score`` and the surprises of the single cues are the finished detector's; ``why`` is the
    cue that surprises most.

    Raises:
        UserError: the disk is full, or the place cannot be written.
    """
    scores = detector.score(images)
    surprises = np.stack(
        [detector.calibration.cues[name].surprise(scores.cues[name]) for name in COMBINED],
        axis=1,
    )
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for rank, i in enumerate(oddest_first(suspects.oddness), 1):
            table.writerow(
                [
                    rank, printable(images.names[i]), f"{suspects.oddness[i]:.3f}",
                    suspects.times_dropped[i], int(suspects.dropped[i]), f"{scores.score[i]:.3f}",
                    COMBINED[int(surprises[i].argmax())], *(f"{s:.3f}" for s in surprises[i]),
                ]
            )  # fmt: skip
