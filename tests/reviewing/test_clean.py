"""Which images `anowild clean` keeps, and that it never changes the originals."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.reviewing.clean import clean
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import MARKS, Store
from anowild.scoring import Detector
from tests.conftest import Run, tiny_settings


@pytest.fixture
def review_folder(scored_folder: Path, tmp_path: Path) -> Path:
    """A review with marks: two images to remove, one with disagreeing reviewers, one to keep, one interesting."""
    folder = tmp_path / "review"
    shutil.copytree(scored_folder, folder)
    names = ReviewSession.load(folder).names
    store = Store(folder / MARKS)
    for number in (0, 1, 2):
        store.mark([names[number]], "Ada", "remove")
    store.mark([names[2]], "Bo", "keep")
    store.mark([names[3]], "Ada", "keep")
    store.mark([names[4]], "Ada", "interesting")
    store.close()
    return folder


def log_of(out: Path) -> dict[str, tuple[str, str]]:
    with (out / "clean.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"]: (row["stays"], row["why"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("how", ["links", "copies", "list"])
def test_clean_drops_images_marked_remove(
    anowild: Run, review_folder: Path, images: Path, tmp_path: Path, how: str
) -> None:
    before = {path: path.read_bytes() for path in images.iterdir()}
    out = tmp_path / "clean"
    code, printed, err = anowild("clean", review_folder, "-o", out, "--how", how)
    assert code == 0, err
    assert "2  goes: marked remove" in printed
    assert {path: path.read_bytes() for path in images.iterdir()} == before
    names = ReviewSession.load(review_folder).names
    lists = [(out / name).read_bytes() for name in ("kept.txt", "removed.txt")]
    assert [os.fsencode(names[0]) + b"\n" in listed for listed in lists] == [False, True]
    assert [len(listed.splitlines()) for listed in lists] == [118, 2]
    log = log_of(out)
    assert len(log) == 120
    assert sum(stays == "0" for stays, _ in log.values()) == 2
    assert [why for _, why in log.values()].count("marked unsure") == 1
    if how == "list":
        assert not (out / "images").exists()
        return
    written = {os.fsencode(path.name): path for path in (out / "images").iterdir()}
    assert set(written) == {os.fsencode(Path(name).name) for name in names[2:]}
    assert all(path.is_symlink() == (how == "links") for path in written.values())
    again = ImageSet.load(str(out / "images"), tiny_settings())
    assert len(again) == 118


def test_clean_threshold_removes_unmarked_images(
    anowild: Run, review_folder: Path, tmp_path: Path
) -> None:
    session = ReviewSession.load(review_folder)
    above = float(np.quantile(session.score, 0.9))
    out = tmp_path / "clean"
    code, _, err = anowild(
        "clean", review_folder, "-o", out, "--how", "list", "--threshold", str(above)
    )
    assert code == 0, err
    log = list(log_of(out).values())
    for number, (score, (stays, _)) in enumerate(zip(session.score, log, strict=True)):
        expected = number in (3, 4) or (number > 1 and score < above)
        assert stays == str(int(expected)), number


def test_clean_finds_the_review_in_what_find_made(
    anowild: Run, review_folder: Path, tmp_path: Path
) -> None:
    found = tmp_path / "found"
    shutil.copytree(review_folder, found / "review")
    for source, out in ((found, "a"), (review_folder, "b")):
        code, _, err = anowild("clean", source, "-o", tmp_path / out, "--how", "list")
        assert code == 0, err
    assert log_of(tmp_path / "a") == log_of(tmp_path / "b")


def test_clean_takes_the_limit_that_is_kept_with_a_model(
    anowild: Run, review_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_folder, tmp_path / "model", ignore=shutil.ignore_patterns("training"))
    command = ["clean", review_folder, "-o", tmp_path / "clean", "--how", "list"]
    code, _, err = anowild(*command, "--threshold", "saved")
    assert (code, "needs the model" in err) == (1, True)
    anowild("limit", tmp_path / "model", 1.5)
    code, printed, err = anowild(*command, "--threshold", "saved", "--model", tmp_path / "model")
    assert code == 0, err
    assert "goes: not decided, and scores 1.50 or more" in printed


def test_clean_accepts_table_with_threshold(
    anowild: Run, model_folder: Path, images: Path, tmp_path: Path
) -> None:
    for name in ("scores.csv", "scores.parquet"):
        table = tmp_path / name
        code, _, err = anowild("score", model_folder, images, "-o", table, "--budget", "10")
        assert code == 0, err
        out = tmp_path / f"clean of {name}"
        code, printed, err = anowild("clean", table, "-o", out, "--how", "list")
        assert code == 0, err
        assert "10  goes: above the limit" in printed
        assert len((out / "kept.txt").read_bytes().splitlines()) >= 110


def test_clean_accepts_table_saved_by_a_spreadsheet_program(
    anowild: Run, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["sub/=1+1.png", "=2+2.png", "Zelle \u00fc.png", "plain.png"]
    (tmp_path / "sub").mkdir()
    for name, image in zip(names, digits, strict=False):
        Image.fromarray(image).save(tmp_path / name)
    cells = ["sub\\=1+1.png", "'=2+2.png", "Zelle u\u0308.png", "plain.png"]
    text = "Path;Score ;odd\r\n" + "".join(
        f"{cell};{i},25;{i // 3}\r\n" for i, cell in enumerate(cells)
    )
    for encoding in ("utf-8-sig", "utf-16"):
        table, out = tmp_path / f"{encoding}.csv", tmp_path / encoding
        table.write_bytes(text.encode(encoding))
        code, _, err = anowild("clean", table, "-o", out)
        assert code == 0, err
        kept = {path.resolve() for path in (out / "images").rglob("*.png")}
        assert kept == {tmp_path / name for name in names[:3]}
        assert log_of(out)["plain.png"] == ("0", "above the limit (3.25)")
        assert "'=2+2.png" in (out / "clean.csv").read_text()
    table.write_text(text.replace(";odd", ";odd;ODD").replace("\r\n", ";0\r\n"))
    code, _, err = anowild("clean", table, "-o", tmp_path / "x")
    assert (code, "has two columns 'odd'; remove one" in err) == (1, True)
    table.write_text(f"{text};9,25;1\r\n")
    code, _, err = anowild("clean", table, "-o", tmp_path / "x")
    assert (code, "line 6: names no image" in err) == (1, True)
    # As Excel saves "CSV", without Unicode.
    table.write_bytes(text.replace("u\u0308", "\u00fc").encode("cp1252"))
    code, _, err = anowild("clean", table, "-o", tmp_path / "windows")
    assert code == 0, err
    assert (tmp_path / "windows" / "images" / names[2]).exists()
    table.write_text(text.replace("odd", "row"))
    code, _, err = anowild("clean", table, "-o", tmp_path / "x")
    assert (code, "no column 'odd'" in err) == (1, True)
    table.write_text(text.replace("Path", "File"))
    code, _, err = anowild("clean", table, "-o", tmp_path / "x")
    assert (code, "'File;Score ;odd'" in err) == (1, True)
    table.write_text(text.replace(";1\r", ";7\r"))
    code, _, err = anowild("clean", table, "-o", tmp_path / "x")
    assert (code, "line 5: odd is 7, and has to be 0 or 1" in err) == (1, True)


def test_clean_refuses_unusable_sources_and_leaves_nothing(
    anowild: Run, model_folder: Path, digits: Array, review_folder: Path, tmp_path: Path
) -> None:  # fmt: skip
    here = tmp_path / "here"
    here.mkdir()
    np.save(tmp_path / "images.npy", digits[:30])
    anowild("score", model_folder, tmp_path / "images.npy", "-o", tmp_path / "plain.csv")
    anowild(
        "score", model_folder, tmp_path / "images.npy", "-o", tmp_path / "line.csv", "--budget", "3"
    )
    anowild(
        "score", model_folder, tmp_path / "images.npy", "-o", tmp_path / "all.csv", "--budget", "30"
    )
    table = tmp_path / "table"
    table.mkdir()
    (table / "table.review.json").write_text("{}")
    left = set(tmp_path.iterdir())
    for source, options, sentence in (
        (review_folder, ["-o", here], "exists already"),
        (tmp_path / "absent", ["-o", tmp_path / "x"], "cannot be read"),
        (here, ["-o", tmp_path / "x"], "here: holds no review; start one with"),
        (table, ["-o", tmp_path / "x"], "is the review of a table, which has no images"),
        (tmp_path / "plain.csv", ["-o", tmp_path / "x"], "no column 'odd'"),
        (tmp_path / "line.csv", ["-o", tmp_path / "x"], "there is no such file in"),
        (tmp_path / "line.csv", ["-o", tmp_path / "x", "--threshold", "2"], "belongs to a review"),
        (tmp_path / "all.csv", ["-o", tmp_path / "x"], "nothing would stay"),
    ):
        code, _, err = anowild("clean", source, *options)
        assert (code, sentence in err) == (1, True), err
    code, _, err = anowild("clean", review_folder, "-o", tmp_path / "x", "--how", "magic")
    assert (code, "'magic' is not one of" in err) == (2, True)
    assert set(tmp_path.iterdir()) == left


def test_clean_resolves_names_from_base_dir_of_review(
    anowild: Run, detector: Detector, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "images").mkdir(parents=True)
        for i, image in enumerate(digits[:20]):
            Image.fromarray(image).save(tmp_path / place / "images" / f"{i}.png")
    (tmp_path / "here" / "review").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    ReviewSession.make(Path("review"), detector, "images")
    monkeypatch.chdir(tmp_path / "there")
    code, _, err = anowild("clean", "../here/review", "-o", "out")
    assert code == 0, err
    for path in (tmp_path / "there" / "out" / "images").iterdir():
        assert path.resolve().parent == tmp_path / "here" / "images"


def test_clean_keeps_other_part_folders(anowild: Run, review_folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "clean.part" / "images" / "mine.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    assert anowild("clean", review_folder, "-o", tmp_path / "clean")[0] == 0
    assert mine.read_text() == "precious"
    assert [path.name for path in tmp_path.glob("*.part")] == ["clean.part"]


def test_folders_have_the_mode_that_the_umask_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(name)
    Path("t.csv").write_text("path,score,odd\na.png,1,0\nb.png,9,1\n")
    before = os.umask(0o077)
    try:
        clean(Path("t.csv"), Path("private"))
    finally:
        os.umask(before)
    found = [Path("private"), *Path("private").rglob("*")]
    modes = {
        path.name: stat.S_IMODE(path.lstat().st_mode) for path in found if not path.is_symlink()
    }
    assert modes == {
        "private": 0o700, "images": 0o700, "kept.txt": 0o600, "removed.txt": 0o600, "clean.csv": 0o600,
    }  # fmt: skip


@pytest.mark.slow
def test_clean_twice_at_once_leaves_one_complete_folder(
    review_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "clean"
    command = [sys.executable, "-m", "anowild", "clean", str(review_folder), "-o", str(out)]
    both = [subprocess.Popen([*command, "--how", "copies"], stderr=subprocess.PIPE) for _ in "ab"]
    errors = [process.communicate()[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes == [0, 1], errors
    assert any(b"exists already" in error for error in errors)
    assert len(list((out / "images").iterdir())) == 118
    assert len((out / "kept.txt").read_bytes().splitlines()) == 118
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("above", ["nan", "inf"])
def test_clean_refuses_infinite_score(
    anowild: Run, review_folder: Path, tmp_path: Path, above: str
) -> None:
    code, _, err = anowild("clean", review_folder, "-o", tmp_path / "c", f"--threshold={above}")
    assert code == 1
    assert "has to be a number" in err


def test_clean_refuses_marks_of_other_images(
    anowild: Run, scored_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "review"
    shutil.copytree(scored_folder, folder)
    store = Store(folder / MARKS)
    store.mark(["elsewhere/1.png"], "Ada", "remove")
    store.close()
    code, _, err = anowild("clean", folder, "-o", tmp_path / "clean")
    assert code == 1
    assert "none of its 1 marked images" in err
    assert not (tmp_path / "clean").exists()


def test_clean_prints_names_with_surrogates(review_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "two\udcff"
    command = [sys.executable, "-m", "anowild", "clean", str(review_folder), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"two\\udcff" in done.stdout
    assert (out / "kept.txt").exists()


def test_quarantine_moves_originals_and_undo_moves_them_back(
    anowild: Run, detector: Detector, digits: Array, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for i, image in enumerate(digits[:20]):
        Image.fromarray(image).save(folder / ("sub" if i % 2 else ".") / f"{i:02}.png")
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    review = tmp_path / "review"
    session = ReviewSession.make(review, detector, str(folder))
    store = Store(review / MARKS)
    store.mark(session.names[8:12], "Ada", "remove")
    store.close()
    out = tmp_path / "clean"
    code, printed, err = anowild("clean", review, "-o", out, "--how", "quarantine")
    assert code == 0, err
    assert "anowild clean --undo" in printed
    gone = {Path(name) for name in session.names[8:12]}
    assert set(folder.rglob("*.png")) == set(before) - gone
    moved = {path.name: path.read_bytes() for path in (out / "quarantine").rglob("*.png")}
    assert moved == {path.name: before[path] for path in gone}
    # A file that has taken the place of one is not overwritten.
    in_the_way = min(gone)
    in_the_way.write_bytes(b"new")
    code, _, err = anowild("clean", "--undo", out)
    assert (code, "there is another file now" in err) == (1, True)
    assert in_the_way.read_bytes() == b"new"
    in_the_way.unlink()
    assert anowild("clean", "--undo", out)[0] == 0
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before
    code, _, err = anowild("clean", "--undo", review)
    assert (code, "holds no quarantine" in err) == (1, True)


def folder_of(folder: Path, digits: Array, count: int = 12) -> Path:
    folder.mkdir(parents=True)
    for i, image in enumerate(digits[:count]):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    return folder


def review_of(detector: Detector, source: str, review: Path, *removed: str) -> Path:
    """Make a review of a source, in which some images are marked remove, by the ends of their names."""
    session = ReviewSession.make(review, detector, source)
    store = Store(review / MARKS)
    for end in removed:
        store.mark([name for name in session.names if name.endswith(end)], "Ada", "remove")
    store.close()
    return review


def test_quarantine_of_links(
    anowild: Run, detector: Detector, digits: Array, tmp_path: Path
) -> None:
    """A relative link leads to nothing in quarantine, and comes back nevertheless."""
    folder_of(tmp_path / "pool", digits)
    links = tmp_path / "images"
    links.mkdir()
    for i in range(12):
        (links / f"{i:02}.png").symlink_to(f"../pool/{i:02}.png")
    review = review_of(detector, str(links), tmp_path / "review", "03.png", "05.png")
    out = tmp_path / "clean"
    assert anowild("clean", review, "-o", out, "--how", "quarantine")[0] == 0
    assert len([*links.iterdir()]) == 10
    assert (out / "quarantine" / "03.png").is_symlink()
    assert "2 images moved back" in anowild("clean", "--undo", out)[1]
    assert (links / "03.png").read_bytes() == (tmp_path / "pool" / "03.png").read_bytes()
    assert len([*links.iterdir()]) == 12


def test_an_image_that_stays_is_no_link_to_one_that_goes(
    anowild: Run, detector: Detector, digits: Array, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "images", digits)
    (folder / "link.png").symlink_to("03.png")
    review = review_of(detector, str(folder), tmp_path / "review", "03.png")
    out = tmp_path / "clean"
    code, _, err = anowild("clean", review, "-o", out, "--how", "quarantine")
    assert (code, "link.png: stays, and is a link to" in err) == (1, True)
    assert not out.exists()
    assert (folder / "03.png").exists()


def to_another_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files between folders be moved as between two disks."""
    rename = Path.rename

    def renamed(source: Path, target: Path) -> Path:
        if source.suffix == ".png":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", renamed)


