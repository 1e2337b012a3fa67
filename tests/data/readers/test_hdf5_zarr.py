"""HDF5 and Zarr, against h5py and zarr themselves."""

from __future__ import annotations

import os
import pickle
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anowild.arrays import Array
from anowild.data.readers import Record, arrays, open_source
from anowild.data.readers.arrays import to_images
from anowild.data.readers.hdf5 import Hdf5Reader
from anowild.data.readers.zarr_store import ZarrReader
from anowild.errors import UserError
from tests.data.readers.checks import check, crops, reasons

h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")
numcodecs = pytest.importorskip("numcodecs")

GRAY = np.stack(crops("cell.png", 20))
COLOR = np.stack(crops("astronaut.png", 7))
STACKS = [
    GRAY,
    COLOR,
    np.ascontiguousarray(COLOR.transpose(0, 3, 1, 2)),
    GRAY.astype(np.uint16) * 257,
    GRAY.astype(">u2"),
    GRAY.astype(np.float32) / 255,
]
IDS = ["gray", "color", "channels first", "uint16", "big-endian", "float"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BLOCK", 4 * 40 * 56)


def save_zarr(path: Path, array: Array, version: int, key: str | None = None, **more: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # version 3 has no settled form for some types
        if path.name.endswith(".zip"):
            store = zarr.storage.ZipStore(path, mode="w")
        else:
            store = zarr.storage.LocalStore(path)
        options = {"chunks": (3, 16, *array.shape[2:])} | more
        made = zarr.create_array(
            store, name=key, shape=array.shape, dtype=array.dtype, zarr_format=version, **options
        )
        made[...] = array
        store.close()


@pytest.mark.parametrize("array", STACKS, ids=IDS)
@pytest.mark.parametrize("options", [{}, {"chunks": True, "compression": "gzip"}])
def test_hdf5_rows_are_what_h5py_reads(
    tmp_path: Path, array: Array, options: dict[str, Any]
) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("deep/images", data=array, **options)
        file["other"] = np.arange(5)
    assert Hdf5Reader.takes(str(tmp_path / "x.h5"))
    with h5py.File(tmp_path / "x.h5") as file:
        expected = to_images(file["deep/images"][:], "x")
    check(Hdf5Reader(str(tmp_path / "x.h5")), list(expected))
    named = f"{tmp_path / 'x.h5'}:/deep/images"
    assert Hdf5Reader.takes(named)
    records = check(Hdf5Reader(named), list(expected))
    assert records[3].name == f"{named}[3]"
    assert records[3].origin.frame == 3
    assert records[3].origin.source == str(tmp_path / "x.h5")


@pytest.mark.parametrize("array", STACKS, ids=IDS)
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", ["x.zarr", "x.zarr.zip"])
def test_zarr_rows_are_what_zarr_reads(
    tmp_path: Path, array: Array, version: int, name: str
) -> None:
    path = tmp_path / name
    save_zarr(path, array, version)
    assert ZarrReader.takes(str(path))
    expected = to_images(array, "x")
    reader = ZarrReader(str(path))
    check(reader, list(expected))
    assert bool(list(reader.files()))


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_groups(tmp_path: Path, version: int) -> None:
    path = tmp_path / "x.zarr"
    save_zarr(path, GRAY, version, "a/images")
    save_zarr(path, np.arange(20), version, "a/labels", chunks=(20,))
    records = check(ZarrReader(str(path)), list(GRAY))
    assert [r.origin.label for r in records] == [str(i) for i in range(20)]
    save_zarr(path, COLOR, version, "b/images")
    with pytest.raises(UserError, match=r"several arrays .*x\.zarr:a/images .*b/images \[7, 40"):
        ZarrReader(str(path))
    assert ZarrReader.takes(f"{path}:b/images")
    check(ZarrReader(f"{path}:b/images"), list(COLOR))


def test_zarr_shards(tmp_path: Path) -> None:
    save_zarr(tmp_path / "x.zarr", GRAY, 3, chunks=(2, 20, 56), shards=(6, 40, 56))
    check(ZarrReader(str(tmp_path / "x.zarr")), list(GRAY))


@pytest.mark.parametrize("values", [np.arange(20) % 3, [f"kind {i}" for i in range(20)]])
def test_hdf5_labels(tmp_path: Path, values: Any) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["set/images"] = GRAY
        file["set/label"] = values
        file["labels"] = np.zeros(20)  # of another group
    labels = [r.origin.label for r in Hdf5Reader(str(tmp_path / "x.h5"))]
    assert labels == [str(value) for value in values]
    with h5py.File(tmp_path / "x.h5", "a") as file:
        del file["set/label"]
        file["set/label"] = np.arange(19)
    assert {r.origin.label for r in Hdf5Reader(str(tmp_path / "x.h5"))} == {None}


def test_hdf5_datasets_are_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.hdf5"
    with h5py.File(path, "w") as file:
        file["a"], file["b"], file["c"] = GRAY, COLOR, np.arange(3)
        file["none"] = h5py.Empty("f")
    with pytest.raises(UserError, match=r"several arrays .*x\.hdf5:a .*b \[7, 40, 56, 3\]"):
        Hdf5Reader(str(path))
    with pytest.raises(UserError, match="no array 'z'; it has a"):
        Hdf5Reader(f"{path}:z")
    with pytest.raises(UserError, match=r"shape \[3\]"):
        Hdf5Reader(f"{path}:c")
    check(Hdf5Reader(f"{path}:b"), list(COLOR))
    with h5py.File(path, "a") as file:
        del file["a"], file["b"]
    with pytest.raises(UserError, match=r"no array of images.*c \[3\]"):
        Hdf5Reader(str(path))


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"no hdf5", "cut"])
def test_broken_hdf5_files_are_named(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["images"] = GRAY
    path.write_bytes(path.read_bytes()[:-3000] if isinstance(content, str) else content)
    with pytest.raises(UserError, match=r"x\.h5: cannot be read"):
        Hdf5Reader(str(path))


def test_only_the_rows_of_a_damaged_hdf5_chunk_are_lost(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        images = file.create_dataset(
            "images", data=GRAY, chunks=(2, 40, 56), compression="gzip", fletcher32=True
        )
        chunk = images.id.get_chunk_info(3)
    data = bytearray(path.read_bytes())
    middle = chunk.byte_offset + chunk.size // 2
    data[middle : middle + 50] = bytes(50)
    path.write_bytes(data)
    reader = Hdf5Reader(str(path))
    check(reader, [*GRAY[:6], *GRAY[8:]])
    assert list(reasons(reader)) == [f"{path}[6]", f"{path}[7]"]


def test_hdf5_data_from_other_files_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(20 * 40 * 56))
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["images"] = GRAY
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (20, 40, 56), "u1", external=[(str(secret), 0, 20 * 40 * 56)])
        file["b"] = h5py.ExternalLink(str(tmp_path / "y.h5"), "images")
        layout = h5py.VirtualLayout((20, 40, 56), "u1")
        layout[:] = h5py.VirtualSource(str(tmp_path / "y.h5"), "images", (20, 40, 56))
        file.create_virtual_dataset("c", layout)
    with pytest.raises(UserError, match="no array of images"):
        Hdf5Reader(str(tmp_path / "x.h5"))


