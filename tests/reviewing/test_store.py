from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from anowild.errors import UserError
from anowild.reviewing.store import (
    MARKS,
    VERDICTS,
    Mark,
    Store,
    consensus,
    marks_in,
    tags_of,
)

NAMES = (
    "a.png",
    'say "no"; DROP TABLE events; --.png',
    "two\nlines",
    os.fsdecode(b"\xff.png"),
    "\ud83d",
)


def verdicts(store: Store) -> dict[tuple[str, str], str | None]:
    return {(mark.image, mark.reviewer): mark.verdict for mark in store.marks()}


def test_last_mark_is_in_force(tmp_path: Path) -> None:
    store = Store(tmp_path / "marks.sqlite")
    for name in NAMES:
        store.mark([name], "Ada", "remove")
    store.mark(["a.png"], "Ada", "keep")
    store.mark(["a.png"], "Bo", "unsure")
    store.mark(["two\nlines"], "Ada", None)
    expected = {(name, "Ada"): "remove" for name in NAMES if name != "two\nlines"}
    assert verdicts(store) == expected | {("a.png", "Ada"): "keep", ("a.png", "Bo"): "unsure"}
    store.close()
    assert verdicts(Store(tmp_path / "marks.sqlite")) == expected | {
        ("a.png", "Ada"): "keep", ("a.png", "Bo"): "unsure",
    }  # fmt: skip


def test_undo_steps_back_per_reviewer(tmp_path: Path) -> None:
    store = Store(tmp_path / "marks.sqlite")
    store.mark(["a"], "Ada", "remove")
    store.mark(["a"], "Ada", "keep")
    store.mark(["b"], "Bo", "remove")
    assert store.undo("Ada") == ["a"]
    assert verdicts(store) == {("a", "Ada"): "remove", ("b", "Bo"): "remove"}
    assert store.undo("Ada") == ["a"]
    assert verdicts(store) == {("b", "Bo"): "remove"}
    assert store.undo("Ada") == []
    store.mark(["c"], "Ada", "unsure")
    assert store.undo("Ada") == ["c"]


def test_version_differs_after_each_change(tmp_path: Path) -> None:
    store = Store(tmp_path / "marks.sqlite")
    seen = [store.version()]
    for change in (
        lambda: store.mark(["a"], "Ada", "remove"),
        lambda: store.mark(["a"], "Ada", "remove"),
        lambda: store.undo("Ada"),
        lambda: store.mark(["a"], "Ada", None),
    ):
        change()
        seen.append(store.version())
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    "reviewer",
    [
        "",
        "x" * 65,
        "two\nlines",
        " ",
        " Ada",
        "Ada\u00a0",
        "\u202eadA",
        "A\u2066b",
        "=1+1",
        "@Ada",
        "+A",
    ],
)
def test_mark_refuses_invalid_values(tmp_path: Path, reviewer: str) -> None:
    store = Store(tmp_path / "marks.sqlite")
    with pytest.raises(ValueError, match="reviewer"):
        store.mark(["a"], reviewer, "remove")
    with pytest.raises(ValueError, match="verdict"):
        store.mark(["a"], "Ada", "fine")
    assert store.marks() == []


