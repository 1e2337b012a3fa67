"""Whenever a watch is killed, each image ends up in the table once, with the score that `anowild score` gives."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anowild.arrays import Array
from anowild.files import exclusive_lock
from anowild.watching.arrivals import Arrivals
from anowild.watching.deliveries import Command
from anowild.watching.journal import Journal
from anowild.watching.table_file import TableFile
from tests.conftest import wait_until
from tests.watching.conftest import Watched, put
from tests.watching.test_watch import assert_as_scored


def write_slowly(folder: Path, image: Array, name: str, pause: float) -> None:
    """Write a file in place, in two halves."""
    data = put(folder, image, f".{name}").read_bytes()
    with (folder / name).open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        time.sleep(pause)
        file.write(data[len(data) // 2 :])


def delivered(log: Path) -> set[str]:
    return set(log.read_text().splitlines())


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments(
    watched: Watched, digits: Array, tmp_path: Path, kills: int
) -> None:
    moment, log = random.Random(kills), tmp_path / "ran.txt"
    run = f"sh -c 'echo \"$0\" >> {log}'"
    images = iter(
        enumerate(digits[i % 300] if i % 10 else 255 - digits[i % 300] for i in range(10**6))
    )
    for _ in range(kills):
        process = watched.start(run=run, table_every=0)
        end = time.monotonic() + moment.uniform(0.02, 0.6)
        while time.monotonic() < end:
            number, image = next(images)
            name, pause = f"{number:04}.png", moment.uniform(0, 0.02)
            if number % 3:
                put(watched.folder, image, name)
                time.sleep(pause)
            else:
                write_slowly(watched.folder, image, name, pause)
        process.kill()
        process.join()
    watched.once(run=run)
    assert next(images)[0] > kills  # files did arrive
    assert_as_scored(watched)
    # At least once: a command may have run just before the kill.
    assert delivered(log) == {row["path"] for row in watched.rows() if row["odd"]} != set()


def kill_after(owner: type, name: str) -> Callable[[], None]:
    """Return what has a process kill itself when it has called a method."""

    def prepare() -> None:
        before = getattr(owner, name)

        def call(*arguments: object) -> None:
            before(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, call)

    return prepare


def kill_in_transaction() -> None:
    """Have the process kill itself when all is written but not committed."""
    add = Journal.add

    def call(self: Journal, *arguments: object) -> None:
        database = self._database

        class Killing:
            def execute(self, statement: str, *values: Any) -> object:
                if statement == "COMMIT":
                    os.kill(os.getpid(), signal.SIGKILL)
                return database.execute(statement, *values)

            def __getattr__(self, name: str) -> object:
                return getattr(database, name)

        self._database = Killing()  # type: ignore[assignment]
        add(self, *arguments)  # type: ignore[arg-type]

    Journal.add = call  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize(
    ("prepare", "recorded"),
    [
        (kill_in_transaction, 0),
        (kill_after(Journal, "_begun"), 0),
        (kill_after(Journal, "add"), 8),
        (kill_after(Arrivals, "settle"), 8),
        (kill_after(Command, "__call__"), 8),
        (kill_after(TableFile, "_write_parquet"), 8),
        (kill_after(TableFile, "finish"), 8),
    ],
)
def test_killed_where_it_hurts(
    watched: Watched, digits: Array, tmp_path: Path, prepare: Callable[[], None], recorded: int
) -> None:
    watched.put(255 - digits[:8])
    run = f"sh -c 'echo \"$0\" >> {tmp_path / 'ran.txt'}'"
    process = watched.start(prepare, run=run, once=True)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert watched.once(run=run).scored == 8 - recorded
    assert_as_scored(watched)
    assert delivered(tmp_path / "ran.txt") == {row["path"] for row in watched.rows() if row["odd"]}
    assert not list(tmp_path.glob("*.part"))


def test_waits_for_a_lock_that_a_child_of_a_killed_watch_still_holds(
    watched: Watched, digits: Array
) -> None:
    beside = watched.out.with_name(f"{watched.out.name}.watch")

    def hold() -> None:
        with exclusive_lock(beside, ""):
            (watched.folder.parent / "held").touch()
            time.sleep(0.3)

    watched.put(digits[:2])
    child = multiprocessing.get_context("fork").Process(target=hold)
    child.start()
    wait_until((watched.folder.parent / "held").exists)
    assert watched.once().scored == 2
    child.join()
