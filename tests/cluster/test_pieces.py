"""Pieces of sources, against the whole sources: the same images, names and order."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.cluster.pieces import Pieces, cut, digest_of, total
from anowild.data import open_all
from anowild.data.readers import Record, SkippedImage
from anowild.errors import UserError

cloudpickle = pytest.importorskip("ray.cloudpickle")


def png(image: Array) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, images: Array, first: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i, image in enumerate(images, start=first):
            content = png(image)
            member = tarfile.TarInfo(f"{i:04d}.png")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_parquet(path: Path, images: Array, group: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [png(image) for image in images]
    pa.parquet.write_table(pa.table({"image": cells}), path, row_group_size=group)
    return path


def read(pieces: Pieces) -> list[Record | SkippedImage]:
    """Read all pieces as workers do, that get them through a pickle."""
    found = []
    for piece in pieces.pieces:
        with cloudpickle.loads(cloudpickle.dumps(piece)).opened() as reader:
            records = list(reader.records())
        assert piece.count in (None, len(records))
        found += records
    return found


def assert_same(found: list[Record | SkippedImage], whole: list[Record | SkippedImage]) -> None:
    assert [one.name for one in found] == [one.name for one in whole]
    assert [one.origin for one in found] == [one.origin for one in whole]
    for one, other in zip(found, whole, strict=True):
        assert type(one) is type(other)
        if isinstance(one, Record) and isinstance(other, Record):
            np.testing.assert_array_equal(one.pixels, other.pixels)


def folder(path: Path, images: Array) -> Path:
    for i, image in enumerate(images):
        place = path / ("train" if i % 3 else "test") / f"{i:04d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(image))
    (path / "train" / "broken.png").write_bytes(b"no image")
    (path / "notes.txt").write_text("")
    return path


def shards(path: Path, images: Array) -> Path:
    write_tar(path / "a-train.tar", images[:10])
    write_tar(path / "b.tar", images[10:], first=10)
    (path / "c.tar").write_bytes(b"no tar")
    return path


def parquet(path: Path, images: Array) -> Path:
    write_parquet(path / "a.parquet", images[:20], 4)
    write_parquet(path / "b.parquet", images[20:], 100)
    (path / "c.parquet").write_bytes(b"no parquet")
    return path


def array(path: Path, images: Array) -> Path:
    np.save(path.with_suffix(".npy"), images)
    return path.with_suffix(".npy")


@pytest.mark.parametrize("write", [folder, shards, parquet, array])
def test_pieces_are_together_the_whole_source(
    tmp_path: Path, digits: Array, write: Callable[[Path, Array], Path]
) -> None:
    source = str(write(tmp_path / "images", digits[:30]))
    (pieces,) = cut([source], 8)
    assert len(pieces.pieces) > 2
    (reader,) = open_all([source])
    assert_same(read(pieces), list(reader))


def test_what_was_passed_over_is_told_once(tmp_path: Path, digits: Array) -> None:
    (pieces,) = cut([str(folder(tmp_path / "images", digits[:30]))], 8)
    told = []
    for piece in pieces.pieces:
        with piece.opened() as reader:
            told += reader.passed_over()
    assert [(one.reason, one.count) for one in told] == [("files that end in .txt", 1)]


def test_digest_changes_with_a_file_and_cuts_are_the_same(tmp_path: Path, digits: Array) -> None:
    source = str(folder(tmp_path / "images", digits[:30]))
    first, again = cut([source], 8), cut([source], 8)
    assert digest_of(first) == digest_of(again)
    assert [piece.count for piece in first[0].pieces] == [piece.count for piece in again[0].pieces]
    assert total(first[0].pieces) == 31
    os.utime(tmp_path / "images" / "test" / "0003.png", (1, 1))
    assert digest_of(cut([source], 8)) != digest_of(first)


def test_a_machine_without_the_files_says_so(tmp_path: Path, digits: Array) -> None:
    (pieces,) = cut([str(folder(tmp_path / "images", digits[:30]))], 8)
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with (
        pytest.raises(UserError, match="is not there on a machine of the cluster"),
        pieces.pieces[1].opened(),
    ):
        pass


def test_arrays_in_memory_are_refused(digits: Array) -> None:
    with pytest.raises(UserError, match="give files"):
        cut(digits)


@pytest.fixture
def server(tmp_path: Path, digits: Array) -> str:
    """The same files on fsspec's file system in memory; returns its URL."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    folder(tmp_path / "images", digits[:30])
    shards(tmp_path / "shards", digits[:30])
    parquet(tmp_path / "parquet", digits[:30])
    for path in tmp_path.rglob("*"):
        if path.is_file():
            system.pipe_file(f"/{path.relative_to(tmp_path)}", path.read_bytes())
    return "memory://"


@pytest.mark.parametrize(
    "name", ["images", "shards", "parquet", "shards/b.tar", "images/test/0003.png"]
)
def test_remote_sources_are_read_as_local_ones(tmp_path: Path, server: str, name: str) -> None:
    (pieces,) = cut([server + name], 8)
    found = read(pieces)
    (reader,) = open_all([str(tmp_path / name)])
    whole = list(reader)
    assert [one.name for one in found] == [
        one.name.replace(f"{tmp_path}/", server) for one in whole
    ]
    assert [one.origin.split for one in found] == [one.origin.split for one in whole]
    pixels, expected = (
        [one.pixels for one in records if isinstance(one, Record)] for records in (found, whole)
    )
    np.testing.assert_array_equal(pixels, expected)


def test_remote_names_that_lead_out_of_the_folder_are_passed_over(digits: Array) -> None:
    system = fsspec.filesystem("memory")
    system.store.clear()
    for name in (
        "/bucket/a.png",
        "/bucket/.hidden.png",
        "/bucket//twice.png",
        "/bucket/b/../../c.png",
    ):
        with system.open("/x", "wb") as file:
            file.write(png(digits[0]))
        system.store[name] = system.store.pop("/x")
    (pieces,) = cut(["memory://bucket"], 8)
    assert [record.name for record in read(pieces)] == ["memory://bucket/a.png"]
    with pieces.pieces[0].opened() as reader:
        assert sum(one.count for one in reader.passed_over()) == 3


def test_remote_sources_that_are_not_there_are_named(server: str) -> None:
    with pytest.raises(UserError, match="memory://nothing: no such file or folder"):
        cut([f"{server}nothing"])
    with pytest.raises(UserError, match=r"cannot be read .*check address"):
        cut(["nosuch://bucket/images"])


def test_one_process_says_who_reads_urls() -> None:
    with pytest.raises(UserError, match="--engine ray"):
        open_all(["s3://bucket/images"])
