"""The builder of the documents' image sets, on small copies of their sources."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anowild.errors import UserError
from anowild.files import read_json
from anowild.study.datasets import load_set
from bench import datasets
from tests.conftest import SHARED


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Checkouts with few images: each image of one class has one brightness."""
    folder = tmp_path / "sources"
    mito = folder / "phenotypic_profiling" / datasets.MITOCHECK.folder
    for number, name in enumerate(("Anaphase", "Grape", "Large")):
        (mito / name).mkdir(parents=True)
        for i in range(10):
            image = Image.new("L", (64, 64), 10 * number + i)
            image.save(mito / name / f"{i}.png")
    elpv = folder / "elpv-dataset" / datasets.ELPV.folder
    (elpv / "images").mkdir(parents=True)
    labels = []
    for i in range(20):
        Image.fromarray(np.full((300, 300), i, np.uint8)).save(elpv / "images" / f"{i}.png")
        labels.append(
            f"images/{i}.png  {('0.0', '0.3333333333333333')[i % 2]}   {('mono', 'poly')[i // 10]}"
        )
    (elpv / "labels.csv").write_text("\n".join(labels) + "\n\n")
    for number in (1, 5):
        place = folder / "Usiigaci" / datasets.USIIGACI.folder / f"set{number}"
        place.mkdir(parents=True)
        rows = np.linspace(1000, 60_000, 200 * 220).reshape(200, 220).astype(np.uint16)
        Image.fromarray(rows).save(place / "raw.tif")
    return folder


def test_mitocheck64_splits_each_class(sources: Path) -> None:
    arrays = datasets.mitocheck64(sources)
    assert arrays["classes"].tolist() == ["Anaphase", "Grape", "Large"]
    assert np.bincount(arrays["test_class"]).tolist() == [3, 3, 3]
    for split in ("train", "test"):
        values = arrays[split][:, 0, 0, 0]
        np.testing.assert_array_equal(values // 10, arrays[f"{split}_class"])
        np.testing.assert_array_equal(arrays[f"{split}_label"], arrays[f"{split}_class"] == 1)
    values = np.concatenate([arrays["train"], arrays["test"]])[:, 0, 0, 0]
    assert sorted(values.tolist()) == list(range(30))


def test_elpv64_keeps_the_order_of_its_labels(sources: Path) -> None:
    arrays = datasets.elpv64(sources)
    assert arrays["train"].shape[1:] == (1, 64, 64)
    assert len(arrays["test"]) == 8  # of four groups of 5, two each
    for split in ("train", "test"):
        number = arrays[split][:, 0, 0, 0].astype(int)
        assert (np.diff(number) > 0).all()
        np.testing.assert_array_equal(arrays[f"{split}_mono"], number < 10)
        np.testing.assert_allclose(arrays[f"{split}_probability"], number % 2 / 3)


def test_cells64_crops_at_the_listed_positions(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "cells64.csv"
    listed.write_text("set,y,x,label\n1,60,50,0\n5,100,120,1\n1,152,172,1\n")
    monkeypatch.setattr(datasets, "CELLS", listed)
    arrays = datasets.cells64(sources)
    assert arrays["train_label"].tolist() == [0, 1]
    assert (arrays["test_image"].tolist(), arrays["test_cy"].tolist()) == ([5], [100])
    # Rows get brighter from top to bottom: the middle of a crop has the brightness of its row.
    middle = arrays["train"][:, 0, 32].mean(axis=1)
    np.testing.assert_allclose(middle, 255 * np.array([60.5, 152.5]) / 200, atol=2)


def test_repository_is_downloaded_where_there_is_no_checkout(sources: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(sources / "elpv-dataset", "elpv-dataset-411fd72")
    source = datasets.Repository("elpv-dataset", archive.as_uri(), datasets.ELPV.folder)
    path = source.locate(tmp_path / "new")
    assert (path / "labels.csv").read_text() == (
        sources / "elpv-dataset" / datasets.ELPV.folder / "labels.csv"
    ).read_text()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["elpv-dataset"]
    assert source.locate(tmp_path / "new") == path
    missing = datasets.Repository("x", (tmp_path / "none.tar.gz").as_uri(), "x")
    with pytest.raises(UserError, match=r"or put a checkout into .*/new/x"):
        missing.locate(tmp_path / "new")


def test_main_writes_npz_and_says_what_differs(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["-o", str(tmp_path), "--sets", "elpv64", "--sources", str(sources)]
    assert datasets.main(given) == 1
    shown = capsys.readouterr()
    assert "elpv64.npz: DIFFERS" in shown.out
    assert "test_mono: another checksum" in shown.err
    assert set(load_set(tmp_path, "elpv64")) == set(read_json(datasets.CHECKSUMS)["elpv64"])


def test_checksums_of_cifar10_do_not_depend_on_the_order_within_a_class() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 2, 2), dtype=np.uint8)
    labels = np.array([0, 0, 0, 1, 1, 1])
    order = [2, 0, 1, 4, 5, 3]
    one = {"train": images, "train_label": labels, "test": images, "test_label": labels}
    two = {key: array[order] for key, array in one.items()}
    assert datasets.checksums("cifar10", one) == datasets.checksums("cifar10", two)
    assert datasets.checksums("cells64", one) != datasets.checksums("cells64", two)


@pytest.mark.shared
@pytest.mark.parametrize("name", sorted(set(datasets.SETS) - {"cifar10"}))
def test_shared_sets_have_the_committed_checksums(name: str) -> None:
    expected = read_json(datasets.CHECKSUMS)[name]
    arrays = load_set(SHARED, name)
    assert datasets.checksums(name, {key: arrays[key] for key in expected}) == expected