def test_marks_survive_killed_process(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom anowild.reviewing.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "for i in range(10**6):\n    store.mark([str(i)], 'Ada', 'remove'); print(i, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "marks.sqlite")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    answered = [int(process.stdout.readline()) for _ in range(30)][-1]
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {int(mark.image) for mark in Store(tmp_path / "marks.sqlite").marks()}
    assert set(range(answered + 1)) <= kept


def test_mark_from_many_threads(tmp_path: Path) -> None:
    store = Store(tmp_path / "marks.sqlite")

    def work(reviewer: str) -> None:
        for i in range(20):
            store.mark([f"{i}"], reviewer, "remove")

    threads = [threading.Thread(target=work, args=(f"reviewer {k}",)) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.marks()) == 100


def test_consensus_of_disagreeing_reviewers_is_unsure(tmp_path: Path) -> None:
    store = Store(tmp_path / "marks.sqlite")
    for image, ada, bo in (("a", "remove", "remove"), ("b", "remove", "keep"), ("c", "keep", None)):
        store.mark([image], "Ada", ada)
        if bo:
            store.mark([image], "Bo", bo)
    assert consensus(store.marks()) == {"a": "remove", "b": "unsure", "c": "keep"}


def test_store_refuses_other_files(tmp_path: Path) -> None:
    path = tmp_path / "marks.sqlite"
    path.write_bytes(b"this is no database, but long enough to be looked at" * 100)
    with pytest.raises(UserError, match="cannot be used"):
        Store(path)
    newer = tmp_path / "newer.sqlite"
    database = sqlite3.connect(newer)
    database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(UserError, match="newer version"):
        Store(newer)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE events SET image = CAST(image AS TEXT)", "table events: image"),
        ("UPDATE events SET reviewer = x'ff'", "table events: reviewer"),
        ("UPDATE events SET verdict = 'great'", "table events: verdict"),
        ("UPDATE events SET verdict = 1.5", "table events: verdict"),
        ("UPDATE events SET time = x'00'", "table events: time"),
        ("UPDATE events SET undone = 'no'", "table events: undone"),
        ("UPDATE events SET tag = 5", None),  # SQLite makes a text of it
        ("UPDATE events SET tag = x'05'", "table events: tag"),
        ("UPDATE events SET step = 'x'", "table events: step"),
        ("UPDATE events SET image = x'ff'", "name of an image is no text"),
        ("UPDATE events SET reviewer = CAST(x'ff' AS TEXT)", "cannot be used"),
        ("ALTER TABLE events DROP COLUMN time", "table events: time"),
        ("ALTER TABLE events ADD COLUMN other", "table events: other"),
        ("ALTER TABLE events RENAME TO other", "table events: id, image"),
        ("DROP TABLE events; CREATE VIEW events AS SELECT 1 AS id", "table events: image"),
        ("DROP TABLE events; PRAGMA user_version = 0; CREATE TABLE mine (x)", "table events: id"),
        ("PRAGMA user_version = -1", "newer version"),
    ],
)
def test_store_refuses_another_schema_with_a_sentence(
    tmp_path: Path, change: str, said: str | None
) -> None:
    path = tmp_path / "marks.sqlite"
    store = Store(path)
    store.mark(["a"], "Ada", "remove")
    store.close()
    database = sqlite3.connect(path)
    database.executescript(change)
    database.close()
    before = path.read_bytes()
    if said is None:
        assert Store(path).marks()[0].tags == ("5",)
        return
    with pytest.raises(UserError, match=said):
        Store(path).marks()
    if "no text" not in said and "cannot" not in said:
        assert path.read_bytes() == before