def test_quarantine_on_another_disk_is_whole_or_not_there(
    anowild: Run, detector: Detector, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "images", digits)
    (folder / "link.png").symlink_to("11.png")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    review = review_of(detector, str(folder), tmp_path / "review", "03.png", "05.png", "link.png")
    to_another_disk(monkeypatch)
    out, copy = tmp_path / "clean", shutil.copy2

    def full(source: Path, target: Path, **options: object) -> None:
        target.write_bytes(source.read_bytes()[:50])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    code, _, err = anowild("clean", review, "-o", out, "--how", "quarantine")
    assert (code, "03.png: cannot be moved" in err, "--undo" in err) == (1, True, True)
    monkeypatch.setattr("shutil.copy2", copy)
    assert not [path for path in (out / "quarantine").rglob("*") if path.is_file()]
    assert "0 images moved back" in anowild("clean", "--undo", out)[1]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before

    out = tmp_path / "again"
    assert anowild("clean", review, "-o", out, "--how", "quarantine")[0] == 0
    assert len([*folder.iterdir()]) == 10
    # As of a run that was killed before the original was removed.
    shutil.copy2(out / "quarantine" / "05.png", folder / "05.png")
    assert "2 images moved back" in anowild("clean", "--undo", out)[1]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not [*(out / "quarantine").iterdir()]


