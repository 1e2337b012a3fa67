from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from anowild.errors import UserError
from anowild.reviewing.store import Store, consensus, tags_of

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


@pytest.mark.parametrize("reviewer", ["", "x" * 65, "two\nlines"])
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
    with pytest.raises(UserError, match="cannot be used as a database"):
        Store(path)
    newer = tmp_path / "newer.sqlite"
    database = sqlite3.connect(newer)
    database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(UserError, match="newer version"):
        Store(newer)


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
    assert store.undo("Ada", {"b"}) == ["b"]
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
