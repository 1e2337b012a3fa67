"""Readers, and how their images become a set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anowild.data import ImageSet, ImageStream, Preprocess, choose_preprocess, open_all
from anowild.data.readers import Record, SkippedImage, open_source
from anowild.data.readers.arrays import to_images
from anowild.errors import UserError
from anowild.settings import Settings

RNG = np.random.default_rng(0)


def gray(count: int, side: int = 16) -> np.ndarray:
    return RNG.integers(0, 256, (count, side, side), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_files_come_out_as_they_went_in(
    tmp_path: Path, suffix: str, channels: int
) -> None:
    image = RNG.integers(0, 256, (20, 24, channels), dtype=np.uint8)
    # Formats that know no such option ignore it.
    picture = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    picture.save(tmp_path / f"x{suffix}", lossless=True)
    (record,) = open_source(tmp_path)
    assert isinstance(record, Record)
    if suffix == ".webp" and channels == 1:  # WebP has no gray
        image = np.repeat(image, 3, axis=2)
    assert np.array_equal(record.pixels, image)


def test_sixteen_bit_files_keep_their_depth(tmp_path: Path) -> None:
    image = RNG.integers(0, 65536, (8, 8), dtype=np.uint16)
    for name in ("x.png", "x.tif"):
        Image.fromarray(image).save(tmp_path / name)
    for record in open_source(tmp_path):
        assert isinstance(record, Record)
        assert record.pixels.dtype == np.uint16
        assert np.array_equal(record.pixels[:, :, 0], image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_gives_gray_or_color(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(gray(1)[0])
    if mode == "F":
        source = Image.fromarray(gray(1)[0].astype(np.float32) / 255)
    elif mode == "I;16":
        source = Image.fromarray(gray(1)[0].astype(np.uint16) * 257)
    else:
        source = source.convert("RGB").convert(mode)
    source.save(tmp_path / "x.tif")
    (record,) = open_source(tmp_path)
    assert isinstance(record, Record)
    expected = 1 if mode in ("1", "L", "LA", "I;16", "F") else 3
    assert record.pixels.shape == (16, 16, expected)
    assert list(open_source(tmp_path).shapes(100)) == [(16, 16, expected)]
    assert Preprocess(16, 1)(record.pixels).std() > 10


def test_the_camera_s_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(RNG.integers(0, 256, (8, 16), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / "x.png", exif=exif)
    (record,) = open_source(tmp_path)
    assert isinstance(record, Record)
    assert record.pixels.shape == (16, 8, 1)


def test_folders_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/9.png", "a/c/1.PNG", ".hidden/3.png", "a/._4.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        if path.suffix == ".txt":
            path.write_text("x")
        else:
            Image.fromarray(gray(1)[0]).save(path, format="PNG")
    names = [record.name for record in open_source(tmp_path)]
    assert names == [str(tmp_path / name) for name in ("a/9.png", "a/c/1.PNG", "b/2.png")]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    Image.fromarray(gray(1)[0]).save(tmp_path / "x.png")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert open_source(tmp_path).count() == 1


def test_a_damaged_file_among_many_is_named_and_left_out(
    folder_of: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_of(gray(40))
    broken = folder / "0007.png"
    broken.write_bytes(broken.read_bytes()[:-60])
    (folder / "0008.png").write_bytes(b"no image at all")
    (folder / "0009.png").write_bytes(b"")
    images = ImageSet.load(folder, Settings())
    assert len(images) == 37
    assert [Path(i.name).name for i in images.left_out] == ["0007.png", "0008.png", "0009.png"]
    for name in ("0007.png", "0008.png", "0009.png"):
        assert name in caplog.text
    assert str(broken) not in images.names


def test_a_file_that_claims_to_be_huge_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(gray(1)[0]).save(tmp_path / "x.png")
    (record,) = open_source(tmp_path)
    assert isinstance(record, SkippedImage)
    assert "more pixels than the limit of 178,956,970" in record.reason


def test_mixed_sizes_and_modes_become_one_form(tmp_path: Path) -> None:
    for i, (side, mode) in enumerate([(16, "L"), (30, "RGB"), (17, "RGBA"), (16, "1")]):
        Image.fromarray(gray(1, side)[0]).convert(mode).save(tmp_path / f"{i}.png")
    images = ImageSet.load(tmp_path, Settings())
    assert images.images.shape == (4, 3, 16, 16)


def test_form_follows_the_images() -> None:
    def form(array: np.ndarray, settings: Settings | None = None) -> tuple[int, int]:
        chosen = choose_preprocess(open_all(array), settings or Settings())
        return chosen.resolution, chosen.channels

    assert form(gray(3, 28)) == (32, 1)
    assert form(gray(3, 32)) == (32, 1)
    assert form(gray(3, 33)) == (64, 1)
    assert form(gray(3, 5)) == (8, 1)
    assert form(np.zeros((3, 2000, 900, 3), np.uint8)) == (512, 3)
    assert form(np.zeros((3, 64, 64, 3), np.uint8), Settings(max_resolution=32)) == (32, 3)
    assert form(gray(3, 64), Settings(resolution=16, channels=3)) == (16, 3)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 16, 12), (5, 16, 12, 1)),
        ((5, 16, 16, 3), (5, 16, 16, 3)),
        ((5, 3, 16, 12), (5, 16, 12, 3)),
        ((5, 1, 16, 16), (5, 16, 16, 1)),
        ((5, 7, 16, 16), (5, 16, 16, 7)),
        ((5, 16, 16, 7), (5, 16, 16, 7)),
    ],
)
def test_axes_of_arrays(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert to_images(np.zeros(shape, np.uint8), "x").shape == expected


def test_channels_first_and_last_are_the_same_images() -> None:
    images = RNG.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    last = ImageSet.load(images, Settings()).images
    first = ImageSet.load(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), Settings()).images
    assert np.array_equal(first, last)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((16, 16), np.uint8), r"shape \[16, 16\]"),
        (np.zeros((2, 2, 2, 2, 2), np.uint8), "shape"),
        (np.zeros((0, 16, 16), np.uint8), "holds no images"),
        (np.array(["a"] * 8).reshape(2, 2, 2), "values of type"),
        (np.zeros((2, 8, 8), complex), "values of type"),
    ],
)
def test_arrays_that_hold_no_images(array: np.ndarray, sentence: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(UserError, match=rf"x\.npy: .*{sentence}"):
        open_source(tmp_path / "x.npy")


def test_npz_needs_a_key_where_it_holds_several(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=gray(4), b=gray(5))
    assert open_source(f"{tmp_path / 'x.npz'}:b").count() == 5
    with pytest.raises(UserError, match=r"several arrays; name one of them, as in .*x\.npz:a"):
        open_source(tmp_path / "x.npz")
    with pytest.raises(UserError, match="no array 'c'"):
        open_source(f"{tmp_path / 'x.npz'}:c")


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    np.save(tmp_path / "x.npy", np.array([Trap()]), allow_pickle=True)
    np.savez(tmp_path / "x.npz", np.array([Trap()]))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(UserError, match=name):
            open_source(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04 no zip"])
@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_damaged_arrays_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        open_source(tmp_path / name)


def test_sources_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        open_source(tmp_path / "absent")
    with pytest.raises(UserError, match=r"holds no images \(it is empty\)"):
        open_source(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(
        UserError, match=r"passed over: files that end in .txt: 1 \(first: .*a.txt\)"
    ):
        open_source(tmp_path)
    with pytest.raises(UserError, match="is of no kind that can be read"):
        open_source(tmp_path / "a.txt")


def test_when_all_are_left_out_the_reason_is_given(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(gray(1, 1)[0]).save(tmp_path / f"{i}.png")
    with pytest.raises(UserError, match=r"none of the 3 images .*0\.png.*1x1 pixels .*\(3x\)"):
        ImageSet.load(tmp_path, Settings())


def test_a_stream_keeps_positions_when_images_are_left_out() -> None:
    images = np.random.default_rng(0).random((10, 8, 8))
    images[3] = np.nan
    stream = ImageStream(open_all(images), Preprocess(8, 1))
    batches = list(stream.batches(4))
    assert [len(batch.names) for batch in batches] == [4, 4, 1]
    assert [p for batch in batches for p in batch.positions] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert len(stream.left_out) == 1
