"""Tables of scores: what is written, in which order, and what of it is in memory."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anowild import api
from anowild.arrays import Array
from anowild.data.image_set import ImageSet
from anowild.files import printable
from anowild.scoring import Detector, Scores, table
from anowild.scoring.explain import Reason, one_line
from anowild.scoring.table import Row, Table
from anowild.views import gan

#: Names as they come: a comma, a quote, a line break, other alphabets, bytes that are not UTF-8,
#: half a character.
NAMES = (
    "a,b.png",
    'say "no".png',
    "two\nlines.png",
    "Ä/猫.png",
    os.fsdecode(b"\xff.png"),
    "\ud83d",
)

CUES = [name for name, cue in gan.CUES.items() if not cue.retired]


def plain_csv(rows: list[Row]) -> bytes:
    """The table written at once, from memory."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["path", "score", "rank", "view_gan", "why", *CUES])
    writer.writerows(
        [row.path, row.score, row.rank, *row.views.values(), row.why, *row.cues.values()]
        for row in rows
    )
    return text.getvalue().encode("utf-8", "surrogateescape")


def plain_rows(
    names: list[str], scores: Scores, reasons: Callable[[Scores], list[list[Reason]]] | None = None
) -> list[Row]:
    """The rows, ranked by sorting them."""
    columns = np.stack([*scores.columns().values()], axis=1).tolist()
    why = [""] * len(names) if reasons is None else [one_line(found) for found in reasons(scores)]
    ranked = sorted(zip(names, columns, why, strict=True), key=lambda row: -row[1][0])
    return [
        Row(name, row[0], i + 1, dict(zip(CUES, row[2:], strict=True)), {"gan": row[1]}, text)
        for i, (name, row, text) in enumerate(ranked)
    ]


def some_reasons(scores: Scores) -> list[list[Reason]]:
    """One or two for each image; texts with what CSV quotes and what is not ASCII."""
    text = "so {:g}, „more“ than 99 %\nof them"
    found = [Reason(text.format(value), "gan", "a", "", 0.99, False) for value in scores.score]
    return [[reason] * (1 + i % 2) for i, reason in enumerate(found)]


def columns_of(rows: list[Row]) -> dict[str, list[Any]]:
    """The rows by column."""
    found: dict[str, list[Any]] = {
        name: [getattr(row, name) for row in rows] for name in ("path", "score", "rank")
    }
    found["view_gan"] = [row.views["gan"] for row in rows]
    found["why"] = [row.why for row in rows]
    return found | {cue: [row.cues[cue] for row in rows] for cue in CUES}


def some_scores(count: int) -> Scores:
    """Cues of every magnitude, and scores of which many are equal."""
    rng = np.random.default_rng(0)
    cues = {cue: 10 ** rng.uniform(-9, 9, count) for cue in CUES}
    views = {"gan": rng.exponential(1, count)}
    return Scores(rng.integers(0, 20, count) / 7 - 1, cues, views)


def part_of(scores: Scores, part: slice) -> Scores:
    return scores.select(np.arange(len(scores.score))[part])


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_table_is_written_as_from_memory(
    on_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "ROW_GROUP", 64)
    # What stands for no byte cannot be written as text, but as a printable name in Parquet.
    names = [f"{i}-{NAMES[i % (len(NAMES) - 1)]}" for i in range(200)]
    scores = some_scores(200)
    expected = plain_rows(names, scores, some_reasons)
    found = Table(CUES, tmp_path / "scores.csv" if on_disk else None, ["gan"], some_reasons)
    for start in range(0, 200, 38):  # even, as reasons alternate
        part = slice(start, start + 38)
        found.append(names[part], part_of(scores, part))
    assert list(tmp_path.iterdir()) == []  # what waits on the disk has no name
    assert found.rows() == expected
    assert len(found) == 200
    assert np.array_equal(found.score, scores.score)
    for cue in CUES:
        assert np.array_equal(found.scores.cues[cue], scores.cues[cue])
    assert np.array_equal(found.scores.views["gan"], scores.views["gan"])

    found.write(tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_bytes() == plain_csv(expected)
    found.write(tmp_path / "scores.parquet")
    assert pq.ParquetFile(tmp_path / "scores.parquet").num_row_groups == 4
    columns = columns_of(expected)
    columns["path"] = [printable(name) for name in columns["path"]]
    assert pq.read_table(tmp_path / "scores.parquet").equals(pa.table(columns))
    assert {path.name for path in tmp_path.iterdir()} == {"scores.csv", "scores.parquet"}


def test_a_parquet_file_of_one_group_is_the_same_to_the_byte(tmp_path: Path) -> None:
    rows = plain_rows([str(i) for i in range(300)], some_scores(300))
    table.write_rows(rows, CUES, tmp_path / "a.parquet", views=["gan"])
    pq.write_table(pa.table(columns_of(rows)), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_every_name_comes_back(tmp_path: Path) -> None:
    found = Table(CUES, tmp_path / "scores.csv", ["gan"])
    found.append(list(NAMES), some_scores(len(NAMES)))
    assert {row.path for row in found.rows()} == set(NAMES)


def test_a_source_is_written_as_from_memory(
    detector: Detector, digits: Array, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", digits)
    images = ImageSet.load(tmp_path / "x.npy", preprocess=detector.preprocess)
    expected = plain_rows(list(images.names), detector.score(images), detector.reasons)
    assert all(row.why for row in expected)
    assert api.score(detector, tmp_path / "x.npy").rows() == expected
    api.score(detector, tmp_path / "x.npy", tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_bytes() == plain_csv(expected)
