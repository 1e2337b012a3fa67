"""What is left out or passed over is said by every command, and stops none of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from anowild.arrays import Array
from anowild.data import PackedSet
from anowild.reviewing.session import ReviewSession
from anowild.scoring import Detector
from tests.conftest import Run


@pytest.fixture
def mixed(folder_of: Callable[..., Path], digits: Array) -> Path:
    """Ten images, a linked folder of five, a link to nothing, and files of other kinds."""
    folder = folder_of(digits[:10], "mixed")
    (folder / "sub").mkdir()
    (folder / "sub" / "linked").symlink_to(folder_of(digits[10:15], "elsewhere"))
    (folder / "broken.png").symlink_to("/nowhere.png")
    for name in ("IMG_1.xyz", "IMG_2.XYZ", "noext"):
        (folder / name).write_bytes(b"x")
    return folder


SAID = "passed over: files that end in .xyz: 2 (first: {0}/IMG_1.xyz); files without an ending: 1"


def test_score_says_once_what_is_passed_over(
    anowild: Run, mixed: Path, model_folder: Path, tmp_path: Path
) -> None:
    code, out, err = anowild("score", model_folder, mixed, "-o", tmp_path / "s.csv", "--show", 0)
    assert code == 0
    assert "15 images, 1 left out" in out
    assert err.count(SAID.format(mixed)) == 1
    assert err.count("passed over") == 1


def test_data_set_report_and_review_keep_what_is_passed_over(
    anowild: Run, mixed: Path, model_folder: Path, detector: Detector, tmp_path: Path
) -> None:
    code, out, _ = anowild("prepare", mixed, "-o", tmp_path / "set", "--size", 16)
    assert code == 0
    assert out.count(SAID.format(mixed)) == 1
    expected = [
        {"reason": "files that end in .xyz", "count": 2, "first": f"{mixed}/IMG_1.xyz"},
        {"reason": "files without an ending", "count": 1, "first": f"{mixed}/noext"},
    ]
    assert json.loads((tmp_path / "set" / "dataset.json").read_text())["passed_over"] == expected
    assert [vars(one) for one in PackedSet(tmp_path / "set").passed_over] == expected
    session = ReviewSession.make(tmp_path / "review", detector, str(mixed))
    assert len(session) == 15
    assert [(one.reason, one.count) for one in session.images.left_out] == [
        ("No such file or directory", 1),
        ("files that end in .xyz", 2),
        ("files without an ending", 1),
    ]
    code, _, err = anowild("report", model_folder, mixed, "-o", tmp_path / "r.html")
    assert code == 0
    assert "files that end in .xyz" in (tmp_path / "r.html").read_text()
    assert "not used: 2 (files that end in .xyz)" in err


@pytest.mark.parametrize(("damaged", "expected"), [(10, 0), (11, 4)])
def test_exit_code_tells_that_most_images_were_left_out(
    anowild: Run,
    folder_of: Callable[..., Path],
    digits: Array,
    model_folder: Path,
    tmp_path: Path,
    damaged: int,
    expected: int,
) -> None:
    folder = folder_of(digits[:10])
    for i in range(damaged):
        (folder / f"x{i}.png").touch()
    for command in (
        ("score", model_folder, folder, "-o", tmp_path / "s.csv", "--budget", 3, "--exit-code"),
        ("prepare", folder, "-o", tmp_path / "set"),
    ):
        code, _, err = anowild(*command)
        flagged = 3 if command[0] == "score" else 0
        assert code == (expected or flagged), err
        assert ("11 of 21 images were left out" in err) is (expected == 4)
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 11
    assert len(PackedSet(tmp_path / "set")) == 10
