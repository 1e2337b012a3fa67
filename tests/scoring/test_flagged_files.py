"""Copies of flagged files: by relative names, and nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anowild.data.readers import FolderReader
from anowild.errors import UserError
from anowild.scoring.flagged_files import FlaggedFiles


def write(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), value).save(path)
    return path


def test_copies_have_names_relative_to_the_source(tmp_path: Path) -> None:
    paths = [write(tmp_path / "in" / "a.png"), write(tmp_path / "in" / "b" / "c.png", 9)]
    out = tmp_path / "out"
    copies = FlaggedFiles([tmp_path / "in"], out)
    assert copies.copy(map(str, paths)) == (2, 0)
    assert (out / "b" / "c.png").read_bytes() == paths[1].read_bytes()
    assert copies.copy(map(str, paths)) == (0, 2)


def test_folders_beside_each_other_stay_apart(tmp_path: Path) -> None:
    paths = [write(tmp_path / day / "a.png") for day in ("monday", "tuesday")]
    copies = FlaggedFiles([tmp_path / "monday", tmp_path / "tuesday"], tmp_path / "out")
    assert copies.copy(map(str, paths)) == (2, 0)
    assert (tmp_path / "out" / "monday" / "a.png").exists()
    assert (tmp_path / "out" / "tuesday" / "a.png").exists()


def test_other_content_is_not_overwritten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, there = write(tmp_path / "in" / "a.png", 1), write(tmp_path / "out" / "a.png", 2)
    kept = there.read_bytes()
    assert FlaggedFiles([tmp_path / "in"], tmp_path / "out").copy([str(path)]) == (0, 1)
    assert there.read_bytes() == kept
    assert "was not overwritten" in caplog.text


def test_pages_of_a_file_are_one_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [Image.new("L", (8, 8), value) for value in (1, 2)]
    (tmp_path / "in").mkdir()
    pages[0].save(tmp_path / "in" / "a.tif", save_all=True, append_images=pages[1:])
    monkeypatch.chdir(tmp_path)
    copies = FlaggedFiles(["in/a.tif"], Path("out"))
    assert copies.copy(["in/a.tif[0]", "in/a.tif[1]"]) == (1, 0)
    assert (tmp_path / "out" / "a.tif").exists()


def test_copies_inside_the_images_are_no_images(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, i) for i, name in enumerate(("a.png", "b/c.png"))]
    for expected in ((2, 0), (0, 2)):
        assert FlaggedFiles([tmp_path], tmp_path / "out").copy(map(str, paths)) == expected
        reader = FolderReader(str(tmp_path))
        assert reader.paths == paths
        assert [one.reason for one in reader.passed_over()] == ["folders that anowild wrote"]
    # A folder of the user's own gets no mark: its images would be passed over.
    mine = write(tmp_path / "mine" / "d.png")
    FlaggedFiles([tmp_path / "b"], tmp_path / "mine").copy([str(paths[1])])
    assert FolderReader(str(tmp_path)).paths == [*paths, tmp_path / "mine" / "c.png", mine]


def test_what_cannot_be_copied_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(UserError, match="its images are not single files"):
        FlaggedFiles([str(tmp_path / "a.npy")], tmp_path / "out")
    path = write(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / "mine" / "b.png")
    for folder in ("mine", "."):
        with pytest.raises(UserError, match="would be scored as well"):
            FlaggedFiles([tmp_path / "in"], tmp_path / "in" / folder)
    copies = FlaggedFiles([tmp_path / "in"], tmp_path / "out")
    path.unlink()
    with pytest.raises(UserError, match="is not there any more"):
        copies.copy([str(path)])
