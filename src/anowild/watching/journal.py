"""What was scored, in an SQLite database: the one record that decides what is new and what is still to be sent.

All images of a file, and what is to be done about flagged ones, are written in one transaction and are on disk before
anything else happens. So a process that is killed at any moment leaves a file recorded with all of it, or not at all.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anowild.arrays import Array
from anowild.checked import checked
from anowild.errors import UserError
from anowild.watching.arrivals import State

VERSION = 1

_SCHEMA = (
    "CREATE TABLE about (value TEXT NOT NULL)",  # one row, JSON
    """
CREATE TABLE images (
    id INTEGER PRIMARY KEY,
    file BLOB NOT NULL,         -- path below the folder
    size INTEGER NOT NULL,      -- of the file, in bytes
    mtime INTEGER NOT NULL,     -- its time of change, in nanoseconds
    part TEXT NOT NULL,         -- page of the file, as '[2]'; '' if it has one
    time INTEGER NOT NULL,      -- when it was scored, in milliseconds, UTC
    score REAL,                 -- NULL: the file is unreadable
    odd INTEGER NOT NULL,       -- 1 where the limit is reached
    why TEXT NOT NULL,          -- the reasons, or what is wrong with the file
    columns BLOB NOT NULL,      -- scores of views and cues, float64
    UNIQUE (file, size, mtime, part)
)""",
    "CREATE TABLE deliveries (kind TEXT, image INTEGER, PRIMARY KEY (kind, image)) WITHOUT ROWID",
)
#: How messages speak of the facts of :class:`About` that must not change.
_CALLED = {
    "folder": "for the folder ", "model": "with the model ", "limit": "with the limit ",
    "precision": "with the precision ",
}  # fmt: skip


@dataclass(frozen=True)
class About:
    """What all rows of a table have in common, and must not change while it grows."""

    folder: str  # that is watched, absolute
    model: str  # tells it from any other
    limit: float  # score from which images are flagged
    precision: str
    views: tuple[str, ...]
    cues: tuple[str, ...]
    named: str  # the folder as it was given first; names of images begin with it
    id: str  # of the table, drawn when it was begun


class Image(NamedTuple):
    """An image as it is recorded; ``score`` is not a number where it cannot be read."""

    part: str
    score: float
    odd: bool
    why: str
    columns: Sequence[float]


class ScoredFile(NamedTuple):
    """All images of a file."""

    path: str  # below the folder
    state: State
    images: Sequence[Image]


class Flagged(NamedTuple):
    """A flagged image that is to be delivered."""

    number: int  # of the image in the journal
    path: str  # of the file, absolute
    part: str
    score: float
    why: str
    time: datetime


class Rows(NamedTuple):
    """Some images in columns, in the order in which they were scored."""

    names: list[str]
    sizes: list[int]
    mtimes: list[int]  # ns
    times: list[int]  # ms
    scores: Array  # not a number where the file is unreadable
    odd: list[int]
    why: list[str]
    columns: Array  # scores of views and cues, [N, columns]


class Journal:
    """Record of the images of a watched folder; safe to share between threads.

    Args:
        path: of the database; begun if there is none.
        about: what is to be recorded. ``named`` and ``id`` stay those of the first time.

    Raises:
        UserError: it was begun with another model or other options, is damaged, or cannot be written.
    """

    def __init__(self, path: Path, about: About) -> None:
        self.path = path
        self._lock = threading.Lock()
        with self._errors():
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")  # on disk when a transaction ends
            self.about = self._begun(about)
        for name, word in _CALLED.items():
            was, now = getattr(self.about, name), getattr(about, name)
            if was != now:
                raise UserError(
                    f"{self.path.parent}: was begun {word}{_shown(was)}, not {_shown(now)}; give the same again, "
                    "or name a new table (-o)"
                )

    def close(self) -> None:
        """Close the database."""
        with self._lock, self._errors():
            self._database.close()

    def knows(self, path: str, state: State) -> bool:
        """Whether a file, by its path below the folder, is recorded in this state."""
        query = "SELECT 1 FROM images WHERE file = ? AND size = ? AND mtime = ? LIMIT 1"
        return bool(self._query(query, (os.fsencode(path), *state)))

    def add(self, files: Sequence[ScoredFile], kinds: Sequence[str] = ()) -> None:
        """Record files, all or none of them, and what is to be done about flagged images.

        Args:
            files: that are not recorded yet.
            kinds: of deliveries that each flagged image waits for from now on.
        """
        time = round(datetime.now(UTC).timestamp() * 1000)
        with self._lock, self._errors(), self._transaction():
            for path, state, images in files:
                for image in images:
                    score = None if math.isnan(image.score) else image.score
                    columns = np.asarray(image.columns, np.float64).tobytes()
                    cursor = self._database.execute(
                        "INSERT INTO images VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (os.fsencode(path), *state, image.part, time, score, image.odd, image.why, columns),
                    )  # fmt: skip
                    waiting = [(kind, cursor.lastrowid) for kind in kinds if image.odd]
                    self._database.executemany("INSERT INTO deliveries VALUES (?, ?)", waiting)

    def count(self) -> int:
        """Return how many images are recorded, readable or not."""
        return int(self._query("SELECT COALESCE(MAX(id), 0) FROM images")[0][0])

    def last_scores(self, most: int) -> Array:
        """Return the last scores, at most ``most``, in the order in which they were recorded."""
        query = "SELECT score FROM images WHERE score IS NOT NULL ORDER BY id DESC LIMIT ?"
        return np.array([score for (score,) in self._query(query, (most,))][::-1], np.float64)

    def next_delivery(self, kind: str, after: int) -> Flagged | None:
        """Return the first image beyond number ``after`` that waits for a delivery; None if there is none."""
        found = self._query(
            "SELECT id, file, part, score, why, time FROM deliveries JOIN images ON id = image "
            "WHERE kind = ? AND image > ? ORDER BY image LIMIT 1",
            (kind, after),
        )
        if not found:
            return None
        ((number, file, part, score, why, time),) = found
        path = os.path.join(self.about.folder, os.fsdecode(file))  # noqa: PTH118 - only a text
        return Flagged(number, path, part, score, why, datetime.fromtimestamp(time / 1000, UTC))

    def delivered(self, kind: str, number: int) -> None:
        """Note that nothing more is to be done for an image."""
        self._query("DELETE FROM deliveries WHERE kind = ? AND image = ?", (kind, number))

    def deliveries(self, kind: str) -> int:
        """Return how many images wait for a delivery."""
        query = "SELECT COUNT(*) FROM deliveries WHERE kind = ?"
        return int(self._query(query, (kind,))[0][0])

    def rows(self, most: int) -> Iterator[Rows]:
        """Yield all images as they are now, ``most`` at a time; others can be recorded meanwhile."""
        with self._errors(), closing(sqlite3.connect(self.path)) as database:
            cursor = database.execute(
                "SELECT file, part, size, mtime, time, score, odd, why, columns FROM images ORDER BY id"
            )
            while found := cursor.fetchmany(most):
                files, parts, sizes, mtimes, times, scores, odd, why, columns = map(
                    list, zip(*found, strict=True)
                )
                folder = Path(self.about.named)
                names = [
                    f"{folder / os.fsdecode(file)}{part}"
                    for file, part in zip(files, parts, strict=True)
                ]
                values = np.frombuffer(b"".join(columns), np.float64).reshape(len(found), -1)
                scored = np.array(scores, np.float64)  # NULL is not a number
                yield Rows(names, sizes, mtimes, times, scored, odd, why, values)

    def _query(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock, self._errors():
            return self._database.execute(query, values).fetchall()

    def _begun(self, about: About) -> About:
        """Return what the database records; a new one is made for ``about``."""
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            with self._transaction():
                for statement in _SCHEMA:
                    self._database.execute(statement)
                self._database.execute("INSERT INTO about VALUES (?)", [json.dumps(asdict(about))])
                self._database.execute(f"PRAGMA user_version = {VERSION}")
            return about
        if version != VERSION:
            raise UserError(f"{self.path}: was written by another version of AnoWild; update it")
        (text,) = self._database.execute("SELECT value FROM about").fetchone()
        return checked(About, json.loads(text), "about")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            # A full disk has SQLite itself roll back.
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of the database into sentences."""
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code == sqlite3.SQLITE_FULL:
                raise UserError(
                    f"{self.path}: the disk is full; free some space and give the same command again (all that was "
                    "recorded is kept)"
                ) from error
            raise UserError(
                f"{self.path}: cannot be used as the record of a watched folder ({error}); if it is damaged, name a "
                "new table (-o)"
            ) from error


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else f"{value}"
