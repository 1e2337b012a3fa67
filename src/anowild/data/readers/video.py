"""Reader of videos and animated images, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.data.readers import encoded, normal_form
from anowild.data.readers.base import MAX_PIXELS, Provenance, Reader, Record, Shape, SkippedImage
from anowild.data.readers.encoded import failure_reason
from anowild.errors import UserError
from anowild.files import is_file
from anowild.libraries import library

_VIDEOS = frozenset({".avi", ".mp4", ".mov", ".mkv", ".webm"})
SUFFIXES = _VIDEOS | {".gif"}

#: Frames, at most, in which one without damage is searched, to see how they are turned.
_PROBED = 50
#: Signs of a, b, c, d in the display matrix of ffmpeg, and the orientation of EXIF that they mean.
_ORIENTATIONS = {
    (-1, 0, 0, 1): 2, (-1, 0, 0, -1): 3, (1, 0, 0, -1): 4, (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6, (0, -1, -1, 0): 7, (0, -1, 1, 0): 8,
}  # fmt: skip


class VideoReader(Reader):
    """Reader of every frame of the first video stream, turned and mirrored as its display matrix says.

    Gray videos give the stored values [H, W, 1], uint8 or (above 8 bits) uint16. Color videos give RGB,
    uint8, in the default conversion of ffmpeg. Animated images (GIF, PNG, WebP) give RGB, each frame drawn
    over the earlier ones, and what stays transparent over white.
    """

    def __init__(self, source: str) -> None:
        self.path = Path(source)
        # Pillow decodes animated images exactly, and is always installed.
        self._is_image = self.path.suffix.lower() not in _VIDEOS
        self._av = None if self._is_image else library("av", source)
        try:
            self._shape, self._count = (
                self._probe_image() if self._is_image else self._probe_video()
            )
        except UserError:
            raise
        except Exception as error:  # of many kinds, on damaged files
            raise UserError(
                f"{self.path}: is not a readable video ({_clause(error)}); copy or convert it again"
            ) from error

    @staticmethod
    def takes(source: str) -> bool:
        path = Path(source)
        suffix = path.suffix.lower()
        if not is_file(path):
            return False
        return suffix in SUFFIXES or (suffix in encoded.SUFFIXES and encoded.is_animation(path))

    def count(self) -> int | None:
        return self._count

    def files(self) -> Iterable[Path]:
        return [self.path]

    def shapes(self, most: int) -> Iterator[Shape]:
        return repeat(self._shape, min(most, self._count or most))

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        return self._frames_of_image(start) if self._is_image else self._video(start)

    def _name(self, number: int) -> tuple[str, Provenance]:
        return f"{self.path}[{number}]", Provenance(source=str(self.path), frame=number)

    def _unreadable(self, number: int, reason: str) -> SkippedImage:
        name, origin = self._name(number)
        return SkippedImage(name, reason, origin)

    def _record(self, number: int, pixels: Array) -> Record:
        name, origin = self._name(number)
        return Record(name, pixels, origin)

    def _probe_image(self) -> tuple[Shape, int]:
        count = encoded.page_count(self.path)
        return encoded.shape(self.path, animated=True), count

    def _frames_of_image(self, start: int) -> Iterator[Record | SkippedImage]:
        assert self._count is not None
        number = 0
        try:
            for number, _, pixels in encoded.decode(self.path, animated=True):
                if number >= start:
                    yield self._record(number, pixels)
                number += 1
        except Exception as error:  # of many kinds, on damaged files
            # Later frames are drawn over this one, so they are lost too.
            for lost in range(max(number, start), self._count):
                yield self._unreadable(lost, failure_reason(error))

    def _open(self) -> Any:
        assert self._av is not None
        return self._av.open(str(self.path))

    def _stream(self, container: Any) -> Any:
        if not container.streams.video:
            raise UserError(
                f"{self.path}: holds no video that can be found; if it was cut off, copy it again, else give "
                "another file"
            )
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise UserError(
                f"{self.path}: its video is cut off or of an unknown codec; copy or convert it again"
            )
        # With frame threads, the frames after a damaged one differ from run to run.
        stream.thread_type = "SLICE"
        options = {"max_pixels": str(MAX_PIXELS)}
        if stream.codec_context.name == "mjpeg":
            # Else it would silently fill missing parts with gray.
            options["err_detect"] = "explode"
        stream.codec_context.options = options
        return stream

    def _probe_video(self) -> tuple[Shape, int | None]:
        with self._open() as container:
            stream = self._stream(container)
            context = stream.codec_context
            if min(context.width, context.height) < 1:
                raise UserError(f"{self.path}: has frames without pixels; convert it again")
            if context.width * context.height > MAX_PIXELS:
                raise UserError(
                    f"{self.path}: claims frames of {context.width}x{context.height} pixels; "
                    "convert it to a smaller size"
                )
            height, width, frames = context.height, context.width, stream.frames or None
            channels = 1 if _is_gray(context.pix_fmt or "") else 3
            probed = islice(self._frames(container, stream), _PROBED)
            first = next((frame for frame in probed if not isinstance(frame, str)), None)
            if first is not None and _orientation(first) in (5, 6, 7, 8):
                height, width = width, height
            return (height, width, channels), frames

    def _video(self, start: int) -> Iterator[Record | SkippedImage]:
        number = 0
        with self._open() as container:
            for frame in self._frames(container, self._stream(container)):
                if number >= start:  # earlier frames are decoded too, as later ones depend on them
                    if isinstance(frame, str):
                        yield self._unreadable(number, frame)
                    else:
                        pixels = normal_form.upright(_pixels(frame), _orientation(frame))
                        yield self._record(number, pixels)
                number += 1
        if self._count is not None and number < self._count and number >= start:
            yield self._unreadable(
                number, f"the file announces {self._count} frames, only {number} can be found"
            )

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yield the decoded frames; in place of a damaged one, a clause that says why."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.error.FFmpegError as error:  # type: ignore[union-attr]
                yield f"the file is damaged here: {_clause(error)}"
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except self._av.error.FFmpegError as error:  # type: ignore[union-attr]
                yield f"its data are damaged: {_clause(error)}"
                continue
            for frame in frames:
                yield "its data are damaged" if frame.is_corrupt else frame


def _clause(error: Exception) -> str:
    """Return why a video cannot be read, without the number and function that ffmpeg adds."""
    return getattr(error, "strerror", None) or failure_reason(error)


def _orientation(frame: Any) -> int:
    """Return the orientation of EXIF that the display matrix of a frame says."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1
    matrix = np.frombuffer(bytes(data), np.int32)
    return _ORIENTATIONS.get(tuple(np.sign(matrix[[0, 1, 3, 4]]).tolist()), 1)


def _is_gray(pixel_format: str) -> bool:
    return pixel_format.startswith(("gray", "mono", "ya"))


def _pixels(frame: Any) -> Array:
    """Return the values of a frame: [H, W, 1] if it is gray, else RGB [H, W, 3]."""
    kind = frame.format.name
    if not _is_gray(kind):
        return frame.to_ndarray(format="rgb24")
    dtype: np.dtype[Any]
    if kind == "gray":
        dtype = np.dtype(np.uint8)
    elif kind.startswith("gray") and kind.endswith(("le", "be")) and "f" not in kind:
        dtype = np.dtype(np.uint16).newbyteorder("<" if kind.endswith("le") else ">")
    else:  # black and white, or with transparency
        deep = kind.startswith("ya16")
        return frame.to_ndarray(format="gray16" if deep else "gray")[:, :, None]
    # The stored values: a conversion would spread 10 or 12 bits over 16.
    plane = frame.planes[0]
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    native = np.uint8 if dtype.itemsize == 1 else np.uint16
    return rows[: frame.height, : frame.width].astype(native)[:, :, None]
