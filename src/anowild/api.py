"""The main jobs, station by station: train on a source, score a source, evaluate with labels."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anowild.config import Settings, preset
from anowild.data import ImageSet, ImageStream, open_all
from anowild.data.images import Source
from anowild.data.readers import Origin
from anowild.device import choose_device
from anowild.errors import UserError
from anowild.files import printable, written_whole
from anowild.progress import bar
from anowild.scoring import CUES, Detector, Scores
from anowild.scoring.cues import PASS
from anowild.study.labels import Labels
from anowild.study.metrics import Estimate, auroc, average_precision, estimate, f1_at
from anowild.training import train as train_networks

log = logging.getLogger("anowild")

#: Columns of a table of scores.
COLUMNS = ("path", "score", "rank", *CUES)
#: Images decoded and scored at a time.
CHUNK = 32 * PASS
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
        out: the model's folder; the training state lies in its subfolder ``training``.
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
    trained = train_networks(images, settings, out / "training", torch_device)
    if trained.lod > 0:
        log.warning(
            "the training ended at level of detail %.2f, before it had grown to full resolution: "
            "scores see images at %d pixels",
            trained.lod, p.resolution >> int(trained.lod),
        )  # fmt: skip
    detector = Detector.from_training(trained, images, settings)
    detector.save(out)
    return detector


@dataclass(frozen=True)
class Row:
    """One image in a table of scores; rank 1 is the oddest."""

    path: str
    score: float
    rank: int
    residual: float
    feature_distance: float
    latent_norm: float


@dataclass
class Table:
    """Scores of a source, in the order of the source."""

    names: list[str]
    positions: list[int]  # of each image among all of the source, those left out included
    scores: Scores
    left_out: int
    origins: list[Origin]

    def rows(self) -> list[Row]:
        """Ranked, the oddest first."""
        columns = self.scores.columns()
        ranks = self.scores.ranks()
        return [
            Row(
                path=self.names[i],
                rank=int(ranks[i]),
                **{name: float(values[i]) for name, values in columns.items()},
            )
            for i in np.argsort(ranks)
        ]


def score_table(model: Detector | str | Path, sources: Source | Sequence[Source]) -> Table:
    """Score every readable image, streaming; memory holds the table, not the images."""
    detector = model if isinstance(model, Detector) else Detector.load(model)
    stream = ImageStream(open_all(sources), detector.preprocess)
    names: list[str] = []
    positions: list[int] = []
    origins: list[Origin] = []
    parts: list[Scores] = []
    with bar("scoring, images", stream.count()) as shown:
        for batch in stream.batches(CHUNK):
            names += batch.names
            positions += batch.positions
            origins += batch.origins
            parts.append(detector.score(batch.images))
            shown.update(len(names) + len(stream.left_out))
    scores = Scores(
        np.concatenate([part.score for part in parts]),
        {cue: np.concatenate([part.cues[cue] for part in parts]) for cue in CUES},
    )
    return Table(names, positions, scores, len(stream.left_out), origins)


def score(
    model: Detector | str | Path,
    sources: Source | Sequence[Source],
    out: str | Path | None = None,
) -> Table:
    """Scores of a source; ``rows()`` are ranked, and also written to ``out`` (.csv or .parquet).

    Raises:
        UserError: the model or the source cannot be used, or the file cannot be written.
    """
    if out is not None:
        _check_output(Path(out))
    table = score_table(model, sources)
    if out is not None:
        write_rows(table.rows(), Path(out))
    return table


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
    table = score_table(model, sources)
    total = len(table.names) + table.left_out
    truth = labels.of(table.names, table.positions, total, table.origins)
    if len(np.unique(truth)) < 2:
        raise UserError(
            f"{labels.source}: all {len(truth)} images have the label {truth[0]}; "
            "an evaluation needs normal images (0) and anomalies (1)"
        )
    if threshold is None:
        threshold = Detector.threshold()
    qualities = {}
    for name, values in table.scores.columns().items():
        qualities[name] = Quality(
            auroc=estimate(auroc, truth, values),
            average_precision=estimate(average_precision, truth, values),
            f1=estimate(f1_at(threshold), truth, values) if name == "score" else None,
        )
    return Evaluation(
        qualities,
        threshold,
        normal=int((truth == 0).sum()),
        anomalous=int((truth == 1).sum()),
        flagged=int((table.scores.score >= threshold).sum()),
        left_out=table.left_out,
    )


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write a table of scores as .csv or .parquet."""
    _check_output(path)
    with written_whole(path) as temporary:
        if path.suffix.lower() == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
            columns["path"] = [printable(name) for name in columns["path"]]
            pq.write_table(pa.table(columns), temporary)
            return
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for row in rows:
                writer.writerow([getattr(row, name) for name in COLUMNS])


def _check_output(path: Path) -> None:
    """Say before the work, not after it, that its result could not be written."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"{path}: a table is written as .csv or .parquet; give it such an ending")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"{path}: cannot be written there; name a file in an existing folder")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise UserError(
                f"{path}: Parquet needs pyarrow: pip install 'anowild[formats]', or write .csv"
            ) from None
