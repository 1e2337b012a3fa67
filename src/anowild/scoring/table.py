"""Tables of scores: a few bytes an image in memory, the rest on disk until it is written in order."""

from __future__ import annotations

import io
import struct
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TextIO

import numpy as np

from anowild.arrays import Array
from anowild.data.image_stream import Batch
from anowild.data.spreadsheet import write_spreadsheet
from anowild.errors import UserError
from anowild.files import as_user_error, atomic_write, check_place, is_file, printable
from anowild.libraries import parquet_library
from anowild.scoring.explain import Reason, one_line
from anowild.scoring.scores import Scores, oddest_first
from anowild.scoring.thresholds import Threshold
from anowild.scoring.written_table import TEXTS, open_table

if TYPE_CHECKING:
    from anowild.scoring.calibration import Calibration

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
    why: str = ""  # reasons in one line, where they were asked for
    findings: str = ""  # kinds of findings in the original, where it was checked


class Scored(Protocol):
    """Scores of some images, as rules for the limit ask for them."""

    @property
    def score(self) -> Array:
        """The scores, float64 [N]."""

    def raw_score(self, calibration: Calibration) -> Array:
        """Return the raw scores, float64 [N]; see `Calibration.raw_score`."""


class Table:
    """Scores of a source; a sink of the scoring pass, and ``rows()`` are ranked, the oddest first.

    Memory holds the scores alone, and where the rest of an image stands: 16 bytes an image. Names, cues
    and reasons are written away as they come, and read back when they are asked for.

    Args:
        cues: names of the cues, in the order of the columns.
        out: where the table will be written. Names, cues and reasons wait on the same disk, in a file
            without a name, of which nothing can be left behind. None: they wait in memory.
        views: names of the views that have scores of their own.
        reasons: says why images rank where they do, as :meth:`Detector.reasons`; None: the table is
            silent about it.

    Raises:
        UserError: that disk is full, or cannot be written.
    """

    def __init__(
        self,
        cues: Sequence[str],
        out: Path | None = None,
        views: Sequence[str] = (),
        reasons: Callable[[Scores], list[list[Reason]]] | None = None,
    ) -> None:
        self.cue_names, self.view_names = tuple(cues), tuple(views)
        self.left_out = 0  # images of the source that could not be read
        self.earlier = 0  # the last rows, which were scored earlier; see `append_rows`
        self.threshold: Threshold | None = None
        self._out = out
        self._reasons = reasons
        # An entry has the values, the bytes of the reasons, the reasons and the name.
        self._values = struct.Struct(f"={len(self.view_names) + len(self.cue_names)}dI")
        self._score = array("d")
        self._ends = array("q", [0])
        self._file: IO[bytes] = io.BytesIO()
        if out is not None:
            try:
                self._file = tempfile.TemporaryFile(dir=out.absolute().parent)  # noqa: SIM115
            except OSError as error:
                raise as_user_error(error, out) from error
        weakref.finalize(self, _close, self._file)

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
        why = [""] * len(names)
        if self._reasons is not None:
            why = list(map(one_line, self._reasons(scores)))
        self._append(names, scores.score.tolist(), values.tolist(), why)

    def append_rows(self, rows: Iterable[Row]) -> None:
        """Add images that were scored earlier, after all others; their ranks are found again."""
        waiting = iter(rows)
        while group := list(islice(waiting, ROW_GROUP)):
            values = [
                [*(row.views[v] for v in self.view_names), *(row.cues[c] for c in self.cue_names)]
                for row in group
            ]
            names, why = [row.path for row in group], [row.why for row in group]
            self._append(names, [row.score for row in group], values, why)
            self.earlier += len(group)

    def _append(
        self,
        names: Sequence[str],
        scores: Sequence[float],
        values: Sequence[Sequence[float]],
        why: Sequence[str],
    ) -> None:
        end, entries = self._ends[-1], []
        for name, row, reasons in zip(names, values, why, strict=True):
            text = reasons.encode()
            # File names may hold lone surrogates, which UTF-8 does not know.
            packed = self._values.pack(*row, len(text))
            entries.append(packed + text + name.encode("utf-8", "surrogatepass"))
            end += len(entries[-1])
            self._ends.append(end)
        self._score.extend(scores)
        try:
            self._file.write(b"".join(entries))
            self._file.flush()
        except OSError as error:
            assert self._out is not None
            raise as_user_error(error, self._out) from error

    def __len__(self) -> int:
        return len(self._score)

    @property
    def new(self) -> int:
        """How many images were scored now; they are the first."""
        return len(self) - self.earlier

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

    def raw_score(self, calibration: Calibration) -> Array:
        """Return the raw scores, float64 [N]; see :class:`Scored`."""
        return calibration.raw_score(self.scores.cues)

    def name(self, i: int) -> str:
        """Return the name of the image at place ``i`` of the source."""
        return self._read(i)[1]

    def rows(self) -> list[Row]:
        """Return all rows, ranked, the oddest first."""
        return list(self.ranked())

    def ranked(self, new_only: bool = False) -> Iterator[Row]:
        """Yield the same rows one by one, in memory that does not grow with them.

        Args:
            new_only: only of images that were scored now; their ranks are those among all.
        """
        for rank, i in enumerate(oddest_first(self.score), start=1):
            if new_only and i >= self.new:
                continue
            values, name, why = self._read(i)
            views = dict(zip(self.view_names, values, strict=False))
            cues = dict(zip(self.cue_names, values[len(views) :], strict=True))
            yield Row(name, self._score[i], rank, cues, views, why)

    def write(self, path: Path | TextIO) -> None:
        """Write the ranked rows; see :func:`write_rows`.

        Raises:
            UserError: the file has another ending, or cannot be written.
        """
        write_rows(self.ranked(), self.cue_names, path, self.threshold, self.view_names)

    def _read(self, i: int) -> tuple[list[float], str, str]:
        """Return the values, the name and the reasons of the image at place ``i`` of the source."""
        start, end = self._ends[i], self._ends[i + 1]
        self._file.seek(start)
        entry = self._file.read(end - start)
        *values, length = self._values.unpack_from(entry)
        text = entry[self._values.size :]
        return values, text[length:].decode("utf-8", "surrogatepass"), text[:length].decode()


