"""TFRecords, against the package ``tfrecord``.

``mnist2_tfrecords_first40.zip`` has the first 40 records of each resolution of the example that
Berg et al. (2019) published: MNIST digits, in their own files.
"""

from __future__ import annotations

import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tfrecord import example_pb2
from tfrecord.reader import tfrecord_loader

from anowild.arrays import Array
from anowild.data.readers.base import Record
from anowild.data.readers.tfrecord import TFRecordReader, _parse_example
from anowild.errors import UserError
from anowild.networks.inputs import downsample
from tests.conftest import SHARED

CUT = Path(__file__).parents[1] / "files" / "mnist2_tfrecords_first40.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    zipfile.ZipFile(CUT).extractall(tmp_path / "records")
    return tmp_path / "records"


def read(source: Path, start: int = 0) -> list[Record]:
    records = list(TFRecordReader(str(source)).records(start))
    assert all(isinstance(record, Record) for record in records)
    return records  # type: ignore[return-value]


def stack(records: list[Record]) -> Array:
    """uint8 [N, C, H, W]"""
    return np.stack([record.pixels for record in records]).transpose(0, 3, 1, 2)


def independent(path: Path) -> Array:
    """What the package ``tfrecord`` finds: uint8 [N, C, H, W]."""
    loader = tfrecord_loader(str(path), None, {"shape": "int", "data": "byte"})
    return np.stack([np.frombuffer(r["data"], np.uint8).reshape(r["shape"]) for r in loader])


def framed(data: bytes) -> bytes:
    """One record."""

    def checksum(part: bytes) -> bytes:
        crc = google_crc32c.value(part)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + checksum(length) + data + checksum(data)


def example(image: Array, **more: Any) -> bytes:
    """A tf.train.Example of an image [C, H, W], made by protobuf itself."""
    message = example_pb2.Example()
    message.features.feature["shape"].int64_list.value.extend(image.shape)
    message.features.feature["data"].bytes_list.value.append(image.tobytes())
    for name, value in more.items():
        message.features.feature[name].float_list.value.append(value)
    return message.SerializeToString()


@pytest.mark.parametrize("level", [5, 4, 3, 2])
def test_a_file_is_read_as_an_independent_reader_does(folder: Path, level: int) -> None:
    path = folder / f"-r0{level}.tfrecords"
    assert TFRecordReader.takes(str(path))
    records = read(path)
    assert len(records) == 40
    assert np.array_equal(stack(records), independent(path))
    side = 2**level
    assert list(TFRecordReader(str(path)).shapes(10)) == [(side, side, 1)]
    assert records[7].name == f"{path}[7]"
    assert (records[7].origin.source, records[7].origin.frame) == (str(path), 7)


def test_of_a_folder_and_a_zip_the_largest_resolution_is_read(folder: Path) -> None:
    expected = independent(folder / "-r05.tfrecords")
    for source in (folder, CUT):
        assert TFRecordReader.takes(str(source))
        assert np.array_equal(stack(read(source)), expected)
    assert read(CUT)[3].name == f"{CUT}/-r05.tfrecords[3]"
    assert read(CUT)[3].origin.source == str(CUT)
    assert list(TFRecordReader(str(CUT)).files()) == [CUT]
    assert list(TFRecordReader(str(folder)).files()) == [folder / "-r05.tfrecords"]


def test_our_smaller_images_are_those_of_the_authors(folder: Path) -> None:
    images = torch.from_numpy(stack(read(folder)).copy())
    for level in (1, 2, 3):
        authors = stack(read(folder / f"-r0{5 - level}.tfrecords"))
        assert np.array_equal(downsample(images, level).numpy(), authors)


@pytest.mark.shared
def test_the_whole_example_of_the_authors(tmp_path: Path) -> None:
    images = stack(read(SHARED / "mnist2_tfrecords.zip"))
    assert np.array_equal(images, np.load(SHARED / "mnist2.npz")["train"])
    with zipfile.ZipFile(SHARED / "mnist2_tfrecords.zip") as archive:
        path = Path(archive.extract("-r04.tfrecords", tmp_path))
    assert np.array_equal(downsample(torch.from_numpy(images.copy()), 1).numpy(), stack(read(path)))


@pytest.mark.parametrize("start", [0, 1, 39, 40, 41, 79, 80, 200])
def test_reading_goes_on_from_a_start_across_sets(folder: Path, start: int) -> None:
    shutil.copy(folder / "-r03.tfrecords", folder / "b-r03.tfrecords")
    every = read(folder)
    assert len(every) == 80
    assert [r.name for r in read(folder, start)] == [r.name for r in every[start:]]


def test_a_zip_goes_on_from_a_start() -> None:
    assert [r.name for r in read(CUT, 33)] == [r.name for r in read(CUT)[33:]]


