"""Images are scored as they arrive: whole, once, and as `anowild score` scores them."""

from __future__ import annotations

import errno
import math
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anowild import api
from anowild.arrays import Array
from anowild.data.readers import FolderReader
from anowild.errors import UserError
from anowild.reviewing.clean import clean
from anowild.scoring import Detector
from anowild.scoring.drift import Drift
from anowild.watching import watch as module
from anowild.watching.journal import About, Journal
from anowild.watching.table_file import TableFile
from anowild.watching.watch import JOURNAL, WatchOptions, watch
from tests.conftest import tiny_settings, wait_until
from tests.watching.conftest import INTERVAL, LIMIT, Watched, put, terminate


def assert_as_scored(watched: Watched) -> None:
    """Hold the table against that of `anowild score` on the same folder."""
    table = api.score(watched.detector, watched.folder)
    expected = {row.path: row for row in table.ranked()}
    found = watched.rows()
    assert sorted(row["path"] for row in found) == sorted(expected)
    for row in found:
        whole = expected[row["path"]]
        assert row["score"] == pytest.approx(whole.score, rel=1e-5)
        assert row["odd"] == (row["score"] >= LIMIT)
        assert row["p_value"] == pytest.approx(10 ** -row["score"])
        assert row["why"] == whole.why
        for cue, value in whole.cues.items():
            assert row[cue] == pytest.approx(value, rel=1e-4), cue
        for view, value in whole.views.items():
            assert row[f"view_{view}"] == pytest.approx(value, rel=1e-4), view


@pytest.mark.parametrize("name", ["s.parquet", "s.csv"])
def test_what_is_there_is_scored_as_score_does(
    watched: Watched, digits: Array, tmp_path: Path, name: str
) -> None:
    watched.out = tmp_path / name
    watched.put(digits[:20])
    put(watched.folder, 255 - digits[20], "below/odd.png")
    put(watched.folder, digits[21], "below/=1+1.png")
    pages = [Image.fromarray(image) for image in digits[22:25]]
    pages[0].save(watched.folder / "pages.tif", save_all=True, append_images=pages[1:])
    put(watched.folder, digits[25], ".hidden/h.png")
    (watched.folder / "notes.txt").write_text("no image")
    summary = watched.once()
    assert (summary.scored, summary.unreadable, summary.recorded) == (25, 0, 25)
    assert summary.flagged == sum(row["odd"] for row in watched.rows()) > 0
    assert_as_scored(watched)
    assert str(watched.folder / "below" / "odd.png") in watched.said.read_text()


def test_tiles_are_scored_as_score_does(digits: Array, tmp_path: Path) -> None:
    frames = np.concatenate(
        [digits[:80].reshape(40, 32, 16), digits[80:160].reshape(40, 32, 16)], 2
    )
    settings = tiny_settings(views=("pixels",), tiles=16)
    watched = Watched(api.train(frames, tmp_path / "model", settings), tmp_path)
    watched.put(frames[:7])
    assert watched.once().scored == 7
    assert_as_scored(watched)


