"""Libraries that are not installed are named before the work begins, with the way to get them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anowild import api
from anowild.data.crops import CropReader, CropSettings
from anowild.data.readers import SkippedImage, open_source
from anowild.data.readers.encoded import failure_reason
from anowild.errors import UserError
from anowild.finding.job import Job
from anowild.reviewing.clean import clean
from anowild.reviewing.export import encode_marks
from anowild.scoring.table import check_output
from anowild.scoring.written_table import open_table
from anowild.settings import Settings
from anowild.study.plots import _figure
from anowild.study.tables import write_parquet

INSTALL = r"pip install 'anowild\[formats\]'"
PACKED = rf"^packed data sets need pyarrow: {INSTALL}$"
TABLES = rf"^tables in Parquet need pyarrow: {INSTALL}$"


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes a library, and all of its modules, impossible to import."""

    def block(name: str) -> None:
        loaded = [module for module in sys.modules if module.startswith(f"{name}.")]
        for module in (name, *loaded):
            monkeypatch.setitem(sys.modules, module, None)

    return block


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        Image.new("L", (16, 16), 80 * i).save(folder / f"{i}.png")
    return folder


def test_packed_sets_are_refused_before_anything_is_read_or_written(
    images: Path, without: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without("pyarrow")
    monkeypatch.chdir(images.parent)
    before = sorted(images.parent.rglob("*"))
    with pytest.raises(UserError, match=PACKED):
        api.prepare("images", "set")
    with pytest.raises(UserError, match=PACKED):  # not even whether the source exists
        api.prepare("absent", "set")
    with pytest.raises(UserError, match=PACKED):
        Job("images", Path("found"), Settings())
    assert sorted(images.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "use",
    [
        check_output,
        lambda path: clean(path, path.with_name("cleaned")),
        lambda path: open_table(path).__enter__(),
        lambda path: write_parquet([{"score": 1.0}], path),
        lambda path: encode_marks(lambda names: {}, [], "parquet"),
    ],
)
def test_tables_in_parquet_name_the_library(
    tmp_path: Path, without: Callable[[str], None], use: Callable[[Path], Any]
) -> None:
    without("pyarrow")
    path = tmp_path / "table.parquet"
    path.touch()
    with pytest.raises(UserError, match=TABLES):
        use(path)
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("a.h5", "h5py"),
        ("a.zarr", "zarr"),
        ("a.parquet", "pyarrow"),
        ("a.tfrecords", "google_crc32c"),
        ("a.mp4", "av"),
    ],
)
def test_sources_name_the_library_when_they_are_opened(
    tmp_path: Path, without: Callable[[str], None], name: str, module: str
) -> None:
    without(module)
    path = tmp_path / name
    if name == "a.zarr":
        path.mkdir()
        (path / "zarr.json").touch()
    else:
        path.touch()
    with pytest.raises(UserError, match=rf"{name}: reading it needs {module}: {INSTALL}$"):
        open_source(path)


def test_a_tiff_that_needs_a_library_is_left_out_and_names_it(
    tmp_path: Path, without: Callable[[str], None]
) -> None:
    import tifffile

    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint16), photometric="rgb")
    without("tifffile")
    (found,) = open_source(path)
    assert isinstance(found, SkippedImage)
    assert found.reason == "reading it needs tifffile: pip install 'anowild[formats]'"
    error = ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")  # tifffile's
    assert failure_reason(error) == "reading it needs imagecodecs: pip install 'anowild[formats]'"


def test_crops_and_plots_name_the_library(images: Path, without: Callable[[str], None]) -> None:
    for name in ("skimage", "matplotlib"):
        without(name)
    with pytest.raises(UserError, match=rf"^crops of objects need skimage: {INSTALL}$"):
        CropReader(open_source(images), CropSettings(object_size=4))
    with pytest.raises(UserError, match=r"^plots need matplotlib: pip install 'anowild\[study\]'$"):
        _figure(1)
