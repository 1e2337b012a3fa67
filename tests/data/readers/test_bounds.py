"""Memory and time of readers are bounded, whatever a file claims."""

from __future__ import annotations

import gzip
import io
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anowild.data.readers import SkippedImage, open_source
from anowild.data.readers.arrays import ArrayReader
from anowild.errors import UserError

h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")
tifffile = pytest.importorskip("tifffile")

#: Reads sources in a process of its own; prints what came of each, and the most memory that it had, in KiB.
CHILD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from itertools import islice
from anowild.data.readers import SkippedImage, open_source
from anowild.errors import UserError
found = []
for source in sys.argv[1:]:
    try:
        records = list(map(lambda r: r.reason if isinstance(r, SkippedImage) else list(r.pixels.shape),
                           islice(open_source(source), 20)))
        found.append(records)
    except UserError as error:
        found.append(str(error))
# Of this program alone: the usage of resources keeps the peak of the process that began it.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([found, int(status["VmHWM"].split()[0])]))
"""


def npy_header(shape: tuple[int, ...], fortran: bool) -> bytes:
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def a_fortran_array(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", npy_header((60_000, 1000, 1000), True) + bytes(1000))


def an_array_that_lies(path: Path) -> None:
    content = npy_header((10**9, 16, 16), False) + bytes(1000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", content)
    data = bytearray(path.read_bytes())
    claim = len(content) - 1000 + 256 * 10**9
    # The sizes in the local header and in the directory, as ZIP64 would hold them, do not fit; take 4 GB.
    for at in (22, data.rindex(b"PK\x01\x02") + 24):
        data[at : at + 4] = struct.pack("<I", min(claim, 0xFFFFFFFE))
    path.write_bytes(data)


def a_store_of_nothing(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", (10**9, 16, 16), np.uint8, chunks=(1, 16, 16))


def a_plain_store_of_nothing(path: Path) -> None:
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((10**9, 16, 16))
        h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT8, space)


def a_huge_chunk(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "images", (3000, 1000, 1000), np.uint8, chunks=(3000, 1000, 1000), compression=4
        )


def a_zarr_of_nothing(path: Path) -> None:
    zarr.create_array(path, shape=(10**9, 16, 16), chunks=(1000, 16, 16), dtype=np.uint8)


def a_zarr_of_a_huge_chunk(path: Path) -> None:
    zarr.create_array(path, shape=(4000, 1000, 1000), chunks=(4000, 1000, 1000), dtype=np.uint8)


def a_store_of_tiny_chunks(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (8, 8, 1_000_000), np.uint8, chunks=(8, 8, 1), compression="gzip")


def rows_of_tiny_chunks(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (600, 60, 60), np.uint8, chunks=(1, 1, 1))
        file["x"][300] = 7


def large_images_in_idx(path: Path) -> None:
    with gzip.open(path, "wb", 1) as file:
        file.write(struct.pack(">4I", 0x0803, 1, 13000, 13000))
        for _ in range(13):
            file.write(bytes(13_000_000))


def an_idx_that_lies(path: Path) -> None:
    with gzip.open(path, "wb") as file:
        file.write(struct.pack(">4I", 0x0803, 4 * 10**9, 28, 28) + bytes(5000))


def a_stack_that_lies(path: Path) -> None:
    about = "ImageJ=1.54f\nimages=1000000000\nslices=1000000000\n"
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), description=about, metadata=None)


def a_large_picture(path: Path) -> None:
    Image.new("L", (9000, 10000)).save(path, compress_level=1)


def too_large_a_picture(path: Path) -> None:
    Image.new("1", (20000, 9000)).save(path)


def too_large_a_tiff(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((16, 16, 3), np.uint16), photometric="rgb")
    data = path.read_bytes()
    for tag in (256, 257):
        data = data.replace(
            struct.pack("<HHII", tag, 4, 1, 16), struct.pack("<HHII", tag, 4, 1, 60000)
        ).replace(struct.pack("<HHIHH", tag, 3, 1, 16, 0), struct.pack("<HHII", tag, 4, 1, 60000))
    path.write_bytes(data)


CASES: list[tuple[str, Callable[[Path], None], str | list[object]]] = [
    ("fortran.npz", a_fortran_array, "60,000,000,000 bytes are too many to be read at once; save it as .npy"),
    ("lies.npz", an_array_that_lies, "claims 4,294,967,"),
    ("empty.h5", a_store_of_nothing, "claims 1,000,000,000 images, of which at most 0 are stored"),
    ("plain.h5", a_plain_store_of_nothing, "claims 1,000,000,000 images, of which at most 0 are stored"),
    ("chunk.h5", a_huge_chunk, "in chunks of 3,000,000,000 bytes, of which at most 268,435,456"),
    ("tiny.h5", a_store_of_tiny_chunks, "so an image lies in 1,000,000 of them, of which at most 65,536"),
    ("rows.h5", rows_of_tiny_chunks, [[60, 60, 1]] * 20),
    ("empty.zarr", a_zarr_of_nothing, "claims 1,000,000,000 images, of which at most 0 are stored"),
    ("chunk.zarr", a_zarr_of_a_huge_chunk, "in chunks of 4,000,000,000 bytes"),
    ("large-images-idx3-ubyte.gz", large_images_in_idx, [[13000, 13000, 1]]),
    ("lies-images-idx3-ubyte.gz", an_idx_that_lies, "4000000000 images of 28x28 need 3136000000016"),
    ("stack.tif", a_stack_that_lies, [[16, 16, 1], "it breaks off in plane 1"]),
    ("large.png", a_large_picture, [[10000, 9000, 1]]),
    ("huge.png", too_large_a_picture, ["it claims more pixels than the limit of 178,956,970"]),
    ("huge.tif", too_large_a_tiff, ["it claims 60000x60000 pixels, more than the limit of 178,956,970"]),
]  # fmt: skip


def test_claims_cost_less_than_a_gigabyte(tmp_path: Path) -> None:
    for name, make, _ in CASES:
        make(tmp_path / name)
    command = [sys.executable, "-c", CHILD, *(str(tmp_path / name) for name, _, _ in CASES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found, peak = json.loads(done.stdout.splitlines()[-1])
    for (name, _, expected), outcome in zip(CASES, found, strict=True):
        if isinstance(expected, str):
            assert isinstance(outcome, str), name
            assert expected in outcome, name
        else:
            assert outcome == expected, name
    assert peak < 1_000_000


def test_memory_that_runs_out_costs_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    Image.new("L", (12, 12)).save(tmp_path / "b.png")

    def load(image: Image.Image, *_: object) -> None:
        if image.width == 8:
            raise MemoryError
        original(image)

    original = Image.Image.load
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    first, _ = open_source(tmp_path)
    assert isinstance(first, SkippedImage)
    assert first.reason == "it does not fit into memory"


def test_a_damaged_chunk_is_unpacked_once_more_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.h5"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 16)).astype(np.uint8)
    with h5py.File(path, "w") as file:
        made = file.create_dataset("images", data=pixels, chunks=(20, 16, 16), compression=4)
        offset = made.id.get_chunk_info(1).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 50 : offset + 300] = bytes(250)
    path.write_bytes(data)
    read: list[object] = []
    original = h5py.Dataset.__getitem__

    def counted(self: object, *arguments: object) -> object:
        read.append(arguments)
        return original(self, *arguments)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    records = list(open_source(path))
    assert [isinstance(r, SkippedImage) for r in records] == [False] * 20 + [True] * 20 + [
        False
    ] * 20
    assert len(read) <= 4  # all at once, and then each chunk


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((64, 48, 3), r"may be that of one color image, \[H, W, C\]; give \[1, 64, 48, 3\]"),
        ((64, 48, 4), r"give \[1, 64, 48, 4\]"),
        ((64, 48, 1), r"give \[1, 64, 48, 1\]"),
    ],
)
def test_one_color_image_is_not_taken_for_many(
    tmp_path: Path, shape: tuple[int, ...], sentence: str
) -> None:
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    with pytest.raises(UserError, match=sentence):
        ArrayReader(str(tmp_path / "x.npy"))


@pytest.mark.parametrize(
    ("shape", "read", "said"),
    [
        (
            (3, 48, 64),
            (48, 64, 1),
            "3 gray images of 64x48; one color image would be [1, 3, 48, 64]",
        ),
        ((2, 48, 64), (48, 64, 1), None),
        ((4, 5, 20, 24), (20, 24, 5), "as [N, C, H, W], 4 images of 24x20 with 5 channels"),
        ((4, 5, 24, 24), (24, 24, 5), "as [N, C, H, W], 4 images of 24x24 with 5 channels"),
        ((4, 20, 24, 5), (20, 24, 5), "as [N, H, W, C], 4 images of 24x20 with 5 channels"),
        ((4, 24, 24, 30), (24, 24, 30), "as [N, H, W, C], 4 images of 24x24 with 30 channels"),
        ((4, 20, 24, 3), (20, 24, 3), None),
        ((4, 3, 20, 24), (20, 24, 3), None),
    ],
)
def test_how_an_array_is_read_is_said_where_it_could_be_read_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
    shape: tuple[int, ...], read: tuple[int, ...], said: str | None,
) -> None:  # fmt: skip
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    reader = ArrayReader(str(tmp_path / "x.npy"))
    assert next(iter(reader.shapes(1))) == read
    assert next(iter(reader.records())).pixels.shape == read  # type: ignore[union-attr]
    assert len(caplog.records) == (said is not None)
    assert said is None or said in caplog.text
