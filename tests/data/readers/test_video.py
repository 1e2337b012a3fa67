"""Videos, against the frames that went in, the ffmpeg program, OpenCV and Pillow.

Lossless gray and RGB come out exactly. From YUV, our RGB is what ffmpeg's program and OpenCV give:
all of them use swscale with its default rounding and the file's color range and matrix. (With
swscale's ``accurate_rnd`` or ``full_chroma_int``, values differ by up to 2.)
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.data.readers import Record
from anowild.data.readers.video import VideoReader
from anowild.errors import UserError
from tests.conftest import SHARED
from tests.data.readers.checks import PICTURES, check, check_starts, crops, picture, reasons

pytest.importorskip("av")
imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
cv2 = pytest.importorskip("cv2")

ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()

# An odd width, so that rows are padded.
GRAY = np.stack(crops("cell.png", 8, 40, 61))
COLOR = np.stack(crops("astronaut.png", 8, 40, 61))
DEEP = (picture("cell.png")[None, :40, :61].astype(np.uint32) * 257 + 31).repeat(4, 0)
DEEP = (DEEP + np.arange(4)[:, None, None] * 999).astype(np.uint16)


def write(path: Path, frames: Array, pixels: str, *options: str) -> Path:
    """Make a video of raw frames with ffmpeg."""
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    command = [ffmpeg, "-v", "error", "-f", "rawvideo", "-pix_fmt", pixels, "-s", size]
    command += ["-r", "10", "-i", "-", *options, str(path)]
    subprocess.run(command, input=frames.tobytes(), check=True)
    return path


def by_ffmpeg(path: Path) -> Array:
    """All frames as RGB, by the ffmpeg program."""
    reading = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reading)["source_size"]
    reading.close()
    command = [ffmpeg, "-v", "error", "-noautorotate", "-i", str(path), "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def by_opencv(path: Path) -> Array:
    video = cv2.VideoCapture(str(path))
    video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    frames: list[Array] = []
    while True:
        found, frame = video.read()
        if not found:
            return np.stack(frames)
        frames.append(frame[:, :, ::-1])


@pytest.mark.shared
@pytest.mark.parametrize("ending", ["mp4", "avi"])
def test_a_real_time_lapse(ending: str) -> None:
    path = SHARED / "cells_video" / f"t98g_512.{ending}"
    assert VideoReader.takes(str(path))
    reader = VideoReader(str(path))
    assert reader.count() == 37
    records = list(reader)
    ours = np.stack([r.pixels for r in records if isinstance(r, Record)])
    assert np.array_equal(ours, by_ffmpeg(path))
    assert np.array_equal(ours, by_opencv(path))
    assert [r.name for r in records] == [f"{path}[{i}]" for i in range(37)]
    assert [r.origin.frame for r in records] == list(range(37))
    assert [r.name for r in reader.records(30)] == [r.name for r in records[30:]]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.mp4", ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "4"]),
        ("x.mov", ["-c:v", "mpeg4", "-bf", "2"]),
        ("x.avi", ["-c:v", "mjpeg", "-pix_fmt", "yuvj422p"]),
        ("x.mkv", ["-c:v", "libx264", "-pix_fmt", "yuv444p", "-color_range", "pc"]),
        ("x.webm", ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-colorspace", "bt709"]),
    ],
)
def test_lossy_videos_as_ffmpeg_and_opencv_read_them(
    tmp_path: Path, name: str, options: list[str]
) -> None:
    even = np.stack(crops("astronaut.png", 8, 48, 64))
    path = write(tmp_path / name, even, "rgb24", *options)
    expected = by_opencv(path)
    assert len(expected) == 8
    assert np.abs(expected.astype(int) - even).mean() < 20  # they are the same pictures
    check(VideoReader(str(path)), list(expected))
    assert np.array_equal(by_ffmpeg(path), expected)


@pytest.mark.parametrize("ending", ["avi", "mkv"])
def test_lossless_color_comes_out_as_it_went_in(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"x.{ending}", COLOR, "rgb24", "-c:v", "ffv1", "-pix_fmt", "bgr0")
    check(VideoReader(str(path)), list(COLOR))


@pytest.mark.parametrize("ending", ["avi", "mkv"])
def test_lossless_gray_comes_out_as_it_went_in(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"x.{ending}", GRAY, "gray", "-c:v", "ffv1", "-pix_fmt", "gray")
    check(VideoReader(str(path)), list(GRAY))


@pytest.mark.parametrize(
    ("pixels", "bits", "codec", "ending"),
    [
        ("gray10le", 10, "ffv1", "mkv"),
        ("gray12le", 12, "ffv1", "mkv"),
        ("gray16le", 16, "ffv1", "avi"),
        ("gray16be", 16, "png", "mov"),
    ],
)
def test_deep_gray_keeps_its_stored_values(
    tmp_path: Path, pixels: str, bits: int, codec: str, ending: str
) -> None:
    frames = DEEP >> (16 - bits)
    stored = pixels.replace("be", "le")
    path = write(tmp_path / f"x.{ending}", frames, stored, "-c:v", codec, "-pix_fmt", pixels)
    check(VideoReader(str(path)), list(frames))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", ["", "hflip", "vflip"])
def test_frames_are_turned_as_players_do(tmp_path: Path, degrees: int, flip: str) -> None:
    even = np.stack(crops("astronaut.png", 3, 48, 64))
    plain = write(tmp_path / "x.mp4", even, "rgb24", "-c:v", "mpeg4")
    turned, upright = tmp_path / "turned.mp4", tmp_path / "upright.mkv"
    options = ["-display_rotation", str(degrees), *([f"-display_{flip}"] if flip else [])]
    copying = [ffmpeg, "-v", "error", *options, "-i", str(plain), "-c", "copy", str(turned)]
    subprocess.run(copying, check=True)
    lossless = ["-c:v", "ffv1", "-pix_fmt", "yuv420p", str(upright)]
    subprocess.run([ffmpeg, "-v", "error", "-i", str(turned), *lossless], check=True)
    check(VideoReader(str(turned)), list(by_ffmpeg(upright)))


def test_a_real_gif() -> None:
    path = PICTURES / "no_time_for_that_tiny.gif"
    assert VideoReader.takes(str(path))
    reader = VideoReader(str(path))
    assert reader.count() == 24
    check(reader, list(by_ffmpeg(path)))


@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
def test_gif_frames_are_drawn_over_each_other(tmp_path: Path, disposal: int) -> None:
    canvas = Image.new("RGBA", (32, 24), (0, 0, 0, 0))
    frames = []
    for i in range(5):
        frame = canvas.copy()
        frame.paste((255, i * 40, 0, 255), (i * 5, 2, i * 5 + 8, 12))
        frames.append(frame)
    path = tmp_path / "x.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], disposal=disposal, duration=50)
    with Image.open(path) as image:
        expected, opaque = [], []
        for i in range(5):
            image.seek(i)
            rgba = np.array(image.convert("RGBA"))
            drawn = rgba[:, :, 3:] == 255
            expected.append(np.where(drawn, rgba[:, :, :3], np.uint8(255)))
            opaque.append(drawn[:, :, 0])
    check(VideoReader(str(path)), expected)
    # Where something was drawn, ffmpeg agrees; the rest is white.
    for ours, theirs, drawn in zip(expected, by_ffmpeg(path), opaque, strict=True):
        assert drawn.any()
        assert np.array_equal(ours[drawn], theirs[drawn])


def test_a_gif_of_few_colors_comes_out_as_it_went_in(tmp_path: Path) -> None:
    coarse = COLOR // 86 * 86
    frames = [Image.fromarray(image) for image in coarse]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    check(VideoReader(str(tmp_path / "x.gif")), list(coarse))


def damage(path: Path, content: bytes, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    start = int(len(data) * at)
    data[start : start + len(content)] = content
    path.write_bytes(data)


def test_a_damaged_frame_is_left_out(tmp_path: Path) -> None:
    even = np.stack(crops("astronaut.png", 9, 96, 96))
    path = write(tmp_path / "x.avi", even, "rgb24", "-c:v", "mjpeg", "-q:v", "2")
    expected = by_opencv(path)
    damage(path, np.random.default_rng(1).bytes(300))
    reader = VideoReader(str(path))
    bad = [int(name.split("[")[-1][:-1]) for name in reasons(reader)]
    assert len(bad) == 1
    assert "damaged" in next(iter(reasons(reader).values()))
    check(reader, list(np.delete(expected, bad, axis=0)))


def test_damage_between_frames_that_build_on_each_other(tmp_path: Path) -> None:
    even = np.stack(crops("astronaut.png", 12, 96, 96))
    path = write(tmp_path / "x.mp4", even, "rgb24", "-c:v", "mpeg4", "-q:v", "2")
    damage(path, np.random.default_rng(1).bytes(300))
    reader = VideoReader(str(path))
    records = list(reader)
    check_starts(reader, records)
    assert len(records) == 12
    assert 1 <= len(reasons(reader)) <= 3


@pytest.mark.parametrize("name", ["x.avi", "x.mp4"])
def test_a_video_that_breaks_off_says_so(tmp_path: Path, name: str) -> None:
    options = ["-c:v", "mjpeg"] if name == "x.avi" else ["-c:v", "mpeg4", "-movflags", "faststart"]
    path = write(tmp_path / name, COLOR[:, :, :60], "rgb24", *options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    reader = VideoReader(str(path))
    *_, last = list(reader)
    assert "announces 8 frames, only" in reasons(reader)[last.name]
    assert [r.name for r in reader.records(2)] == [r.name for r in list(reader)[2:]]


def test_a_gif_that_breaks_off_says_so(tmp_path: Path) -> None:
    data = (PICTURES / "no_time_for_that_tiny.gif").read_bytes()
    path = tmp_path / "x.gif"
    path.write_bytes(data[: len(data) // 2])
    reader = VideoReader(str(path))
    records = list(reader)
    check_starts(reader, records)
    assert list(reasons(reader)) == [records[-1].name]


@pytest.mark.parametrize("name", ["x.avi", "x.mp4", "x.mov", "x.mkv", "x.webm", "x.gif"])
@pytest.mark.parametrize("content", [b"", b"no video" * 99, b"RIFF\x10\0\0\0AVI LIST", b"GIF89a"])
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: is not a readable video"):
        VideoReader(str(tmp_path / name))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    command = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "sine=d=1", str(path)]
    subprocess.run(command, check=True)
    with pytest.raises(UserError, match=r"x\.mkv: holds no video"):
        VideoReader(str(path))


def test_claims_of_huge_frames_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.avi", GRAY, "gray", "-c:v", "rawvideo")
    data = path.read_bytes()
    # Width and height of the stream, in its BITMAPINFOHEADER.
    at = data.index(b"strf") + 12
    path.write_bytes(data[:at] + (15000).to_bytes(4, "little") * 2 + data[at + 8 :])
    with pytest.raises(UserError, match=r"claims frames of 15000x15000"):
        VideoReader(str(path))


def test_frames_of_a_gif_have_a_bound_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(GRAY[0]).save(tmp_path / "x.gif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match="more pixels than the limit"):
        VideoReader(str(tmp_path / "x.gif"))


def test_a_video_without_its_index_says_that_it_is_cut_off(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.mp4", np.stack(crops("astronaut.png", 4, 48, 64)), "rgb24", "-c:v", "mpeg4"
    )
    data = path.read_bytes()
    for part in (data[: len(data) // 2], data[: data.index(b"moov") + 60]):
        path.write_bytes(part)
        with pytest.raises(UserError, match=r"x\.mp4: .*cop(y|ied)") as caught:
            VideoReader(str(path))
        assert "NoneType" not in str(caught.value)
