"""The table of a watched folder: written anew from the journal now and then, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from anowild.data.spreadsheet import write_spreadsheet
from anowild.errors import UserError
from anowild.files import atomic_write, printable
from anowild.libraries import parquet_library
from anowild.scoring.scores import p_value
from anowild.scoring.table import ROW_GROUP, schema_of
from anowild.watching.journal import Journal, Rows

#: A table is not written again before so many times as long as the last writing took have passed: long tables
#: are written less often, and take a twentieth of the time at most.
REST = 20


class TableFile:
    """Writes the table, whole and in one step, while others go on recording.

    Args:
        path: .csv or .parquet.
        journal: that has the rows.
        every: seconds between two writings, at least.
    """

    def __init__(self, path: Path, journal: Journal, every: float) -> None:
        self.path, self.journal, self.every = path, journal, every
        self._written: int | None = None  # images in the file; None: not known
        self._due = 0.0
        self._thread: threading.Thread | None = None
        self._error: UserError | None = None

    def update(self, count: int) -> None:
        """Begin to write the table, if it is due and not all of ``count`` images are in it.

        Raises:
            UserError: the last writing failed.
        """
        if self._thread is not None:
            if self._thread.is_alive():
                return
            self._end()
        if count != self._written and time.monotonic() >= self._due:
            self._thread = threading.Thread(target=self._try, name="anowild-table", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Write what is missing in the table.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        self._end()
        if self.journal.count() != self._written:
            self._write()

    def _end(self) -> None:
        """Wait for the thread."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error

    def _try(self) -> None:
        try:
            self._write()
        except UserError as error:
            self._error = error

    def _write(self) -> None:
        begun = time.monotonic()
        count = self.journal.count()
        with atomic_write(self.path) as temporary:
            if self.path.suffix.lower() == ".parquet":
                self._write_parquet(temporary)
            else:
                self._write_csv(temporary)
        now = time.monotonic()
        self._written, self._due = count, now + max(self.every, REST * (now - begun))

    def _columns(self, rows: Rows) -> dict[str, Any]:
        """Return the columns of some images by name: arrays and lists, [N] each."""
        about = self.journal.about
        names = [*(f"view_{view}" for view in about.views), "why", *about.cues]
        values = iter(rows.columns.T)
        others = {name: rows.why if name == "why" else next(values) for name in names}
        return {
            "path": rows.names,
            "score": rows.scores,
            "p_value": p_value(rows.scores),
            "odd": rows.odd,
            **others,
            "time": rows.times,
            "size": rows.sizes,
            "mtime_ns": rows.mtimes,
        }

    def _groups(self) -> Iterator[dict[str, Any]]:
        return map(self._columns, self.journal.rows(ROW_GROUP))

    def _empty(self) -> dict[str, Any]:
        width = len(self.journal.about.views) + len(self.journal.about.cues)
        return self._columns(Rows([], [], [], [], np.empty(0), [], [], np.empty((0, width))))

    def _write_parquet(self, path: Path) -> None:
        pa, parquet = parquet_library()
        types = {"time": pa.timestamp("ms", "UTC"), "size": pa.int64(), "mtime_ns": pa.int64()}
        schema = schema_of(list(self._empty()), types)
        with parquet.ParquetWriter(path, schema) as writer:
            for columns in self._groups():
                columns["path"] = list(map(printable, columns["path"]))
                writer.write_table(pa.table(columns, schema))

    def _write_csv(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            write_spreadsheet(file, list(self._empty()), self._csv_rows())

    def _csv_rows(self) -> Iterator[tuple[object, ...]]:
        for columns in self._groups():
            columns["time"] = [
                datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds")
                for time in columns["time"]
            ]
            lists = [c.tolist() if isinstance(c, np.ndarray) else c for c in columns.values()]
            yield from zip(*lists, strict=True)
