"""Sources of one command that overlap: each image is read once, or the command says what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anowild.data import ImageSet
from anowild.data.sources import open_all
from anowild.errors import UserError
from tests.data.readers.checks import crops


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for i, image in enumerate(crops("cell.png", 4)):
        Image.fromarray(image).save(folder / ("sub" if i % 2 else ".") / f"{i}.png")
    return folder


@pytest.mark.parametrize("again", ["images", "./images", "images/../images", "linked"])
def test_a_source_that_is_given_twice(images: Path, again: str) -> None:
    Path("linked").symlink_to("images")
    sources = ["images", again]
    with pytest.raises(UserError, match=r"is given twice"):
        open_all(sources)


@pytest.mark.parametrize("inner", ["images/sub", "images/sub/3.png", "images/0.png"])
def test_a_source_in_another_one(images: Path, inner: str) -> None:
    for sources in (["images", inner], [inner, "images"]):
        with pytest.raises(UserError, match=f"^{inner}: is in images, which is given, too; leave"):
            open_all(sources)


def test_sources_that_do_not_overlap(images: Path) -> None:
    """Neighbors, what the outer folder passes over, parts of one file, and many single files."""
    shutil.copytree("images/sub", "images/.hidden")
    shutil.copytree("images/sub", "more")
    np.savez("a.npz", x=np.stack(crops("cell.png")), y=np.stack(crops("coins.png")))
    shutil.copy("a.npz", "images/a.npz")
    sources = ["images", "images/.hidden", "more", "a.npz:x", "a.npz:y", "images/a.npz:x"]
    assert len(open_all(sources)) == 6
    assert len(open_all([str(path) for path in sorted(images.rglob("[0-9].png"))])) == 6
    with pytest.raises(UserError, match="is given twice, as more"):
        ImageSet.load(["more", "more/"])
