"""What a folder holds: which files are read, and what is passed over and why."""

from __future__ import annotations

import inspect
import io
import json
import os
import socket
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from anowild.data import open_all
from anowild.data.readers import READERS, Record, SkippedImage, encoded, open_source
from anowild.data.readers.base import PassedOver, passed_over_text
from anowild.data.readers.folder import FolderReader
from anowild.errors import UserError
from tests.data.readers.checks import PICTURES


def draw(path: Path, value: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path, format="PNG")
    return path


def names(folder: Path) -> list[str]:
    return [record.name.removeprefix(f"{folder}/") for record in open_source(folder)]


def passed(source: object) -> dict[str, tuple[int, str]]:
    """Count and first name of what is passed over, by reason."""
    found = open_source(str(source)).passed_over()
    return {one.reason: (one.count, one.first) for one in found}


def test_files_of_other_kinds_are_counted_by_their_ending(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    for name in ("IMG_2.XYZ", "IMG_1.XYZ", "sub/z.txt", "noext"):
        draw(tmp_path / name)
    (tmp_path / ".DS_Store").touch()
    assert names(tmp_path) == ["a.png"]
    assert passed(tmp_path) == {
        "files that end in .xyz": (2, f"{tmp_path}/IMG_1.XYZ"),
        "files that end in .txt": (1, f"{tmp_path}/sub/z.txt"),
        "files without an ending": (1, f"{tmp_path}/noext"),
        "hidden or system files and folders": (1, f"{tmp_path}/.DS_Store"),
    }


def test_many_different_endings_are_counted_together(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    for i in range(40):
        (tmp_path / f"scan.{i:03d}").touch()
    (tmp_path / "b.<i>").touch()
    found = passed(tmp_path)
    assert len(found) == 30
    assert found["files of other kinds"] == (12, f"{tmp_path}/b.<i>")


def test_passed_over_text_names_the_most_frequent_reasons() -> None:
    found = [PassedOver("files that end in .a", 3, "x\udcff.a"), PassedOver("b", 2, "y")]
    assert passed_over_text(found, 1) == (
        "passed over: files that end in .a: 3 (first: x\\xff.a); other reasons: 2"
    )


@pytest.mark.parametrize("name", ["@eaDir", "$RECYCLE.BIN", "#recycle", "lost+found", ".thumbs"])
def test_thumbnails_of_a_nas_are_no_images(tmp_path: Path, name: str) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / name / "a.png" / "SYNOPHOTO_THUMB_M.png")
    assert names(tmp_path) == ["a.png"]
    assert passed(tmp_path) == {
        "hidden or system files and folders": (1, f"{tmp_path}/{name}"),
    }


def test_a_linked_folder_is_read_under_its_name_here(tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere" / "deep" / "b.png")
    draw(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "link").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "images") == ["a.png", "link/deep/b.png"]
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "link").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "only") == ["link/deep/b.png"]


def test_no_folder_is_read_twice_and_loops_end(tmp_path: Path) -> None:
    root, other = tmp_path / "images", tmp_path / "other"
    draw(root / "z" / "a.png")
    draw(other / "b.png")
    (root / "again").symlink_to("z")  # sorted before z, which keeps its own name
    (root / "here").symlink_to(root)
    (root / "z" / "up").symlink_to("../..")  # holds the source
    (root / "other1").symlink_to(other)
    (root / "other2").symlink_to(other)
    (other / "back").symlink_to(root / "z")
    assert names(root) == ["other1/b.png", "z/a.png"]
    (reason,) = passed(root)
    assert reason == "links to folders that are read already or hold the source"
    assert passed(root)[reason][0] == 5


