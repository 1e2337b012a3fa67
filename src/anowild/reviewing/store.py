"""The marks of reviewers in an SQLite database; each one is on disk before the request is answered."""

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

#: Possible verdicts on an image.
VERDICTS = ("keep", "odd", "unsure")
#: Maximum length of the name of a reviewer, in characters.
MAX_REVIEWER_LENGTH = 64
#: Name of the database in a review's folder.
MARKS = "marks.sqlite"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    image BLOB NOT NULL,        -- its name in UTF-8; lone surrogates are kept
    reviewer TEXT NOT NULL,
    verdict TEXT,               -- NULL: the mark was removed
    time TEXT NOT NULL,         -- UTC, ISO 8601
    undone INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS of_reviewer ON events (reviewer, undone, id);
PRAGMA user_version = 1;
"""


@dataclass(frozen=True)
class Mark:
    """A mark that is in force: it is the last one of its reviewer on its image."""

    image: str
    reviewer: str
    verdict: str
    time: str  # UTC, ISO 8601


class Store:
    """Thread-safe event log of marks, by image and reviewer; each event can be undone.

    Args:
        path: of the database; created if it does not exist.

    Raises:
        UserError: the file is not such a database, or cannot be written.
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
        """Store a verdict on an image; None removes the reviewer's mark.

        Raises:
            ValueError: the verdict or the name of the reviewer is invalid.
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
        """Undo the last event of a reviewer that is not undone yet.

        Args:
            reviewer: whose events.
            among: consider only events of these images.

        Returns:
            The image of the event; None if there was nothing to undo.
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
        """Return the last mark of each reviewer on each image, the oldest first."""
        with self._lock:
            rows = self._run(
                "SELECT image, reviewer, verdict, time FROM events WHERE id IN "
                "(SELECT MAX(id) FROM events WHERE undone = 0 GROUP BY image, reviewer) "
                "AND verdict IS NOT NULL ORDER BY id"
            )
        return [Mark(_decoded(image), *rest) for image, *rest in rows]

    def version(self) -> tuple[int, int]:
        """Return a value that differs after every change of the marks."""
        with self._lock:
            ((count, undone),) = self._run("SELECT COUNT(*), COALESCE(SUM(undone), 0) FROM events")
        return int(count), int(undone)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _run(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        """Execute a statement; the caller holds the lock.

        Raises:
            UserError: the disk is full, or the database cannot be used.
        """
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            if "full" in str(error):
                raise as_user_error(OSError(errno.ENOSPC, str(error)), self.path) from error
            raise UserError(f"{self.path}: cannot be used ({error})") from error


def is_valid_reviewer(name: object) -> bool:
    """Return whether a name is a nonempty text of limited length without control characters."""
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
    """Return one verdict for each marked image: the one that all reviewers gave, else ``unsure``."""
    found: dict[str, set[str]] = {}
    for mark in marks:
        found.setdefault(mark.image, set()).add(mark.verdict)
    return {image: v.pop() if len(v) == 1 else "unsure" for image, v in found.items()}
