"""Random edits of the files that AnoWild writes itself, each tried by the commands that read them.

A model, its training state, a search (`find.json`) and a review with marks are made from digits. Each edit is at
random bytes or at a place of the file's structure: a field, a tensor, a row.
"""

from __future__ import annotations

import importlib
import json
import math
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

from anowild.finding.job import MODEL, REVIEW
from anowild.reviewing.store import MARKS, Store
from anowild.scoring.persistence import _digest as digest
from anowild.scoring.saved_limit import save_limit
from bench.fuzz.attempts import FAILED, Attempt
from bench.fuzz.edits import edit_file

#: Imported before the first fork, since together they take longer than a try.
PRELOADED = (
    "anowild.api", "anowild.data.crops", "anowild.finding.serve", "anowild.reporting.page", "anowild.reviewing.clean",
    "anowild.scoring.flagged_files", "anowild.scoring.growing", "anowild.scoring.threshold_rules",
    "anowild.training.gan", "anowild.training.pixels", "anowild.training.transforms", "pyarrow.dataset",
    "pyarrow.parquet", "pydantic.fields", "sklearn.cluster", "torch._dynamo", "torch.distributed.fsdp",
    "typer._adapters",
)  # fmt: skip

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
    for module in PRELOADED:
        importlib.import_module(module)
    Image.init()
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


# Edits


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
        return deepcopy(rng.choice(VALUES))
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
        with suppress(OverflowError):  # no float is near
            holder[key] = rng.choice((-old, old + 1, old * 1000, old / 3, old * 1.0, str(old)))
    elif kind == 4 and isinstance(old, list):
        holder[key] = rng.choice((old[:1], old[::-1], old * 2, [*old, "x"], [old]))
    else:
        holder[key] = deepcopy(rng.choice(VALUES))
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
            lambda: torch.full(
                value.shape, rng.choice((math.nan, math.inf, -math.inf, 1e30, -1.0))
            ).to(value.dtype)
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
