"""Files of a set (idx, TFRecord, CIFAR) beside ordinary images: neither hides the other without a word."""

from __future__ import annotations

import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anowild.data.readers import Record, open_source
from anowild.data.readers.cifar import CifarReader
from anowild.data.readers.folder import FolderReader
from anowild.data.readers.idx import IdxReader
from anowild.data.readers.tfrecord import TFRecordReader
from anowild.data.readers.zipped import ZipReader
from tests.data.readers.checks import crops
from tests.data.readers.test_tfrecord import CUT

IMAGES = crops("cell.png", 3)
READERS = {
    "idx": IdxReader,
    "tfrecord": TFRecordReader,
    "cifar": CifarReader,
    "cifar below": CifarReader,
}


def write_set(kind: str, folder: Path) -> None:
    """Write the files of a small set of a kind."""
    if kind == "idx":
        rows = np.stack(IMAGES)
        header = struct.pack(">HBB3I", 0, 8, 3, *rows.shape)
        (folder / "train-images-idx3-ubyte").write_bytes(header + rows.tobytes())
    elif kind == "tfrecord":
        zipfile.ZipFile(CUT).extractall(folder)
    else:
        batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}
        place = folder / "cifar-10-batches-py" if kind == "cifar below" else folder
        place.mkdir(exist_ok=True)
        (place / "data_batch_1").write_bytes(pickle.dumps(batch, 4))


@pytest.mark.parametrize("kind", READERS)
def test_what_is_beside_a_set_is_told(tmp_path: Path, kind: str) -> None:
    write_set(kind, tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    reader = open_source(tmp_path)
    assert isinstance(reader, READERS[kind])
    found = {one.reason: one.count for one in reader.passed_over()}
    smaller = {"smaller copies of the same images": 3} if kind == "tfrecord" else {}
    assert found == {"files that end in .txt": 1, "folders without images": 1, **smaller}


@pytest.mark.parametrize("below", [".", "more/deep"])
@pytest.mark.parametrize("kind", READERS)
def test_images_beside_a_set_are_read_in_its_place(tmp_path: Path, kind: str, below: str) -> None:
    write_set(kind, tmp_path)
    (tmp_path / below).mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / below / f"{i}.png")
    reader = open_source(tmp_path)
    assert isinstance(reader, FolderReader)
    records = list(reader)
    assert len(records) == 3
    assert all(isinstance(record, Record) for record in records)
    assert reader.passed_over()


def test_images_beside_records_in_a_zip(tmp_path: Path) -> None:
    path = Path(shutil.copy(CUT, tmp_path / "x.zip"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "x")
    reader = open_source(path)
    assert isinstance(reader, TFRecordReader)
    assert {one.reason for one in reader.passed_over()} == {
        "smaller copies of the same images", "files that end in .txt",
    }  # fmt: skip
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(tmp_path / "a.png", "a.png")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.write(tmp_path / "a.png", "a.png")
    reader = open_source(path)
    assert isinstance(reader, ZipReader)
    assert len(list(reader)) == 1
    found = {one.reason: one.count for one in reader.passed_over()}
    assert found["members that another of the same name replaces"] == 1
    assert found["files that end in .tfrecords"] == 4
