"""Random edits of the files that AnoWild writes itself, each tried by the commands that read them.

    python -m bench fuzz models [--count 10000] [--seed 0] [--jobs 2] [--only NUMBER]

A model, its training state, a search (`find.json`) and a review with marks are made from digits. Each edit changes
one file, at random bytes or at a place of its structure (a field, a tensor, a row), and a command is run on the
copy in a forked process, for 20 seconds at most and with 2 GB of memory beside what PyTorch has mapped at its
start. It should end with a result or with a sentence; a traceback, a hang or a signal fails. Edit NUMBER of a
seed is always the same: --only repeats it and prints what was said.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

from anowild import cli, data
from anowild.finding import serve
from anowild.finding.job import MODEL, REVIEW
from anowild.reporting import page
from anowild.reviewing import clean
from anowild.reviewing.store import MARKS, Store
from anowild.scoring.persistence import _digest as digest
from anowild.scoring.saved_limit import save_limit
from anowild.training import gan, pixels, transforms

#: Imported before the first fork, so that a try costs milliseconds.
PRELOADED = (data, serve, page, clean, gan, pixels, transforms)
#: Seconds and bytes that a command may take.
SECONDS, MEMORY = 20.0, 2 << 30
OUTCOMES = ("sentence", "result", "traceback", "hang", "signal")
FAILED = OUTCOMES[2:]

TINY = [f"--set={change}" for change in (
    "resolution=8", "fmap_base=32", "fmap_max=4", "minibatch=8", "tick_kimg=0.04", "minibatch_repeats=1",
    "transforms_kimg=0.064", "transforms_maps=2", "transforms_minibatch=8", "views=gan,transforms,pixels",
    "precision=float32",
)]  # fmt: skip
SCORE = ["score", "found/model", "few.npy", "-o", "scores.csv", "--threshold", "saved"]
REPORT = ["report", "found/model", "few.npy", "-o", "report.html"]
FIND = ["find", "images.npy", "-o", "found", "--report", "--threads", "1", *TINY, "--set=kimg=0.08"]
GO_ON = [*FIND[:-1], "--set=kimg=0.12"]
CLEAN = ["clean", "found/review", "-o", "kept", "--how", "list"]
MARKED = ["marks", "found/review", "-o", "marks.csv"]
LIMIT = ["limit", "found/model"]

#: Files in the folder of a search, how often each is edited, and the commands that read it.
TARGETS: dict[str, tuple[int, list[list[str]]]] = {
    "model/model.json": (40, [SCORE, SCORE, SCORE, REPORT, FIND, LIMIT]),
    "model/model.safetensors": (10, [SCORE]),
    "model/examples.safetensors": (2, [REPORT]),
    "model/trained_on.safetensors": (2, [SCORE]),
    "model/training_scores.safetensors": (4, [FIND]),
    "model/limit.json": (5, [SCORE, LIMIT]),
    "model/training/settings.json": (6, [GO_ON]),
    "model/training/state-*.safetensors": (10, [GO_ON]),
    "model/training/transforms/0/state.safetensors": (5, [GO_ON]),
    "model/training/log.jsonl": (8, [REPORT, GO_ON]),
    "find.json": (6, [FIND]),
    "images/dataset.json": (6, [FIND, CLEAN]),
    "review/review.json": (8, [CLEAN, MARKED, FIND]),
    "review/scores.npz": (4, [CLEAN, FIND]),
    "review/marks.sqlite": (10, [CLEAN, MARKED]),
}

#: Values that fields are given.
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 7, 1.5, 1e-300, 1e308, 10**9, 10**30, 10**400, math.nan, math.inf, -math.inf,
    "", "x", "64", "nan", "\0", "../x", "/etc", "a" * 100_000, [], [[]], [1] * 1000, ["a"], {}, {"x": 1}, {"a": {}},
)  # fmt: skip


def make_base(folder: Path) -> None:
    """Make a search of 48 digits, with everything that it leaves, a limit and some marks."""
    digits = (load_digits().images[:48] / 16 * 255).astype(np.uint8)
    np.save(folder / "images.npy", digits)
    np.save(folder / "few.npy", digits[:3])
    code, said = in_this_process(FIND, folder)
    if code:
        raise RuntimeError(said)
    store = Store(folder / "found" / REVIEW / MARKS)
    store.mark(["images.npy[0]", "images.npy[1]"], "ann", "remove")
    store.tag(["images.npy[1]"], "bob", "dust", True)
    store.undo("ann")
    store.close()
    save_limit(folder / "found" / MODEL, 1.5)


def in_this_process(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Run a command in a forked process without limits; return its exit code and what it said."""
    attempt = Attempt.of(arguments, folder, limited=False)
    return int(attempt.outcome in FAILED or attempt.outcome == "sentence"), attempt.said