def test_undo_tells_what_is_gone(
    anowild: Run, detector: Detector, digits: Array, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "images", digits)
    review = review_of(detector, str(folder), tmp_path / "review", "03.png", "05.png")
    out = tmp_path / "clean"
    assert anowild("clean", review, "-o", out, "--how", "quarantine")[0] == 0
    (out / "quarantine" / "03.png").unlink()
    code, _, err = anowild("clean", "--undo", out)
    assert (code, "1 of 2 files are missing; 1 were moved back" in " ".join(err.split())) == (
        1,
        True,
    )
    assert (folder / "05.png").exists()


def test_clean_takes_images_behind_a_linked_folder(
    anowild: Run, detector: Detector, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`link/../images` is the folder beside what the link leads to, not that beside the link."""
    folder_of(tmp_path / "here" / "images", digits)
    there = folder_of(tmp_path / "there" / "images", digits[20:])
    (tmp_path / "there" / "sub").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there" / "sub")
    monkeypatch.chdir(tmp_path / "here")
    review = review_of(detector, "link/../images", tmp_path / "review", "03.png")
    assert anowild("clean", review, "-o", "clean", "--how", "quarantine")[0] == 0
    assert len([*Path("images").iterdir()]) == 12
    assert not (there / "03.png").exists()


@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("review", ["review", "work/images.anowild/review"])
def test_clean_takes_the_images_beside_a_review_that_was_moved(
    anowild: Run, detector: Detector, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    copied: bool, review: str,
) -> None:  # fmt: skip
    first, second = tmp_path / "first", tmp_path / "second"
    folder_of(first / "images", digits)
    monkeypatch.chdir(first)
    review_of(detector, "images", Path(review), "03.png")
    if copied:
        shutil.copytree(first, second)
    else:
        monkeypatch.chdir(tmp_path)
        first.rename(second)
    monkeypatch.chdir(second)
    code, _, err = anowild("clean", review, "-o", "clean", "--how", "quarantine")
    assert code == 0, err
    assert not (second / "images" / "03.png").exists()
    assert not copied or (first / "images" / "03.png").exists()


def test_a_review_that_is_moved_alone_keeps_its_images(
    anowild: Run, detector: Detector, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path / "here" / "images", digits)
    monkeypatch.chdir(tmp_path / "here")
    review_of(detector, "images", Path("review"), "03.png")
    (tmp_path / "there").mkdir()
    Path("review").rename(tmp_path / "there" / "review")
    command = ("clean", tmp_path / "there" / "review", "-o", "clean", "--how", "copies")
    code, _, err = anowild(*command)
    assert code == 0, err
    assert len([*Path("clean/images").iterdir()]) == 11


@pytest.mark.parametrize("how", ["links", "copies", "quarantine"])
def test_a_file_of_several_pages_goes_or_stays_as_a_whole(
    anowild: Run, detector: Detector, digits: Array, tmp_path: Path, how: str
) -> None:
    folder = folder_of(tmp_path / "images", digits)
    for name, first in (("one.tif", 20), ("two.tif", 30)):
        pages = [Image.fromarray(image) for image in digits[first : first + 3]]
        pages[0].save(folder / name, save_all=True, append_images=pages[1:])
    out, review = tmp_path / "clean", tmp_path / "review"
    review_of(detector, str(folder), review, "03.png", "one.tif[0]", "one.tif[1]")
    command = ("clean", review, "-o", out, "--how", how)
    code, _, err = anowild(*command)
    assert (code, "one.tif: has pages that stay and pages that go" in err) == (1, True), err
    assert not out.exists()
    review_of(detector, str(folder), review, "one.tif[2]")
    code, _, err = anowild(*command)
    assert code == 0, err
    if how == "quarantine":
        moved = {path.name for path in (out / "quarantine").iterdir()}
        assert moved == {"03.png", "one.tif"}
        assert "2 images moved back" in anowild("clean", "--undo", out)[1]
        assert len([*folder.iterdir()]) == 14
    else:
        stay = {path.name for path in (out / "images").iterdir()}
        assert len(stay) == 12
        assert not {"03.png", "one.tif"} & stay


def test_clean_says_what_could_not_be_read(
    anowild: Run, detector: Detector, digits: Array, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "images", digits)
    bad, odd = folder / "bad.png", r"new\nline.png"
    bad.write_bytes(b"x")
    shutil.copy(folder / "00.png", folder / odd)
    review = review_of(detector, str(folder), tmp_path / "review", "03.png")
    code, printed, err = anowild("clean", review, "-o", tmp_path / "clean", "--how", "copies")
    assert code == 0, err
    assert "1  in no list: could not be read" in printed
    log = log_of(tmp_path / "clean")
    assert log[str(bad)][0] == ""
    assert log[str(bad)][1].startswith("could not be read (cannot identify")
    kept = (tmp_path / "clean" / "kept.txt").read_text()
    assert r"new\\nline.png" in kept
    assert "bad.png" not in kept + (tmp_path / "clean" / "removed.txt").read_text()
    table = tmp_path / "table.csv"
    rows = f"{folder / '00.png'},1.0,0\n{folder / '01.png'},2.0,1\n{bad},nan,0\n"
    table.write_text("path,score,odd\n" + rows)
    code, printed, err = anowild("clean", table, "-o", tmp_path / "of_table", "--how", "copies")
    assert code == 0, err
    assert "1  in no list: could not be read" in printed
    assert [path.name for path in (tmp_path / "of_table" / "images").iterdir()] == ["00.png"]


def test_a_name_that_goes_goes_everywhere(anowild: Run, tmp_path: Path) -> None:
    """An archive may hold a name twice."""
    table = tmp_path / "table.csv"
    table.write_text("path,score,odd\na,1.0,0\nb,1.0,0\na,3.0,1\n")
    code, printed, err = anowild("clean", table, "-o", tmp_path / "out", "--how", "list")
    assert code == 0, err
    assert "1  goes: another image of this name goes" in printed
    assert (tmp_path / "out" / "kept.txt").read_text() == "b\n"