def test_links_to_nothing_are_left_out_or_counted(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("absent")
    (tmp_path / "c.png").symlink_to("c.png")  # to itself
    (tmp_path / "d").symlink_to("absent")
    _, b, c = open_source(tmp_path)
    assert isinstance(b, SkippedImage)
    assert isinstance(c, SkippedImage)
    assert b.reason == "No such file or directory"
    assert c.reason == "Too many levels of symbolic links"
    assert passed(tmp_path) == {"links to nothing": (1, f"{tmp_path}/d")}


def test_pipes_sockets_and_devices_are_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    (tmp_path / "d.png").symlink_to("b.png")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("e.png")
        assert names(tmp_path) == ["a.png"]
        assert passed(tmp_path) == {"pipes, sockets or devices": (4, f"{tmp_path}/b.png")}


def test_a_locked_folder_does_not_take_the_others_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "locked" / "b.png")
    scan = os.scandir

    def refuse(path: str) -> object:  # permissions do not stop root, who may run this
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert names(tmp_path) == ["a.png"]
    assert passed(tmp_path) == {
        "folders that cannot be read (Permission denied)": (1, f"{tmp_path}/locked"),
    }
    with pytest.raises(UserError, match=r"locked: cannot be read \(Permission denied\)"):
        FolderReader(str(tmp_path / "locked"))


def test_a_file_that_becomes_a_pipe_or_vanishes_is_left_out(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "d.png"):
        draw(tmp_path / name)
    records = iter(open_source(tmp_path))
    assert isinstance(next(records), Record)
    for name in ("b.png", "c.png"):
        (tmp_path / name).unlink()
    os.mkfifo(tmp_path / "b.png")
    pipe, gone, last = records
    assert isinstance(pipe, SkippedImage)
    assert isinstance(gone, SkippedImage)
    assert pipe.reason == "it is no regular file, but a pipe, device or folder"
    assert gone.reason == "No such file or directory"
    assert isinstance(last, Record)


@pytest.mark.parametrize(
    "name",
    [
        "a.png", "a.npy", "a.npz:x", "a.h5:x", "a.zarr", "a.zarr.zip", "a-images-idx3-ubyte.gz", "a.tar.gz",
        "cifar-10-python.tar.gz", "a.tfrecords", "a.zip", "a.tar:png", "a.parquet:image", "a.mp4", "a.gif", "a",
    ],
)  # fmt: skip
def test_a_file_in_a_locked_folder_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "locked").mkdir()
    stat = os.stat

    def refuse(path: Any, **more: Any) -> os.stat_result:  # permissions do not stop root
        if Path(os.fsdecode(path)).parent.name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return stat(path, **more)

    monkeypatch.setattr(os, "stat", refuse)
    path = tmp_path / "locked" / name
    assert [reader.__name__ for reader in READERS if reader.takes(str(path))] == []
    for opened in (open_source, lambda source: open_all(str(source))):
        with pytest.raises(UserError, match=rf"{name}: cannot be looked up \(Permission denied\)"):
            opened(path)


def test_folders_may_be_deeper_than_python_calls_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = draw(tmp_path / "x.png").read_bytes()
    deep = tmp_path.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "y.png").write_bytes(image)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)
    try:
        assert len(FolderReader(str(tmp_path)).paths) == 2
    finally:
        sys.setrecursionlimit(before)


def test_a_path_longer_than_the_system_takes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "x.png")
    monkeypatch.chdir(tmp_path)
    for _ in range(20):
        Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    assert passed(tmp_path).keys() == {"folders that cannot be read (File name too long)"}


@pytest.mark.parametrize(
    ("mark", "keys"),
    [
        ("model.json", ["format", "preprocess", "calibration"]),
        ("settings.json", ["settings", "preprocess", "images"]),
        ("dataset.json", ["format", "preprocess", "recipe"]),
        ("recipe.json", ["format", "preprocess", "how"]),
        ("review.json", ["format", "scored"]),
        ("find.json", ["sources"]),
        ("flagged.json", ["flagged_of"]),
    ],
)
def test_folders_that_anowild_wrote_are_no_images(
    tmp_path: Path, mark: str, keys: list[str]
) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "out" / "grids" / "b.png")
    (tmp_path / "out" / mark).write_text(json.dumps(dict.fromkeys(keys, 1)))
    assert names(tmp_path) == ["a.png"]
    assert passed(tmp_path) == {"folders that anowild wrote": (1, f"{tmp_path}/out")}
    # Named by the user, it is read; so is a folder of the user's own with a file of that name.
    assert names(tmp_path / "out") == ["grids/b.png"]
    (tmp_path / "out" / mark).write_text('{"epochs": 3}')
    assert names(tmp_path) == ["a.png", "out/grids/b.png"]