def test_claims_of_huge_images_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("images", (3, 1 << 20, 1 << 20), "u1", chunks=(1, 1024, 1024))
    with pytest.raises(UserError, match="claims images of"):
        Hdf5Reader(str(tmp_path / "x.h5"))


def test_memory_does_not_grow_with_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "BLOCK", 1 << 20)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("images", (4000, 100, 100), "u1", chunks=(10, 100, 100))
    tracemalloc.start()
    assert sum(1 for _ in Hdf5Reader(str(tmp_path / "x.h5"))) == 4000
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("version", [2, 3])
def test_only_the_rows_of_a_damaged_zarr_chunk_are_lost(tmp_path: Path, version: int) -> None:
    path = tmp_path / "x.zarr"
    save_zarr(path, GRAY, version, chunks=(2, 40, 56))
    chunk = path / ("3.0.0" if version == 2 else "c/3/0/0")
    chunk.write_bytes(chunk.read_bytes()[:50])
    reader = ZarrReader(str(path))
    check(reader, [*GRAY[:6], *GRAY[8:]])
    assert list(reasons(reader)) == [f"{path}[6]", f"{path}[7]"]


@pytest.mark.parametrize("place", ["compressors", "filters"])
def test_zarr_never_unpickles(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The newest numcodecs refuses by itself; others do not.
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (ran,)  # type: ignore[return-value]

    path = tmp_path / "x.zarr"
    options: dict[str, Any] = {"compressors": None, "filters": None}
    options[place] = [numcodecs.Pickle()]
    made = zarr.create_array(
        path, shape=(1, 8, 8), dtype="u1", chunks=(1, 8, 8), zarr_format=2, **options
    )
    (path / "0.0.0").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(Exception):  # noqa: B017, PT011  # zarr itself falls into the trap
        made[:]
    assert ran.exists()
    ran.unlink()
    for source in (str(path), f"{path}:"):
        with pytest.raises(UserError, match=r"x\.zarr"):
            list(ZarrReader(source))
    assert not ran.exists()


def test_broken_zarr_stores_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    path.mkdir()
    with pytest.raises(UserError, match=r"x\.zarr"):
        ZarrReader(str(path))
    (path / "zarr.json").write_text("{}")
    with pytest.raises(UserError, match=r"x\.zarr"):
        ZarrReader(str(path))
    (tmp_path / "y.zarr.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"y\.zarr\.zip: cannot be read"):
        ZarrReader(str(tmp_path / "y.zarr.zip"))
    assert not ZarrReader.takes(str(tmp_path))


def test_a_missing_zarr_chunk_is_the_fill_value(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    save_zarr(path, GRAY, 3, chunks=(2, 40, 56), fill_value=7)
    (path / "c/0/0/0").unlink()
    first, *_ = ZarrReader(str(path))
    assert isinstance(first, Record)
    assert (first.pixels == 7).all()


@pytest.mark.parametrize("name", [".zarray", "zarr.json", "c/0"])
def test_a_pipe_in_a_zarr_store_is_named(tmp_path: Path, name: str) -> None:
    pipe = tmp_path / "x.zarr" / name
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    with pytest.raises(UserError, match=rf"x\.zarr: cannot be read \({name} is a pipe or device"):
        open_source(tmp_path / "x.zarr")


def test_a_chunk_that_unpacks_to_more_than_it_should_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 200, 200)).astype(np.uint8)  # hardly becomes smaller
    packer = zlib.compressobj()
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(20)) + packer.flush()
    with h5py.File(path, "w") as file:
        made = file.create_dataset(
            "images",
            data=pixels,
            chunks=(10, 200, 200),
            compression="gzip",
            shuffle=True,
            fletcher32=True,
        )
        made.id.write_direct_chunk((10, 0, 0), bomb + b"sums")
        file.create_dataset("label", data=np.arange(30), chunks=(30,), compression="gzip")
    reader = open_source(path)
    assert len(check(reader, [*pixels[:10], *pixels[20:]])) == 20
    assert {r.name for r in reader if not isinstance(r, Record)} == {
        f"{path}[{i}]" for i in range(10, 20)
    }
    assert set(reasons(reader).values()) == {
        "a chunk unpacks to more than its 400,000 bytes, or is damaged"
    }


def test_an_array_that_was_compressed_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        facts = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        facts.set_chunk((1, 8, 8))
        facts.set_deflate(9)
        facts.set_deflate(9)
        space = h5py.h5s.create_simple((3, 8, 8))
        h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT8, space, facts)
        file["images"][...] = 1
    assert set(reasons(open_source(path)).values()) == {"it was compressed twice"}
