"""Tables of scores: a few bytes an image in memory, the rest on disk until it is written in order."""

from __future__ import annotations

import csv
import io
import struct
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from anowild.arrays import Array
from anowild.data.image_set import Batch
from anowild.errors import UserError
from anowild.files import as_user_error, atomic_write, check_place, printable
from anowild.scoring.scores import Scores, oddest_first
from anowild.scoring.thresholds import Threshold

#: Rows of a Parquet file that are held in memory, and lie together in the file.
ROW_GROUP = 1 << 15


@dataclass(frozen=True)
class Row:
    """One image in a table of scores; rank 1 is the oddest."""

    path: str
    score: float
    rank: int
    cues: dict[str, float]
    views: dict[str, float] = field(default_factory=dict)


class Table:
    """Scores of a source; a sink of the scoring pass, and ``rows()`` are ranked, the oddest first.

    Memory holds the scores alone, and where the rest of an image stands: 16 bytes an image. Names and
    cues are written away as they come, and read back when they are asked for.

    Args:
        cues: names of the cues, in the order of the columns.
        out: where the table will be written. Names and cues wait on the same disk, in a file without
            a name, of which nothing can be left behind. None: they wait in memory.
        views: names of the views that have scores of their own.

    Raises:
        UserError: that disk is full, or cannot be written.
    """

    def __init__(
        self, cues: Sequence[str], out: Path | None = None, views: Sequence[str] = ()
    ) -> None:
        self.cue_names, self.view_names = tuple(cues), tuple(views)
        self.left_out = 0  # images of the source that could not be read
        self.threshold: Threshold | None = None
        self._out = out
        self._values = struct.Struct(f"={len(self.view_names) + len(self.cue_names)}d")
        self._score = array("d")
        self._ends = array("q", [0])
        self._file: IO[bytes] = io.BytesIO()
        if out is not None:
            try:
                self._file = tempfile.TemporaryFile(dir=out.absolute().parent)  # noqa: SIM115
            except OSError as error:
                raise as_user_error(error, out) from error
        weakref.finalize(self, self._file.close)

    def begin(self, count: int | None) -> None:
        """Do nothing; see :class:`Sink`."""

    def take(self, batch: Batch, scores: Scores) -> None:
        """Add a batch of the scoring pass."""
        self.append(batch.names, scores)

    def end(self, left_out: int) -> None:
        """Note how many images could not be read."""
        self.left_out = left_out

    def append(self, names: Sequence[str], scores: Scores) -> None:
        """Add images, in the order of the source, before anything is read."""
        columns = [scores.views[view] for view in self.view_names]
        columns += [scores.cues[cue] for cue in self.cue_names]
        values = np.stack(columns, axis=1)
        end, entries = self._ends[-1], []
        for name, row in zip(names, values.tolist(), strict=True):
            # File names may hold lone surrogates, which UTF-8 does not know.
            entries.append(self._values.pack(*row) + name.encode("utf-8", "surrogatepass"))
            end += len(entries[-1])
            self._ends.append(end)
        self._score.frombytes(scores.score.astype(np.float64).tobytes())
        try:
            self._file.write(b"".join(entries))
            self._file.flush()
        except OSError as error:
            assert self._out is not None
            raise as_user_error(error, self._out) from error

    def __len__(self) -> int:
        return len(self._score)

    @property
    def score(self) -> Array:
        """The scores, float64 [N], in the order of the source."""
        return np.frombuffer(self._score, np.float64)

    @property
    def scores(self) -> Scores:
        """Scores and cues, in the order of the source."""
        values = np.array([self._read(i)[0] for i in range(len(self))])
        columns = iter(values.reshape(-1, len(self.view_names) + len(self.cue_names)).T)
        views = {view: next(columns) for view in self.view_names}
        return Scores(self.score, {cue: next(columns) for cue in self.cue_names}, views)

    def name(self, i: int) -> str:
        """Return the name of the image at place ``i`` of the source."""
        return self._read(i)[1]

    def rows(self) -> list[Row]:
        """Return all rows, ranked, the oddest first."""
        return list(self.ranked())

    def ranked(self) -> Iterator[Row]:
        """Yield the same rows one by one, in memory that does not grow with them."""
        for rank, i in enumerate(oddest_first(self.score), start=1):
            values, name = self._read(i)
            views = dict(zip(self.view_names, values, strict=False))
            cues = dict(zip(self.cue_names, values[len(views) :], strict=True))
            yield Row(name, self._score[i], rank, cues, views)

    def write(self, path: Path) -> None:
        """Write the ranked rows as .csv or .parquet; with a threshold, ``odd`` is 1 where it flags.

        Raises:
            UserError: the file has another ending, or cannot be written.
        """
        write_rows(self.ranked(), self.cue_names, path, self.threshold, self.view_names)

    def _read(self, i: int) -> tuple[tuple[float, ...], str]:
        start, end = self._ends[i], self._ends[i + 1]
        self._file.seek(start)
        entry = self._file.read(end - start)
        name = entry[self._values.size :].decode("utf-8", "surrogatepass")
        return self._values.unpack_from(entry), name


def write_rows(
    rows: Iterable[Row],
    cues: Sequence[str],
    path: Path,
    threshold: Threshold | None = None,
    views: Sequence[str] = (),
) -> None:
    """Write a table of scores as .csv or .parquet; with a threshold, ``odd`` is 1 where it flags.

    Raises:
        UserError: the file has another ending, or cannot be written.
    """
    check_output(path)
    columns = ["path", "score", "rank", *(f"view_{view}" for view in views), *cues]
    columns += ["odd"] if threshold is not None else []

    def values(row: Row) -> list[Any]:
        found: list[Any] = [row.path, row.score, row.rank]
        found += [*(row.views[view] for view in views), *(row.cues[cue] for cue in cues)]
        if threshold is not None:
            found.append(int(threshold.score is not None and row.score >= threshold.score))
        return found

    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".parquet":
            _write_parquet(map(values, rows), temporary, columns)
            return
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(map(values, rows))


def _write_parquet(rows: Iterator[list[Any]], path: Path, columns: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"path": pa.string(), "rank": pa.int64(), "odd": pa.int8()}
    schema = pa.schema([(name, types.get(name, pa.float64())) for name in columns])
    with pq.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, ROW_GROUP)):
            arrays = dict(zip(columns, map(list, zip(*group, strict=True)), strict=True))
            arrays["path"] = [printable(name) for name in arrays["path"]]
            writer.write_table(pa.table(arrays, schema))


def check_output(path: Path) -> None:
    """Check, before the work, that a table can be written to ``path``.

    Raises:
        UserError: it has another ending, lies in no folder, or a library is missing.
    """
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"{path}: a table is written as .csv or .parquet; give it such an ending")
    check_place(path)
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise UserError(
                f"{path}: Parquet needs pyarrow: pip install 'anowild[formats]', or write .csv"
            ) from None
