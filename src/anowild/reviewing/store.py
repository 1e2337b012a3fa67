"""The marks of reviewers in an SQLite database; each one is on disk before the request is answered."""

from __future__ import annotations

import errno
import sqlite3
import threading
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anowild.errors import UserError
from anowild.files import as_user_error

#: Possible verdicts on an image: it is usual; it is rubbish; it is odd, and wanted; nobody knows.
VERDICTS = ("keep", "remove", "interesting", "unsure")
#: Verdicts that say that an image is odd.
ODD = ("remove", "interesting")
#: Verdicts of databases of earlier versions.
_EARLIER = {"odd": "remove"}
#: Maximum lengths, in characters.
MAX_REVIEWER_LENGTH, MAX_TAG_LENGTH = 64, 64
#: Name of the database in a review's folder.
MARKS = "marks.sqlite"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    image BLOB NOT NULL,        -- its name in UTF-8; lone surrogates are kept
    reviewer TEXT NOT NULL,
    verdict TEXT,               -- NULL: the mark was removed; of a tag: 'on', or NULL: it was removed
    time TEXT NOT NULL,         -- UTC, ISO 8601
    undone INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS of_reviewer ON events (reviewer, undone, id);
"""
#: What version 2 adds: tags, and events that are undone together.
_VERSION_2 = """
ALTER TABLE events ADD COLUMN tag TEXT;
ALTER TABLE events ADD COLUMN step INTEGER;
PRAGMA user_version = 2;
"""


@dataclass(frozen=True)
class Mark:
    """What a reviewer says of an image: a verdict, tags, or both."""

    image: str
    reviewer: str
    verdict: str | None
    time: str  # of the last change, UTC, ISO 8601
    tags: tuple[str, ...] = ()


class Store:
    """Thread-safe event log of marks, by image and reviewer; each step of a reviewer can be undone.

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
            if version not in (0, 1, 2):
                raise UserError(f"{path}: was written by a newer version of AnoWild; update it")
            self._db.execute("PRAGMA journal_mode = WAL")
            # Every mark reaches the disk before it is answered.
            self._db.execute("PRAGMA synchronous = FULL")
            if version < 2:
                self._db.executescript(f"BEGIN; {_SCHEMA} {_VERSION_2} COMMIT;")
        except sqlite3.Error as error:
            raise UserError(f"{path}: cannot be used as a database of marks ({error})") from error

    def mark(self, images: Sequence[str], reviewer: str, verdict: str | None) -> None:
        """Store a verdict on images, as one step; None removes the reviewer's verdict.

        Raises:
            ValueError: the verdict or the name of the reviewer is invalid.
            UserError: the disk is full.
        """
        if verdict is not None and verdict not in VERDICTS:
            raise ValueError(f"verdict '{verdict}'")
        self._add(images, reviewer, verdict, None)

    def tag(self, images: Sequence[str], reviewer: str, tag: str, on: bool) -> None:
        """Add a tag to images, or take it away, as one step; see :meth:`mark`."""
        if not is_valid_text(tag, MAX_TAG_LENGTH):
            raise ValueError("tag")
        self._add(images, reviewer, "on" if on else None, tag)

    def _add(
        self, images: Sequence[str], reviewer: str, verdict: str | None, tag: str | None
    ) -> None:
        if not is_valid_reviewer(reviewer):
            raise ValueError("reviewer")
        time = datetime.now(UTC).isoformat()
        with self._lock:
            self._run("BEGIN IMMEDIATE")
            try:
                ((step,),) = self._run("SELECT COALESCE(MAX(id), 0) + 1 FROM events")
                for image in images:
                    self._run(
                        "INSERT INTO events (image, reviewer, verdict, time, tag, step) "
                        "VALUES (?, ?, ?, ?, ?, ?)",
                        (_encoded(image), reviewer, verdict, time, tag, step),
                    )
                self._run("COMMIT")
            except BaseException:
                self._db.rollback()
                raise

    def undo(self, reviewer: str, among: Container[str] | None = None) -> list[str]:
        """Undo the last step of a reviewer that is not undone yet.

        Args:
            reviewer: whose step.
            among: consider only events of these images.

        Returns:
            The images of the step; none if there was nothing to undo.
        """
        with self._lock:
            rows = self._run(
                "SELECT id, image, COALESCE(step, -id) FROM events WHERE reviewer = ? AND undone = 0 "
                "ORDER BY id DESC",
                (reviewer,),
            )
            step, found = None, []
            for number, image, its_step in rows:
                if step is not None and its_step != step:
                    break
                name = _decoded(image)
                if among is None or name in among:
                    step = its_step
                    found.append((number, name))
            self._run("BEGIN IMMEDIATE")
            for number, _ in found:
                self._run("UPDATE events SET undone = 1 WHERE id = ?", (number,))
            self._run("COMMIT")
        return [name for _, name in found]

    def marks(self) -> list[Mark]:
        """Return what each reviewer says of each image, the oldest first."""
        with self._lock:
            rows = self._run(
                "SELECT image, reviewer, verdict, time, tag FROM events WHERE id IN "
                "(SELECT MAX(id) FROM events WHERE undone = 0 GROUP BY image, reviewer, tag) "
                "AND verdict IS NOT NULL ORDER BY id"
            )
        found: dict[tuple[bytes, str], Mark] = {}
        for image, reviewer, verdict, time, tag in rows:
            before = found.pop((image, reviewer), Mark(_decoded(image), reviewer, None, time))
            verdict = before.verdict if tag is not None else _EARLIER.get(verdict, verdict)
            tags = before.tags if tag is None else (*before.tags, tag)
            found[image, reviewer] = Mark(before.image, reviewer, verdict, time, tags)
        return list(found.values())

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
    return is_valid_text(name, MAX_REVIEWER_LENGTH)


def is_valid_text(text: object, most: int) -> bool:
    """Return whether a value is a text of 1 to ``most`` characters, none of which controls anything."""
    return (
        isinstance(text, str)
        and 0 < len(text) <= most
        and not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)
    )


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


def consensus(marks: Iterable[Mark]) -> dict[str, str]:
    """Return one verdict for each image that has any: the one that all reviewers gave, else ``unsure``."""
    found: dict[str, set[str]] = {}
    for mark in marks:
        if mark.verdict is not None:
            found.setdefault(mark.image, set()).add(mark.verdict)
    return {image: v.pop() if len(v) == 1 else "unsure" for image, v in found.items()}


def tags_of(marks: Iterable[Mark]) -> dict[str, list[str]]:
    """Return the tags of each image that has any, of all reviewers, the most given first."""
    found: dict[str, Counter[str]] = {}
    for mark in marks:
        found.setdefault(mark.image, Counter()).update(mark.tags)
    return {image: [tag for tag, _ in tags.most_common()] for image, tags in found.items() if tags}
