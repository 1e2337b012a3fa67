"""The scoring pass: a source of any length, scored batch by batch, and handed to whoever wants the scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from anowild.data import ImageStream, open_all
from anowild.data.image_stream import Batch
from anowild.data.prefetch import prefetch
from anowild.data.sources import Source
from anowild.progress import bar
from anowild.scoring.detector import Detector
from anowild.scoring.scores import Scores
from anowild.scoring.table import Scored, Table, check_output, check_replaced
from anowild.scoring.thresholds import Threshold
from anowild.scoring.trained_on import TrainingImages

log = logging.getLogger("anowild")

#: Images decoded and scored at a time, at most, but no fewer than a batch of the views; and how many
#: such chunks are decoded ahead.
CHUNK, AHEAD = 128, 3


class Sink(Protocol):
    """A receiver of a scoring pass."""

    def begin(self, count: int | None) -> None:
        """Prepare for a pass over ``count`` images, readable or not; None: not known beforehand."""

    def take(self, batch: Batch, scores: Scores) -> None:
        """Receive a batch and its scores; batches come in the order of the source."""

    def end(self, left_out: int) -> None:
        """Finish a pass in which ``left_out`` images could not be read."""


class Trained(Protocol):
    """What rules for the limit ask of a model: a detector, or what a table in parts says of one."""

    @property
    def training_images(self) -> int | None:
        """How many images it was trained on; None: not known."""


class ThresholdRule(Protocol):
    """A rule that chooses the limit from which images are flagged; see `anowild.scoring.threshold_rules`."""

    def fit(self, model: Trained) -> Callable[[Scored], Threshold]:
        """Prepare the rule, before anything is scored, and return what finds the limit.

        Raises:
            UserError: the rule needs a detector, and ``model`` is none.
        """


def open_stream(detector: Detector, sources: Source | Sequence[Source]) -> ImageStream:
    """Open a source for scoring.

    Raises:
        UserError: it cannot be read, or was prepared otherwise than the detector wants it.
    """
    return ImageStream(open_all(sources), detector.preprocess)


def score_pass(detector: Detector, stream: ImageStream, *sinks: Sink) -> None:
    """Score a stream once and hand each batch to all sinks; later batches are read meanwhile.

    Raises:
        UserError: no image can be used; or whatever a sink raises.
    """
    known = TrainingImages(detector.trained_on)
    for sink in sinks:
        sink.begin(stream.count())
    size = detector.batch_size
    batches = stream.batches(max(1, CHUNK // size) * size)
    with (
        bar("scoring, images", stream.count()) as shown,
        prefetch(batches, AHEAD, stream.stop) as read,
    ):
        for batch in read:
            scores = detector.score(batch.images, batch.owners, batch.names)
            for sink in (*sinks, known):
                sink.take(batch, scores)
            shown.update(batch.positions[-1] + 1)
    for warning in detector.value_warnings(stream.values):
        log.warning("%s", warning)
    for sink in (*sinks, known):
        sink.end(len(stream.left_out))


def score(
    model: Detector | str | Path,
    sources: Source | Sequence[Source],
    out: str | Path | None = None,
    rule: ThresholdRule | None = None,
) -> Table:
    """Score a source and return, or also write, its table; see `anowild.score`.

    Memory holds neither the images nor, with ``out``, their names.
    """
    path = None if out is None else Path(out)
    if path is not None:
        check_output(path)
        check_replaced(path)
    detector = Detector.of(model)
    stream = open_stream(detector, sources)
    find = None if rule is None else rule.fit(detector)
    table = Table(detector.cue_names, path, detector.view_names, detector.reasons)
    score_pass(detector, stream, table)
    if find is not None:
        table.threshold = find(table)
    if path is not None:
        table.write(path)
    return table
