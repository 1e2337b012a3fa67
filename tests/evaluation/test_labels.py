"""Labels of images: from files, folders and sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anowild.data.readers import Provenance
from anowild.errors import UserError
from anowild.evaluation.labels import Labels


def write_csv(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("word", ["", "-1", "nan", "NA", "None"])
def test_words_for_no_label_are_no_anomalies(tmp_path: Path, word: str) -> None:
    source = write_csv(tmp_path / "l.csv", f"path,label\na.png,good\nb.png,scratch\nc.png,{word}\n")
    with pytest.raises(UserError, match="an image has no label"):
        Labels(source, ["good"])
    labels = Labels(source, ["good"], partial=True)
    labels.begin(None)
    assert labels.of(["a.png", "b.png", "c.png"], [0, 1, 2]).tolist() == [0, 1, -1]


def test_a_name_without_its_folder_labels_one_image(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "l.csv", "path,label\na.png,0\n")
    labels = Labels(source)
    labels.begin(None)
    with pytest.raises(UserError, match=r"a\.png may mean c1/a\.png or c2/a\.png"):
        labels.of(["c1/a.png", "c2/a.png"], [0, 1])
    labels.begin(None)
    assert labels.of(["c1/a.png@1", "c1/a.png@2", "./c1/a.png"], [0, 1, 2]).tolist() == [0, 0, 0]


def test_labels_by_path_whatever_the_place(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "l.csv", "path,label\na/1.png,0\na/2.png,1\nb/2.png,normal\n")
    names = ["/data/a/1.png", "a/2.png", "/x/b/2.png"]
    assert Labels(source).of(names, [0, 1, 2]).tolist() == [0, 1, 0]
    with pytest.raises(UserError, match=r"no label for c/9\.png"):
        Labels(source).of(["c/9.png"], [0])


def test_a_label_of_some_images_serves_one_alone(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "l.csv", "path,label\na.png,1\nb.png,\nv.mp4[1],0\n")
    partial = Labels(source, partial=True)
    # Spelled in full: its namesake in another folder is not meant.
    assert partial.of(["a.png", "x/a.png", "b.png", "c.png"], [0, 1, 2, 3]).tolist() == [
        1,
        -1,
        -1,
        -1,
    ]
    # All crops of a frame have its label.
    assert partial.of(["v.mp4[1]@2,3", "v.mp4[1]@4,5", "v.mp4[2]@2,3"], [4, 5, 6]).tolist() == [
        0,
        0,
        -1,
    ]
    # Written from another place, and not clear.
    partial = Labels(source, partial=True)
    assert partial.of(["x/a.png"], [0]).tolist() == [1]
    with pytest.raises(UserError, match=r"a\.png may mean x/a\.png or y/a\.png"):
        partial.of(["y/a.png"], [1])


def test_what_is_spelled_from_here_is_meant_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("z.png", "a/z.png", "b/z.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    labels = Labels(write_csv(tmp_path / "l.csv", "path,label\nz.png,1\n"), partial=True)
    for _ in range(2):  # a pass leaves nothing behind
        labels.begin(None)
        assert labels.of(["a/z.png", "b/z.png", "z.png"], [0, 1, 2]).tolist() == [-1, -1, 1]
        labels.begin(None)
        assert labels.of(
            [str(tmp_path / "a" / "z.png"), str(tmp_path / "z.png")], [0, 1]
        ).tolist() == [-1, 1]


def test_labels_of_some_images_in_other_forms(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", [0, -1, 1])
    assert Labels(str(tmp_path / "l.npy"), partial=True).of("abc", [0, 1, 2]).tolist() == [0, -1, 1]
    with pytest.raises(UserError, match=r"an image has no label \('-1'\)"):
        Labels(str(tmp_path / "l.npy"))
    known = Labels("source", ["cat"], partial=True)
    assert known.of("ab", [0, 1], known=[Provenance(label="dog"), Provenance()]).tolist() == [1, -1]
    with pytest.raises(UserError, match="none is without a label"):
        Labels("folders", partial=True)


def test_labels_by_position_leave_gaps_where_images_were_left_out(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", [0, 1, 1, 0])
    labels = Labels(str(tmp_path / "l.npy"))
    found = labels.of(["a", "b"], [1, 3])
    assert labels.end([found], left_out=2).tolist() == [1, 0]
    with pytest.raises(UserError, match="4 labels for 5 images"):
        labels.end([found], left_out=3)


def test_labels_by_folder() -> None:
    names = ["x/good/1.png", "x/crack/1.png", "x/0/3.png"]
    assert Labels("folders").of(names, [0, 1, 2]).tolist() == [0, 1, 0]
    assert Labels("folders", ["crack"]).of(names, [0, 1, 2]).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,label\na,0\n", "needs one column each of path, label"),
        ("", "header"),
        ("path,label\na,0\nb,maybe\n", "line 3: the label is 'maybe'"),
        ("path,label\na,0\nb,1\na,1\n", "lines 2 and 4 give a different labels"),
    ],
)
def test_wrong_labels_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Labels(write_csv(tmp_path / "l.csv", text))


def test_label_arrays_hold_0_and_1(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", [0, 2])
    with pytest.raises(UserError, match="the label is '2'"):
        Labels(str(tmp_path / "l.npy"))
    with pytest.raises(UserError, match="no such file of labels"):
        Labels(str(tmp_path / "absent.csv"))
