"""Which image a path in a file of labels means."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from anowild.data.label_file import LabelFile
from anowild.errors import UserError

IMAGES = ["gray/g0.png", "gray/g1.png", "gray/g\u00fc.png"]


def label_file(folder: Path, paths: list[str], encoding: str = "utf-8") -> LabelFile:
    path = folder / "labels.csv"
    text = "path,label\n" + "".join(f"{path},{i}\n" for i, path in enumerate(paths))
    path.write_bytes(text.encode(encoding, "surrogateescape"))
    return LabelFile(str(path))


@pytest.mark.parametrize(
    "spelled",
    [
        lambda path: path,
        lambda path: "C:\\data\\" + path.replace("/", "\\"),
        lambda path: "\\\\server\\share\\" + path.replace("/", "\\"),
        lambda path: os.path.abspath(path),  # noqa: PTH100
        lambda path: "data/" + path,
        lambda path: "./" + path,
        lambda path: "../there/x/../" + path,
        lambda path: Path(path).name,
        lambda path: unicodedata.normalize("NFD", path),
        lambda path: os.fsdecode(path.encode("cp1252")),
    ],
)
def test_paths_of_other_systems_and_folders(tmp_path: Path, spelled: object) -> None:
    labels = label_file(tmp_path, [spelled(path) for path in IMAGES])  # type: ignore[operator]
    for kind in ("NFC", "NFD"):
        for prefix in ("", "../", "/mnt/images/") if spelled(IMAGES[0]) == IMAGES[0] else ("",):  # type: ignore[operator]
            names = [prefix + unicodedata.normalize(kind, path) for path in IMAGES]
            assert [labels.of(name, 0) for name in names] == ["0", "1", "2"]
            labels.begin(None)
            assert [labels.if_any(name, 0) for name in names] == ["0", "1", "2"]
    with pytest.raises(UserError, match=r"has no label for gray/g7.png"):
        labels.of("gray/g7.png", 0)


def test_the_longest_common_end_counts(tmp_path: Path) -> None:
    labels = label_file(tmp_path, ["g.png", "gray/g.png", "data/rgb/g.png"])
    assert labels.of("/mnt/gray/g.png", 0) == "1"
    assert labels.of("rgb/g.png", 0) == "2"
    assert labels.of("other/g.png", 0) == "0"
    assert labels.of("other/g.png[3]", 0) == "0"
    assert labels.of("rgb/g.png[3]@1,2", 0) == "2"


def test_a_path_that_may_mean_two_lines_is_refused(tmp_path: Path) -> None:
    labels = label_file(tmp_path, ["train/g.png", "test/g.png"])
    with pytest.raises(UserError, match=r"train/g.png may both mean g.png"):
        labels.of("g.png", 0)
    assert labels.of("test/g.png", 0) == "1"


def test_names_that_differ_in_spelling_alone_are_kept_apart(tmp_path: Path) -> None:
    two = [unicodedata.normalize(kind, "g\u00fc.png") for kind in ("NFC", "NFD")]
    labels = label_file(tmp_path, two)
    assert [labels.of(f"folder/{name}", 0) for name in two] == ["0", "1"]


def test_a_longer_path_of_another_file_is_no_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("good/g.png", "train/good/g.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")
    labels = label_file(tmp_path, ["train/good/g.png"])
    with pytest.raises(UserError, match=r"has no label for good/g.png"):
        labels.of("good/g.png", 0)


def test_lines_without_a_path_or_with_another_label_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("path,label\n,1\n")
    with pytest.raises(UserError, match="line 2: has no path"):
        LabelFile(str(path))
    path.write_text("path,label\na,1\na,1.0\na,0\n")
    with pytest.raises(UserError, match="lines 2 and 4 give a different labels"):
        LabelFile(str(path))
