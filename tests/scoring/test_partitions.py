"""Tables in parts: the same ranks, flags and rows as the ordinary table of the same images."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anowild import api
from anowild.arrays import Array
from anowild.errors import UserError
from anowild.scoring import Detector, Scores, Table
from anowild.scoring.partitions import (
    LEFT_OUT,
    ORDER,
    PARTS,
    SCORES,
    TABLE,
    PartitionedTable,
    PartWriter,
    TableFacts,
    is_table,
    part_path,
)
from anowild.scoring.stream import ThresholdRule
from anowild.scoring.threshold_rules import (
    Budget,
    ExpectedShare,
    FalseDiscoveryRate,
    FixedScore,
    Gap,
)
from tests.parts import table_in_parts, write_parts


@pytest.fixture
def images(folder_of: Callable[..., Path], digits: Array) -> Path:
    """Return a folder of 90 digits, some alike, and a damaged file."""
    folder = folder_of(np.concatenate([digits[:80], digits[:10]]))
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("rule", [None, Budget(7), FixedScore(0.5), ExpectedShare(0.1), Gap()])
def test_rows_and_flags_equal_those_of_the_ordinary_table(
    images: Path, detector: Detector, tmp_path: Path, rule: ThresholdRule | None
) -> None:
    ordinary = api.score(detector, str(images), tmp_path / "scores.parquet", rule)
    find = None if rule is None else rule.fit(detector)
    table = table_in_parts(tmp_path / "table", detector, str(images), find=find)
    assert len(table) == len(ordinary) == 90
    assert table.threshold == ordinary.threshold
    # Rows of ten images that are there twice are equal: the one of the earlier part ranks first.
    assert table.rows(range(1, 91)) == ordinary.rows()
    assert table.scores.tolist() == sorted(ordinary.score.tolist(), reverse=True)
    written = pq.read_table(tmp_path / "table" / PARTS).sort_by("rank")
    assert written.equals(pq.read_table(tmp_path / "scores.parquet").select(written.column_names))
    assert set(written.column_names) == set(pq.read_schema(tmp_path / "scores.parquet").names)


def test_a_false_discovery_rate_flags_what_it_flags_in_one_table(
    images: Path, folder_of: Callable[..., Path], digits: Array, detector: Detector, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    mixed = folder_of(np.concatenate([digits[:20], noise]), "mixed")
    rule = FalseDiscoveryRate(0.3, str(folder_of(np.roll(digits[:120], 5, axis=2), "calibration")))
    ordinary = api.score(detector, str(mixed), rule=rule)
    table = table_in_parts(tmp_path / "table", detector, str(mixed), (5,), rule.fit(detector))
    assert table.threshold == ordinary.threshold


def test_what_was_left_out_is_named(images: Path, detector: Detector, tmp_path: Path) -> None:
    table = table_in_parts(tmp_path / "table", detector, str(images))
    (left,) = table.left_out
    assert (left.count, Path(left.first).name) == (1, "broken.png")
    header, row = (tmp_path / "table" / LEFT_OUT).read_text().splitlines()
    assert header == "path,reason"
    assert row.startswith(f'{images / "broken.png"},"cannot identify')


def test_parts_may_be_written_by_others_in_any_order_and_again(
    images: Path, detector: Detector, tmp_path: Path
) -> None:
    table = table_in_parts(tmp_path / "table", detector, str(images))
    writer = write_parts(tmp_path / "again", detector, str(images), (50, 0, 31))
    assert writer.parts() == [0, 1, 2, 3]
    first = part_path(tmp_path / "again", 0)
    first.rename(tmp_path / "aside")
    with pytest.raises(UserError, match=r"3 parts of 4 \(part 0 is missing"):
        writer.finish(4)
    assert not is_table(tmp_path / "again")
    shutil.move(tmp_path / "aside", first)
    other = pickle.loads(pickle.dumps(writer))
    assert other.finish(4).rows(range(1, 91)) == table.rows(range(1, 91))
    assert is_table(tmp_path / "again")


def test_finishing_goes_on_after_a_stop_and_takes_another_limit(
    images: Path, detector: Detector, tmp_path: Path
) -> None:
    def stop(scored: object) -> None:
        raise KeyboardInterrupt

    rows = table_in_parts(tmp_path / "table", detector, str(images)).rows(range(1, 91))
    writer = PartWriter(tmp_path / "table", TableFacts.of(detector, ["images"]))
    with pytest.raises(KeyboardInterrupt):
        writer.finish(4, stop)  # type: ignore[arg-type]
    assert not is_table(tmp_path / "table")
    table = writer.finish(4, Budget(3).fit(detector))
    assert table.rows(range(1, 91)) == rows
    odd = pq.read_table(tmp_path / "table" / PARTS).filter(pa.compute.field("odd") == 1)
    assert sorted(odd["rank"].to_pylist()) == [1, 2, 3]


def test_a_folder_of_something_else_is_refused(detector: Detector, tmp_path: Path) -> None:
    facts = TableFacts.of(detector, ["images"])
    PartWriter(tmp_path / "table", facts)
    for other in (
        replace(facts, model="another"),
        replace(facts, how={"images_a_part": 7}),
        replace(facts, sources=("others",)),
    ):
        with pytest.raises(UserError, match="of other images, or of another model"):
            PartWriter(tmp_path / "table", other)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is no table, but holds other files"):
        PartWriter(tmp_path / "notes", facts)


def test_a_table_that_is_not_whole_is_refused(
    images: Path, detector: Detector, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="holds no table in parts"):
        PartitionedTable(tmp_path)
    writer = write_parts(tmp_path / "begun", detector, str(images), (50,))
    with pytest.raises(UserError, match="holds only the beginning of a table"):
        PartitionedTable(tmp_path / "begun")
    writer.finish(2)
    for damage in (
        lambda folder: (folder / TABLE).write_text("{"),
        lambda folder: (folder / TABLE).write_text('{"format": 99}'),
        lambda folder: (folder / ORDER).write_bytes((folder / ORDER).read_bytes()[:-8]),
        lambda folder: np.save(folder / ORDER, np.arange(3)),
        lambda folder: np.save(folder / ORDER, np.arange(90) + 1),
        lambda folder: np.save(folder / SCORES, np.arange(90.0)),
        lambda folder: np.save(folder / SCORES, np.full(90, np.nan)),
        lambda folder: np.save(folder / SCORES, np.full(90, np.inf)),
    ):
        folder = shutil.copytree(tmp_path / "begun", tmp_path / "damaged", dirs_exist_ok=True)
        damage(folder)
        with pytest.raises(UserError, match=r"damaged|another version"):
            PartitionedTable(folder)
    folder = shutil.copytree(tmp_path / "begun", tmp_path / "damaged", dirs_exist_ok=True)
    part = part_path(folder, 0)
    whole = pq.read_table(part)
    for column in ("path", "why", "score", "rank", f"view_{detector.view_names[0]}"):
        nothing = pa.nulls(len(whole), whole.schema.field(column).type)
        pq.write_table(whole.set_column(whole.column_names.index(column), column, nothing), part)
        with pytest.raises(UserError, match=r"part-00000\.parquet: is damaged"):
            PartitionedTable(folder).rows(range(1, 91))
    pq.write_table(whole, part)
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"part-00000.parquet: is damaged"):
        PartitionedTable(folder).rows(range(1, 91))
    part.unlink()
    with pytest.raises(UserError, match=r"part-00000.parquet: is missing"):
        PartitionedTable(folder).column("score")


def test_ranks_of_many_parts_are_those_of_all_scores(tmp_path: Path, detector: Detector) -> None:
    rng = np.random.default_rng(0)
    facts = TableFacts.of(detector, ["made up"])
    writer, found = PartWriter(tmp_path / "table", facts), []
    for number, size in enumerate((3, 20_000, 1, 9000)):
        score = rng.exponential(size=size).round(2)  # many are equal
        scores = Scores(
            score, dict.fromkeys(facts.cue_names, score), dict.fromkeys(facts.views, score)
        )
        names = [f"{number}/{i}" for i in range(len(score))]
        writer.write(number, names, scores, [""] * len(score))
        found.append((names, scores))
    table = writer.finish(4)
    ordinary = Table(facts.cue_names, views=facts.views)
    for names, scores in found:
        ordinary.append(names, scores)
    ranks = [1, 2, 3, len(table) // 2, len(table), 1]
    rows = ordinary.rows()
    assert table.rows(ranks) == [rows[rank - 1] for rank in ranks]
    brief = table.rows(ranks, brief=True)
    assert [(row.path, row.score, row.rank) for row in brief] == [
        (rows[rank - 1].path, rows[rank - 1].score, rank) for rank in ranks
    ]
    assert table.column("score").tolist() == ordinary.score.tolist()
    assert table.reached(1.0) == int((ordinary.score >= 1.0).sum())
    for wrong in (0, len(table) + 1):
        with pytest.raises(IndexError):
            table.rows([wrong])


def test_a_table_of_images_that_all_cannot_be_read_is_refused(
    detector: Detector, tmp_path: Path
) -> None:
    writer = PartWriter(tmp_path / "table", TableFacts.of(detector, ["images"]))
    nothing = np.zeros(0)
    scores = Scores(
        nothing,
        dict.fromkeys(detector.cue_names, nothing),
        dict.fromkeys(detector.view_names, nothing),
    )
    writer.write(0, [], scores, [], [("a.png", "is damaged")])
    with pytest.raises(UserError, match="none of the images could be read"):
        writer.finish(1)
