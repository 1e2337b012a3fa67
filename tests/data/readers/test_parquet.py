"""Parquet files, against pandas and Pillow."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.data.readers import Record, SkippedImage, parquet
from anowild.data.readers.parquet import ParquetReader
from anowild.errors import UserError
from tests.data.readers.checks import PICTURES, check, check_starts, crops, reasons

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

GRAY = crops("cell.png", 40)
COLOR = crops("astronaut.png", 40)


def encode(image: Array, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=kind)
    return file.getvalue()


def save(path: Path, columns: dict[str, Any], metadata: Any = None, **options: Any) -> str:
    table = pa.table(columns)
    if metadata is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    pq.write_table(table, path, **{"row_group_size": 17, **options})
    return str(path)


def hugging_face(path: Path, images: list[Array], labels: list[int | None]) -> str:
    """A file as ``datasets`` writes it, with Image and ClassLabel features."""
    cells = [{"bytes": encode(image), "path": f"{i}.png"} for i, image in enumerate(images)]
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["automobile", "horse"], "_type": "ClassLabel"},
    }
    columns = {
        "image": pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "label": pa.array(labels, pa.int64()),
    }
    return save(path, columns, {"info": {"features": features}})


def test_a_binary_column_as_pandas_and_pillow_read_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    images = [
        encode(i, kind) for i, kind in zip(COLOR, ["PNG", "JPEG", "WEBP", "BMP"] * 10, strict=True)
    ]
    columns = {"id": list(range(40)), "picture": images, "label": [f"kind {i}" for i in range(40)]}
    source = save(tmp_path / "x.parquet", columns)
    assert ParquetReader.takes(source)
    frame = pandas.read_parquet(source)
    expected = [np.asarray(Image.open(io.BytesIO(cell))) for cell in frame["picture"]]
    records = check(ParquetReader(source), expected)
    assert [r.name for r in records] == [f"{source}[{i}]" for i in range(40)]
    assert [r.origin.frame for r in records] == list(range(40))
    assert [r.origin.label for r in records] == list(frame["label"])
    assert {r.origin.split for r in records} == {None}


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_the_layout_of_hugging_face(tmp_path: Path, compression: str) -> None:
    labels: list[int | None] = [0, 1, -1, None, *[1] * 36]
    source = hugging_face(tmp_path / "train-00000-of-00001.parquet", GRAY, labels)
    pq.write_table(pq.read_table(source), source, compression=compression, row_group_size=9)
    records = check(ParquetReader(source), GRAY)
    assert [r.origin.label for r in records] == ["automobile", "horse", None, None, *["horse"] * 36]
    assert {r.origin.split for r in records} == {"train"}


def test_a_folder_of_files(tmp_path: Path) -> None:
    hugging_face(tmp_path / "test-00000-of-00001.parquet", GRAY[:5], [0] * 5)
    hugging_face(tmp_path / "train-00000-of-00002.parquet", GRAY[5:25], [1] * 20)
    hugging_face(tmp_path / "train-00001-of-00002.parquet", GRAY[25:], [1] * 15)
    (tmp_path / "README.md").write_text("x")
    assert ParquetReader.takes(str(tmp_path))
    reader = ParquetReader(str(tmp_path))
    records = check(reader, GRAY)
    assert [r.origin.split for r in records] == ["test"] * 5 + ["train"] * 35
    assert len(list(reader.files())) == 3
    # A table beside images is not the images.
    Image.fromarray(GRAY[0]).save(tmp_path / "x.png")
    assert not ParquetReader.takes(str(tmp_path))


def test_damaged_cells_are_left_out(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    good = {"bytes": encode(GRAY[0]), "path": None}
    cells = [
        good,
        None,
        {"bytes": None, "path": None},
        {"bytes": None, "path": "/etc/passwd"},
        {"bytes": b"", "path": "a.png"},
        {"bytes": b"no image", "path": "a.png"},
        {"bytes": encode(GRAY[0])[:-100], "path": "a.png"},
        good,
    ]
    source = save(tmp_path / "x.parquet", {"image": pa.array(cells, kind)})
    reader = ParquetReader(source)
    check(reader, [GRAY[0], GRAY[0]])
    found = reasons(reader)
    assert list(found) == [f"{source}[{i}]" for i in range(1, 7)]
    assert found[f"{source}[1]"] == "the cell is empty"
    assert "only a path" in found[f"{source}[3]"]
    assert len(list(reader.shapes(100))) >= 2


def test_a_damaged_row_group_costs_only_its_rows(tmp_path: Path) -> None:
    source = hugging_face(tmp_path / "x.parquet", GRAY, [0] * 40)
    with pq.ParquetFile(source) as file:
        column = file.metadata.row_group(1).column(0)
        offset = column.data_page_offset
    data = bytearray(Path(source).read_bytes())
    data[offset : offset + 40] = bytes([255]) * 40
    Path(source).write_bytes(data)
    reader = ParquetReader(source)
    records = list(reader)
    check_starts(reader, records)
    assert [isinstance(r, SkippedImage) for r in records] == [17 <= i < 34 for i in range(40)]


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    columns = {
        "image": [encode(image) for image in GRAY[:3]],
        "mask": [encode(image) for image in GRAY[3:6]],
        "text": ["a", "b", "c"],
    }
    source = save(tmp_path / "x.parquet", columns)
    with pytest.raises(UserError, match=r"several columns .*x\.parquet:image .*image, mask"):
        ParquetReader(source)
    assert ParquetReader.takes(f"{source}:mask")
    check(ParquetReader(f"{source}:mask"), GRAY[3:6])
    for wrong, problem in (("text", "holds no images"), ("absent", "is not there")):
        with pytest.raises(UserError, match=f"the column '{wrong}' {problem}; .*text"):
            ParquetReader(f"{source}:{wrong}")
    source = save(tmp_path / "y.parquet", {"text": ["a"], "n": [1]})
    with pytest.raises(UserError, match=r"no column of encoded images; .*text"):
        ParquetReader(source)


def test_of_a_tiff_the_first_page_counts(tmp_path: Path) -> None:
    data = (PICTURES / "multipage.tif").read_bytes()
    source = save(tmp_path / "x.parquet", {"image": [data, encode(GRAY[0])]})
    reader = ParquetReader(source)
    check(reader, [np.asarray(Image.open(io.BytesIO(data))), GRAY[0]])
    list(reader)
    (further,) = reader.passed_over()
    with Image.open(io.BytesIO(data)) as image:
        assert further.count == image.n_frames - 1 > 0  # type: ignore[attr-defined]
    assert (further.reason, further.first) == (
        "further pages of images in cells", f"{tmp_path}/x.parquet[0]",
    )  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", "cut"])
def test_broken_files_are_named(tmp_path: Path, content: bytes | str) -> None:
    source = hugging_face(tmp_path / "x.parquet", GRAY, [0] * 40)
    data = Path(source).read_bytes()[:-20] if isinstance(content, str) else content
    Path(source).write_bytes(data)
    with pytest.raises(UserError, match=r"x\.parquet: is not readable as Parquet"):
        ParquetReader(source)
    # Among others it is left out as a whole.
    hugging_face(tmp_path / "y.parquet", GRAY[:3], [0] * 3)
    reader = ParquetReader(str(tmp_path))
    check(reader, GRAY[:3])
    assert list(reasons(reader)) == [source]


@pytest.mark.parametrize("metadata", [{}, [], {"info": None}, {"info": {"features": {"label": 3}}}])
def test_strange_metadata_give_the_numbers(tmp_path: Path, metadata: Any) -> None:
    columns = {"image": [encode(GRAY[0])], "label": [3]}
    source = save(tmp_path / "x.parquet", columns, metadata)
    assert [r.origin.label for r in ParquetReader(source)] == ["3"]


def test_memory_does_not_grow_with_a_row_group(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    images = [encode(noise.integers(0, 256, (100, 100), dtype=np.uint8)) for _ in range(20)]
    # One row group of 20 MB.
    source = save(
        tmp_path / "x.parquet",
        {"image": images * 100},
        row_group_size=1 << 20,
        use_dictionary=False,
        compression="none",
        data_page_size=1 << 16,
        write_batch_size=16,
    )
    before = pa.total_allocated_bytes()
    most, count = 0, 0
    for record in ParquetReader(source):
        assert isinstance(record, Record)
        most = max(most, pa.total_allocated_bytes() - before)
        count += 1
    assert count == 2000
    assert most < 8 << 20


def test_cells_and_row_groups_beyond_the_bound_are_left_out_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = io.BytesIO()
    Image.fromarray(np.full((8, 8), 5, np.uint8)).save(image, format="PNG")
    good, large = image.getvalue(), bytes(1 << 20)
    monkeypatch.setattr(parquet, "_MAX_CELL", 1 << 19)
    monkeypatch.setattr(parquet, "_IMPLAUSIBLE", 1 << 22)
    path = tmp_path / "x.parquet"

    def read(cells: list[Any], **options: Any) -> list[str | None]:
        pq.write_table(pa.table({"image": cells}), path, compression="zstd", **options)
        reader = ParquetReader(str(path))
        assert reader.count() == len(cells)
        return [r.reason if isinstance(r, SkippedImage) else None for r in reader]

    for cells in ([good, large, good, good], [{"bytes": x} for x in (good, large, good, good)]):
        assert read(cells) == [None, "the cell holds 1048576 bytes", None, None]
    # The mean of the cells is beyond the bound, or they were compressed as no image can be.
    claim = "the images of its row group claim to hold"
    for cells in ([large, large], [*[good] * 20, *[large] * 5]):
        found = read(cells, use_dictionary=False)
        assert all(reason is not None and reason.startswith(claim) for reason in found)
    assert read([good, large, large], row_group_size=1)[0] is None