@pytest.mark.parametrize("channels", [1, 3])
def test_colors_and_other_features(tmp_path: Path, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, channels, 8, 12), dtype=np.uint8)
    path = tmp_path / "x.tfrecords"
    path.write_bytes(b"".join(framed(example(image, weight=0.5)) for image in images))
    assert np.array_equal(stack(read(path)), images)


@pytest.mark.parametrize("kind", ["numbers", "one-hot"])
@pytest.mark.parametrize("name", ["x-rxx.labels", "x.labels"])
def test_labels_lie_beside_the_records(folder: Path, kind: str, name: str) -> None:
    numbers = np.arange(40) % 3
    labels = np.eye(3, dtype=np.float32)[numbers] if kind == "one-hot" else numbers
    path = folder / "x-r05.tfrecords"
    (folder / "-r05.tfrecords").rename(path)
    with (folder / name).open("wb") as file:
        np.save(file, labels)
    for source in (path, folder):
        of_x = [r for r in read(source) if "x-r05" in r.name]
        assert [r.origin.label for r in of_x] == [str(number) for number in numbers]
    packed = folder.parent / "x.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file_of_x in (path, folder / name):
            archive.write(file_of_x, f"inner/{file_of_x.name}")
    assert [r.origin.label for r in read(packed)] == [str(number) for number in numbers]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(39), "has 40 images, but .* has 39 labels"),
        (np.arange(41), "has 40 images, but .* has 41 labels"),
        (np.array(["a"] * 40), "give numbers"),
        (np.zeros((40, 2, 2)), "give numbers"),
        (np.array([None] * 40), "no NumPy array"),
    ],
)
def test_labels_that_do_not_fit_are_told(folder: Path, labels: Array, message: str) -> None:
    with (folder / "-rxx.labels").open("wb") as file:
        np.save(file, labels)
    with pytest.raises(UserError, match=message):
        read(folder)


def test_labels_whose_header_is_damaged_are_told(folder: Path) -> None:
    (folder / "-rxx.labels").write_bytes(b"\x93NUMPY\1\0\x05\0({[ (")
    with pytest.raises(UserError, match=r"-rxx\.labels: is no NumPy array of labels \(.*header"):
        read(folder)


def test_other_sources_are_not_taken(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("x.png", b"")
        archive.writestr("__MACOSX/._x-r02.tfrecords", b"")
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4 and no more")
    for name in (".", "images.zip", "broken.zip", "absent.tfrecords", "absent.zip"):
        assert not TFRecordReader.takes(str(tmp_path / name))
    for name, problem in (
        (".", "holds no files"),
        ("images.zip", "holds no files"),
        ("broken.zip", "is damaged"),
    ):
        with pytest.raises(UserError, match=problem):
            TFRecordReader(str(tmp_path / name))


def test_every_flipped_bit_is_noticed(folder: Path) -> None:
    path = folder / "-r02.tfrecords"
    whole = path.read_bytes()
    size = len(whole) // 40
    for at in range(3 * size, 4 * size):
        content = bytearray(whole)
        content[at] ^= 1 << at % 8
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"-r02\.tfrecords: record 3 is damaged"):
            read(path)


def test_a_cut_is_noticed_read_or_passed_over(folder: Path) -> None:
    path = folder / "-r02.tfrecords"
    whole = path.read_bytes()
    size = len(whole) // 40
    for end in range(3 * size + 1, 4 * size):
        path.write_bytes(whole[:end])
        for start in (0, 5):
            with pytest.raises(UserError, match="record 3 is damaged"):
                read(path, start)


def test_damage_inside_a_zip_is_told(tmp_path: Path) -> None:
    whole = CUT.read_bytes()
    path = tmp_path / "x.zip"
    content = bytearray(whole)
    content[len(whole) // 2] ^= 255  # in the largest member
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x.zip/-r05.tfrecords: record \d+ is damaged"):
        read(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0a",
        b"\xff" * 20,
        b"\x0a\x05\x0a\x03\x0a\x01x",
        example(np.zeros((1, 0, 4), np.uint8)),
        example(np.zeros((4, 4), np.uint8)),
        example(np.zeros((1, 4, 4), np.uint8))[:-9],
        example(np.zeros((1, 4, 4), np.uint8)).replace(b"\1\4\4", b"\1\4\5"),
    ],
    ids=["empty", "cut", "no tag", "no feature", "no image", "flat", "end missing", "another size"],
)
def test_records_of_something_else_are_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.tfrecords"
    path.write_bytes(framed(data))
    with pytest.raises(UserError, match="record 0 is damaged"):
        read(path)


@given(st.binary(max_size=64), st.data())
def test_any_bytes_are_an_example_or_a_value_error(noise: bytes, data: st.DataObject) -> None:
    real = example(np.arange(16, dtype=np.uint8).reshape(1, 4, 4))
    at = data.draw(st.integers(0, len(real)))
    for content in (noise, real[:at] + noise + real[at:], real[:at] + noise):
        try:
            features = _parse_example(content)
        except ValueError:
            continue
        assert all(isinstance(value, bytes | list) for value in features.values())