def _close(file: IO[bytes]) -> None:
    """Close a temporary file; what a full disk did not take is of no use any more."""
    with suppress(OSError):
        file.close()


def write_rows(
    rows: Iterable[Row],
    cues: Sequence[str],
    path: str | Path | TextIO,
    threshold: Threshold | None = None,
    views: Sequence[str] = (),
    checked: bool = False,
) -> None:
    """Write a table of scores as .csv or .parquet, or as CSV into an open text file.

    With a threshold, ``odd`` is 1 where it flags. If the originals were ``checked``, ``findings`` says what
    was found.

    Raises:
        UserError: the file has another ending, or cannot be written.
    """
    columns = columns_of(cues, views, checked)
    columns += ["odd"] if threshold is not None else []

    def values(row: Row) -> list[Any]:
        found: list[Any] = [row.path, row.score, row.rank]
        found += [*(row.views[view] for view in views), row.why]
        found += [row.findings] if checked else []
        found += [row.cues[cue] for cue in cues]
        if threshold is not None:
            found.append(int(threshold.is_reached(row.score)))
        return found

    if isinstance(path, str):
        path = Path(path)
    if not isinstance(path, Path):
        write_spreadsheet(path, columns, map(values, rows))
        return
    check_output(path)
    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".parquet":
            _write_parquet(map(values, rows), temporary, columns)
            return
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            write_spreadsheet(file, columns, map(values, rows))


def columns_of(cues: Sequence[str], views: Sequence[str], checked: bool = False) -> list[str]:
    """Return the columns of a table, but ``odd``, which only a table with a threshold has."""
    words = ["why", "findings"] if checked else ["why"]
    return ["path", "score", "rank", *(f"view_{view}" for view in views), *words, *cues]


def schema_of(columns: Sequence[str], others: Mapping[str, Any] | None = None) -> Any:
    """Return the Parquet schema of a table; ``others`` are types of columns that only some tables have."""
    pa, _ = parquet_library()
    types = dict.fromkeys(TEXTS, pa.string()) | {"rank": pa.int64(), "odd": pa.int8()}
    types |= others or {}
    return pa.schema([(name, types.get(name, pa.float64())) for name in columns])


def _write_parquet(rows: Iterator[list[Any]], path: Path, columns: Sequence[str]) -> None:
    pa, parquet = parquet_library()
    schema = schema_of(columns)
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, ROW_GROUP)):
            arrays = dict(zip(columns, map(list, zip(*group, strict=True)), strict=True))
            for column in arrays.keys() & {"path", "findings"}:  # both name files
                arrays[column] = [printable(name) for name in arrays[column]]
            writer.write_table(pa.table(arrays, schema))


def check_output(path: Path) -> None:
    """Check, before the work, that a table can be written to ``path``.

    Raises:
        UserError: it has another ending, or lies in no folder.
    """
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"{path}: a table is written as .csv or .parquet; give it such an ending")
    if path.suffix.lower() == ".parquet":
        parquet_library()
    check_place(path)


def check_replaced(path: Path) -> None:
    """Check, before the work, that a file which a table will replace is a table as well.

    Raises:
        UserError: it is something else, such as a file of labels.
    """
    if not is_file(path) or path.stat().st_size == 0:
        return
    try:
        with open_table(path):
            pass
    except UserError as error:
        raise UserError(
            f"{path}: is there already and no table of scores; name a new table, or delete it"
        ) from error
