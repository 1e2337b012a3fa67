"""Scoring a source: what is written, what is kept in memory, and how it ends."""

from __future__ import annotations

import csv
import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from anowild import api
from anowild.arrays import Array
from anowild.data.image_set import ImageSet, ImageStream, open_all
from anowild.data.prefetch import prefetch
from anowild.data.readers import FolderReader
from anowild.errors import UserError
from anowild.files import printable
from anowild.scoring import Detector, Scores, table
from anowild.scoring.explain import Reason, one_line
from anowild.scoring.table import Row, Table
from anowild.views import gan
from tests.conftest import PATIENCE, Run, wait_until

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


def test_a_full_disk_is_told(
    detector: Detector, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: Full())
    with pytest.raises(UserError, match=r"scores.csv: the disk is full"):
        api.score(detector, digits, tmp_path / "scores.csv")
    assert list(tmp_path.iterdir()) == []
    assert not reading_threads()


def test_bfloat16_is_chosen_and_ranks_nearly_the_same(
    anowild: Run, model_folder: Path, detector: Detector, digits: Array, tmp_path: Path
) -> None:
    scores = detector.score(ImageSet.load(digits, preprocess=detector.preprocess))
    rough = api.score(Detector.load(model_folder, precision="bfloat16"), digits).scores
    assert not np.array_equal(scores.score, rough.score)
    for name, values in scores.columns().items():
        ranks, others = (np.argsort(np.argsort(v)) for v in (values, rough.columns()[name]))
        assert np.corrcoef(ranks, others)[0, 1] > 0.99, name

    np.save(tmp_path / "x.npy", digits)
    arguments = ("score", model_folder, tmp_path / "x.npy", "-o", tmp_path / "s.csv")
    assert anowild(*arguments, "--precision", "bfloat16")[0] == 0
    with (tmp_path / "s.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["score"]) == rough.score.max()
    code, _, err = anowild(*arguments, "--precision", "int8")
    assert code == 2
    assert "'int8' is not one of" in err
    with pytest.raises(UserError, match="precision 'int8': has to be float32 or bfloat16"):
        Detector.load(model_folder, precision="int8")  # type: ignore[arg-type]


def test_labels_are_checked_before_the_work(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", digits)
    np.save(tmp_path / "l.npy", np.arange(299) % 2)
    monkeypatch.setattr(Detector, "score", lambda *_: pytest.fail("it was scored"))
    arguments = ("evaluate", model_folder, tmp_path / "x.npy", "--labels", tmp_path / "l.npy")
    code, _, err = anowild(*arguments)
    assert code == 1
    assert "has 299 labels for 300 images" in err


# Reading ahead


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "anowild-prefetch"]


def test_items_come_in_order_and_no_more_than_so_many_ahead() -> None:
    made = 0

    def items() -> Any:
        nonlocal made
        while made < 50:
            made += 1
            yield made

    with prefetch(items(), depth=3) as read:
        for taken, item in enumerate(read, start=1):
            assert item == taken
            time.sleep(0.001)
            assert made <= taken + 4  # three that wait, and one that wants to
    assert taken == 50
    assert not reading_threads()


def test_an_exception_comes_where_its_item_would_have_come() -> None:
    def items() -> Any:
        yield from range(5)
        raise UserError("broken")

    taken = []
    with pytest.raises(UserError, match="broken"), prefetch(items()) as read:  # noqa: PT012
        for item in read:
            taken.append(item)
    assert taken == [0, 1, 2, 3, 4]
    assert not reading_threads()


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("wait", [0.0, 0.01])
def test_leaving_early_ends_the_thread_and_the_generator(depth: int, wait: float) -> None:
    closed = threading.Event()

    def items() -> Any:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    with pytest.raises(KeyboardInterrupt), prefetch(items(), depth) as read:  # noqa: PT012
        next(iter(read))
        time.sleep(wait)
        raise KeyboardInterrupt
    assert closed.is_set()
    assert not reading_threads()


def test_a_stream_is_left_between_two_images(image_set: ImageSet, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", image_set.images[:, 0])
    stream = ImageStream(open_all(tmp_path / "x.npy"), image_set.preprocess)
    with prefetch(stream.batches(10), cancel=stream.stop) as read:
        first = next(iter(read))
    assert len(first.names) == 10
    assert list(stream.batches(10)) == []
    assert stream.left_out == []


def test_ctrl_c_leaves_nothing(model_folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((60_000, 16, 16), np.uint8))
    command = [sys.executable, "-m", "anowild", "score", str(model_folder)]
    process = subprocess.Popen(
        [*command, "x.npy", "-o", "s.csv", "--threads", "1"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # Whether Ctrl-C is heeded is inherited: not below a shell's background job.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        wait_until(lambda: waiting_file_of(process.pid, tmp_path), process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def waiting_file_of(pid: int, folder: Path) -> bool:
    """Whether a process holds a file without a name in a folder."""
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith(str(folder)) and "(deleted)" in target:
            return True
    return False


def test_reading_ahead_is_what_scoring_does(
    detector: Detector, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()
    original = FolderReader._read

    def watched(self: FolderReader, path: Path) -> Any:
        threads.add(threading.current_thread().name)
        return original(self, path)

    monkeypatch.setattr(FolderReader, "_read", watched)
    for i, image in enumerate(digits[:30]):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    assert len(api.score(detector, tmp_path)) == 30
    assert threads == {"anowild-prefetch"}
    assert not reading_threads()


def odd_column(path: Path) -> list[tuple[float, int]]:
    """Score and flag of each row of a table with a limit."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [(float(row["score"]), int(row["odd"])) for row in csv.DictReader(file)]
    return [(row["score"], row["odd"]) for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_a_limit_flags_rows_of_the_table(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path, name: str
) -> None:
    np.save(tmp_path / "images.npy", digits[:60])
    code, out, err = anowild(
        "score", model_folder, tmp_path / "images.npy", "-o", tmp_path / name, "--budget", "7"
    )
    assert code == 0, err
    rows = odd_column(tmp_path / name)
    assert [odd for _, odd in rows] == [1] * 7 + [0] * 53
    assert "flagged: 7" in out
    assert "promise: You look at the 7 oddest images." in out


def test_a_false_discovery_rate_is_kept_with_calibration_images(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "images.npy", np.concatenate([digits[:50], noise]))
    np.save(tmp_path / "trained.npy", digits[50:300])
    others = load_digits().images[300:550] / 16.0 * 255
    others = np.kron(others.round().astype(np.uint8), np.ones((1, 2, 2), np.uint8))
    np.save(tmp_path / "usual.npy", others)
    path = tmp_path / "scores.csv"
    command = ["score", model_folder, tmp_path / "images.npy", "-o", path, "--fdr", "0.2"]
    code, _, err = anowild(*command)
    assert (code, "needs calibration images" in err) == (1, True)
    code, _, err = anowild(*command, "--calibration", tmp_path / "trained.npy")
    assert (code, "250 of the 250 calibration images (100 %) were trained on" in err) == (1, True)
    assert not path.exists()
    code, out, err = anowild(*command, "--calibration", tmp_path / "usual.npy")
    assert code == 0, err
    flagged = {row["path"] for row in csv.DictReader(path.open(newline="")) if row["odd"] == "1"}
    of_noise = [int(name.rpartition("[")[2].rstrip("]")) >= 50 for name in flagged]
    assert sum(of_noise) >= 20
    assert np.mean(of_noise) >= 0.7
    assert "at most 20 % are false alarms" in out


def test_what_lies_apart_is_flagged_or_nothing(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", digits[:100])
    path = tmp_path / "scores.csv"
    code, out, err = anowild("score", model_folder, tmp_path / "images.npy", "-o", path, "--auto")
    assert code == 0, err
    assert "flagged: none. Can't tell" in out
    assert not any(odd for _, odd in odd_column(path))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--budget", "3", "--auto"], "one limit at a time"),
        (["--budget", "3", "--gap"], "one limit at a time"),
        (["--budget", "0"], "budget of 0"),
        (["--expected", "2"], "expected share of 2"),
        (["--expected-share", "2"], "expected share of 2"),
        (["--calibration", "x"], "belong to a false discovery rate"),
    ],
)
def test_impossible_limits_get_a_sentence(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path, options: list[str], sentence: str
) -> None:  # fmt: skip
    np.save(tmp_path / "images.npy", digits[:20])
    code, _, err = anowild(
        "score", model_folder, tmp_path / "images.npy", "-o", tmp_path / "scores.csv", *options
    )
    assert code == 1
    assert sentence in err
    assert not (tmp_path / "scores.csv").exists()
