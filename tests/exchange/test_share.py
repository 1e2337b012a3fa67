"""What all formats have in common: which images, from which files, and nothing that is passed over."""

from __future__ import annotations

import csv
import errno
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import anowild
from anowild import api
from anowild.arrays import Array
from anowild.errors import UserError
from anowild.exchange.formats import format_names, format_of
from anowild.exchange.formats.base import Format
from anowild.exchange.pictures import Pictures
from anowild.reviewing.export import write_marks
from anowild.reviewing.images import prepare_images
from tests.conftest import Run
from tests.exchange.conftest import NAMES

TableOf = Callable[..., Path]
FolderOf = Callable[..., Path]


def samples(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((folder / "samples.json").read_text())["samples"]
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("table", ["s.csv", "s.parquet"])
def test_all_that_the_table_and_the_review_say_arrives(
    scored: Path, tmp_path: Path, table: str
) -> None:
    images, out = scored / "my images", tmp_path / "out"
    counts = api.share(scored / table, images, "fiftyone", out, marks=scored)  # as of `find`
    assert counts == {"shared": 8, "flagged": 3, "marked": 4}
    found = {str(one["filepath"]): one for one in samples(out)}
    assert set(found) == {str(images / name) for name in NAMES}
    for row in rows(scored / "s.csv"):
        one = found[row["path"]]
        assert one["score"] == float(row["score"])
        assert one["p_value"] == pytest.approx(10 ** -float(row["score"]))
        assert one["view_gan"] == float(row["view_gan"])
        assert one["reasons"] == row["why"] != ""
        assert ("flagged" in one["tags"]) == (row["odd"] == "1")  # type: ignore[operator]
    scores = [one["score"] for one in samples(out)]
    assert scores == sorted(scores, key=lambda score: -float(str(score)))
    marks = {name: (found[str(images / name)]["mark"] or {}) for name in NAMES}
    labels = {name: mark.get("label") for name, mark in marks.items() if mark}  # type: ignore[attr-defined]
    assert labels == {
        "a.png": "remove", "sub/a.png": "keep", "g.png": "interesting", "=1+1.png": "unsure",
    }  # fmt: skip
    assert "dust" in found[str(images / "a.png")]["tags"]  # type: ignore[operator]


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_marks_from_a_file_say_the_same_as_the_review(
    scored: Path, tmp_path: Path, ending: str
) -> None:
    file = tmp_path / f"marks.{ending}"
    write_marks(scored / "review", file)
    sources = scored / "my images"
    for marks, out in ((scored / "review", tmp_path / "a"), (file, tmp_path / "b")):
        api.share(scored / "s.csv", sources, "fiftyone", out, marks=marks)
    assert samples(tmp_path / "a") == samples(tmp_path / "b")


def test_a_limit_flags_in_place_of_the_tables(scored: Path, tmp_path: Path) -> None:
    scores = sorted(float(row["score"]) for row in rows(scored / "s.csv"))
    counts = api.share(
        scored / "s.csv", scored / "my images", "cleanvision", tmp_path / "o", threshold=scores[2]
    )
    assert counts["flagged"] == 6


def test_without_a_limit_the_usual_one_is_taken_and_said(
    anowild: Run, folder_of: FolderOf, digits: Array, tmp_path: Path
) -> None:
    folder = folder_of(digits[:2])
    lines = [f"{folder}/0000.png,1.31", f"{folder}/0001.png,1.29"]
    (tmp_path / "t.csv").write_text("\n".join(["path,score", *lines]))
    code, out, err = anowild(
        "share", tmp_path / "t.csv", folder, "--to", "cleanvision", "-o", tmp_path / "o"
    )
    assert code == 0
    assert "1  flagged" in out
    assert "score 1.30 or more are flagged" in err


@pytest.mark.parametrize("how", ["links", "hardlinks", "copies"])
def test_images_are_put_into_the_result(scored: Path, tmp_path: Path, how: str) -> None:
    out = tmp_path / "out"
    api.share(scored / "s.csv", scored / "my images", "fiftyone", out, how=how)  # type: ignore[arg-type]
    moved = out.rename(tmp_path / "moved")
    assert {str(one["filepath"]) for one in samples(moved)} == {f"data/{name}" for name in NAMES}
    for name in NAMES:
        original, placed = scored / "my images" / name, moved / "data" / name
        assert placed.read_bytes() == original.read_bytes()
        assert placed.is_symlink() == (how == "links")
        assert placed.samefile(original) == (how != "copies")


def test_two_sources_with_the_same_names_stay_apart(
    folder_of: FolderOf, digits: Array, table_of: TableOf, tmp_path: Path
) -> None:
    sources = [folder_of(digits[:2], "x/images"), folder_of(digits[2:4], "y/images")]
    table = table_of([path for source in sources for path in sorted(source.iterdir())])
    counts = api.share(table, sources, "fiftyone", tmp_path / "o", how="copies")
    assert counts["shared"] == 4
    names = {str(one["filepath"]) for one in samples(tmp_path / "o")}
    assert names == {f"data/{top}/images/000{i}.png" for top in "xy" for i in (0, 1)}


def test_images_in_archives_and_arrays_are_written_out_exactly(
    digits: Array, table_of: TableOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("a b.zip", "w") as archive:
        for i in range(2):
            Image.fromarray(digits[i]).save(f"{i}.png")
            archive.writestr(f"in/{i}.png", Path(f"{i}.png").read_bytes())
    np.save("more.npy", digits[2:4])
    names = ["a b.zip/in/0.png", "a b.zip/in/1.png", "more.npy[0]", "more.npy[1]"]
    counts = api.share(table_of(names), ["a b.zip", "more.npy"], "fiftyone", "o")
    assert counts == {"shared": 4, "flagged": 1, "written as PNG": 4}
    for image, one in zip(digits, samples(Path("o")), strict=False):
        path = Path("o", str(one["filepath"]))
        assert path.resolve().is_relative_to(tmp_path / "o" / "data")
        assert np.array_equal(np.asarray(Image.open(path)), image)


def test_pages_and_what_a_browser_cannot_show_become_png(
    digits: Array, table_of: TableOf, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    pages = [Image.fromarray(image) for image in digits[:3]]
    pages[0].save(folder / "stack.tif", save_all=True, append_images=pages[1:2])
    pages[2].save(folder / "single.tif")
    table = table_of([f"{folder}/stack.tif[1]", f"{folder}/single.tif"])
    counts = api.share(table, folder, "label-studio", tmp_path / "a")
    assert (counts["shared"], counts["written as PNG"]) == (2, 2)
    found = np.asarray(Image.open(tmp_path / "a" / "images" / "stack.tif[1].png"))
    assert np.array_equal(found, digits[1])
    # CleanVision reads TIFF itself, but knows no pages.
    counts = api.share(table, folder, "cleanvision", tmp_path / "b")
    assert (counts["shared"], counts["written as PNG"]) == (2, 1)
    with (tmp_path / "b" / "issues.csv").open(newline="") as file:
        assert {row[0] for row in csv.reader(file)} > {str(folder / "single.tif")}


def test_names_that_are_no_text_are_copied_under_others_or_refused(
    digits: Array, table_of: TableOf, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    path = Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png"))
    Image.fromarray(digits[0]).save(path)
    table = table_of([path])
    for to in ("fiftyone", "label-studio", "cleanvision"):
        with pytest.raises(UserError, match=r"xff.png: its name is no valid UTF-8"):
            api.share(table, folder, to, tmp_path / to)
        assert not (tmp_path / to).exists()
    assert api.share(table, folder, "fiftyone", tmp_path / "o", how="copies")["shared"] == 1
    assert (tmp_path / "o" / "data" / "\\xff.png").exists()


def test_names_changed_by_a_spreadsheet_program_are_found(
    digits: Array, table_of: TableOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images/sub").mkdir(parents=True)
    Image.fromarray(digits[0]).save("images/sub/Zelle ü.png")
    table = table_of([normalize("NFD", "images\\sub\\Zelle ü.png")])
    assert api.share(table, "images", "cleanvision", "o")["shared"] == 1
    # As Excel saves "CSV", without Unicode.
    table = table_of(["images\\sub\\Zelle ü.png"])
    table.write_bytes(table.read_text().encode("cp1252"))
    assert api.share(table, "images", "cleanvision", "windows")["shared"] == 1


def test_images_that_could_not_be_read_are_left_out(
    digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As `anowild watch` lists them, without a score."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    Image.fromarray(digits[0]).save("images/a.png")
    Path("images/b.png").write_bytes(b"x")
    Path("table.csv").write_text("path,score,odd\nimages/a.png,1.0,1\nimages/b.png,nan,0\n")
    assert api.share(Path("table.csv"), "images", "cleanvision", "o")["shared"] == 1
    assert "table.csv: 1 images without a score" in caplog.text


def test_names_that_differ_in_case_or_are_too_long_stay_apart(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path, tmp_path, "copies", [])
    pixels = np.zeros((4, 4, 1), np.uint8)
    names = ["A.png", "a.png", "x" * 300 + ".png", "x" * 301 + ".png", "../../up.png", "/top.png"]
    files = [pictures.put(name, pixels, "images") for name in names]
    assert len({str(file).casefold() for file in files}) == len(names)
    assert all(file.exists() and file.is_relative_to(tmp_path / "images") for file in files)
    assert all(file.suffix == ".png" for file in files)


def test_missing_and_new_images_are_said(
    anowild: Run, folder_of: FolderOf, digits: Array, table_of: TableOf, tmp_path: Path
) -> None:
    folder = folder_of(digits[:4])
    table = table_of([f"{folder}/000{i}.png" for i in (1, 2, 3, 8)])
    command = ["share", table, folder, "--to", "cleanvision", "-o"]
    code, out, err = anowild(*command, tmp_path / "a")
    assert code == 0
    assert "3  shared" in out
    assert "1  missing" in out
    assert "1 images of the table are left out" in err
    assert "0008.png" in err
    assert "1 images of the sources are not in the table" in err
    for i in (2, 3):
        (folder / f"000{i}.png").unlink()
    assert anowild(*command, tmp_path / "b")[0] == 4
    assert len(rows(tmp_path / "b" / "issues.csv")) == 1


def test_a_file_that_vanishes_is_a_sentence_and_leaves_nothing(
    folder_of: FolderOf,
    digits: Array,
    table_of: TableOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = folder_of(digits[:2])
    table = table_of(sorted(folder.iterdir()))
    before = set(tmp_path.iterdir())
    put = Pictures.put

    def lost(self: Pictures, name: str, content: Path, below: str) -> Path:
        content.unlink()
        return put(self, name, content, below)

    monkeypatch.setattr(Pictures, "put", lost)
    with pytest.raises(UserError, match=r"0000.png: cannot be put at .*No such file"):
        api.share(table, folder, "anomalib", tmp_path / "o", how="copies", by_limit=True)
    assert set(tmp_path.iterdir()) == before


def test_a_full_disk_is_a_sentence_and_leaves_nothing(
    scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "symlink_to", full)
    monkeypatch.setattr(Path, "write_text", full)
    for how in ("links", "reference"):
        with pytest.raises(UserError, match="the disk is full"):
            api.share(
                scored / "s.csv", scored / "my images", "fiftyone", tmp_path / "o",
                how=how,
            )  # fmt: skip
        assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_never_overwritten(scored: Path, tmp_path: Path) -> None:
    for name in ("folder", "file", "nowhere"):
        out = tmp_path / name
        if name == "folder":
            out.mkdir()
        elif name == "file":
            out.write_text("mine")
        else:
            out.symlink_to(tmp_path / "target")
        with pytest.raises(UserError, match="exists already; name a new folder"):
            api.share(scored / "s.csv", scored / "my images", "cleanvision", out)
    assert (tmp_path / "file").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file", "nowhere"}


def test_wrong_inputs_are_sentences(
    anowild: Run,
    scored: Path,
    folder_of: FolderOf,
    digits: Array,
    table_of: TableOf,
    tmp_path: Path,
) -> None:
    images = scored / "my images"
    other = folder_of(digits[:3], "other")
    (tmp_path / "text.csv").write_text("path,label\na,b\n")
    (tmp_path / "nan.csv").write_text("path,score,odd\na,nan,0\n")
    (tmp_path / "infinite.csv").write_text("path,score,odd\na,inf,1\n")
    (tmp_path / "seven.csv").write_text("path,score,odd\na,1,7\n")
    (tmp_path / "empty.csv").write_text("path,score,odd\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    pq.write_table(pa.table({"path": ["a"], "score": ["x"]}), tmp_path / "words.parquet")
    numbers = {"path": ["a"], "score": [1.0], "odd": [1], "why": [2]}
    pq.write_table(pa.table(numbers), tmp_path / "why.parquet")
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "columns.parquet")
    (tmp_path / "marks.csv").write_text("path,verdict,reviewer\nelsewhere.png,keep,Ada\n")
    (tmp_path / "bad.csv").write_text("path,verdict,reviewer\na,odd,Ada\n")
    (tmp_path / "none.json").write_text("[]")
    (tmp_path / "null.json").write_text('[{"path": null, "verdict": "keep", "reviewer": "Ada"}]')
    (tmp_path / "no.json").write_text('{"a": 1}')
    table, out = scored / "s.csv", tmp_path / "o"
    twice = table_of([other / "0000.png", other / "0000.png"])
    there = set(tmp_path.iterdir())

    def command(*more: object, table: Path = table, source: object = images) -> Sequence[object]:
        to = () if "--to" in more else ("--to", "cleanvision")
        return ("share", table, source, *to, "-o", out, *more)

    for arguments, sentence in (
        (
            command("--to", "excel"),
            "there is no format 'excel'; take one of anomalib, cleanvision,",
        ),
        (command("--to", "napari"), "its images are no crops of frames"),
        (command("--to", "napari", "--how", "copies"), "has no images, so no --how"),
        (command("--to", "anomalib"), "no image is marked"),
        (command("--to", "anomalib", "--how", "reference"), "takes --how links, hardlinks, copies"),
        (command("--by-limit"), "--by-limit is not for --to cleanvision"),
        (command("--url-prefix", "http://x/"), "--url-prefix is not for --to cleanvision"),
        (command("--threshold", "nan"), "--threshold of nan: has to be a number"),
        (command("--marks", tmp_path / "marks.csv"), "none of its 1 marked images is in"),
        (command("--marks", tmp_path / "bad.csv"), "verdict 'odd' for a"),
        (command("--marks", tmp_path / "none.json"), "holds no marks"),
        (command("--marks", tmp_path / "no.json"), "cannot be read as marks"),
        (command("--marks", tmp_path / "no.csv"), "cannot be read as marks"),
        (command("--marks", images), "holds no review"),
        (command("--marks", tmp_path / "null.json"), "cannot be read as marks"),
        (command(table=tmp_path / "why.parquet"), "row 1: why is 2, which is no text"),
        (("share", table, images, "--to", "fiftyone", "-o", images / "o"), "name another folder"),
        (command(source=other), "none of its 8 images is in the sources"),
        (command(source=tmp_path / "absent"), "no such file or folder"),
        (command(table=tmp_path / "absent.csv"), "cannot be read as a table of scores"),
        (command(table=tmp_path / "absent.parquet"), "cannot be read as a table of scores"),
        (command(table=tmp_path / "text.csv"), "one column each of path, score"),
        (command(table=tmp_path / "nan.csv"), "nan.csv: lists no images"),
        (command(table=tmp_path / "infinite.csv"), "line 2: score is inf, which is no finite"),
        (command(table=tmp_path / "seven.csv"), "line 2: odd is 7, and has to be 0 or 1"),
        (command(table=tmp_path / "empty.csv"), "lists no images"),
        (command(table=tmp_path / "broken.parquet"), "cannot be read as a table of scores"),
        (command(table=tmp_path / "words.parquet"), "row 1: score is 'x', which is no number"),
        (command(table=tmp_path / "columns.parquet"), "has no column 'path'"),
        (command(table=images), "cannot be read as a table of scores"),
        (command(table=twice, source=other), "0000.png twice"),
    ):
        code, _, err = anowild(*arguments)
        assert (code, sentence in err) == (1, True), (arguments, err)
        assert set(tmp_path.iterdir()) == there
    with pytest.raises(UserError, match="my images: is given twice"):
        api.share(table, [images, images], "cleanvision", out)


def test_a_set_of_tiles_has_no_images_to_share(
    digits: Array, table_of: TableOf, tmp_path: Path
) -> None:
    np.save(tmp_path / "i.npy", digits[:2])
    prepare_images(tmp_path / "i.npy", tmp_path / "set", anowild.Preprocess(8, 1, tiles=8))
    with pytest.raises(UserError, match="holds tiles, not whole images"):
        api.share(table_of(["x"]), tmp_path / "set", "cleanvision", tmp_path / "o")


def test_every_format_is_named_where_people_look(
    anowild: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    page = (Path(__file__).parents[2] / "docs" / "tools.md").read_text()
    shown = anowild("share", "--help")[1]
    assert "fiftyone" in format_names()
    for name in format_names():
        found = format_of(name)
        assert isinstance(found, Format)
        assert found.name == name
        assert name in shown
        assert f"--to {name}" in page
