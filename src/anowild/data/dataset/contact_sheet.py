"""Contact sheet: frames with the boxes of their crops, and a sample of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anowild.arrays import Array
from anowild.data.readers.base import Record, SkippedImage

T = TypeVar("T")

_TILE = 96  # side of a sample image, in pixels
_FRAME = 480  # longest side of a frame, in pixels
_GAP = 6
_CAPTION = 12  # height of a line of text
_COLUMNS = 12
_BOX = (255, 64, 64)
_TEXT = (0, 0, 0)
_PAPER = (255, 255, 255)


class EvenSample(Generic[T]):
    """Evenly spaced sample of a stream of unknown length, of ``most`` / 2 to ``most`` items.

    Every k-th item is kept, from the first on. When there are too many, every second one is dropped
    and k doubles. So sampling needs no random numbers and no second pass.
    """

    def __init__(self, most: int) -> None:
        self.most = max(1, most)
        self.count = 0
        self.items: list[T] = []
        self._step = 1

    def wants(self) -> bool:
        """Whether the next item will be kept, so that others need not be computed."""
        return self.count % self._step == 0

    def add(self, item: T) -> None:
        if self.wants():
            self.items.append(item)
        self.count += 1
        if len(self.items) > self.most:
            self.items = self.items[::2]
            self._step *= 2

    def skip(self) -> None:
        """Count an item that is not kept."""
        self.count += 1


@dataclass(frozen=True)
class Picture:
    """Picture with a caption: pixels uint8 [H, W, 3]."""

    caption: str
    pixels: Array


class SheetCollector:
    """Collector of the pictures of a contact sheet from a stream of images, in little memory.

    Args:
        images: most sample images, spread evenly over all images.
        frames: most frames, spread evenly over all frames.
    """

    def __init__(self, images: int = 96, frames: int = 3) -> None:
        self._images: EvenSample[Picture] = EvenSample(images)
        self._frames: EvenSample[Picture] = EvenSample(frames)
        self.boxes = 0
        self.left_out = 0

    def add(self, record: Record | SkippedImage) -> None:
        """Add an image [H, W] or [H, W, C] of any type; a skipped one is only counted."""
        if isinstance(record, SkippedImage):
            self.left_out += 1
        elif self._images.wants():
            pixels = _fit(to_rgb(record.pixels), _TILE, enlarge=True)
            self._images.add(Picture(_short(record.name), pixels))
        else:
            self._images.skip()

    def watch(self, name: str, frame: Array, corners: Sequence[tuple[int, int]], side: int) -> None:
        """Add a frame [H, W] or [H, W, C] with the boxes of its crops.

        Args:
            name: of the frame.
            frame: pixels of any type.
            corners: top and left of each crop.
            side: of the crops, in pixels.
        """
        self.boxes += len(corners)
        if not self._frames.wants():
            self._frames.skip()
            return
        pixels = to_rgb(frame)
        small = _fit(pixels, _FRAME, enlarge=False)
        scale = small.shape[0] / pixels.shape[0], small.shape[1] / pixels.shape[1]
        drawn = Image.fromarray(small)
        pen = ImageDraw.Draw(drawn)
        for top, left in corners:
            # Rounding cannot be seen, but at least one pixel has to remain.
            y, x = round(top * scale[0]), round(left * scale[1])
            bottom = max(y, round((top + side) * scale[0]) - 1)
            right = max(x, round((left + side) * scale[1]) - 1)
            pen.rectangle((x, y, right, bottom), outline=_BOX)
        caption = f"{_short(name)}: {len(corners)} crops"
        self._frames.add(Picture(caption, np.asarray(drawn)))

    def sheet(self) -> Image.Image:
        """Draw the contact sheet of everything added so far."""
        images = f"{self._images.count} images"
        if self._images.count > len(self._images.items):
            images += f", {len(self._images.items)} of them shown, evenly spread"
        if self.left_out:
            images += f"; {self.left_out} left out"
        if self._frames.count:
            images += f"; from {self._frames.count} frames"
        return contact_sheet(self._images.items, self._frames.items, images)


def contact_sheet(
    images: Sequence[Picture], frames: Sequence[Picture] = (), title: str = ""
) -> Image.Image:
    """Draw a title, frames side by side, and below them a grid of images.

    The sheet is as large as its pictures need.
    """
    columns = max(1, min(_COLUMNS, len(images)))
    blocks = [_grid(frames, min(3, len(frames))), _grid(images, columns)]
    blocks = [b for b in blocks if b is not None]
    head = _CAPTION + 2 * _GAP if title else _GAP
    font = _font()
    width = max([int(font.getlength(_ascii(title))) + 2 * _GAP, *(b.width for b in blocks if b)])
    sheet = Image.new("RGB", (width, head + sum(b.height for b in blocks if b)), _PAPER)
    ImageDraw.Draw(sheet).text((_GAP, _GAP), _ascii(title), fill=_TEXT, font=font)
    top = head
    for block in blocks:
        if block is not None:
            sheet.paste(block, (0, top))
            top += block.height
    return sheet


def to_rgb(pixels: Array) -> Array:
    """Convert pixels of any type to uint8 [H, W, 3] for display.

    uint8 is kept; the range of other types is stretched to 0 to 255, and NaN becomes black. Of images
    with neither one nor three channels, the first channel is shown.
    """
    pixels = np.asarray(pixels)
    if pixels.ndim != 3:
        pixels = pixels.reshape(*pixels.shape[:2], -1) if pixels.ndim > 3 else pixels
        pixels = np.atleast_2d(pixels)[:, :, None] if pixels.ndim < 3 else pixels
    if 0 in pixels.shape:
        return np.zeros((1, 1, 3), np.uint8)
    if pixels.shape[2] != 3:
        pixels = pixels[:, :, :1]
    if pixels.dtype != np.uint8:
        values = np.nan_to_num(pixels.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        low, high = float(values.min()), float(values.max())
        span = high - low if high > low else 1.0
        pixels = np.rint((values - low) * (255 / span)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _fit(pixels: Array, side: int, enlarge: bool) -> Array:
    """Scale the longer side down to ``side``, or with ``enlarge`` up to at most that by an integer factor."""
    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest < 2 * side and longest <= side:
        factor = side // longest if enlarge else 1
        return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    size = (max(1, round(width * side / longest)), max(1, round(height * side / longest)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def _grid(pictures: Sequence[Picture], columns: int) -> Image.Image | None:
    """Draw pictures in a grid of equal tiles, each with its caption below."""
    if not pictures:
        return None
    width = max(_TILE, *(p.pixels.shape[1] for p in pictures)) + _GAP
    height = max(p.pixels.shape[0] for p in pictures) + _CAPTION + _GAP
    rows = -(-len(pictures) // columns)
    block = Image.new("RGB", (columns * width + _GAP, rows * height), _PAPER)
    pen, font = ImageDraw.Draw(block), _font()
    for i, picture in enumerate(pictures):
        left, top = _GAP + i % columns * width, i // columns * height
        block.paste(Image.fromarray(picture.pixels), (left, top))
        text = _ascii(picture.caption)
        while text and font.getlength(text) > width - _GAP:
            text = text[1:]  # names differ at the end
        pen.text((left, top + picture.pixels.shape[0] + 1), text, fill=_TEXT, font=font)
    return block


def _short(name: str) -> str:
    """Return the part of a name that differs within a source: the file, or frame and position."""
    last = name.replace("\\", "/").rpartition("/")[2]
    bracket = last.find("[")
    return last[bracket:] if bracket > 0 and "@" in last else last


def _ascii(text: str) -> str:
    # Pillow's built-in font has few other letters, and refuses them without FreeType.
    return text.encode("ascii", "replace").decode()


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=9)
