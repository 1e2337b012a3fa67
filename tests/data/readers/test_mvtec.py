"""The layout of MVTec AD."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anowild.data.readers.mvtec import MVTecReader
from anowild.errors import UserError
from tests.data.readers.checks import check, crops, reasons

IMAGES = crops("grass.png")
NAMES = ("test/crack/000.png", "test/crack/001.png", "test/good/000.png", "train/good/000.png")


def category(root: Path) -> Path:
    for name, image in zip(NAMES, IMAGES, strict=False):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / name)
    masks = root / "ground_truth" / "crack"
    masks.mkdir(parents=True)
    Image.fromarray(np.zeros((40, 56), np.uint8)).save(masks / "000_mask.png")
    (root / "license.txt").write_text("x")
    return root


def test_split_label_and_mask(tmp_path: Path) -> None:
    root = category(tmp_path / "tile")
    assert MVTecReader.takes(str(root))
    records = check(MVTecReader(str(root)), IMAGES[:4])
    assert [r.name for r in records] == [str(root / name) for name in NAMES]
    assert [r.origin.split for r in records] == ["test", "test", "test", "train"]
    assert [r.origin.label for r in records] == ["crack", "crack", "good", "good"]
    mask = str(root / "ground_truth/crack/000_mask.png")
    assert [r.origin.mask for r in records] == [mask, None, None, None]


def test_masks_may_be_named_as_the_images(tmp_path: Path) -> None:
    root = category(tmp_path / "tile")
    masks = root / "ground_truth" / "crack"
    (masks / "000_mask.png").rename(masks / "001.png")
    found = [r.origin.mask for r in MVTecReader(str(root))]
    assert found == [None, str(masks / "001.png"), None, None]


def test_several_categories(tmp_path: Path) -> None:
    roots = [category(tmp_path / name) for name in ("screw", "tile")]
    Image.fromarray(IMAGES[5]).save(tmp_path / "overview.png")
    assert MVTecReader.takes(str(tmp_path))
    records = check(MVTecReader(str(tmp_path)), [IMAGES[5], *IMAGES[:4], *IMAGES[:4]])
    assert records[0].origin.label is None
    assert [r.origin.label for r in records[1:]] == ["crack", "crack", "good", "good"] * 2
    assert [r.origin.split for r in records[1:]] == ["test", "test", "test", "train"] * 2
    for root, record in zip(roots, (records[1], records[5]), strict=True):
        assert record.origin.mask == str(root / "ground_truth/crack/000_mask.png")


def test_a_damaged_image_is_left_out(tmp_path: Path) -> None:
    root = category(tmp_path / "tile")
    (root / NAMES[1]).write_bytes(b"no image")
    reader = MVTecReader(str(root))
    check(reader, [IMAGES[0], IMAGES[2], IMAGES[3]])
    assert list(reasons(reader)) == [str(root / NAMES[1])]


def test_other_folders_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "cat").mkdir(parents=True)
    assert not MVTecReader.takes(str(tmp_path))
    assert not MVTecReader.takes(str(tmp_path / "absent"))


def test_a_category_without_images(tmp_path: Path) -> None:
    root = category(tmp_path / "tile")
    for name in NAMES:
        (root / name).unlink()
    with pytest.raises(UserError, match="tile: holds no images"):
        MVTecReader(str(root))
