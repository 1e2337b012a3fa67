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
from anowild.reviewing.store import Store, consensus

NAMES = (
    "a.png",
    'say "no"; DROP TABLE events; --.png',
    "two\nlines",
    os.fsdecode(b"\xff.png"),
    "\ud83d",
)


def verdicts(store: Store) -> dict[tuple[str, str], str]:
    return {(mark.image, mark.reviewer): mark.verdict for mark in store.marks()}


def test_last_mark_is_in_force(tmp_path: Path) -> None:
    store = Store(tmp_path / "marks.sqlite")
    for name in NAMES:
        store.mark(name, "Ada", "odd")
    store.mark("a.png", "Ada", "keep")
    store.mark("a.png", "Bo", "unsure")
    store.mark("two\nlines", "Ada", None)
    expected = {(name, "Ada"): "odd" for name in NAMES if name != "two\nlines"}
    assert verdicts(store) == expected | {("a.png", "Ada"): "keep", ("a.png", "Bo"): "unsure"}
    store.close()
    assert verdicts(Store(tmp_path / "marks.sqlite")) == expected | {
        ("a.png", "Ada"): "keep", ("a.png", "Bo"): "unsure",
    }  # fmt: skip


def test_undo_steps_back_per_reviewer(tmp_path: Path) -> None:
    store = Store(tmp_path / "marks.sqlite")
    store.mark("a", "Ada", "odd")
    store.mark("a", "Ada", "keep")
    store.mark("b", "Bo", "odd")
    assert store.undo("Ada") == "a"
    assert verdicts(store) == {("a", "Ada"): "odd", ("b", "Bo"): "odd"}
    assert store.undo("Ada") == "a"
    assert verdicts(store) == {("b", "Bo"): "odd"}
    assert store.undo("Ada") is None
    store.mark("c", "Ada", "unsure")
    assert store.undo("Ada") == "c"


def test_version_differs_after_each_change(tmp_path: Path) -> None:
    store = Store(tmp_path / "marks.sqlite")
    seen = [store.version()]
    for change in (
        lambda: store.mark("a", "Ada", "odd"),
        lambda: store.mark("a", "Ada", "odd"),
        lambda: store.undo("Ada"),
        lambda: store.mark("a", "Ada", None),
    ):
        change()
        seen.append(store.version())
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("reviewer", ["", "x" * 65, "two\nlines"])
def test_mark_refuses_invalid_values(tmp_path: Path, reviewer: str) -> None:
    store = Store(tmp_path / "marks.sqlite")
    with pytest.raises(ValueError, match="reviewer"):
        store.mark("a", reviewer, "odd")
    with pytest.raises(ValueError, match="verdict"):
        store.mark("a", "Ada", "fine")
    assert store.marks() == []


def test_marks_survive_killed_process(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom anowild.reviewing.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "for i in range(10**6):\n    store.mark(str(i), 'Ada', 'odd'); print(i, flush=True)\n"
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
            store.mark(f"{i}", reviewer, "odd")

    threads = [threading.Thread(target=work, args=(f"reviewer {k}",)) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.marks()) == 100


def test_consensus_of_disagreeing_reviewers_is_unsure(tmp_path: Path) -> None:
    store = Store(tmp_path / "marks.sqlite")
    for image, ada, bo in (("a", "odd", "odd"), ("b", "odd", "keep"), ("c", "keep", None)):
        store.mark(image, "Ada", ada)
        if bo:
            store.mark(image, "Bo", bo)
    assert consensus(store.marks()) == {"a": "odd", "b": "unsure", "c": "keep"}


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