@dataclass
class Attempt:
    """How a command ended."""

    outcome: str
    said: str
    megabytes: float
    seconds: float

    @staticmethod
    def of(arguments: list[str], folder: Path, limited: bool = True) -> Attempt:
        """Run a command in a forked process."""
        with tempfile.TemporaryFile() as out:
            started = time.perf_counter()
            child = os.fork()
            if not child:
                _run(arguments, folder, out.fileno(), limited)
            hung, status, usage = _wait(child, SECONDS if limited else 600.0)
            out.seek(0)
            said = out.read().decode("utf-8", "backslashreplace")
        code = os.waitstatus_to_exitcode(status)
        outcome = (
            "hang" if hung else "signal" if code < 0 else
            "traceback" if "Traceback" in said or code == 99 else "result" if code == 0 else "sentence"
        )  # fmt: skip
        return Attempt(outcome, said, usage.ru_maxrss / 1e3, time.perf_counter() - started)


def _run(arguments: list[str], folder: Path, out: int, limited: bool) -> None:
    """Be the forked process: run a command, and end."""
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = open(1, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if limited:
            mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY,) * 2)
        sys.argv = ["anowild", *arguments]
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _wait(child: int, seconds: float) -> tuple[bool, int, resource.struct_rusage]:
    """Wait for a process, and kill it when its time is over."""
    end, pause = time.monotonic() + seconds, 0.001
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return False, status, usage
        if time.monotonic() > end:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            return True, status, usage
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


# Edits


