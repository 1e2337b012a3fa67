"""The marks of reviewers in an SQLite database; each one is on disk before the request is answered."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anowild.data.spreadsheet import starts_formula
from anowild.errors import UserError
from anowild.files import as_user_error, is_control, printable, unreadable

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
_ADDED = {"tag", "step"}
#: Columns of the table of events, and what each may hold.
_COLUMNS = {
    "id": "typeof(id) = 'integer'",
    "image": "typeof(image) = 'blob'",
    "reviewer": "typeof(reviewer) = 'text'",
    "verdict": "(verdict IS NULL OR typeof(verdict) = 'text' AND (tag IS NOT NULL OR verdict IN ({})))",
    "time": "typeof(time) = 'text'",
    "undone": "undone IN (0, 1)",
    "tag": "typeof(tag) IN ('text', 'null')",
    "step": "typeof(step) IN ('integer', 'null')",
}
#: What is in force: the last event that is not undone, by image, reviewer and tag ('': the verdict). It belongs
#: to the connection, so it is made anew when the database is opened, and is kept in step in each transaction.
_IN_FORCE = """
CREATE INDEX IF NOT EXISTS of_image ON events (image, reviewer, tag, id);
CREATE TEMP TABLE IF NOT EXISTS in_force (
    image BLOB, reviewer TEXT, tag TEXT, id INTEGER, verdict TEXT, time TEXT,
    PRIMARY KEY (image, reviewer, tag)
) WITHOUT ROWID;
"""
_FILL = """
INSERT INTO in_force SELECT image, reviewer, COALESCE(tag, ''), MAX(id), verdict, time FROM events
WHERE undone = 0 GROUP BY image, reviewer, tag
"""
_MARKS = "SELECT image, reviewer, verdict, time, tag FROM in_force WHERE verdict IS NOT NULL"


@dataclass(frozen=True)
class Mark:
    """What a reviewer says of an image: a verdict, tags, or both."""

    image: str
    reviewer: str
    verdict: str | None
    time: str  # of the last change, UTC, ISO 8601
    tags: tuple[str, ...] = ()


def marks_in(folder: Path) -> list[Mark]:
    """Return the marks of the review in ``folder``, as :meth:`Store.marks`; none where nobody has marked anything.

    Raises:
        UserError: they cannot be read.
    """
    path = folder / MARKS
    if not path.exists():
        return []
    with ExitStack() as stack:
        if not all(os.access(place, os.W_OK) for place in (folder, path)):
            # SQLite writes beside a database even to read it, so a copy is read.
            copies = stack.enter_context(tempfile.TemporaryDirectory(prefix="anowild-"))
            try:
                for part in (path, folder / f"{MARKS}-wal"):
                    if part.exists():
                        shutil.copyfile(part, Path(copies, part.name))
            except OSError as error:
                raise unreadable(path, error) from error
            path = Path(copies, MARKS)
        return stack.enter_context(closing(Store(path))).marks()


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
        self._changes = 0  # by this connection
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, 1, 2):
                raise UserError(f"{path}: was written by a newer version of AnoWild; update it")
            self._check_columns(version)
            self._db.execute("PRAGMA journal_mode = WAL")
            # Every mark reaches the disk before it is answered.
            self._db.execute("PRAGMA synchronous = FULL")
            if version < 2:
                self._db.executescript(f"BEGIN; {_SCHEMA} {_VERSION_2} COMMIT;")
            self._check_values()
            self._db.execute("PRAGMA temp_store = MEMORY")
            self._db.executescript(_IN_FORCE)
            self._fill()
        except (
            sqlite3.Error,
            UnicodeDecodeError,
        ) as error:  # the latter: SQLite names what is damaged
            raise self._unusable(error) from error

    def _check_columns(self, version: int) -> None:
        """Check that the database is new, or has a table of events of a version."""
        if self._db.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
            return
        found = {name for _, name, *_ in self._db.execute("PRAGMA table_info(events)")}
        self._refuse(found ^ (_COLUMNS.keys() - (_ADDED if version < 2 else set())))

    def _check_values(self) -> None:
        """Check the types of all values, which SQLite leaves open."""
        words = ", ".join(f"'{word}'" for word in (*VERDICTS, *_EARLIER))
        for name, holds in _COLUMNS.items():
            condition = holds.format(words)
            query = f"SELECT 1 FROM events WHERE ({condition}) IS NOT TRUE LIMIT 1"
            self._refuse({name} if self._db.execute(query).fetchone() else set())

    def _refuse(self, columns: set[str]) -> None:
        """Refuse the database if columns are not as they should be.

        Raises:
            UserError: there are such columns.
        """
        if columns:
            names = ", ".join(map(printable, sorted(columns)))
            raise UserError(
                f"{self.path}: holds no marks as AnoWild writes them (columns of the table events: {names}); "
                "move it away, or put a copy of the right file there"
            )

    def _fill(self) -> None:
        """Find out what is in force, from all events."""
        self._seen = self._data_version()
        self._db.execute("DELETE FROM in_force")
        self._db.execute(_FILL)

    def _data_version(self) -> int:
        """Return a number that changes when another connection changes the database."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

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
                for image in map(_encoded, images):
                    self._run(
                        "INSERT INTO events (image, reviewer, verdict, time, tag, step) "
                        "VALUES (?, ?, ?, ?, ?, ?)",
                        (image, reviewer, verdict, time, tag, step),
                    )
                    self._run(
                        "INSERT OR REPLACE INTO in_force VALUES (?, ?, ?, last_insert_rowid(), ?, ?)",
                        (image, reviewer, tag or "", verdict, time),
                    )
                self._commit()
            except BaseException:
                self._db.rollback()
                raise

    def _put_last_in_force(self, image: bytes, reviewer: str, tag: str | None) -> None:
        """Put the last event that is not undone in force; the caller is in a transaction."""
        key = (image, reviewer, tag)
        self._run(
            "DELETE FROM in_force WHERE image = ? AND reviewer = ? AND tag = COALESCE(?, '')", key
        )
        self._run(
            "INSERT INTO in_force SELECT image, reviewer, COALESCE(tag, ''), id, verdict, time "
            "FROM events WHERE image = ? AND reviewer = ? AND tag IS ? AND undone = 0 "
            "ORDER BY id DESC LIMIT 1",
            key,
        )

    def _commit(self) -> None:
        self._run("COMMIT")
        self._changes += 1

    def undo(self, reviewer: str, among: Callable[[str], bool] | None = None) -> list[str]:
        """Undo the last step of a reviewer that is not undone yet.

        Args:
            reviewer: whose step.
            among: consider only events of images whose names it is true of.

        Returns:
            The images of the step; none if there was nothing to undo.
        """
        with self._lock:
            found = self._last_step(reviewer, among)
            self._run("BEGIN IMMEDIATE")
            try:
                for number, image, tag in found:
                    self._run("UPDATE events SET undone = 1 WHERE id = ?", (number,))
                    self._put_last_in_force(image, reviewer, tag)
                self._commit()
            except BaseException:
                self._db.rollback()
                raise
        return [self._decoded(image) for _, image, _ in found]

    def _last_step(
        self, reviewer: str, among: Callable[[str], bool] | None
    ) -> list[tuple[int, bytes, str | None]]:
        """Return the events that :meth:`undo` undoes: number, image and tag; earlier ones are not read."""
        step, found = None, []
        try:
            rows = self._db.execute(
                "SELECT id, image, tag, COALESCE(step, -id) FROM events "
                "WHERE reviewer = ? AND undone = 0 ORDER BY id DESC",
                (reviewer,),
            )
            with closing(rows):
                for number, image, tag, its_step in rows:
                    if step is not None and its_step != step:
                        break
                    if among is None or among(self._decoded(image)):
                        step = its_step
                        found.append((number, image, tag))
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return found

    def marks(self) -> list[Mark]:
        """Return what each reviewer says of each image, the oldest first."""
        with self._lock:
            self._catch_up()
            return self._joined(self._run(f"{_MARKS} ORDER BY id"))

    def marks_of(self, images: Iterable[str]) -> list[Mark]:
        """Return what each reviewer says of some images, as :meth:`marks`, image by image."""
        with self._lock:
            self._catch_up()
            return [
                mark
                for image in images
                for mark in self._joined(
                    self._run(f"{_MARKS} AND image = ? ORDER BY id", (_encoded(image),))
                )
            ]

    def _joined(self, rows: Iterable[tuple[bytes, str, str, str, str]]) -> list[Mark]:
        """Join verdicts and tags to marks; the caller holds the lock."""
        found: dict[tuple[bytes, str], Mark] = {}
        for image, reviewer, verdict, time, tag in rows:
            before = found.pop((image, reviewer), Mark(self._decoded(image), reviewer, None, time))
            said = before.verdict if tag else _EARLIER.get(verdict, verdict)
            tags = (*before.tags, tag) if tag else before.tags
            found[image, reviewer] = Mark(before.image, reviewer, said, time, tags)
        return list(found.values())

    def version(self) -> tuple[int, int]:
        """Return a value that differs after every change of the marks."""
        with self._lock:
            return self._changes, self._data_version()

    def _catch_up(self) -> None:
        """Take over what other connections have changed; the caller holds the lock."""
        if self._data_version() != self._seen:
            self._fill()

    def _decoded(self, name: bytes) -> str:
        """Return the name of an image.

        Raises:
            UserError: it is no text.
        """
        try:
            return name.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise self._unusable("the name of an image is no text") from error

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
            raise self._unusable(error) from error

    def _unusable(self, why: object) -> UserError:
        if "readonly" in str(why):  # as SQLite says it
            return UserError(
                f"{self.path}: cannot be written; check who may write there and in its folder"
            )
        return UserError(
            f"{self.path}: cannot be used ({why}); if it is damaged, copy it back, or move it away and mark again"
        )