def test_a_folder_named_training_is_read(tmp_path: Path) -> None:
    draw(tmp_path / "training" / "grids" / "a.png")
    assert names(tmp_path) == ["training/grids/a.png"]


def test_members_of_a_zip_file_are_counted_alike(tmp_path: Path) -> None:
    image = draw(tmp_path / "a.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("a.png", "@eaDir/a.png", "._b.png", "list.csv", "d/e.csv", "empty/"):
            archive.writestr(name, image)
    assert names(tmp_path / "x.zip") == ["a.png"]
    assert passed(tmp_path / "x.zip") == {
        "hidden or system files and folders": (2, f"{tmp_path}/x.zip/._b.png"),
        "files that end in .csv": (2, f"{tmp_path}/x.zip/d/e.csv"),
    }


@pytest.mark.parametrize("ending", [".tar", ".parquet"])
def test_shards_that_are_no_files_are_passed_over(tmp_path: Path, ending: str) -> None:
    os.mkfifo(tmp_path / f"a{ending}")
    with pytest.raises(
        UserError, match=r"holds no images \(passed over: pipes, sockets or devices: 1"
    ):
        open_source(tmp_path)
    image = draw(tmp_path.parent / f"{tmp_path.name}.png").read_bytes()
    if ending == ".tar":
        with tarfile.open(tmp_path / "b.tar", "w") as tar:
            info = tarfile.TarInfo("x.png")
            info.size = len(image)
            tar.addfile(info, io.BytesIO(image))
    else:
        pa = pytest.importorskip("pyarrow")
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"image": [image]}), tmp_path / "b.parquet")
    (tmp_path / f"c{ending}").symlink_to("absent")
    (tmp_path / "readme.txt").touch()
    assert len(list(open_source(tmp_path))) == 1
    assert passed(tmp_path) == {
        "pipes, sockets or devices": (1, f"{tmp_path}/a{ending}"),
        "links to nothing": (1, f"{tmp_path}/c{ending}"),
        "files that end in .txt": (1, f"{tmp_path}/readme.txt"),
    }


def test_kinds_that_need_a_library_say_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.HEIC")
    monkeypatch.setattr(encoded, "SUFFIXES", frozenset({".png"}))
    monkeypatch.setitem(encoded.NEEDED, ".heic", "pip install 'anowild[formats]'")
    assert passed(tmp_path) == {
        "files that end in .heic, which need pip install 'anowild[formats]'": (
            1, f"{tmp_path}/b.HEIC",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("ending", [".heic", ".avif", ".jfif"])
def test_further_kinds_of_images(tmp_path: Path, ending: str) -> None:
    choices: dict[str, tuple[str, dict[str, Any]]] = {
        ".heic": ("HEIF", {"quality": -1, "chroma": 444, "matrix_coefficients": 0}),
        ".avif": ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
        ".jfif": ("JPEG", {"quality": 100, "subsampling": 0}),
    }
    kind, options = choices[ending]
    if ending == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif ending == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    pixels = np.asarray(Image.open(PICTURES / "astronaut.png"))[:64, :96]
    path = tmp_path / f"a{ending.upper()}"
    Image.fromarray(pixels).save(path, format=kind, **options)
    (record,) = open_source(tmp_path)
    assert isinstance(record, Record)
    assert np.abs(record.pixels.astype(int) - pixels).max() <= (0 if ending == ".heic" else 6)
    assert list(open_source(tmp_path).shapes(1)) == [(64, 96, 3)]


def test_reasons_do_not_name_the_file_so_that_they_group(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.tif"):
        (tmp_path / name).write_bytes(b"no image at all")
    found = {r.reason for r in open_source(tmp_path) if isinstance(r, SkippedImage)}
    assert found == {"cannot identify it as an image: it is damaged, or of another kind"}