def edit_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change some bytes, cut, insert or repeat."""
    kind = rng.randrange(8)
    place = rng.randrange(len(content) + 1)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + rng.randbytes(rng.choice((1, 8, 300))) + content[place:]
    if kind == 2:
        return rng.choice(
            (b"", b"\0" * len(content), b"\xff\xfe" + content, b"[" * 50_000, rng.randbytes(99))
        )
    if kind == 3:
        return content[:place] + content[place + rng.randrange(1, 100) :]
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20)) if changed else 0):
        # The beginning has what the rest is read by.
        most = len(changed) if kind > 5 else min(len(changed), 2000)
        changed[rng.randrange(most)] = rng.randrange(256)
    return bytes(changed)


def edit_file(path: Path, rng: random.Random) -> None:
    """Change bytes of a file."""
    path.write_bytes(edit_bytes(path.read_bytes(), rng))


def edit_value(value: Any, rng: random.Random) -> Any:
    """Change one place of a value from JSON: another value, one less, one more, or one from elsewhere."""
    places: list[tuple[Any, Any]] = []

    def walk(inner: Any) -> None:
        if isinstance(inner, dict | list):
            entries = list(inner.items() if isinstance(inner, dict) else enumerate(inner))
            # Long lists would be nearly all there is.
            for key, item in entries if len(entries) < 12 else rng.sample(entries, 12):
                places.append((inner, key))
                walk(item)

    walk(value)
    if not places or rng.random() < 0.03:
        return rng.choice(VALUES)
    # Each depth is as likely as another.
    holder, key = rng.choice(places)
    kind = rng.randrange(8)
    old = holder[key]
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[rng.choice(("zz", "", f"{key}2", "a" * 3000, "\x1b[31m"))] = holder.pop(key)
    elif kind == 2:
        other, place = rng.choice(places)
        with suppress(KeyError, IndexError):
            holder[key] = json.loads(json.dumps(other[place]))
    elif kind == 3 and isinstance(old, int | float) and not isinstance(old, bool):
        holder[key] = rng.choice((-old, old + 1, old * 1000, old / 3, old * 1.0, str(old)))
    elif kind == 4 and isinstance(old, list):
        holder[key] = rng.choice((old[:1], old[::-1], old * 2, [*old, "x"], [old]))
    else:
        holder[key] = rng.choice(VALUES)
    return value


def edit_json(path: Path, rng: random.Random) -> None:
    """Change a JSON file, one time in four by bytes."""
    if rng.random() < 0.25:
        edit_file(path, rng)
        return
    value = json.loads(path.read_text())
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        value = edit_value(value, rng)
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # a huge number
        text = "{}"
    path.write_text(text)


def edit_lines(path: Path, rng: random.Random) -> None:
    """Change a file of JSON lines."""
    lines = path.read_bytes().splitlines()
    if rng.random() < 0.3 or not lines:
        edit_file(path, rng)
        return
    for _ in range(rng.choice((1, 1, 3))):
        place = rng.randrange(len(lines))
        with suppress(ValueError, RecursionError):
            lines[place] = json.dumps(edit_value(json.loads(lines[place]), rng)).encode()
    if rng.random() < 0.2:
        rng.shuffle(lines)
    path.write_bytes(b"\n".join(lines) + b"\n")


def edit_tensor(value: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Return a tensor of another shape, type or content."""
    flat = value.reshape(-1)
    edits: list[Callable[[], torch.Tensor]] = [
        lambda: flat[: rng.choice((0, 1, 3, 1000))],
        lambda: value.unsqueeze(0),
        lambda: flat,
        lambda: value.to(rng.choice((torch.int8, torch.float16, torch.bfloat16, torch.bool, torch.float64, torch.int64))),
        lambda: torch.full_like(value, rng.choice((0, 1, -1))),
        lambda: (value.double() + 1).to(value.dtype),
        lambda: torch.zeros(rng.choice(((3,), (1000,), (5, 5), (0,), ()))),
    ]  # fmt: skip
    if value.is_floating_point():
        edits += [
            lambda: torch.full_like(value, rng.choice((math.nan, math.inf, -math.inf, 1e30, -1.0)))
        ] * 3
    return rng.choice(edits)().contiguous().clone()


def edit_tensors(path: Path, rng: random.Random) -> None:
    """Change a safetensors file: bytes, tensors or metadata; weights often with a checksum that fits."""
    if rng.random() < 0.3:
        edit_file(path, rng)
        return
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
    tensors = load_file(path)
    for _ in range(rng.choice((1, 1, 2, len(tensors)))):
        kind, name = rng.randrange(8), rng.choice(sorted(tensors))
        if kind == 0 and len(tensors) > 1:
            del tensors[name]
        elif kind == 1:
            tensors[rng.choice(("zz", f"{name}/x", f"{name}2", "generator/999/exp_avg"))] = tensors[
                name
            ].clone()
        elif kind == 2 and "anowild" in metadata:
            with suppress(ValueError, RecursionError):
                metadata["anowild"] = json.dumps(edit_value(json.loads(metadata["anowild"]), rng))
        else:
            tensors[name] = edit_tensor(tensors[name], rng)
    description = path.with_name("model.json")
    if path.name == "model.safetensors" and rng.random() < 0.7:
        with suppress(TypeError):  # a type that has no bytes
            metadata["id"] = digest(tensors)
            value = json.loads(description.read_text())
            description.write_text(json.dumps(value | {"weights_id": metadata["id"]}))
    save_file(tensors, path, metadata=rng.choice((metadata,) * 9 + ({},)))


