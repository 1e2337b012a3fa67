"""Decisions of reviewers, in SQLite: on disk before a mark is answered, whatever happens then."""

from __future__ import annotations

import errno
import sqlite3
import threading
import unicodedata
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anowild.errors import UserError
from anowild.files import as_user_error

#: What can be said of an image.
VERDICTS = ("keep", "odd", "unsure")
MAX_REVIEWER_LENGTH = 64
#: Name of the database in a review's folder.
MARKS = "marks.sqlite"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    image BLOB NOT NULL,        -- its name, UTF-8; halves of characters as they are
    reviewer TEXT NOT NULL,
    verdict TEXT,               -- NULL: the mark was taken away
    time TEXT NOT NULL,         -- UTC, ISO 8601
    undone INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS of_reviewer ON events (reviewer, undone, id);
PRAGMA user_version = 1;
"""


@dataclass(frozen=True)
class Mark:
    """A decision that stands."""

    image: str
    reviewer: str
    verdict: str
    time: str


class Store:
    """Marks by image and reviewer; each is an event, so that it can be undone.

    Args:
        path: of the database; made where there is none.

    Raises:
        UserError: it is no such database, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, 1):
                raise UserError(f"{path}: was written by a newer version of AnoWild; update it")
            self._db.execute("PRAGMA journal_mode = WAL")
            # Every mark reaches the disk before it is answered.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise UserError(f"{path}: cannot be used as a database of marks ({error})") from error

    def mark(self, image: str, reviewer: str, verdict: str | None) -> None:
        """Decide on an image; None takes the decision away.

        Raises:
            ValueError: another verdict, or a reviewer that :func:`is_valid_reviewer` says is none.
            UserError: the disk is full.
        """
        if verdict is not None and verdict not in VERDICTS:
            raise ValueError(f"verdict '{verdict}'")
        if not is_valid_reviewer(reviewer):
            raise ValueError("reviewer")
        values = (_encoded(image), reviewer, verdict, datetime.now(UTC).isoformat())
        with self._lock:
            self._run(
                "INSERT INTO events (image, reviewer, verdict, time) VALUES (?, ?, ?, ?)", values
            )

    def undo(self, reviewer: str, among: Container[str] | None = None) -> str | None:
        """Take back the reviewer's last event that is not undone; its image, or None.

        Args:
            among: only events of these images.
        """
        with self._lock:
            rows = self._run(
                "SELECT id, image FROM events WHERE reviewer = ? AND undone = 0 ORDER BY id DESC",
                (reviewer,),
            )
            for number, image in rows:
                name = _decoded(image)
                if among is None or name in among:
                    self._run("UPDATE events SET undone = 1 WHERE id = ?", (number,))
                    return name
        return None

    def marks(self) -> list[Mark]:
        """What stands, the oldest first: each reviewer's last word on each image."""
        with self._lock:
            rows = self._run(
                "SELECT image, reviewer, verdict, time FROM events WHERE id IN "
                "(SELECT MAX(id) FROM events WHERE undone = 0 GROUP BY image, reviewer) "
                "AND verdict IS NOT NULL ORDER BY id"
            )
        return [Mark(_decoded(image), *rest) for image, *rest in rows]

    def version(self) -> tuple[int, int]:
        """Changes with every change of the marks."""
        with self._lock:
            ((count, undone),) = self._run("SELECT COUNT(*), COALESCE(SUM(undone), 0) FROM events")
        return int(count), int(undone)

    def close(self) -> None:
        self._db.close()

    def _run(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        """A statement, with the lock held. Raises UserError."""
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            if "full" in str(error):
                raise as_user_error(OSError(errno.ENOSPC, str(error)), self.path) from error
            raise UserError(f"{self.path}: cannot be used ({error})") from error


def is_valid_reviewer(name: object) -> bool:
    """Whether somebody may be called so: text of some length, without control characters."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= MAX_REVIEWER_LENGTH
        and not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)
    )


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


def consensus(marks: Iterable[Mark]) -> dict[str, str]:
    """One verdict for each image: what all reviewers agree on, else ``unsure``."""
    found: dict[str, set[str]] = {}
    for mark in marks:
        found.setdefault(mark.image, set()).add(mark.verdict)
    return {image: v.pop() if len(v) == 1 else "unsure" for image, v in found.items()}
