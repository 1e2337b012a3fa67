"""Tables and data sets that a local Ray cluster makes, against those of one process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import pytest

from anowild import api
from anowild.arrays import Array
from anowild.cluster import engine
from anowild.cluster.engine import Result
from anowild.cluster.pieces import LocalPiece, Piece
from anowild.cluster.score import ScoringWork, _files, score
from anowild.data import PackedSet
from anowild.data.dataset import writer
from anowild.errors import UserError
from anowild.presets import preset
from anowild.scoring import Table
from anowild.scoring.partitions import PartitionedTable
from anowild.scoring.threshold_rules import Budget
from anowild.signals import Interrupted
from anowild.version import VERSION
from tests.cluster.test_pieces import folder, write_parquet, write_tar
from tests.conftest import PATIENCE, Run, wait_until

ray: Any = pytest.importorskip("ray")

#: Images of a part.
SIZE = 30


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two workers on this machine, for all tests of this file."""
    with engine._connected(ray, 2):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, digits: Array) -> Path:
    path = tmp_path_factory.mktemp("cluster") / "model"
    settings = preset("quick").settings().replace(views=("pixels",), resolution=16)
    api.train(digits[:150], path, settings)
    return path


@pytest.fixture
def serial(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process instead of a cluster."""

    def run(
        make: Callable[..., Any], arguments: dict[str, Any], pieces: dict[int, Piece], **_: Any
    ) -> Generator[Result, None, None]:
        work = make(**arguments) if pieces else None
        for number, piece in pieces.items():
            assert work is not None
            yield Result(number, work(piece), os.getpid())

    monkeypatch.setattr("anowild.cluster.score.run", run)
    monkeypatch.setattr("anowild.cluster.prepare.run", run)


@pytest.fixture
def sources(tmp_path: Path, digits: Array) -> list[str]:
    """230 images of three kinds, and one that is none."""
    return [
        str(folder(tmp_path / "images", digits[:90])),
        str(write_tar(tmp_path / "shards" / "one.tar", digits[90:150])),
        str(write_parquet(tmp_path / "more.parquet", digits[150:230], 20)),
    ]


def assert_same(table: PartitionedTable, one: Table) -> None:
    """Check that both list the same images, once, with the same bits."""
    expected = one.rows()
    assert table.rows(range(1, len(table) + 1)) == expected
    assert len({row.path for row in expected}) == len(expected) == len(table)
    assert sum(found.count for found in table.left_out) == one.left_out


def test_each_image_is_scored_once_though_a_worker_is_killed(
    cluster: None,
    model: Path,
    sources: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    killed: list[int] = []
    seen: list[int] = []

    def kill_first(result: Result) -> None:
        seen.append(result.number)
        if not killed:
            killed.append(result.process)
            os.kill(result.process, signal.SIGKILL)

    out = tmp_path / "scores"
    table = score(model, sources, out, Budget(7), workers=2, images_a_part=SIZE, watch=kill_first)
    one = api.score(model, sources, rule=Budget(7))
    assert killed
    assert sorted(seen) == list(range(len(table.paths)))
    assert len(table.paths) == 7
    assert_same(table, one)
    assert table.threshold == one.threshold
    assert f"left out {sources[0]}/train/broken.png" in caplog.text
    stdout, stderr = capfd.readouterr()
    assert not stdout
    assert "Ray" not in stderr
    assert "raylet" not in stderr


def test_the_same_command_goes_on_with_what_is_missing(
    serial: None, model: Path, sources: list[str], tmp_path: Path
) -> None:
    out, seen = tmp_path / "scores", []

    def note(result: Result) -> None:
        seen.append(result.number)

    table = score(model, sources, out, Budget(7), images_a_part=SIZE)
    table.paths[3].unlink()
    (out / "table.json").unlink()
    table = score(model, sources, out, images_a_part=SIZE, watch=note)
    assert seen == [3]
    assert_same(table, api.score(model, sources))
    assert table.threshold is None
    with pytest.raises(UserError, match="table of other images"):
        score(model, sources[:2], out, images_a_part=SIZE)
    os.utime(sources[2], (1, 1))
    with pytest.raises(UserError, match="table of other images"):
        score(model, sources, out, images_a_part=SIZE)


def test_a_prepared_set_is_that_of_one_process(
    serial: None, sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anowild.cluster.prepare.IMAGES_A_PIECE", 50)
    many = api.prepare(sources, tmp_path / "many", engine="ray", workers=2)
    one = api.prepare(sources, tmp_path / "one")
    assert len(many) == 230
    assert many.description == one.description
    assert many.manifest().equals(one.manifest())
    for split in one.counts:
        np.testing.assert_array_equal(many.squares(split)[0], one.squares(split)[0])


def test_a_prepared_set_goes_on_within_a_piece(
    serial: None, sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anowild.cluster.prepare.IMAGES_A_PIECE", 50)
    monkeypatch.setattr("anowild.data.dataset.writer.CHUNK_IMAGES", 70)
    prepared, given = writer.prepare, [0]

    def stop_at_120(*words: Any) -> Any:
        given[0] += 1
        if given[0] == 120:
            raise KeyboardInterrupt
        return prepared(*words)

    monkeypatch.setattr("anowild.cluster.prepare.prepare", stop_at_120)
    with pytest.raises(Interrupted, match="stopped at image"):
        api.prepare(sources, tmp_path / "many", engine="ray")
    many = api.prepare(sources, tmp_path / "many", engine="ray")
    assert many.manifest().equals(api.prepare(sources, tmp_path / "one").manifest())


def test_an_error_of_a_worker_is_one_sentence(model: Path) -> None:
    arguments = {
        "model": _files(model), "folder": model, "device": "cuda:7", "threads": 1, "precision": "float32",
    }  # fmt: skip
    for version, problem in (
        (VERSION, "device 'cuda:7' cannot be used"),
        ("0.0", "install the same"),
    ):
        worker = engine._Worker(version, ScoringWork, arguments, None)
        result = worker({"number": np.array([4]), "piece": [None]})
        assert result["number"] == [4]
        assert problem in result["error"][0]


@pytest.mark.slow
def test_images_that_kill_their_workers_are_given_up(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"part 0 of the images has died {engine.ATTEMPTS} times"):
        list(engine.run(Deadly, {}, {0: LocalPiece("nowhere")}, workers=1))


class Deadly:
    """Work that ends its process, as a decoder with a fault does."""

    def __call__(self, piece: Piece) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_options_that_do_not_go_together_are_refused(
    anowild: Run, model: Path, tmp_path: Path
) -> None:
    for words, problem in (
        (["--workers", 2], "--workers is about --engine ray"),
        (["--engine", "ray"], "writes a folder: name it"),
        (["--engine", "ray", "-o", tmp_path / "s.csv"], "write a folder, not a file"),
        (["--engine", "ray", "-o", tmp_path / "s", "--json"], "--json does not go with"),
    ):
        code, _, err = anowild("score", model, tmp_path, *words)
        assert code == 1
        assert problem in err


def test_without_ray_one_sentence_says_how_to_get_it(
    anowild: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = anowild("score", model, tmp_path, "--engine", "ray", "-o", tmp_path / "scores")
    assert code == 1
    assert "pip install 'anowild[ray]'" in err
    assert not (tmp_path / "scores").exists()


@pytest.mark.slow
def test_ctrl_c_stops_and_the_same_command_goes_on(
    model: Path, sources: list[str], tmp_path: Path, digits: Array
) -> None:
    write_parquet(tmp_path / "many.parquet", np.tile(digits, (160, 1, 1)), 1000)
    source, out = str(tmp_path / "many.parquet"), tmp_path / "scores"
    words = ["score", str(model), source, "--engine", "ray", "--workers", "2", "-o", str(out)]
    command = [sys.executable, "-m", "anowild", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: list(out.glob("parts/part-*.parquet")), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("stopped at image ")
    assert "Traceback" not in err
    written = {path: path.stat().st_mtime_ns for path in out.glob("parts/*")}
    assert 0 < len(written) < 6
    assert not (out / "table.json").exists()

    again = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert again.returncode == 0, again.stderr
    assert_same(PartitionedTable(out), api.score(model, source))


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server that speaks S3, from PyPI, in an environment of its own; returns the variables that lead to it."""
    folder = tmp_path_factory.mktemp("server")
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    packages = ["moto", "flask", "flask-cors", "py_partiql_parser"]  # what moto's S3 needs
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    process = subprocess.Popen(
        [python, "-u", "-m", "moto.server", "-p", "0"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        found = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stderr)
        address = next(match[0] for match in found if match is not None)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield {
            "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_s3_is_scored_and_prepared_as_local_files(
    s3: dict[str, str], model: Path, sources: list[str], tmp_path: Path
) -> None:
    system = pyarrow.fs.S3FileSystem(
        access_key="a", secret_key="b", region="us-east-1",
        endpoint_override=s3["AWS_ENDPOINT_URL"], allow_bucket_creation=True,
    )  # fmt: skip
    system.create_dir("bucket")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            with system.open_output_stream(f"bucket/{path.relative_to(tmp_path)}") as file:
                file.write(path.read_bytes())
    remote = [source.replace(str(tmp_path), "s3://bucket") for source in sources]

    def run(*words: object) -> None:
        command = [sys.executable, "-m", "anowild", *map(str, words)]
        command += ["--engine", "ray", "--workers", "2"]
        environment = os.environ | s3
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    run("score", model, *remote, "-o", tmp_path / "scores")
    table, one = PartitionedTable(tmp_path / "scores"), api.score(model, sources)
    rows = table.rows(range(1, len(table) + 1))
    expected = {row.path.replace(str(tmp_path), "s3://bucket"): row.score for row in one.rows()}
    assert {row.path: row.score for row in rows} == expected
    assert len(rows) == len(expected) == 230
    assert table.left_out[0].first == "s3://bucket/images/train/broken.png"

    run("prepare", *remote, "-o", tmp_path / "many", "--like", model)
    many = PackedSet(tmp_path / "many")
    whole = api.prepare(sources, tmp_path / "one", like=model)
    assert many.id == whole.id
    names = [name.replace(str(tmp_path), "s3://bucket") for name in whole.names("train")]
    assert list(many.names("train")) == names