def edit_database(path: Path, rng: random.Random) -> None:
    """Change a database of marks: bytes, or its schema and rows."""
    if rng.random() < 0.4:
        edit_file(path, rng)
        return
    value = rng.choice(
        ("NULL", "5", "-1", "1e300", "'text'", "x'ff'", "''", "zeroblob(3000)", "'odd'", "'\x1b'")
    )
    column = rng.choice(("id", "image", "reviewer", "verdict", "time", "undone", "tag", "step"))
    statements = (
        f"UPDATE events SET {column} = {value}",
        f"UPDATE OR IGNORE events SET {column} = {value} WHERE id = 1",
        f"PRAGMA user_version = {rng.choice((-1, 0, 1, 3, 99))}",
        "DROP TABLE events",
        f"ALTER TABLE events DROP COLUMN {column}",
        f"ALTER TABLE events RENAME COLUMN {column} TO other",
        "DELETE FROM events",
        "CREATE TABLE new AS SELECT * FROM events",
        "DROP TABLE events; CREATE TABLE events (id INTEGER PRIMARY KEY, image TEXT, reviewer, verdict, time, undone);"
        " INSERT INTO events VALUES (1, 'text', 5, 'zz', NULL, 0), (2, x'ff', 'a', 'odd', 7, 0)",
        "DROP TABLE events; CREATE VIEW events AS SELECT 1 AS id",
    )  # fmt: skip
    base = sqlite3.connect(path, isolation_level=None)
    with suppress(sqlite3.Error):
        for _ in range(rng.choice((1, 1, 2))):
            base.executescript(rng.choice(statements))
    base.close()


EDITS: dict[str, Callable[[Path, random.Random], None]] = {
    ".json": edit_json,
    ".jsonl": edit_lines,
    ".safetensors": edit_tensors,
    ".sqlite": edit_database,
    ".npz": edit_file,
}


def attempt(base: Path, work: Path, seed: int, number: int) -> tuple[str, str, Attempt]:
    """Make edit ``number`` in a copy of the base, and try it: file, command, how it ended."""
    rng = random.Random(f"{seed}/{number}")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
    target = rng.choices([*TARGETS], [weight for weight, _ in TARGETS.values()])[0]
    path = max((work / "found").glob(target))
    EDITS[path.suffix](path, rng)
    command = rng.choice(TARGETS[target][1])
    if command is GO_ON:  # without a model, the training goes on
        (work / "found" / MODEL / "model.json").unlink()
    return target, command[0], Attempt.of(command, work)


Row = tuple[int, str, str, Attempt]


def fuzz(base: Path, numbers: range, seed: int, each: Callable[[Row], None]) -> None:
    """Try some edits one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            each((number, *attempt(base, Path(folder) / "work", seed, number)))


def table(rows: list[Row]) -> str:
    """Return how often what happened, by file, and the most memory and time that a try took."""
    counts: dict[str, Counter[str]] = {target: Counter() for target in TARGETS}
    for _, target, _, found in rows:
        counts[target][found.outcome] += 1
    counts = {target: count for target, count in counts.items() if count}
    counts["all"] = sum(counts.values(), Counter())
    lines = [f"{'file':47}{'tries':>7}" + "".join(f"{name:>11}" for name in OUTCOMES)]
    lines += [
        f"{target:47}{count.total():7}" + "".join(f"{count[name]:11}" for name in OUTCOMES)
        for target, count in counts.items()
    ]
    lines.append(
        f"at most {max(r[3].megabytes for r in rows):.0f} MB resident and {max(r[3].seconds for r in rows):.1f} s"
    )
    return "\n".join(lines)


def models(count: int, seed: int, jobs: int, only: int | None = None) -> int:
    """Try edits of the files of models, searches and reviews; return how many failed."""
    torch.set_num_threads(1)
    rows: list[Row] = []

    def take(row: Row) -> None:
        rows.append(row)
        number, target, command, found = row
        if found.outcome in FAILED or only is not None:
            last = found.said.strip() if only is not None else found.said.strip()[-300:]
            print(f"{number}: {target} by {command}: {found.outcome}: {last}", flush=True)

    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        make_base(base)
        if only is not None:
            fuzz(base, range(only, only + 1), seed, take)
        elif jobs == 1:
            fuzz(base, range(count), seed, take)
        else:
            fork = multiprocessing.get_context("fork")
            queue: Any = fork.Queue()
            workers = [
                fork.Process(target=fuzz, args=(base, range(j, count, jobs), seed, queue.put))
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
    parser.add_argument("kind", choices=("models",))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", type=int)
    given = parser.parse_args(arguments)
    return int(models(given.count, given.seed, given.jobs, given.only) > 0)