def is_valid_reviewer(name: object) -> bool:
    """Whether a name is a text as :func:`is_valid_text`, and cannot be taken as a formula."""
    return is_valid_text(name, MAX_REVIEWER_LENGTH) and not starts_formula(str(name))


def is_valid_text(text: object, most: int) -> bool:
    """Whether a value is a text of 1 to ``most`` characters that shows as what it is.

    It has no blanks at its ends, no control characters, and none that change the direction of writing.
    """
    return (
        isinstance(text, str)
        and 0 < len(text) <= most
        and text == text.strip()
        and not any(map(is_control, text))
    )


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


class Tally:
    """How many images each reviewer has given a verdict, and how many have each verdict of all."""

    def __init__(self) -> None:
        self.by_reviewer: Counter[str] = Counter()
        self.by_verdict: Counter[str] = Counter()
        self._counted: dict[str, tuple[set[str], str]] = {}

    def take(self, image: str, marks: Sequence[Mark]) -> None:
        """Count all marks of an image, in the place of those that it had before."""
        reviewers, verdict = self._counted.pop(image, (set(), ""))
        self.by_reviewer.subtract(reviewers)
        self.by_verdict[verdict] -= 1
        agreed = consensus(marks)
        if image in agreed:
            reviewers = {mark.reviewer for mark in marks if mark.verdict is not None}
            self._counted[image] = (reviewers, agreed[image])
            self.by_reviewer.update(reviewers)
            self.by_verdict[agreed[image]] += 1

    def __len__(self) -> int:
        """Return how many images have a verdict."""
        return len(self._counted)


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
