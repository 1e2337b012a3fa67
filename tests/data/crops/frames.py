"""Frames drawn for the tests of cropping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.data.crops import CropReader, CropSettings
from anowild.data.readers import Record
from anowild.data.readers.base import ImageSource, Provenance, Shape, SkippedImage

#: Rows and columns of the blobs of `drawn`.
PLACES = [(30, 40), (50, 110), (100, 70), (120, 140)]


class Frames(ImageSource):
    """Frames that are at hand: [H, W, C], or None for one that cannot be read."""

    def __init__(self, source: str, frames: Iterable[Array | None] = ()) -> None:
        self.name = source
        self.frames = list(frames)

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for i, pixels in enumerate(self.frames[start:], start):
            name, origin = f"{self.name}[{i}]", Provenance(source=self.name, frame=i)
            if pixels is None:
                yield SkippedImage(name, "it is damaged", origin)
            else:
                yield Record(name, pixels, origin)

    def shapes(self, most: int) -> Iterator[Shape]:
        return iter([])

    def files(self) -> Iterable[Path]:
        return [Path(self.name)]


def drawn(
    places: Iterable[tuple[int, int]] = PLACES,
    side: tuple[int, int] = (150, 170),
    radius: float = 8,
    noise: float = 2,
    seed: int = 0,
) -> Array:
    """Bright discs on gray with noise: uint8 [H, W, 1]."""
    y, x = np.mgrid[: side[0], : side[1]]
    frame = np.random.default_rng(seed).normal(100, noise, side)
    for row, column in places:
        frame[(y - row) ** 2 + (x - column) ** 2 <= radius**2] += 80
    return frame.clip(0, 255).round().astype(np.uint8)[:, :, None]


def crops_of(
    frames: Iterable[Array | None], masks: Iterable[Array | None] | None = None, **settings: Any
) -> list[Record | SkippedImage]:
    given = Frames("video.mp4", frames)
    ids = None if masks is None else Frames("masks.tif", masks)
    return list(CropReader(given, CropSettings(**({"object_size": 16} | settings)), ids))


def kept(crops: Iterable[Record | SkippedImage]) -> list[Record]:
    return [crop for crop in crops if isinstance(crop, Record)]
