"""Random edits of files, each tried by the commands that read them.

    python -m bench fuzz models|data [--count 10000] [--seed 0] [--jobs 2] [--only NUMBER]

Each edit changes one file, and a command is run on the copy in a forked process, for 20 seconds at most and with
2 GB of memory beside what PyTorch has mapped at its start. It should end with a result or with a sentence; a
traceback, a hang or a signal fails. Edit NUMBER of a seed is always the same: --only repeats it and prints what
was said. ``models`` edits what AnoWild writes itself, ``data`` the files of images, labels and scores.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from bench.fuzz.attempts import FAILED, OUTCOMES, Attempt

#: Megabytes resident, PyTorch among them, from which an edit is named.
LARGE = 1000

#: Number of the edit, the file that it changed, the command that read it, and how that ended.
Row = tuple[int, str, str, Attempt]


class Kind(Protocol):
    """A module of edits."""

    def make_base(self, folder: Path) -> None:
        """Write the files that are edited, and what the commands need."""

    def attempt(self, base: Path, work: Path, seed: int, number: int) -> tuple[str, str, Attempt]:
        """Make an edit in a copy, and try it: file, command, how it ended."""


def fuzz(kind: Kind, base: Path, numbers: range, seed: int, each: Callable[[Row], None]) -> None:
    """Try some edits one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            try:
                found = kind.attempt(base, Path(folder) / "work", seed, number)
            except Exception:  # noqa: BLE001 - a fault of the edit is no reason to wait for ever
                found = "edit", "", Attempt("traceback", traceback.format_exc(), 0.0, 0.0)
            each((number, *found))


def table(rows: list[Row]) -> str:
    """Return how often what happened, by file, and the most memory and time that a try took."""
    counts: dict[str, Counter[str]] = {
        target: Counter() for target in sorted({row[1] for row in rows})
    }
    for _, target, _, found in rows:
        counts[target][found.outcome] += 1
    counts["all"] = sum(counts.values(), Counter())
    lines = [f"{'file':47}{'tries':>7}" + "".join(f"{name:>11}" for name in OUTCOMES)]
    lines += [
        f"{target:47}{count.total():7}" + "".join(f"{count[name]:11}" for name in OUTCOMES)
        for target, count in counts.items()
    ]
    large = [str(row[0]) for row in rows if row[3].megabytes > LARGE]
    if large:
        lines.append(f"more than {LARGE} MB resident: edits {', '.join(large)}")
    most = max(rows, key=lambda row: row[3].megabytes)
    longest = max(rows, key=lambda row: row[3].seconds)
    lines.append(
        f"at most {most[3].megabytes:.0f} MB resident (edit {most[0]}) and {longest[3].seconds:.1f} s "
        f"(edit {longest[0]})"
    )
    return "\n".join(lines)


def run(name: str, count: int, seed: int, jobs: int, only: int | None = None) -> int:
    """Try edits of a kind, print failures and the table; return how many failed."""
    kind: Any = importlib.import_module(f"bench.fuzz.{name}")
    torch.set_num_threads(1)
    rows: list[Row] = []

    def take(row: Row) -> None:
        rows.append(row)
        number, target, command, found = row
        if found.outcome in FAILED or only is not None:
            last = found.said.strip() if only is not None else found.said.strip()[-300:]
            print(f"{number}: {target} by {command}: {found.outcome}: {last}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        kind.make_base(base)
        if only is not None:
            fuzz(kind, base, range(only, only + 1), seed, take)
        elif jobs == 1:
            fuzz(kind, base, range(count), seed, take)
        else:
            fork = multiprocessing.get_context("fork")
            queue: Any = fork.Queue()
            workers = [
                fork.Process(target=fuzz, args=(kind, base, range(j, count, jobs), seed, queue.put))
                for j in range(jobs)
            ]
            for worker in workers:
                worker.start()
            for _ in range(count):
                take(queue.get())
            for worker in workers:
                worker.join()
    print(table(rows))
    return sum(row[3].outcome in FAILED for row in rows)


def main(arguments: list[str]) -> int:
    """Fuzz, print the table, and return 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m bench fuzz", description=__doc__)
    parser.add_argument("kind", choices=("models", "data"))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", type=int)
    given = parser.parse_args(arguments)
    return int(run(given.kind, given.count, given.seed, given.jobs, given.only) > 0)