def test_what_is_in_force_is_the_same_as_from_all_events(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "marks.sqlite"
    store, other = Store(path), Store(path)
    for _ in range(300):
        images = rng.sample("abcde", rng.randint(1, 3))
        reviewer, by = rng.choice(["Ada", "Bo"]), rng.choice([store, store, other])
        action = rng.randrange(4)
        if action == 0:
            by.undo(reviewer, rng.choice([None, {"a", "b"}.__contains__]))
        elif action == 1:
            by.tag(images, reviewer, rng.choice(["dust", "edge"]), rng.random() < 0.5)
        else:
            by.mark(images, reviewer, rng.choice([*VERDICTS, None]))
        expected = by_hand(path)
        assert store.marks() == expected
        assert store.marks_of("abcde") == sorted(expected, key=lambda mark: mark.image)
    assert len(Store(path).marks()) > 3


def by_hand(path: Path) -> list[Mark]:
    """What is in force, by going through all events."""
    last: dict[tuple[str, str, str | None], tuple[int, str | None, str]] = {}
    database = sqlite3.connect(path)
    for number, image, reviewer, verdict, time, tag in database.execute(
        "SELECT id, image, reviewer, verdict, time, tag FROM events WHERE undone = 0 ORDER BY id"
    ):
        last[image.decode(), reviewer, tag] = (number, verdict, time)
    database.close()
    found: dict[tuple[str, str], list[tuple[int, str, str, str | None]]] = {}
    for (image, reviewer, tag), (number, verdict, time) in last.items():
        if verdict is not None:
            found.setdefault((image, reviewer), []).append((number, time, verdict, tag))
    marks = []
    for (image, reviewer), parts in found.items():
        parts.sort()
        verdicts_given = [verdict for *_, verdict, tag in parts if tag is None]
        tags = tuple(tag for *_, tag in parts if tag is not None)
        mark = Mark(
            image, reviewer, verdicts_given[0] if verdicts_given else None, parts[-1][1], tags
        )
        marks.append((parts[-1][0], mark))
    return [mark for _, mark in sorted(marks, key=lambda pair: pair[0])]


@pytest.mark.parametrize("images", [20, 60_000])
def test_a_mark_costs_the_same_whatever_there_is_already(tmp_path: Path, images: int) -> None:
    steps = {}
    for events in (500, 100_000):
        path = tmp_path / f"{events}.sqlite"
        Store(path).close()
        database = sqlite3.connect(path)
        with database:
            database.executemany(
                "INSERT INTO events (image, reviewer, verdict, time) VALUES (?, ?, 'remove', 't')",
                ((b"%d.png" % (i % images), f"r{i % 5}") for i in range(events)),
            )
        database.close()
        store, count = Store(path), [0]

        def step(count: list[int] = count) -> int:
            count[0] += 1
            return 0

        store._db.set_progress_handler(step, 1)
        store.mark(["7.png"], "r2", "keep")
        store.version()
        store.marks_of(["7.png"])
        store.undo("r2")
        steps[events] = count[0]
    assert steps[100_000] < 2 * steps[500], steps


def test_marks_of_earlier_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "marks.sqlite"
    database = sqlite3.connect(path)
    database.executescript(
        "CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, image BLOB NOT NULL, reviewer TEXT "
        "NOT NULL, verdict TEXT, time TEXT NOT NULL, undone INTEGER NOT NULL DEFAULT 0);"
        "INSERT INTO events (image, reviewer, verdict, time) VALUES (CAST('a' AS BLOB), 'Ada', 'odd', 't');"
        "INSERT INTO events (image, reviewer, verdict, time) VALUES (CAST('b' AS BLOB), 'Ada', 'keep', 't');"
        "PRAGMA user_version = 1;"
    )
    database.close()
    store = Store(path)
    assert verdicts(store) == {("a", "Ada"): "remove", ("b", "Ada"): "keep"}
    store.mark(["c"], "Ada", "interesting")
    assert [store.undo("Ada") for _ in range(4)] == [["c"], ["b"], ["a"], []]


def test_a_step_on_many_images_is_undone_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "marks.sqlite")
    store.mark(["a", "b"], "Ada", "keep")
    store.mark(["a", "b", "c"], "Ada", "remove")
    store.mark(["a"], "Bo", "keep")
    assert sorted(store.undo("Ada")) == ["a", "b", "c"]
    assert verdicts(store) == {("a", "Ada"): "keep", ("b", "Ada"): "keep", ("a", "Bo"): "keep"}
    # Images that are not in the review are left alone.
    assert store.undo("Ada", {"b"}.__contains__) == ["b"]
    assert verdicts(store) == {("a", "Ada"): "keep", ("a", "Bo"): "keep"}


def test_tags_live_beside_verdicts(tmp_path: Path) -> None:
    store = Store(tmp_path / "marks.sqlite")
    store.tag(["a", "b"], "Ada", "dust", True)
    store.tag(["a"], "Ada", "edge", True)
    store.tag(["a"], "Bo", "edge", True)
    store.mark(["a"], "Ada", "remove")
    store.tag(["b"], "Ada", "dust", False)
    assert tags_of(store.marks()) == {"a": ["edge", "dust"]}
    assert consensus(store.marks()) == {"a": "remove"}
    assert store.undo("Ada") == ["b"]
    assert tags_of(store.marks()) == {"a": ["edge", "dust"], "b": ["dust"]}
    with pytest.raises(ValueError, match="tag"):
        store.tag(["a"], "Ada", "two\nlines", True)


def test_a_failed_step_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(tmp_path / "marks.sqlite")
    with pytest.raises(AttributeError):
        store.mark(["a", None], "Ada", "keep")  # type: ignore[list-item]
    assert store.marks() == []
    store.mark(["a"], "Ada", "keep")
    assert verdicts(store) == {("a", "Ada"): "keep"}


def test_a_schema_that_is_no_text_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "marks.sqlite"
    Store(path).close()
    content = path.read_bytes()
    assert b"CREATE TABLE events" in content
    # SQLite quotes what it cannot read, and Python cannot decode that.
    path.write_bytes(content.replace(b"CREATE TABLE events", b"CREATE \x90ABLE events", 1))
    with pytest.raises(UserError, match=r"marks.sqlite: cannot be used"):
        Store(path)


def test_marks_are_read_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / MARKS)
    store.mark(["a.png"], "me", "remove")  # it is in the file beside the database
    monkeypatch.setattr("anowild.reviewing.store.os.access", lambda *_: False)
    before = sorted(path.name for path in tmp_path.iterdir())
    (mark,) = marks_in(tmp_path)
    assert (mark.image, mark.verdict) == ("a.png", "remove")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    store.close()
