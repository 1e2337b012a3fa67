"""Scoring by all workers of a cluster, into a table of scores in parts."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from anowild.cluster.engine import Result, ray_library, run
from anowild.cluster.pieces import IMAGES_A_PIECE, Piece, cut, digest_of, total
from anowild.data import ImageStream
from anowild.data.image_stream import NAMED
from anowild.data.prefetch import prefetch
from anowild.data.readers.base import PassedOver, PassedOverTally, SkippedImage, passed_over_text
from anowild.data.sources import Source
from anowild.data.value_range import ValueRange
from anowild.device import configure_process
from anowild.errors import UserError
from anowild.progress import bar
from anowild.scoring.detector import Detector
from anowild.scoring.explain import one_line
from anowild.scoring.partitions import PartitionedTable, PartWriter, TableFacts
from anowild.scoring.scores import Scores
from anowild.scoring.stream import AHEAD, CHUNK, ThresholdRule
from anowild.scoring.trained_on import TrainingImages
from anowild.signals import Interrupted

log = logging.getLogger("anowild")


@dataclass
class ScoredPiece:
    """The scores of a piece, and what its reader said."""

    names: list[str]
    scores: Scores
    why: list[str]
    left_out: list[SkippedImage]
    passed_over: list[PassedOver]
    values: ValueRange
    trained_on: int  # images that are training images
    first_trained_on: str


class ScoringWork:
    """Scores pieces in a process of the cluster.

    Args:
        model: the files of the model's folder, by name; so machines need no common folder.
        folder: of the model, for messages.
    """

    def __init__(
        self,
        model: dict[str, bytes],
        folder: Path,
        device: str,
        threads: int,
        precision: Literal["float32", "bfloat16"],
    ) -> None:
        configure_process(threads)
        with tempfile.TemporaryDirectory(prefix="anowild-") as copy:
            for name, content in model.items():
                Path(copy, name).write_bytes(content)
            self.detector = Detector.load(copy, device, precision)
        self.detector.folder = folder

    def __call__(self, piece: Piece) -> ScoredPiece:
        """Read, decode and score the images of a piece."""
        detector = self.detector
        names: list[str] = []
        why: list[str] = []
        parts = [_nothing(detector)]
        known = TrainingImages(detector.trained_on)
        size = detector.batch_size
        with piece.opened() as reader:
            stream = _PieceStream([reader], detector.preprocess, quiet=True)
            batches = stream.batches(max(1, CHUNK // size) * size)
            with prefetch(batches, AHEAD, stream.stop) as read:
                for batch in read:
                    scores = detector.score(batch.images, batch.owners, batch.names)
                    names += batch.names
                    why += map(one_line, detector.reasons(scores))
                    parts.append(scores)
                    known.take(batch, scores)
            passed_over = reader.passed_over()
        scores = Scores.concatenate(parts)
        return ScoredPiece(
            names,
            scores,
            why,
            stream.left_out,
            passed_over,
            stream.values,
            known.found,
            known.first,
        )


class _PieceStream(ImageStream):
    """A stream in which all images may be unreadable: others have other pieces."""

    def finish(self, used: int) -> None:
        """Say nothing: the whole is told by the process that collects the pieces."""


def _nothing(detector: Detector) -> Scores:
    none = np.empty(0)
    return Scores(
        none, dict.fromkeys(detector.cue_names, none), dict.fromkeys(detector.view_names, none)
    )


@dataclass
class _Findings:
    """What is said at the end about the images that were scored now."""

    images: int = 0
    left_out: int = 0
    trained_on: int = 0
    first_trained_on: str = ""
    values: ValueRange = field(default_factory=ValueRange)
    passed_over: PassedOverTally = field(default_factory=PassedOverTally)

    def add(self, found: ScoredPiece) -> None:
        for image in found.left_out[: max(0, NAMED - self.left_out)]:
            log.warning("left out %s: %s", image.name, image.reason)
        self.images += len(found.names)
        self.left_out += len(found.left_out)
        self.trained_on += found.trained_on
        self.first_trained_on = self.first_trained_on or found.first_trained_on
        self.values.merge(found.values)
        for one in found.passed_over:
            self.passed_over.add(one.reason, one.first, one.count)

    def tell(self, detector: Detector) -> None:
        if self.left_out > NAMED:
            log.warning("%d images were left out in all", self.left_out)
        if entries := self.passed_over.entries():
            log.warning("%s", passed_over_text(entries))
        for warning in detector.value_warnings(self.values):
            log.warning("%s", warning)
        known = TrainingImages(None)
        known.count, known.found, known.first = self.images, self.trained_on, self.first_trained_on
        known.end(self.left_out)


def score(
    model: str | Path,
    sources: Source | Sequence[Source],
    out: str | Path,
    rule: ThresholdRule | None = None,
    *,
    workers: int | None = None,
    device: str = "auto",
    threads: int = 1,
    precision: Literal["float32", "bfloat16"] = "float32",
    images_a_part: int = IMAGES_A_PIECE,
    watch: Callable[[Result], None] | None = None,
) -> PartitionedTable:
    """Score sources with all workers of a cluster, or go on where that was stopped.

    Each image is scored once, and as one process with as many threads scores it: an image whose worker died is
    scored by another one, and a part of the table is written when all of its images are scored.

    Args:
        model: folder of a model.
        sources: files and folders that all machines see, or URLs.
        out: folder of the table, on this machine.
        rule: chooses the limit from which images are flagged, by all scores.
        workers: processes; one for each core of the cluster unless given.
        device: of each worker.
        threads: of each worker.
        images_a_part: about; where the format lets us choose.
        watch: is called with the result of each piece that was scored now.

    Raises:
        UserError: Ray is missing; the model or a source cannot be used; ``out`` holds something else.
        Interrupted: by Ctrl-C or SIGTERM; the same call goes on.
    """
    ray_library()
    folder, out = Path(model), Path(out)
    if out.suffix.lower() in (".csv", ".parquet"):
        raise UserError(f"{out}: many workers write a folder, not a file; name one, such as scores")
    detector = Detector.load(folder, "cpu", precision)
    parts = cut(sources, images_a_part)
    pieces: list[Piece] = [piece for part in parts for piece in part.pieces]
    how = {
        "images_a_part": images_a_part, "files": digest_of(parts), "threads": threads,
        "precision": precision,
    }  # fmt: skip
    writer = PartWriter(out, TableFacts.of(detector, [part.source for part in parts], how=how))
    find = None if rule is None else rule.fit(detector)
    done = set(writer.parts())
    waiting = {number: piece for number, piece in enumerate(pieces) if number not in done}
    before = total([piece for number, piece in enumerate(pieces) if number in done]) or 0
    work = {
        "model": _files(folder), "folder": folder, "device": device, "threads": threads,
        "precision": precision,
    }  # fmt: skip
    findings = _Findings()
    try:
        with (
            bar("scoring, images", total(pieces), before) as shown,
            closing(run(ScoringWork, work, waiting, workers=workers)) as results,
        ):
            for result in results:
                found: ScoredPiece = result.value
                left_out = [(image.name, image.reason) for image in found.left_out]
                writer.write(result.number, found.names, found.scores, found.why, left_out)
                findings.add(found)
                shown.update(before + findings.images + findings.left_out)
                if watch is not None:
                    watch(result)
    except KeyboardInterrupt as stop:
        signum = stop.args[0] if stop.args else 2
        raise Interrupted(signum, f"image {before + findings.images}") from None
    findings.tell(detector)
    return writer.finish(len(pieces), find)


def _files(model: Path) -> dict[str, bytes]:
    """Return the files of a model's folder that it is loaded from."""
    found = sorted(p for p in model.iterdir() if p.suffix in (".json", ".safetensors"))
    return {path.name: path.read_bytes() for path in found if path.is_file()}
