"""A table of a growing folder: what is known is not scored again, and nothing is taken for known wrongly."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from anowild import api
from anowild.arrays import Array
from anowild.errors import UserError
from anowild.scoring import Detector
from anowild.scoring.threshold_rules import Budget, FixedScore


def add(folder: Path, images: Array, first: int = 0) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{first + i:03}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


def rows(path: Path) -> dict[str, dict[str, str]]:
    if path.suffix == ".parquet":
        return {row["path"]: row for row in pq.read_table(path).to_pylist()}
    with path.open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", ["s.csv", "s.parquet"])
def test_new_images_join_the_table_as_if_all_were_scored_at_once(
    detector: Detector, digits: Array, tmp_path: Path, name: str
) -> None:
    folder, out = tmp_path / "images", tmp_path / name
    add(folder, digits[:20])
    first = api.score(detector, folder, out, new_only=True)
    assert (len(first), first.new) == (20, 20)
    before = rows(out)
    new = add(folder, digits[20:30], 20)
    found = api.score(detector, folder, out, FixedScore(1.0), new_only=True)
    assert (len(found), found.new) == (30, 10)
    assert {row.path for row in found.ranked(new_only=True)} == {str(path) for path in new}
    after = rows(out)
    assert all(after[path]["score"] == row["score"] for path, row in before.items())
    assert all(after[path]["why"] == row["why"] != "" for path, row in before.items())

    api.score(detector, folder, tmp_path / f"whole-{name}", FixedScore(1.0))
    whole = rows(tmp_path / f"whole-{name}")
    assert after.keys() == whole.keys()
    for path, row in whole.items():
        assert float(after[path]["score"]) == pytest.approx(float(row["score"]), rel=1e-5)
        assert int(after[path]["odd"]) == int(row["odd"])
    assert sorted(int(row["rank"]) for row in after.values()) == list(range(1, 31))
    scores = [float(row["score"]) for row in after.values()]
    assert scores == sorted(scores, reverse=True)


def test_nothing_new_scores_nothing_and_writes_the_same(
    detector: Detector, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path / "images", digits[:10])
    out = tmp_path / "s.csv"
    api.score(detector, tmp_path / "images", out, new_only=True)
    text = out.read_bytes()
    monkeypatch.setattr(Detector, "score", lambda *_: pytest.fail("was scored again"))
    assert api.score(detector, tmp_path / "images", out, new_only=True).new == 0
    assert out.read_bytes() == text
    # Named otherwise, they are the same files.
    monkeypatch.chdir(tmp_path)
    assert api.score(detector, "images", out, new_only=True).new == 0
    assert out.read_bytes() == text


def test_a_name_like_a_formula_is_known_again(
    detector: Detector, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(digits[0]).save("=1+1.png")
    for new in (1, 0):
        found = api.score(detector, "=1+1.png", "s.csv", new_only=True)
        assert (found.new, found.name(0)) == (new, "=1+1.png")
        assert (tmp_path / "s.csv").read_text().splitlines()[1].startswith("'=1+1.png,")


def test_changed_files_are_scored_again_and_lost_ones_stay(
    detector: Detector, digits: Array, tmp_path: Path
) -> None:
    folder, out = tmp_path / "images", tmp_path / "s.csv"
    paths = add(folder, digits[:10])
    api.score(detector, folder, out, new_only=True)
    before = rows(out)
    paths[0].unlink()
    Image.fromarray(255 - digits[1]).save(paths[1])
    time = paths[2].stat().st_mtime_ns
    os.utime(paths[2], ns=(time, time + 10**9))
    found = api.score(detector, folder, out, new_only=True)
    assert (len(found), found.new) == (10, 2)
    after = rows(out)
    assert after.keys() == before.keys()
    assert after[str(paths[1])]["score"] != before[str(paths[1])]["score"]
    for path in (paths[0], *paths[3:]):
        assert after[str(path)]["score"] == before[str(path)]["score"]


def test_the_row_of_a_file_that_is_being_overwritten_stays(
    detector: Detector, digits: Array, tmp_path: Path
) -> None:
    folder, out = tmp_path / "images", tmp_path / "s.csv"
    paths = add(folder, digits[:5])
    api.score(detector, folder, out, new_only=True)
    before = rows(out)
    paths[0].write_bytes(b"junk")
    found = api.score(detector, folder, out, new_only=True)
    assert (len(found), found.new, found.left_out) == (5, 0, 1)
    assert rows(out) == before
    Image.fromarray(255 - digits[1]).save(paths[0])
    found = api.score(detector, folder, out, new_only=True)
    assert (len(found), found.new) == (5, 1)
    assert rows(out)[str(paths[0])]["score"] != before[str(paths[0])]["score"]


def test_a_row_that_was_deleted_is_scored_again(
    detector: Detector, digits: Array, tmp_path: Path
) -> None:
    folder, out = tmp_path / "images", tmp_path / "s.csv"
    add(folder, digits[:5])
    api.score(detector, folder, out, new_only=True)
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:-1]))
    assert api.score(detector, folder, out, new_only=True).new == 1
    assert out.read_text().splitlines(keepends=True) == lines


def test_archives_and_arrays_are_known_as_a_whole(
    detector: Detector, digits: Array, tmp_path: Path
) -> None:
    source, other, out = tmp_path / "a.npy", tmp_path / "b.npy", tmp_path / "s.csv"
    np.save(source, digits[:8])
    np.save(other, digits[8:12])
    assert api.score(detector, [source, other], out, new_only=True).new == 12
    assert api.score(detector, [source, other], out, new_only=True).new == 0
    np.save(source, digits[:6])
    found = api.score(detector, [source, other], out, new_only=True)
    assert (len(found), found.new) == (10, 6)
    with pytest.raises(UserError, match="an array in memory is no file"):
        api.score(detector, digits, out, new_only=True)


def test_damaged_files_are_tried_again_and_stop_nothing(
    detector: Detector, digits: Array, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, out = tmp_path / "images", tmp_path / "s.csv"
    paths = add(folder, digits[:5])
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[:-40])
    assert api.score(detector, folder, out, new_only=True).new == 4
    found = api.score(detector, folder, out, new_only=True)
    assert (len(found), found.new, found.left_out) == (4, 0, 1)
    assert caplog.text.count("left out") == 2
    paths[0].write_bytes(whole)
    assert api.score(detector, folder, out, new_only=True).new == 1


def test_an_error_is_no_damaged_file(
    detector: Detector, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "images", tmp_path / "s.csv"
    add(folder, digits[:3])
    assert api.score(detector, folder, out, new_only=True).new == 3
    damaged, _ = add(folder, digits[3:5], 3)
    damaged.write_bytes(b"no image")
    before = out.read_bytes()

    def refuse(*_: object) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(detector, "score", refuse)
    with pytest.raises(UserError, match="the disk is full"):
        api.score(detector, folder, out, new_only=True)
    assert out.read_bytes() == before


def test_tables_that_cannot_grow_are_refused(
    detector: Detector, digits: Array, tmp_path: Path
) -> None:
    folder, out = tmp_path / "images", tmp_path / "s.csv"
    add(folder, digits[:5])
    with pytest.raises(UserError, match="give `out`"):
        api.score(detector, folder, new_only=True)
    api.score(detector, folder, out)
    with pytest.raises(UserError, match="was not made with --new-only"):
        api.score(detector, folder, out, new_only=True)
    out.unlink()
    api.score(detector, folder, out, new_only=True)
    side = tmp_path / "s.csv.scored.json"
    kept = side.read_text()
    side.write_text(json.dumps(json.loads(kept) | {"model": "another"}))
    with pytest.raises(UserError, match="was made by another model"):
        api.score(detector, folder, out, new_only=True)
    for text, sentence in (("{}", "is damaged"), ("{", "not valid JSON")):
        side.write_text(text)
        with pytest.raises(UserError, match=sentence):
            api.score(detector, folder, out, new_only=True)
    side.write_text(kept)
    shutil.copy(out, tmp_path / "kept.csv")
    for text in ("path,score\n", "", "path,score,rank\nx"):
        out.write_text(text)
        with pytest.raises(UserError, match=r"has other columns|needs one column each of path"):
            api.score(detector, folder, out, new_only=True)
    lines = (tmp_path / "kept.csv").read_text().splitlines()
    out.write_text("\n".join([lines[0], lines[1].replace(lines[1].split(",")[1], "x")]))
    with pytest.raises(UserError, match=r"s\.csv, line 2: score is 'x', which is no number"):
        api.score(detector, folder, out, new_only=True)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda rows: rows[0].update(score="nan"), "line 2: has no score"),
        (lambda rows: rows[1].update(score="1e999"), "line 3: score is 1e999, which is no finite"),
        (lambda rows: rows[0].update(view_gan="-inf"), "line 2: view_gan is -inf"),
        (lambda rows: rows[2].update(path=""), "line 4: names no image"),
        (lambda rows: rows.append(rows[0]), r"lists .*\.png twice"),
        (lambda rows: rows[0].update(path="other.png"), r"has changed the names .* other\.png"),
    ],
)
def test_a_table_that_was_changed_is_refused_and_stays(
    detector: Detector, digits: Array, tmp_path: Path, edit: Any, sentence: str
) -> None:
    folder, out = tmp_path / "images", tmp_path / "s.csv"
    add(folder, digits[:5])
    api.score(detector, folder, out, Budget(1), new_only=True)
    with out.open(newline="") as file:
        listed = list(csv.DictReader(file))
    edit(listed)
    with out.open("w", newline="") as file:
        table = csv.DictWriter(file, listed[0].keys())
        table.writeheader()
        table.writerows(listed)
    changed = out.read_bytes()
    add(folder, digits[5:7], 5)
    with pytest.raises(UserError, match=sentence):
        api.score(detector, folder, out, Budget(1), new_only=True)
    assert out.read_bytes() == changed


@pytest.mark.parametrize("column", ["path", "why", "score", "view_gan"])
@pytest.mark.parametrize("kind", ["null", "other type"])
def test_a_parquet_table_of_another_program(
    detector: Detector, digits: Array, tmp_path: Path, column: str, kind: str
) -> None:
    folder, out = tmp_path / "images", tmp_path / "s.parquet"
    add(folder, digits[:5])
    api.score(detector, folder, out, new_only=True)
    table = pq.read_table(out)
    values = table[column].to_pylist()
    values = [None, *values[1:]] if kind == "null" else [b"x"] * len(values)
    pq.write_table(table.set_column(table.column_names.index(column), column, [values]), out)
    if (column, kind) == ("why", "null"):
        assert api.score(detector, folder, out, new_only=True).new == 0
        return
    with pytest.raises(UserError, match=r"s\.parquet, row 1: "):
        api.score(detector, folder, out, new_only=True)


def test_damaged_records_and_pipes_are_told(
    detector: Detector, digits: Array, tmp_path: Path
) -> None:
    folder, out = tmp_path / "images", tmp_path / "s.parquet"
    add(folder, digits[:5])
    api.score(detector, folder, out, new_only=True)
    side = tmp_path / "s.parquet.scored.json"
    value = json.loads(side.read_text())
    key = next(iter(value["files"]))
    wrong: tuple[Any, ...] = ({key: [[["a", 1, 2]], 5]}, {key: [None, None]}, {key: []}, [1])
    for files in wrong:
        side.write_text(json.dumps(value | {"files": files}))
        with pytest.raises(UserError, match=r"scored\.json: is damaged"):
            api.score(detector, folder, out, new_only=True)
    side.write_text(json.dumps(value))
    out.unlink()
    os.mkfifo(out)
    with pytest.raises(UserError, match="it is no regular file"):
        api.score(detector, folder, out, new_only=True)
