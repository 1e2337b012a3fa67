"""Tar shards, written and read with the webdataset package."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.data.readers import SkippedImage, webdataset
from anowild.data.readers.listing import REPLACED
from anowild.data.readers.webdataset import WebDatasetReader
from anowild.errors import UserError
from tests.data.readers.checks import PICTURES, check, check_starts, crops, reasons

GRAY = crops("cell.png", 40)
COLOR = crops("astronaut.png", 10)


def encode(image: Array, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=kind)
    return file.getvalue()


def pack(path: Path, members: list[tuple[str, bytes]], form: int = tarfile.GNU_FORMAT) -> str:
    mode = "w:gz" if path.name.endswith("gz") else "w"
    with tarfile.open(path, mode, format=form) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz"])
def test_shards_of_the_webdataset_package(tmp_path: Path, ending: str) -> None:
    wds = pytest.importorskip("webdataset")
    path = tmp_path / f"train-000.{ending}"
    with (
        path.open("wb") if ending == "tar" else gzip.open(path, "wb") as stream,
        wds.TarWriter(stream) as writer,
    ):
        for i, image in enumerate(COLOR):
            sample = {"__key__": f"sample/{i:04d}", "png": image, "cls": i % 3, "txt": "a cell"}
            writer.write(sample)
    reader = wds.WebDataset(str(path), shardshuffle=False, empty_check=False).decode("rgb8")
    samples = list(reader)
    assert len(samples) == 10
    assert WebDatasetReader.takes(str(path))
    records = check(WebDatasetReader(str(path)), [sample["png"] for sample in samples])
    assert [r.origin.label for r in records] == [str(sample["cls"]) for sample in samples]
    assert [r.name for r in records] == [f"{path}/{s['__key__']}.png" for s in samples]
    assert {r.origin.split for r in records} == {"train"}
    assert {r.origin.source for r in records} == {str(path)}


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_of_members_with_the_same_path_the_last_is_read(tmp_path: Path, ending: str) -> None:
    members = [
        ("a.png", encode(GRAY[0])),
        ("a.cls", b"old"),
        ("b.png", encode(GRAY[1])),
        ("deep/a.png", encode(GRAY[2])),
        ("c.png", encode(GRAY[3])),
        ("c.png", encode(GRAY[4])),
        ("./a.png", encode(GRAY[5])),
        ("a.cls", b"new"),
    ]
    source = pack(tmp_path / f"x.{ending}", members)
    reader = WebDatasetReader(source)
    assert (
        WebDatasetReader(source).passed_over()[0].reason == REPLACED
    )  # before the images are read
    records = check(reader, [GRAY[1], GRAY[2], GRAY[4], GRAY[5]])
    assert [r.name for r in records] == [
        f"{source}/{n}" for n in ("b.png", "deep/a.png", "c.png", "./a.png")
    ]
    assert records[3].origin.label == "new"
    (entry,) = reader.passed_over()
    assert (entry.reason, entry.count) == (REPLACED, 2)
    assert entry.first == f"{source}/a.png"
    with tarfile.open(source) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    unpacked = np.array(Image.open(tmp_path / "unpacked" / "a.png"))
    assert np.array_equal(unpacked, GRAY[5])


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_labels_before_and_behind_the_images(tmp_path: Path, form: int) -> None:
    deep = "x" * 60 + "/" + "y" * 60
    members = [
        ("a.cls", b"7\n"),
        ("a.left.png", encode(GRAY[0])),
        ("a.right.png", encode(GRAY[1])),
        ("b.png", encode(GRAY[2])),
        ("b.json", json.dumps({"label": "horse"}).encode()),
        ("c.png", encode(GRAY[3])),
        ("d.json", b"[1, 2"),
        ("d.png", encode(GRAY[4])),
        (f"{deep}/d.png", encode(GRAY[5])),
    ]
    source = pack(tmp_path / "x.tar", members, form)
    reader = WebDatasetReader(source)
    records = check(reader, [GRAY[0], *GRAY[2:6]])
    assert [r.origin.label for r in records] == ["7", "horse", None, None, None]
    assert records[-1].name == f"{source}/{deep}/d.png"
    (further,) = reader.passed_over()
    assert "right.png" in further.reason
    assert (further.count, further.first) == (1, f"{source}/a.right.png")
    check(WebDatasetReader(f"{source}:right"), [GRAY[1]])


@pytest.mark.parametrize("names", [("mask.png", "image.png"), ("a.depth.png", "photo.png")])
def test_the_mask_of_a_sample_is_no_image(tmp_path: Path, names: tuple[str, str]) -> None:
    members = [
        (f"{i}.{name}", encode(GRAY[2 * i + k])) for i in range(3) for k, name in enumerate(names)
    ]
    source = pack(tmp_path / "w.tar", members)
    reader = WebDatasetReader(source)
    records = check(reader, [GRAY[1], GRAY[3], GRAY[5]])
    assert [record.name for record in records] == [f"{source}/{i}.{names[1]}" for i in range(3)]
    (further,) = reader.passed_over()
    assert (further.reason, further.count) == (
        f"further images of samples, which FILE.tar:{names[0]} reads instead", 3,
    )  # fmt: skip
    check(WebDatasetReader(f"{source}:{names[0]}"), [GRAY[0], GRAY[2], GRAY[4]])


def test_a_folder_of_shards(tmp_path: Path) -> None:
    for i in range(4):
        members = [(f"{j}.png", encode(GRAY[10 * i + j])) for j in range(10)]
        pack(tmp_path / f"{'test' if i == 0 else 'train'}-{i}.tar", members)
    assert WebDatasetReader.takes(str(tmp_path))
    reader = WebDatasetReader(str(tmp_path))
    records = check(reader, GRAY)
    assert [r.origin.split for r in records] == ["test"] * 10 + ["train"] * 30
    assert len(list(reader.shapes(8))) == 8


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_plain_tars(tmp_path: Path, name: str) -> None:
    tiff = (PICTURES / "multipage.tif").read_bytes()
    with Image.open(PICTURES / "multipage.tif") as image:
        pages = []
        for page in range(2):
            image.seek(page)
            pages.append(np.asarray(image))
    members = [
        ("train/a.png", encode(GRAY[0])),
        ("._a.png", b"x"),
        ("./train/b.tif", tiff),
        ("notes.txt", b"x"),
        ("test/a.jpg", encode(GRAY[1], "JPEG")),
        ("c.png", encode(GRAY[2])),
    ]
    source = pack(tmp_path / name, members)
    jpeg = np.asarray(Image.open(io.BytesIO(members[4][1])))
    records = check(WebDatasetReader(source), [GRAY[0], *pages, jpeg, GRAY[2]])
    splits = [r.origin.split for r in records]
    assert splits[0] == "train"
    assert splits[3:] == ["test", None]


def test_links_and_devices_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"{kind!r}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("a.png")
        info.size = len(encode(GRAY[0]))
        tar.addfile(info, io.BytesIO(encode(GRAY[0])))
    check(WebDatasetReader(str(path)), [GRAY[0]])


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_a_shard_that_breaks_off(tmp_path: Path, name: str) -> None:
    source = pack(tmp_path / name, [(f"{i:02d}.png", encode(GRAY[i])) for i in range(40)])
    data = Path(source).read_bytes()
    Path(source).write_bytes(data[: len(data) // 2 + 300])
    pack(tmp_path / "y.tar", [("a.png", encode(GRAY[0]))])
    reader = WebDatasetReader(str(tmp_path))
    records = list(reader)
    check_starts(reader, records)
    bad = [r for r in records if isinstance(r, SkippedImage)]
    assert 15 < len(records) < 35
    assert bad[-1].name == source
    assert "breaks off" in bad[-1].reason
    assert records[-1].name == f"{tmp_path / 'y.tar'}/a.png"
    check(WebDatasetReader(source), GRAY[: len(records) - len(bad) - 1])


def test_damaged_members_are_left_out(tmp_path: Path) -> None:
    members = [("0.png", encode(GRAY[0])), ("1.png", encode(GRAY[1])[:-90]), ("2.png", b"")]
    source = pack(tmp_path / "x.tar", [*members, ("3.png", encode(GRAY[3]))])
    reader = WebDatasetReader(source)
    check(reader, [GRAY[0], GRAY[3]])
    assert list(reasons(reader)) == [f"{source}/1.png", f"{source}/2.png"]


def test_members_of_implausible_size_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset, "MAX_IMAGE_BYTES", 1 << 20)
    members = [("0.png", bytes(16 << 20)), ("1.json", bytes(8 << 20)), ("1.png", encode(GRAY[1]))]
    reader = WebDatasetReader(pack(tmp_path / "x.tgz", members))
    tracemalloc.start()
    check(reader, [GRAY[1]])
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert "claims to hold 16777216 bytes" in reasons(reader)[f"{tmp_path / 'x.tgz'}/0.png"]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_of_implausible_size_are_not_read(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 64 << 20
    with gzip.open(tmp_path / "x.tar.gz", "wb", 1) as file:
        first = tarfile.TarInfo("0.png")
        data = encode(GRAY[0])
        first.size = len(data)
        file.write(first.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512))
        file.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(64 << 20))
    tracemalloc.start()
    reader = WebDatasetReader(str(tmp_path / "x.tar.gz"))
    found = reasons(reader)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    path = str(tmp_path / "x.tar.gz")
    assert found == {path: f"it breaks off: a header claims to have {64 << 20} bytes"}
    assert len(list(reader)) == 2  # the image before it is read
    assert peak < 8 << 20


def test_memory_does_not_grow_with_the_members(tmp_path: Path) -> None:
    # All of one key, as plain tars of numbered frames may have them.
    image = encode(GRAY[0])
    source = pack(tmp_path / "x.tar", [(f"frame.{i}.png", image) for i in range(1000)])
    peaks = []
    for _ in range(2):  # the smaller one: what other tests left may be tidied up meanwhile
        tracemalloc.start()
        assert sum(1 for _ in WebDatasetReader(source)) == 1000
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert min(peaks) < 1 << 20


def test_what_it_takes(tmp_path: Path) -> None:
    cifar = [(f"cifar-10-batches-py/data_batch_{i}", b"x") for i in range(5)]
    source = pack(tmp_path / "cifar-10-python.tar.gz", cifar)
    assert not WebDatasetReader.takes(source)
    assert not WebDatasetReader.takes(str(tmp_path))
    with pytest.raises(UserError, match=r"cifar.*: holds no images"):
        WebDatasetReader(source)
    assert not WebDatasetReader.takes(str(tmp_path / "absent.tar"))


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, b"\x1f\x8b\x08\x00 no gzip"])
@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"x\.tar.*: holds no images"):
        WebDatasetReader(str(tmp_path / name))
