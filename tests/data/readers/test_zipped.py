"""Zip files of images, against zipfile and Pillow."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.data.readers import zipped
from anowild.data.readers.zipped import ZipReader
from anowild.errors import UserError
from tests.data.readers.checks import PICTURES, check, check_starts, crops, reasons

IMAGES = crops("cell.png")


def encode(image: Array, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=kind, **options)
    return file.getvalue()


def pack(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]
)
def test_every_kind_of_image_as_zipfile_and_pillow_read_it(
    tmp_path: Path, compression: int
) -> None:
    color = crops("astronaut.png")[0]
    members = {
        "b/2.png": encode(IMAGES[0]),
        "b/10.JPG": encode(color, "JPEG"),
        "a/3.bmp": encode(color, "BMP"),
        "a/deep/er/4.webp": encode(color, "WEBP", lossless=True),
        "a/5.tif": encode(IMAGES[1], "TIFF"),
        "top.png": encode(IMAGES[2]),
    }
    noise = {"notes.txt": b"x", ".hidden/1.png": b"x", "a/._3.bmp": b"x", "__MACOSX/a/3.png": b"x"}
    path = pack(tmp_path / "x.zip", members | noise | {"folder.png/": b""}, compression)
    assert ZipReader.takes(str(path))
    with zipfile.ZipFile(path) as archive:
        expected = [np.asarray(Image.open(archive.open(name))) for name in sorted(members)]
    records = check(ZipReader(str(path)), expected)
    assert [r.name for r in records] == [f"{path}/{name}" for name in sorted(members)]
    assert {r.origin.source for r in records} == {str(path)}
    assert ZipReader(str(path)).count() is None  # of the TIFF


def test_a_tiff_in_a_zip_is_read_page_by_page(tmp_path: Path) -> None:
    tiff = (PICTURES / "multipage.tif").read_bytes()
    members = {"a.png": encode(IMAGES[0]), "b.tif": tiff, "c.png": encode(IMAGES[1])}
    path = pack(tmp_path / "x.zip", members)
    with Image.open(PICTURES / "multipage.tif") as image:
        pages = []
        for page in range(2):
            image.seek(page)
            pages.append(np.asarray(image))
    records = check(ZipReader(str(path)), [IMAGES[0], *pages, IMAGES[1]])
    assert [r.name.removeprefix(f"{path}/") for r in records] == [
        *("a.png", "b.tif[0]", "b.tif[1]", "c.png")
    ]
    assert [r.origin.frame for r in records] == [None, 0, 1, None]


@pytest.mark.parametrize("top", ["", "set/"])
def test_splits(tmp_path: Path, top: str) -> None:
    names = ("Test/x.png", "other/y.png", "train/deep/z.png")
    path = pack(tmp_path / "x.zip", {top + name: encode(IMAGES[0]) for name in names})
    assert [r.origin.split for r in ZipReader(str(path))] == ["test", None, "train"]
    alone = pack(tmp_path / "y.zip", {"train/x.png": encode(IMAGES[0])})
    assert [r.origin.split for r in ZipReader(str(alone))] == ["train"]


def test_damaged_members_are_left_out(tmp_path: Path) -> None:
    members = {f"{i}.png": encode(image) for i, image in enumerate(IMAGES)}
    members["1.png"] = members["1.png"][:-100]
    members["2.png"] = b""
    path = pack(tmp_path / "x.zip", members, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(members["4.png"]) + 200] ^= 255  # its checksum no longer holds
    path.write_bytes(data)
    reader = ZipReader(str(path))
    check(reader, [IMAGES[0], IMAGES[3], IMAGES[5]])
    found = reasons(reader)
    assert list(found) == [f"{path}/{i}.png" for i in (1, 2, 4)]
    assert "CRC" in found[f"{path}/4.png"]


def test_encrypted_members_are_left_out(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", {"a.png": encode(IMAGES[0]), "b.png": encode(IMAGES[1])})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag of the first member, in the directory
    path.write_bytes(data)
    reader = ZipReader(str(path))
    check(reader, [IMAGES[1]])
    assert "encrypted" in reasons(reader)[f"{path}/a.png"]


def test_members_of_implausible_size_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipped, "MAX_IMAGE_BYTES", 1 << 20)
    bomb = bytes(64 << 20)
    path = pack(tmp_path / "x.zip", {"a.png": bomb, "b.png": bomb, "c.png": encode(IMAGES[0])})
    data = bytearray(path.read_bytes())
    # The second lies about its size.
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    data[second + 24 : second + 28] = struct.pack("<I", 1000)
    path.write_bytes(data)
    reader = ZipReader(str(path))
    tracemalloc.start()
    check(reader, [IMAGES[0]])
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert "claims to hold 67108864 bytes" in reasons(reader)[f"{path}/a.png"]
    assert f"{path}/b.png" in reasons(reader)


def test_what_it_takes(tmp_path: Path) -> None:
    assert not ZipReader.takes(str(pack(tmp_path / "t.zip", {"a.tfrecords": b"x"})))
    assert not ZipReader.takes(str(tmp_path / "absent.zip"))
    assert not ZipReader.takes(str(tmp_path))
    with pytest.raises(UserError, match=r"t\.zip: holds no images"):
        ZipReader(str(tmp_path / "t.zip"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", "cut"])
def test_a_broken_zip_is_named(tmp_path: Path, content: bytes | str) -> None:
    path = pack(tmp_path / "x.zip", {"a.png": encode(IMAGES[0])})
    path.write_bytes(path.read_bytes()[:-30] if isinstance(content, str) else content)
    assert ZipReader.takes(str(path))
    with pytest.raises(UserError, match=r"x\.zip: is not a readable zip file"):
        ZipReader(str(path))


def test_many_members_start_anywhere(tmp_path: Path) -> None:
    members = {f"{i:03d}.png": encode(IMAGES[i % 6] + np.uint8(i)) for i in range(50)}
    reader = ZipReader(str(pack(tmp_path / "x.zip", members)))
    assert reader.count() == 50
    assert len(list(reader.shapes(7))) == 7
    check_starts(reader, list(reader))
