"""Tables in parts, made as a scoring of many processes makes them, but in this one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from anowild.data.sources import Source
from anowild.scoring import Detector, Scores
from anowild.scoring.explain import one_line
from anowild.scoring.partitions import PartitionedTable, PartWriter, TableFacts
from anowild.scoring.stream import open_stream, score_pass
from anowild.scoring.table import Scored
from anowild.scoring.thresholds import Threshold


class Collected:
    """A sink of the scoring pass that keeps names and scores."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.scores: list[Scores] = []

    def begin(self, count: int | None) -> None:
        """Do nothing."""

    def take(self, batch: object, scores: Scores) -> None:
        self.names += batch.names  # type: ignore[attr-defined]
        self.scores.append(scores)

    def end(self, left_out: int) -> None:
        """Do nothing."""


def write_parts(
    folder: Path,
    detector: Detector,
    sources: Source,
    sizes: Sequence[int],
    base: Path | None = None,
) -> PartWriter:
    """Score a source and write its images as parts of some sizes; the last one has the rest, and what was left out."""
    stream, collected = open_stream(detector, sources), Collected()
    score_pass(detector, stream, collected)
    scores = Scores.concatenate(collected.scores)
    writer = PartWriter(folder, TableFacts.of(detector, ["images"], base))
    ends = [*np.cumsum(sizes).tolist(), len(collected.names)]
    for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        some = scores.select(np.arange(start, end))
        why = [one_line(reasons) for reasons in detector.reasons(some)] if end > start else []
        left_out = (
            [(image.name, image.reason) for image in stream.left_out] if end == ends[-1] else []
        )
        writer.write(number, collected.names[start:end], some, why, left_out)
    return writer


def table_in_parts(
    folder: Path,
    detector: Detector,
    sources: Source,
    sizes: Sequence[int] = (50, 0, 31),
    find: Callable[[Scored], Threshold] | None = None,
) -> PartitionedTable:
    """Return a table in as many parts as there are sizes, and one more."""
    return write_parts(folder, detector, sources, sizes).finish(len(sizes) + 1, find)
