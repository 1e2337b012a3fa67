"""The table of suspects: the training images, the oddest first, with scores and reasons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anowild.data import ImageSet
from anowild.data.spreadsheet import write_spreadsheet
from anowild.files import atomic_write, printable
from anowild.scoring.explain import one_line
from anowild.scoring.scores import oddest_first
from anowild.training.fitting import FittedDetector


def write_suspects(path: Path, images: ImageSet, fitted: FittedDetector) -> None:
    """Write all training images, the oddest first, as CSV.

    Scores come from what was fitted without the image, where that makes a difference. So they are not
    those that the detector gives to the same images later. ``why`` has the reasons in words. Robust
    training adds ``left_out`` (whether the image was left out at the end), ``times_left_out`` (the
    number of assessments after which it was) and ``oddness``, the mean raw score over them, in nats.

    Raises:
        UserError: the disk is full, or the file cannot be written.
    """
    scores, suspects = fitted.training, fitted.suspects
    reasons = fitted.detector.reasons(scores)
    views = {f"view_{name}": values for name, values in scores.views.items()}
    columns = ["rank", "path", "score", *views, "why"]
    if suspects is not None:
        columns += ["left_out", "times_left_out", "oddness"]

    def rows() -> Iterator[list[object]]:
        for rank, i in enumerate(oddest_first(scores.score), 1):
            row: list[object] = [rank, printable(images.names[i]), f"{scores.score[i]:.3f}"]
            row += [*(f"{values[i]:.3f}" for values in views.values()), one_line(reasons[i])]
            if suspects is not None:
                row += [
                    int(suspects.dropped[i]), suspects.times_dropped[i], f"{suspects.oddness[i]:.3f}"
                ]  # fmt: skip
            yield row

    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        write_spreadsheet(file, columns, rows())