def test_a_second_run_scores_what_is_new_or_has_changed(watched: Watched, digits: Array) -> None:
    paths = watched.put(digits[:6])
    assert watched.once().scored == 6
    before = watched.rows()
    facts = paths[4].stat()
    paths[4].unlink()
    assert watched.once().scored == 0
    assert watched.rows() == before
    put(watched.folder, 255 - digits[1], "0001.png")  # replaced by another of the same name
    os.utime(paths[2], ns=(1, 1))
    watched.put(digits[6:8], 6)
    # Back as it was: the same image.
    put(watched.folder, digits[4], "0004.png")
    os.utime(paths[4], ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert watched.once().scored == 4
    found = watched.rows()
    assert found[:6] == before
    assert len({(row["path"], row["size"], row["mtime_ns"]) for row in found}) == len(found) == 10
    assert sorted(Path(row["path"]).name for row in found[6:]) == [
        "0001.png", "0002.png", "0006.png", "0007.png",
    ]  # fmt: skip


def test_damaged_files_are_named_once_and_not_tried_again(
    watched: Watched, digits: Array, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    paths = watched.put(digits[:3])
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[:-40])
    Image.fromarray(digits[0][:1, :1]).save(watched.folder / "small.png")
    (watched.folder / "gone.png").symlink_to(tmp_path / "nothing")
    summary = watched.once()
    assert (summary.scored, summary.unreadable) == (2, 3)
    assert watched.once().unreadable == 0
    assert caplog.text.count("cannot be read") == 3
    assert caplog.text.count(str(paths[1])) == 1
    bad = {Path(row["path"]).name: row for row in watched.rows() if math.isnan(row["score"])}
    assert bad.keys() == {"0001.png", "small.png", "gone.png"}
    assert "truncated" in bad["0001.png"]["why"]
    assert "1x1 pixels" in bad["small.png"]["why"]
    assert all(row["odd"] == 0 and math.isnan(row["residual"]) for row in bad.values())
    # A table with such rows can be cleaned up with.
    assert clean(watched.out, tmp_path / "cleaned", "list").total() == 5

    paths[1].write_bytes(whole)
    assert watched.once().scored == 1
    assert [row["path"] for row in watched.rows()].count(str(paths[1])) == 2


def test_half_a_file_waits_until_it_is_whole(
    watched: Watched, digits: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is, half of the file is not given up.
    monkeypatch.setattr(module, "PATIENCE", 10**6)
    path, first = watched.folder / "b.png", watched.put(digits[:1])[0]
    whole = put(watched.folder, digits[1], "b.png").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    process = watched.start(table_every=0)
    wait_until(lambda: watched.out.exists() and watched.rows())
    put(watched.folder, digits[2], "c.png")
    wait_until(lambda: len(watched.rows()) == 2)
    path.write_bytes(whole)
    wait_until(lambda: len(watched.rows()) == 3)
    assert terminate(process) == 0
    assert [Path(row["path"]).name for row in watched.rows()] == [first.name, "c.png", "b.png"]
    assert_as_scored(watched)


def test_a_file_that_changes_while_it_is_read_is_read_again(
    watched: Watched, digits: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = watched.put(digits[:1])[0]
    read, changes = FolderReader._read, [digits[1], digits[2]]

    def changing(self: FolderReader, path: Path) -> object:
        found = list(read(self, path))
        if changes:
            put(watched.folder, changes.pop(), path.name)
        return iter(found)

    monkeypatch.setattr(FolderReader, "_read", changing)
    assert watched.once().scored == 1
    monkeypatch.undo()
    assert not changes
    (row,) = watched.rows()
    assert (row["size"], row["mtime_ns"]) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert_as_scored(watched)


def test_a_signal_ends_it_after_the_batch(watched: Watched, digits: Array) -> None:
    process = watched.start()
    watched.put(digits)
    # Until one is flagged; a file that is just being written may have been passed over before.
    wait_until(lambda: watched.said.exists() and ".png  " in watched.said.read_text())
    assert terminate(process) == 0
    count = len(watched.rows())
    assert count >= 1
    assert watched.once().scored == len(digits) - count
    assert_as_scored(watched)


def test_another_process_and_other_options_are_refused(
    watched: Watched, digits: Array, tmp_path: Path, model_folder: Path
) -> None:
    watched.put(digits[:2])
    process = watched.start(table_every=0)
    wait_until(watched.out.exists)
    with pytest.raises(UserError, match="another `anowild watch` writes this table"):
        watched.once()
    terminate(process)
    other = tmp_path / "other"
    other.mkdir()
    detector, folder, out = watched.detector, watched.folder, watched.out
    once = WatchOptions(interval=INTERVAL, once=True)
    coarse = Detector.load(model_folder, precision="bfloat16")
    for changed, sentence in (
        (lambda: watch(detector, other, out, LIMIT, once), "was begun for the folder .*camera, not"),
        (lambda: watch(detector, folder, out, 2.0, once), "with the limit 1.3, not 2"),
        (lambda: watch(coarse, folder, out, LIMIT, once), "with the precision float32, not bfloat16"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=sentence):
            changed()
    trained = Detector.load(model_folder)
    trained._checksum = "another"
    with pytest.raises(UserError, match="with the model"):
        watch(trained, folder, out, LIMIT, once)
    # Named otherwise, it is the same folder.
    assert watch(detector, folder / ".." / folder.name, out, LIMIT, once).scored == 0


@pytest.mark.parametrize("name", ["interval", "run_seconds", "table_every"])
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match="numbers of seconds"):
        WatchOptions(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["s.csv", "s.parquet"])
def test_names_and_times_of_any_kind_are_recorded(
    watched: Watched, digits: Array, tmp_path: Path, name: str
) -> None:
    watched.out = tmp_path / name
    far, bytes_name = watched.folder / "far.png", os.fsdecode(b"\xff[3].png")
    put(watched.folder, digits[0], "far.png")
    os.utime(far, ns=(0, 2**63 + 10**9))
    put(watched.folder, digits[1], bytes_name)
    put(watched.folder, digits[2], "a\nb.png")
    assert watched.once().scored == 3
    assert watched.once().scored == 0
    named = {row["path"].removeprefix(f"{watched.folder}/") for row in watched.rows()}
    assert len(named) == 3
    assert {"far.png", "a\nb.png"} < named


def test_places_that_cannot_be_used_are_refused(watched: Watched, digits: Array) -> None:
    watched.put(digits[:2])
    watched.out.write_text("mine")
    with pytest.raises(UserError, match="was not made by `anowild watch`"):
        watched.once()
    watched.out.unlink()
    assert not watched.out.with_name("scores.parquet.watch").exists()
    watched.once()
    journal = watched.out.with_name("scores.parquet.watch") / JOURNAL
    kept = journal.read_bytes()
    journal.write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match="cannot be used as the record of a watched folder"):
        watched.once()
    journal.write_bytes(kept)
    with sqlite3.connect(journal) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(UserError, match="another version of AnoWild"):
        watched.once()
    shutil.rmtree(watched.folder)
    with pytest.raises(UserError, match="no such folder to be watched"):
        watched.once()
    watched.out = watched.out.with_suffix(".xlsx")
    watched.folder.mkdir()
    with pytest.raises(UserError, match=r"\.csv or \.parquet"):
        watched.once()


def test_a_folder_that_vanishes_ends_it_with_a_sentence(
    watched: Watched, digits: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.put(digits[:3])

    sleeps = iter((False, False, True))  # after some looks

    def remove(*_: object) -> None:
        if next(sleeps, False):
            shutil.rmtree(watched.folder)

    monkeypatch.setattr(module, "_sleep", remove)
    with pytest.raises(UserError, match=r"camera: cannot be read \(No such file"):
        watched.once(once=False)
    assert len(watched.rows()) == 3


def test_a_full_disk_ends_it_with_a_sentence_and_nothing_is_lost(
    watched: Watched, digits: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.put(digits[:150])
    init = Journal.__init__

    def small(self: Journal, path: Path, about: About) -> None:
        init(self, path, about)
        self._database.execute("PRAGMA max_page_count = 14")  # SQLite finds the disk full there

    monkeypatch.setattr(Journal, "__init__", small)
    with pytest.raises(UserError, match=r"journal.sqlite: the disk is full; free some space"):
        watched.once()
    count = len(watched.rows())
    assert 0 < count < 150
    monkeypatch.undo()
    assert watched.once().scored == 150 - count
    assert_as_scored(watched)


def test_a_disk_that_is_full_for_the_table_ends_it_with_a_sentence(
    watched: Watched, digits: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    watched.put(digits[:2])
    monkeypatch.setattr(TableFile, "_write_parquet", full)
    with pytest.raises(UserError, match=r"scores.parquet: the disk is full"):
        watched.once(table_every=0)
    with pytest.raises(UserError, match=r"scores.parquet: the disk is full"):
        watched.once(table_every=0, once=False)
    monkeypatch.undo()
    assert watched.once().scored == 0
    assert len(watched.rows()) == 2


def test_drift_is_told_once_over_restarts_and_so_is_its_end(
    watched: Watched,
    digits: Array,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "Drift", lambda _: Drift(window=60))
    monkeypatch.setattr(module, "WINDOW", 60)
    watched.put(255 - digits[:60])
    watched.once()
    assert caplog.text.count("are not like the training images any more") == 1
    watched.put(255 - digits[60:62], 60)
    watched.once()
    assert caplog.text.count("are not like the training images any more") == 1
    watched.put(digits[:60], 100)
    watched.once()
    assert caplog.text.count("are not like the training images any more") == 1
    assert watched.said.read_text().count("like the training images again") == 1


def test_many_files_are_told_as_progress(
    watched: Watched,
    digits: Array,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("anowild.progress.Bar.QUIET_SECONDS", 0.0)
    watched.put(digits[:130])
    watched.once()
    assert "scoring, files: " in capsys.readouterr().err


def test_a_long_table_is_written_less_often(
    watched: Watched, digits: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.put(digits[:2])
    watched.once()
    about = About("f", "m", 1.0, "float32", (), (), "f", "i")
    journal = Journal(watched.out.parent / "j.sqlite", about)
    table = TableFile(watched.out.parent / "t.csv", journal, 0.0)
    clock = [0.0]
    monkeypatch.setattr("anowild.watching.table_file.time.monotonic", lambda: clock[0])

    def slow(_: Path) -> None:
        clock[0] += 3.0

    monkeypatch.setattr(table, "_write_csv", slow)
    table.update(0)
    table._end()
    written = clock[0]
    for clock[0] in (written + 1, written + 59):
        table.update(1)
        assert table._thread is None
    clock[0] = written + 60
    table.update(1)
    table._end()
    assert clock[0] == written + 63
