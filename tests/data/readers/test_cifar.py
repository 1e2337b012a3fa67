"""CIFAR's archives, against Python's own pickle."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.data.readers.base import Record
from anowild.data.readers.cifar import CifarReader
from anowild.errors import UserError
from tests.conftest import SHARED

ROWS = 12  # of each batch
TEN = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()  # noqa: SIM905


_PurePython: Any = pickle._Pickler


class _Python2(_PurePython):  # type: ignore[misc]
    """Writes what Python 2 wrote for its strings, which were bytes."""

    def save_string(self, value: str | bytes) -> None:
        data = value.encode("ascii") if isinstance(value, str) else value
        if len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        else:
            self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(value)

    dispatch: ClassVar[Any] = {
        **_PurePython.dispatch,
        str: save_string,
        bytes: save_string,
    }


def python_2(value: Any) -> bytes:
    file = io.BytesIO()
    _Python2(file, 2).dump(value)
    return file.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")


def python_3(value: Any) -> bytes:
    return pickle.dumps(value, 4)


WRITERS = {"python 2": python_2, "python 3": python_3}


def real_pixels(count: int) -> Array:
    """Return rows of CIFAR-10 itself: uint8 [N, 3072]."""
    with zipfile.ZipFile(SHARED / "cifar10_subset.zip") as archive:
        first = json.loads(archive.read("meta.json"))["images"]["test"]["parts"][0]
        strip = np.asarray(Image.open(io.BytesIO(archive.read(first))).convert("RGB"))
    images = strip.reshape(-1, 32, 32, 3)[:count].transpose(0, 3, 1, 2)
    return images.reshape(count, 3072)


@pytest.fixture(scope="module", params=["noise", pytest.param("real", marks=pytest.mark.shared)])
def pixels(request: pytest.FixtureRequest) -> Array:
    if request.param == "real":
        return real_pixels(6 * ROWS)
    return np.random.default_rng(0).integers(0, 256, (6 * ROWS, 3072), dtype=np.uint8)


def ten(pixels: Array, write: Any) -> dict[str, bytes]:
    """The files of a small CIFAR-10, in the order in which the real archive has them."""
    files: dict[str, bytes] = {}
    for name in ("data_batch_4", "test_batch", "data_batch_3", "batches.meta",
                 "data_batch_2", "data_batch_5", "data_batch_1"):  # fmt: skip
        if name == "batches.meta":
            files[name] = write({"num_cases_per_batch": ROWS, "label_names": CLASSES})
            continue
        at = TEN.index(name) * ROWS
        files[name] = write(
            {
                "batch_label": f"batch {name}",
                "labels": [(at + row) % 10 for row in range(ROWS)],
                "data": np.ascontiguousarray(pixels[at : at + ROWS]),
                "filenames": [f"image_s_{at + row:06}.png" for row in range(ROWS)],
            }
        )
    return files


def hundred(pixels: Array, write: Any) -> dict[str, bytes]:
    files = {"file.txt~": b""}
    for name, rows in {"train": slice(0, 50), "test": slice(50, 72)}.items():
        part = np.ascontiguousarray(pixels[rows])
        fine = [row * 7 % 100 for row in range(len(part))]
        files[name] = write({"fine_labels": fine, "coarse_labels": [0] * len(part), "data": part})
    files["meta"] = write({"fine_label_names": [f"class {n}" for n in range(100)]})
    return files


def pack(path: Path, folder: str, files: dict[str, bytes]) -> Path:
    mode: Any = "w:gz" if path.name.endswith("gz") else "w"
    with tarfile.open(path, mode) as archive:
        entry = tarfile.TarInfo(folder)
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def unpack(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def read(source: Path, start: int = 0) -> list[Record]:
    assert CifarReader.takes(str(source))
    records = list(CifarReader(str(source)).records(start))
    assert all(isinstance(record, Record) for record in records)
    return records  # type: ignore[return-value]


def independent(content: bytes) -> tuple[Array, list[int]]:
    """Images [N, 32, 32, 3] and labels of a batch, as Python's own pickle finds them."""
    batch = pickle.loads(content, encoding="bytes")
    found = {key.decode() if isinstance(key, bytes) else key: batch[key] for key in batch}
    labels = found["labels"] if "labels" in found else found["fine_labels"]
    return found["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of NumPy, for the names of NumPy 1
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "x.tar", "folder", "above"])
def test_cifar_10(tmp_path: Path, pixels: Array, name: str, write: Any) -> None:
    files = ten(pixels, write)
    if name in ("folder", "above"):
        source = batches = unpack(tmp_path / "cifar-10-batches-py", files)
        source = tmp_path if name == "above" else source
    else:
        source = pack(tmp_path / name, "cifar-10-batches-py", files)
    records = read(source)
    images, labels = zip(*(independent(files[batch]) for batch in TEN), strict=True)
    assert np.array_equal(np.stack([r.pixels for r in records]), np.concatenate(images))
    assert [r.origin.label for r in records] == [CLASSES[n] for part in labels for n in part]
    assert [r.origin.split for r in records] == ["train"] * 5 * ROWS + ["test"] * ROWS
    assert [r.name for r in records] == [f"{source}/{b}[{row}]" for b in TEN for row in range(ROWS)]
    record = records[ROWS + 3]
    inside = batches / "data_batch_2" if name in ("folder", "above") else source
    assert (record.origin.source, record.origin.frame) == (str(inside), 3)
    assert record.pixels.shape == (32, 32, 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("name", ["cifar-100-python.tar.gz", "folder", "above"])
def test_cifar_100(tmp_path: Path, pixels: Array, name: str, write: Any) -> None:
    files = hundred(pixels, write)
    if name in ("folder", "above"):
        source = unpack(tmp_path / "cifar-100-python", files)
        source = tmp_path if name == "above" else source
    else:
        source = pack(tmp_path / name, "cifar-100-python", files)
    records = read(source)
    images, labels = zip(*(independent(files[b]) for b in ("train", "test")), strict=True)
    assert np.array_equal(np.stack([r.pixels for r in records]), np.concatenate(images))
    assert [r.origin.label for r in records] == [f"class {n}" for part in labels for n in part]
    assert [r.origin.split for r in records] == ["train"] * 50 + ["test"] * 22
    assert records[51].name == f"{source}/test[1]"


def test_reading_goes_on_from_a_start(tmp_path: Path, pixels: Array) -> None:
    source = pack(tmp_path / "x.tgz", "cifar-10-batches-py", ten(pixels, python_2))
    every = [r.name for r in read(source)]
    for start in (1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS + 5, 6 * ROWS, 999):
        assert [r.name for r in read(source, start)] == every[start:]
    reader = CifarReader(str(source))
    list(reader)
    reader.batches = [*reader.batches[:-1], "absent"]  # none of those before it is read again
    with pytest.raises(KeyError):
        list(reader.records(5 * ROWS))
    assert list(reader.shapes(3)) == [(32, 32, 3)] * 3


def test_without_names_the_label_is_the_number(tmp_path: Path, pixels: Array) -> None:
    files = ten(pixels, python_2)
    del files["batches.meta"], files["data_batch_1"]
    records = read(pack(tmp_path / "x.tar", ".", files))
    assert [r.origin.label for r in records[:3]] == ["2", "3", "4"]
    assert len(records) == 5 * ROWS


def test_other_sources_are_not_taken(tmp_path: Path) -> None:
    pack(tmp_path / "other.tar", "shards", {"0.png": b"x", "0.cls": b"1"})
    pack(tmp_path / "many.tar", "x", {**{f"{n}.png": b"" for n in range(9)}, "test_batch": b""})
    pack(tmp_path / "large.tar", "x", {"0": bytes(65 << 20), "test_batch": b""})
    (tmp_path / "broken.tar.gz").write_bytes(b"\x1f\x8b and no more")
    unpack(tmp_path / "folders" / "train", {"x.png": b""})
    unpack(tmp_path / "files", {"train": b"", "test": b""})
    for name in ("other.tar", "many.tar", "large.tar", "broken.tar.gz", "absent.tar", "absent",
                 "folders", "files", "."):  # fmt: skip
        assert not CifarReader.takes(str(tmp_path / name)), name
    for name, problem in (
        ("other.tar", "holds no batches of CIFAR"),
        ("broken.tar.gz", "is cut off or damaged"),
        ("files", "holds no batches of CIFAR"),
    ):
        with pytest.raises(UserError, match=problem):
            CifarReader(str(tmp_path / name))


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_a_cut_archive_is_told(tmp_path: Path, pixels: Array, name: str) -> None:
    whole = pack(tmp_path / name, "cifar-10-batches-py", ten(pixels, python_2)).read_bytes()
    for share in (0.02, 0.3, 0.6, 0.8):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(UserError, match=rf"{name}: is cut off or damaged; download it again"):
            list(CifarReader(str(tmp_path / name)))


@pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("bit", [1, 255])
def test_a_damaged_archive_is_told(tmp_path: Path, pixels: Array, place: float, bit: int) -> None:
    path = pack(tmp_path / "x.tar.gz", "cifar-10-batches-py", ten(pixels, python_2))
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= bit
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.tar\.gz.*download it again"):
        list(CifarReader(str(path)))


@pytest.mark.parametrize(
    "batch",
    [
        b"",
        python_2([1, 2]),
        python_2({"labels": [1]}),
        python_2({"data": np.zeros((2, 3072), np.float32), "labels": [1, 2]}),
        python_2({"data": np.zeros((2, 3071), np.uint8), "labels": [1, 2]}),
        python_2({"data": np.zeros(3072, np.uint8), "labels": [1]}),
        python_2({"data": np.zeros((), np.uint8), "labels": []}),
        python_2({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}),
        python_2({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2]})[:5000],
        b"cos\nsystem\n(S'true'\ntR.",
    ],
)
def test_batches_of_something_else_are_told(tmp_path: Path, pixels: Array, batch: bytes) -> None:
    files = ten(pixels, python_2) | {"data_batch_2": batch}
    source = unpack(tmp_path / "cifar-10-batches-py", files)
    with pytest.raises(UserError, match=r"data_batch_2: is damaged \(it.*\); download it again"):
        read(source)
