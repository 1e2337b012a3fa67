"""Packing sources into a data set, interrupted and not, and the gate at its end."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from anowild.api import prepare
from anowild.data import ImageSet, ImageStream, PackedSet, Preprocess, open_all
from anowild.data.crops import CropReader, CropSettings
from anowild.data.dataset import writer
from anowild.data.dataset.build import build_set
from anowild.data.dataset.format import COLUMNS
from anowild.data.dataset.summary import quality_summary
from anowild.data.dataset.writer import Part
from anowild.data.readers import ImageSource, Provenance, Record, SkippedImage
from anowild.data.readers.base import PassedOver
from anowild.data.readers.encoded import decode
from anowild.errors import UserError
from anowild.settings import Settings
from anowild.signals import Interrupted


class Made(ImageSource):
    """``count`` images of noise; something may happen before one of them."""

    def __init__(self, count: int, before: dict[int, Callable[[], None]] | None = None) -> None:
        self.length, self.before = count, before or {}

    def files(self) -> Iterable[Path]:
        return []

    def shapes(self, most: int) -> Iterator[tuple[int, int, int]]:
        return iter([(16, 16, 1)])

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for i in range(start, self.length):
            self.before.get(i, lambda: None)()
            if i % 10 == 7:
                yield SkippedImage(f"made[{i}]", "it is made so", Provenance("made", i))
                continue
            pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 1), dtype=np.uint8)
            split = "test" if i % 3 == 2 else None
            yield Record(f"made[{i}]", pixels, Provenance("made", i, split=split, label=str(i % 4)))


def pack(out: Path, *readers: ImageSource, **options: Any) -> PackedSet:
    return build_set([Part(readers)], out, Preprocess(16, 1), {}, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.parquet"
    } | {"rows": json.dumps(PackedSet(folder).manifest().to_pylist()).encode()}


def test_every_image_comes_out_as_preprocessing_makes_it(
    folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 20, 24), dtype=np.uint8)
    folder = folder_of(images)
    (folder / "0003.png").write_bytes(b"no image")
    packed = prepare(folder, tmp_path / "set")
    assert packed.counts == {"train": 29}
    rows = packed.manifest().to_pylist()
    assert list(rows[0]) == list(COLUMNS)
    assert [row["index"] for row in rows if row["index"] is not None] == list(range(29))
    assert rows[3]["index"] is None
    assert "cannot identify" in rows[3]["left_out"]
    stored = packed.images("train")
    for row in rows[:3] + rows[4:]:
        ((_, _, pixels),) = decode(Path(row["source"]))
        assert np.array_equal(stored[row["index"]], packed.preprocess(pixels))
        assert (row["height"], row["width"], row["channels"], row["dtype"]) == (20, 24, 1, "uint8")
        assert row["mean"] == pytest.approx(stored[row["index"]].mean(), rel=1e-6)
        assert row["deviation"] == pytest.approx(stored[row["index"]].std(), rel=1e-6)
    assert np.array_equal(np.load(packed.path / "images" / "train.npy"), stored)
    assert packed.description["preprocess"] == packed.preprocess.to_json()


@pytest.mark.parametrize("at", [1, 13, 30, 57])
@pytest.mark.parametrize("how", ["kill", "signal", "crash"])
def test_an_interrupted_packing_goes_on_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, how: str
) -> None:
    monkeypatch.setattr(writer, "CHUNK_IMAGES", 8)
    whole = pack(tmp_path / "whole", Made(23), Made(60))

    def crash() -> None:
        raise RuntimeError("crash")

    reader, before = (0, at) if at < 23 else (1, at - 23)
    action = {
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "signal": lambda: signal.raise_signal(signal.SIGINT),
        "crash": crash,
    }[how]
    readers = [Made(23), Made(60)]
    readers[reader].before = {before: action}
    out = tmp_path / "set"
    if how == "kill":
        child = os.fork()
        if child == 0:
            pack(out, *readers)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    else:
        with pytest.raises(Interrupted if how == "signal" else RuntimeError):
            pack(out, *readers)
    assert not out.exists()
    again = pack(out, Made(23), Made(60))
    assert contents(again.path) == contents(whole.path)
    assert not list(tmp_path.glob("*.part"))


def test_what_was_read_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK_IMAGES", 8)
    read: list[int] = []
    with pytest.raises(Interrupted):
        pack(tmp_path / "set", Made(60, {41: lambda: signal.raise_signal(signal.SIGTERM)}))
    pack(tmp_path / "set", Made(60, {i: lambda i=i: read.append(i) for i in range(60)}))  # type: ignore[misc]
    assert read == list(range(42, 60))


def test_slow_sources_are_written_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHUNK_SECONDS", 0.0)
    read: list[int] = []
    child = os.fork()
    if child == 0:
        pack(tmp_path / "set", Made(30, {20: lambda: os.kill(os.getpid(), signal.SIGKILL)}))
    os.waitpid(child, 0)
    pack(tmp_path / "set", Made(30, {i: lambda i=i: read.append(i) for i in range(30)}))  # type: ignore[misc]
    assert read == list(range(20, 30))


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK_IMAGES", 8)
    real = os.fsync
    calls = iter(range(1000))

    def full(file: Any) -> None:
        if next(calls) == 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="disk is full"):
        pack(tmp_path / "set", Made(60))
    monkeypatch.setattr(os, "fsync", real)
    assert contents(pack(tmp_path / "set", Made(60)).path) == contents(
        pack(tmp_path / "other", Made(60)).path
    )


def test_the_same_command_again_does_nothing_and_another_is_refused(
    folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16), dtype=np.uint8)
    folder, out = folder_of(images), tmp_path / "set"
    first = prepare(folder, out)
    before = (out / "manifest.parquet").stat().st_mtime_ns
    assert prepare(folder, out).id == first.id
    assert (out / "manifest.parquet").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="is another data set"):
        prepare(folder, out, Settings().replace(resolution=8))
    Image.fromarray(images[0]).save(folder / "new.png")
    with pytest.raises(UserError, match="is another data set, or its sources have changed"):
        prepare(folder, out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UserError, match="exists and is no data set"):
        prepare(folder, tmp_path / "full")
    with pytest.raises(UserError, match="prepared already"):
        prepare(out, tmp_path / "again")


def test_what_was_passed_over_is_as_the_folder_is_now(tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "set"
    folder.mkdir()
    rng = np.random.default_rng(0)
    pages = [Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)) for _ in range(3)]
    pages[1].encoderinfo = {"tiffinfo": {254: 1}}  # a smaller copy
    pages[0].save(folder / "a.tif", save_all=True, append_images=pages[1:])
    (folder / "b.txt").touch()
    copies = PassedOver("smaller copies and masks of images in TIFF files", 1, f"{folder}/a.tif")
    first = prepare(folder, out)
    assert len(first) == 2
    assert first.passed_over == [PassedOver("files that end in .txt", 1, f"{folder}/b.txt"), copies]
    (folder / "b.txt").rename(folder / "c.csv")
    for _ in range(2):
        again = prepare(folder, out)
        assert again.id == first.id
        now = [PassedOver("files that end in .csv", 1, f"{folder}/c.csv"), copies]
        assert again.passed_over == PackedSet(out).passed_over == now


def test_an_unfinished_packing_is_not_mixed_with_another(
    folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16), dtype=np.uint8)
    folder, copy, out = folder_of(images), folder_of(images, "copy"), tmp_path / "set"
    with pytest.raises(UserError, match="20 test images are also in training"):
        prepare(folder, out, test=[copy])
    with pytest.raises(UserError, match="unfinished data set with other options"):
        prepare(folder, out, Settings().replace(resolution=8), test=[copy])
    os.utime(folder / "0001.png", (1, 1))
    with pytest.raises(UserError, match="source files have changed since"):
        prepare(folder, out, test=[copy])


def test_leaks_are_refused_dropped_or_kept(folder_of: Callable[..., Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = np.kron(rng.integers(0, 256, (30, 8, 8)), np.ones((2, 2))).astype(np.uint8)
    noisy = (images[8:10] + rng.normal(0, 4, (2, 16, 16))).clip(0, 255).astype(np.uint8)
    training = folder_of(images[:20], "training")
    test = folder_of(np.concatenate([images[5:8], noisy, images[20:]]), "test")
    with pytest.raises(UserError, match="3 test images are also in training, and 2 hardly differ"):
        prepare(training, tmp_path / "set", test=[test])
    packed = prepare(training, tmp_path / "set", test=[test], leaks="drop")
    assert packed.counts == {"train": 20, "test": 10}
    assert np.array_equal(packed.images("test")[:, 0], images[20:])
    rows = packed.manifest(split=None).to_pylist()[20:]
    assert [row["duplicate_of"] for row in rows[:6]] == [5, 6, 7, None, None, None]
    assert [row["near_duplicate_of"] for row in rows[:6]] == [None, None, None, 8, 9, None]
    assert rows[0]["left_out"] == "equal to a training image"
    assert rows[3]["left_out"] == "hardly different from a training image"
    assert [row["index"] for row in rows] == [None] * 5 + list(range(10))
    assert packed.names("test")[0] == str(test / "0005.png")
    kept = prepare(training, tmp_path / "kept", test=[test], leaks="keep")
    assert kept.counts == {"train": 20, "test": 15}
    assert "also" not in "".join(quality_summary(packed)[1:3])
    assert any("they were left out of the test split" in line for line in quality_summary(packed))


def test_the_gate_counts_and_names_what_it_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(folder / f"{i:02}.png")
    Image.fromarray(np.full((16, 16), 7, np.uint8)).save(folder / "black.png")
    Image.fromarray((np.arange(256).reshape(16, 16) % 2).astype(np.uint8)).save(folder / "flat.png")
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / "color.png")
    Image.fromarray(rng.integers(0, 256, (30, 16), dtype=np.uint8)).save(folder / "tall.png")
    Image.fromarray(rng.integers(0, 256, (2, 2), dtype=np.uint8)).save(folder / "tiny.png")
    (folder / "copy.png").write_bytes((folder / "04.png").read_bytes())
    settings = Settings().replace(channels=1)
    packed = prepare(folder, tmp_path / "set", settings)
    found = packed.description["findings"]
    assert found["equal"] == 1
    assert found["images"] == {"constant": 1, "nearly constant": 1}
    assert found["modes"] == {"uint8 x 1": 25, "uint8 x 3": 1}
    assert found["different_sizes"] == 3
    assert found["left_out"] == {"2x2 pixels are too few, 4x4 is the least": 1}
    said = "\n".join(quality_summary(packed))
    for text in (
        "copy.png = ",
        "black.png",
        "flat.png",
        "tiny.png",
        "mixed modes",
        "3 different sizes",
    ):
        assert text in said
    assert len(packed) == 25  # nothing of this was dropped but the tiny one


def test_values_beyond_black_and_white_are_listed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    deep = rng.integers(1000, 3000, (20, 16, 16)).astype(np.uint16)
    deep[3, :4] = 60000
    np.save(tmp_path / "deep.npy", deep)
    settings = Settings().replace(black=1000, white=3000)
    packed = prepare(tmp_path / "deep.npy", tmp_path / "set", settings)
    assert packed.description["findings"]["images"] == {"beyond black or white": 1}
    assert packed.manifest(["clipped"])["clipped"][3].as_py() == pytest.approx(0.25)


def test_a_table_with_text_that_is_none_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8))
    path = prepare(tmp_path / "x.npy", tmp_path / "set").path / "manifest.parquet"
    table = pq.read_table(path)
    names = pa.array([b"\xa6"] * 9, pa.binary()).view(pa.string())
    pq.write_table(table.set_column(table.column_names.index("name"), "name", names), path)
    with pytest.raises(UserError, match=r"manifest\.parquet: is missing or damaged \(.*UTF8"):
        ImageSet.load(str(tmp_path / "set")).names[0]


@pytest.mark.parametrize("index", [None, [[1], [2]], ["a", "b"], ["0", "1"]])
def test_columns_of_a_table_have_their_types(tmp_path: Path, index: list[Any] | None) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (2, 8, 8), np.uint8))
    path = prepare(tmp_path / "x.npy", tmp_path / "set").path / "manifest.parquet"
    table = pq.read_table(path)
    table = table.remove_column(table.column_names.index("index"))
    if index is not None:
        table = table.append_column("index", pa.array(index))
    pq.write_table(table, path)
    names = ImageSet.load(str(tmp_path / "set")).names
    if index == ["0", "1"]:  # numbers as another program may write them
        assert len(list(names)) == 2
        return
    with pytest.raises(UserError, match=r"manifest\.parquet: is missing or damaged"):
        names[0]


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (20, 16, 16), dtype=np.uint16)
    np.save(tmp_path / "deep.npy", deep)
    packed = prepare(tmp_path / "deep.npy", tmp_path / "set", Settings().replace(bits=16))
    assert np.array_equal(packed.images("train")[:, 0], deep)


def test_labels_come_from_a_file(folder_of: Callable[..., Path], tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16), dtype=np.uint8)
    folder = folder_of(images)
    table = tmp_path / "labels.csv"
    table.write_text("path,label\n" + "".join(f"{i:04}.png,class {i % 3}\n" for i in range(20)))
    packed = prepare(folder, tmp_path / "set", labels=str(table))
    assert packed.manifest(["label"])["label"].to_pylist() == [f"class {i % 3}" for i in range(20)]
    np.save(tmp_path / "few.npy", np.arange(5))
    with pytest.raises(UserError, match="has 5 labels, and there are more images"):
        prepare(folder, tmp_path / "other", labels=str(tmp_path / "few.npy"))


def test_a_data_set_is_mapped_and_read_like_any_source(tmp_path: Path) -> None:
    packed = pack(tmp_path / "set", Made(60), leaks="keep")
    images = ImageSet.load(tmp_path / "set", Settings())
    assert isinstance(images.images, np.memmap)
    assert images.digest == f"{packed.id}:train"
    assert len(images) == packed.counts["train"] == len(images.names)
    assert images.names[3] == packed.manifest(["name"], "train")["name"][3].as_py()
    test = ImageSet.load(f"{tmp_path / 'set'}:test", Settings())
    assert np.array_equal(test.images, packed.images("test"))
    stream = ImageStream(open_all(tmp_path / "set"), packed.preprocess)
    batches = list(stream.batches(7))
    every = np.concatenate([packed.images("train"), packed.images("test")])
    assert np.array_equal(np.concatenate([batch.images for batch in batches]), every)
    assert {origin.label for batch in batches for origin in batch.origins} == set("0123")
    reader = open_all(tmp_path / "set")[0]
    names = [record.name for record in reader]
    for start in (0, 5, 40, 54):
        assert [record.name for record in reader.records(start)] == names[start:]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "dataset.json").write_text("{"), "damaged"),
        (lambda f: (f / "dataset.json").write_text('{"format": 9}'), "not of format"),
        (lambda f: (f / "dataset.json").write_text('{"format": 1}'), "damaged"),
        (lambda f: (f / "images" / "train.npy").unlink(), "is missing"),
        (lambda f: (f / "images" / "train.npy").write_bytes(b"x"), "damaged"),
        (lambda f: np.save(f / "images" / "train.npy", np.zeros((3, 1, 8, 8))), "says"),
        (lambda f: (f / "manifest.parquet").write_bytes(b"x"), "damaged"),
    ],
)
def test_a_spoilt_data_set_is_refused_with_a_sentence(
    tmp_path: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    packed = pack(tmp_path / "set", Made(30), leaks="keep")
    spoil(packed.path)

    def use() -> None:
        again = PackedSet(packed.path)
        again.images("train")
        again.manifest()

    with pytest.raises(UserError, match=sentence):
        use()


def test_settings_that_differ_from_the_data_set_s_are_refused(tmp_path: Path) -> None:
    pack(tmp_path / "set", Made(30), leaks="keep")
    with pytest.raises(UserError, match="prepared with resolution 16, not 8"):
        ImageSet.load(tmp_path / "set", Settings().replace(resolution=8))
    with pytest.raises(UserError, match="not prepared as the model needs it"):
        ImageStream(open_all(tmp_path / "set"), Preprocess(16, 1, contrast="normalize"))
    pack(tmp_path / "one", Made(1))
    with pytest.raises(UserError, match="no images for 'test'"):
        open_all(f"{tmp_path / 'one'}:test")


def test_sources_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hold no images"):
        pack(tmp_path / "set", Made(0))

    class Broken(Made):
        def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
            yield SkippedImage("x", "it is broken (at byte 7)")

    with pytest.raises(
        UserError, match=r"none of the 1 images can be used, beginning with x: it is broken \(1x\)"
    ):
        pack(tmp_path / "other", Broken(1))


# What an attack found


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("leaks", ["drop", "keep"])
def test_a_kill_while_it_ends_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaks: str
) -> None:
    monkeypatch.setattr(writer, "CHUNK_IMAGES", 8)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.integers(0, 256, (30, 16, 16), dtype=np.uint8))
    np.save(tmp_path / "b.npy", np.load(tmp_path / "a.npy")[20:28])
    sources, test = [tmp_path / "a.npy"], [tmp_path / "b.npy"]
    whole = prepare(sources, tmp_path / "whole", test=test, leaks=leaks)  # type: ignore[arg-type]
    real = {name: getattr(Path, name) for name in ("unlink", "replace", "rmdir")}
    for last in range(1, 40):
        out = tmp_path / f"set{last}"
        calls = iter(range(1, 1000))

        def killed(name: str, calls: Iterator[int] = calls, last: int = last) -> Any:
            def call(self: Path, *args: Any, **kwargs: Any) -> Any:
                if next(calls) == last:
                    raise _Killed
                return real[name](self, *args, **kwargs)

            return call

        for name in real:
            monkeypatch.setattr(Path, name, killed(name))
        finished = False
        try:
            prepare(sources, out, test=test, leaks=leaks)  # type: ignore[arg-type]
            finished = True
        except _Killed:
            pass
        for name, function in real.items():
            monkeypatch.setattr(Path, name, function)
        again = prepare(sources, out, test=test, leaks=leaks)  # type: ignore[arg-type]
        assert contents(again.path) == contents(whole.path), last
        if finished:
            break
    assert finished
    assert last > 10


def test_copies_of_a_near_duplicate_are_leaks_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = np.kron(rng.integers(0, 256, (30, 8, 8)), np.ones((2, 2)))
    near = images[3] + rng.normal(0, 4, (16, 16))
    np.save(tmp_path / "a.npy", images[:20].astype(np.uint8))
    both = np.stack([near, near, *images[20:]]).clip(0, 255)
    np.save(tmp_path / "b.npy", both.astype(np.uint8))
    packed = prepare(tmp_path / "a.npy", tmp_path / "set", test=tmp_path / "b.npy", leaks="drop")
    assert packed.counts["test"] == 10
    assert packed.description["findings"]["leaks"] == {"equal": 0, "near": 2, "done": "drop"}


def test_a_data_set_made_with_other_leaks_is_not_passed_off(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8))
    np.save(tmp_path / "b.npy", np.load(tmp_path / "a.npy")[:3])
    prepare(tmp_path / "a.npy", tmp_path / "set", test=tmp_path / "b.npy", leaks="keep")
    with pytest.raises(UserError, match="prepared with --leaks keep"):
        prepare(tmp_path / "a.npy", tmp_path / "set", test=tmp_path / "b.npy", leaks="drop")


def test_other_arrays_and_other_labels_are_other_sources(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8)
    prepare(images, tmp_path / "set")
    with pytest.raises(UserError, match="is another data set"):
        prepare(255 - images, tmp_path / "set")
    with pytest.raises(UserError, match="is given twice"):
        prepare([images, images], tmp_path / "twice")
    np.save(tmp_path / "l.npy", np.arange(9))
    prepare(images, tmp_path / "labeled", labels=str(tmp_path / "l.npy"))
    np.save(tmp_path / "l.npy", np.arange(9) + 1)
    with pytest.raises(UserError, match="is another data set"):
        prepare(images, tmp_path / "labeled", labels=str(tmp_path / "l.npy"))
    np.save(tmp_path / "l.npy", np.arange(11))
    with pytest.raises(UserError, match="has 11 labels for 9 images"):
        prepare(images, tmp_path / "other", labels=str(tmp_path / "l.npy"))


def test_text_that_is_not_utf_8_is_written_as_it_can_be(tmp_path: Path) -> None:
    class Strange(Made):
        def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
            pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 1), dtype=np.uint8)
            yield Record(
                "a\udcff", pixels, Provenance("b\udcff", label="d\udce9faut", mask="\ud800")
            )
            yield SkippedImage("x", "like a\udcff (\ud800)")

    rows = pack(tmp_path / "set", Strange(2)).manifest().to_pylist()
    assert rows[0]["label"] == "d\\xe9faut"
    assert rows[1]["left_out"].startswith("like a\\")


@pytest.mark.parametrize("kind", ["link", "dangling", "here", "mount"])
def test_places_that_are_no_plain_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8)
    (tmp_path / "empty").mkdir()
    out = tmp_path / "link"
    if kind in ("link", "dangling"):
        out.symlink_to(tmp_path / ("empty" if kind == "link" else "absent"))
        assert len(prepare(images, out)) == 9
        assert len(PackedSet(out)) == 9
        assert out.is_symlink()
    elif kind == "here":
        monkeypatch.chdir(tmp_path / "empty")
        assert len(prepare(images, ".")) == 9
    else:
        monkeypatch.setattr(os.path, "ismount", lambda path: True)
        with pytest.raises(UserError, match="name a new folder in it"):
            prepare(images, tmp_path / "empty")


def test_pipes_are_passed_over_and_broken_links_left_out(
    folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 16, 16), dtype=np.uint8)
    folder = folder_of(images)
    os.mkfifo(folder / "pipe.png")
    (folder / "zz.png").symlink_to("absent")
    packed = prepare(folder, folder / "set")
    assert len(packed) == 9
    assert "No such file" in packed.manifest(["left_out"])["left_out"][9].as_py()
    # The data set lies in its own source, and is no part of it.
    Image.fromarray(images[0]).save(folder / "set" / "contact_sheet.png")
    assert prepare(folder, folder / "set").id == packed.id


def test_frames_without_objects_can_be_stopped_and_are_said(tmp_path: Path) -> None:
    asked: list[int] = []

    class Blank(Made):
        def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
            for i in range(50):
                asked.append(i)
                if i == 5 and self.before:
                    signal.raise_signal(signal.SIGTERM)
                yield Record(f"f[{i}]", np.full((64, 64, 1), 7, np.uint8), Provenance("f", i))

    stopped = CropReader(Blank(50, {0: lambda: None}), CropSettings(16))
    with pytest.raises(Interrupted):
        pack(tmp_path / "set", stopped)
    assert max(asked) < 10
    how: dict[str, Any] = {"crops": {"side": 32}}
    with pytest.raises(UserError, match="no objects were found"):
        build_set(
            [Part([CropReader(Blank(50), CropSettings(16))])],
            tmp_path / "b",
            Preprocess(16, 1),
            how,
        )


def test_a_set_gives_way_to_other_images_alone(tmp_path: Path) -> None:
    out = tmp_path / "set"
    pack(out, Made(9), replace=True)
    path = out / "dataset.json"
    described = json.loads(path.read_text())
    del described["recipe"]["preprocess"]["tiles"]  # as an earlier version wrote it
    path.write_text(json.dumps(described))
    made = (out / "manifest.parquet").stat()
    pack(out, Made(9), replace=True)
    assert (out / "manifest.parquet").stat().st_ino == made.st_ino
    how = {"other": True}
    again = build_set([Part([Made(12)])], out, Preprocess(16, 1), how, replace=True)
    assert again.counts != {"train": 9}
    assert sum(again.counts.values()) == 11  # one is made unreadable


def test_an_unfinished_set_that_is_being_made_does_not_give_way(tmp_path: Path) -> None:
    out = tmp_path / "set"

    def other() -> None:
        with pytest.raises(UserError, match="another process is preparing"):
            build_set([Part([Made(3)])], out, Preprocess(16, 1), {"other": True}, replace=True)

    assert sum(pack(out, Made(9, {4: other}), replace=True).counts.values()) == 8


def test_prepare_accepts_the_recipe_of_an_earlier_version(tmp_path: Path) -> None:
    frames, out = Path(__file__).parents[1] / "files" / "cells" / "frames", tmp_path / "set"
    crops = CropSettings(56, levels="fixed", grays=(20, 200), max_shift=0.2, max_change=0.1)
    settings = Settings().replace(resolution=16, contrast="normalize")
    packed = prepare(frames, out, settings, crops=crops)
    description = json.loads((out / "dataset.json").read_text())
    earlier = {
        "format": 1,
        "how": {
            "sources": [str(frames)],
            "test": [],
            "labels": None,
            "crops": {
                "object_size": 56, "contrast": 4.0, "side": 112, "padding": "shift",
                "levels": "fixed", "percentiles": [0.1, 99.9], "greys": [20, 200],
                "still": 0.2, "changed": 0.1, "every": 1,
            },
            "masks": [],
        },
        "preprocess": {
            "resolution": 16, "channels": 1, "fit": "crop", "bits": 8, "black": None,
            "white": None, "contrast": "normalise",
        },
        "labels": None,
        "sources": description["recipe"]["sources"],
    }  # fmt: skip
    description |= {"recipe": earlier, "preprocess": earlier["preprocess"]}
    (out / "dataset.json").write_text(json.dumps(description))
    assert prepare(frames, out, settings, crops=crops).id == packed.id
    with pytest.raises(UserError, match="another data set"):
        prepare(frames, out, settings, crops=CropSettings(57, levels="fixed", grays=(20, 200)))

    unfinished = tmp_path / "again.part"
    unfinished.mkdir()
    (unfinished / "recipe.json").write_text(json.dumps(earlier))
    again = prepare(frames, tmp_path / "again", settings, crops=crops)
    assert again.id == packed.id
    assert np.array_equal(again.images("train"), packed.images("train"))
