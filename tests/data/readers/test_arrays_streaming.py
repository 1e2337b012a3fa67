""".npz files are unpacked row by row."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from anowild.arrays import Array
from anowild.data.readers import Record, SkippedImage
from anowild.data.readers import arrays as module
from anowild.data.readers.arrays import ArrayReader, load_array, to_images
from anowild.errors import UserError
from tests.conftest import SHARED
from tests.data.readers.checks import check, check_starts, crops

GRAY = np.stack(crops("cell.png", 20))
COLOR = np.stack(crops("astronaut.png", 5))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "array",
    [
        GRAY,
        COLOR,
        np.ascontiguousarray(COLOR.transpose(0, 3, 1, 2)),
        np.asfortranarray(GRAY),
        GRAY.astype(np.uint16) * 257,
        GRAY.astype(">u2"),
        GRAY.astype(np.float32) / 255,
        GRAY > 100,
    ],
    ids=["gray", "color", "channels first", "fortran", "uint16", "big-endian", "float", "bool"],
)
def test_rows_are_what_numpy_loads(tmp_path: Path, save: Callable[..., None], array: Array) -> None:
    save(tmp_path / "x.npz", other=np.arange(3), images=array)
    source = f"{tmp_path / 'x.npz'}:images"
    expected = to_images(np.load(tmp_path / "x.npz")["images"], "x")
    records = list(ArrayReader(source))
    assert [r.name for r in records] == [f"{source}[{i}]" for i in range(len(array))]
    assert [r.origin.frame for r in records] == list(range(len(array)))
    for record, image in zip(records, expected, strict=True):
        assert isinstance(record, Record)
        assert record.pixels.dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(record.pixels, image)
    check_starts(ArrayReader(source), records)
    assert set(ArrayReader(source).shapes(9)) == {expected.shape[1:]}


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
@pytest.mark.parametrize("place", [60, 70, 100, 150, 700])
def test_damage_is_told_of_any_compression(tmp_path: Path, compression: int, place: int) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", compression) as archive, archive.open("x.npy", "w") as file:
        np.save(file, GRAY)
    content = bytearray(path.read_bytes())
    content[place : place + 8] = b"\xff" * 8
    path.write_bytes(content)
    with suppress(UserError):  # in the header
        # What is damaged, or behind it, is left out.
        assert len(list(ArrayReader(str(path)))) == len(GRAY)


@pytest.mark.shared
def test_a_real_file() -> None:
    source = f"{SHARED / 'mnist2.npz'}:test_normal"
    images = to_images(load_array(source), source)
    assert ArrayReader(source).count() == len(images) == 1032
    for i, record in enumerate(ArrayReader(source)):
        assert isinstance(record, Record)
        assert np.array_equal(record.pixels, images[i])


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", np.zeros((4000, 100, 100), np.uint8))  # 40 MB
    tracemalloc.start()
    count = sum(1 for _ in ArrayReader(str(tmp_path / "x.npz")))
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()
    assert count == 4000


def test_what_stands_behind_a_damage_is_left_out(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (400, 64, 64), dtype=np.uint8)
    path = tmp_path / "x.npz"
    # It checks each of its blocks, of which the second is damaged.
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive,
        archive.open("x.npy", "w") as file,
    ):
        np.save(file, images)
    data = bytearray(path.read_bytes())
    place = len(data) * 3 // 4
    data[place : place + 2000] = bytes(2000)
    path.write_bytes(data)
    reader = ArrayReader(str(path))
    records = list(reader)
    assert len(records) == 400
    assert isinstance(records[0], Record)
    assert np.array_equal(records[0].pixels[:, :, 0], images[0])
    first = next(i for i, r in enumerate(records) if isinstance(r, SkippedImage))
    assert all(isinstance(r, SkippedImage) for r in records[first:])
    assert [r.name for r in records] == [f"{reader.name}[{i}]" for i in range(400)]
    assert isinstance(list(reader.records(390))[-1], SkippedImage)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_that_only_the_checksum_tells(tmp_path: Path, save: Callable[..., None]) -> None:
    """It comes at the end: no rows are blamed for it, and none is taken for whole."""
    images = np.random.default_rng(0).integers(0, 256, (100, 64, 64), dtype=np.uint8)
    save(tmp_path / "x.npz", images)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20] = bytes(20)
    (tmp_path / "x.npz").write_bytes(data)
    reader = ArrayReader(str(tmp_path / "x.npz"))
    for start in (0, 90):
        with pytest.raises(UserError, match=r"x\.npz: its checksum is wrong"):
            list(reader.records(start))


def write_member(path: Path, data: bytes) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", data)
    return str(path)


def test_hostile_headers(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", GRAY)
    good = (tmp_path / "x.npy").read_bytes()
    path = tmp_path / "x.npz"
    many = good.replace(b"(20, 40, 56), }   ", b"(2000000, 40, 56), }", 1)[: len(good)]
    for data in (many, good[:-1], good + b"x", good[:40], b"", b"no array"):
        with pytest.raises(UserError, match=r"x\.npz: is not a readable array file"):
            ArrayReader(write_member(path, data))
    huge = good.replace(b"(20, 40, 56), }         ", b"(1, 99999999, 99999999), }", 1)
    with pytest.raises(UserError, match="claims images of"):
        ArrayReader(write_member(path, huge))


@pytest.mark.parametrize(
    "header",
    ["{'descr': '|u1', " * 3, "(" * 300, "{'shape': 1", "{[]: 1}", "{'descr': ['x'], 'fortran_order': False, 'shape': (1, 8, 8)}"],
    ids=range(5),
)  # fmt: skip
def test_headers_that_are_no_python_are_told(tmp_path: Path, header: str) -> None:
    data = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + bytes(64)
    (tmp_path / "x.npy").write_bytes(data)
    write_member(tmp_path / "x.npz", data)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(UserError, match=rf"{name}: is not a readable array file \("):
            ArrayReader(str(tmp_path / name))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    np.savez(tmp_path / "x.npz", np.array([Trap()] * 8).reshape(2, 2, 2))
    with pytest.raises(UserError, match=r"x\.npz"):
        ArrayReader(str(tmp_path / "x.npz"))
    with pytest.raises(UserError, match=r"x\.npz"):
        ArrayReader(write_member(tmp_path / "x.npz", pickle.dumps(Trap())))
    assert not (tmp_path / "ran").exists()


def test_an_encrypted_member_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", GRAY)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(UserError, match="encrypted"):
        ArrayReader(str(tmp_path / "x.npz"))


def test_arrays_are_streamed_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "x.npz", GRAY)

    def fail(source: str) -> Array:
        raise AssertionError("loaded whole")

    monkeypatch.setattr(module, "load_array", fail)
    check(ArrayReader(str(tmp_path / "x.npz")), list(GRAY))
