"""Thinning: crops of objects that hardly move and change from frame to frame are dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from anowild.arrays import Array
from anowild.data.crops.detection import Detection
from anowild.data.crops.placement import crop
from anowild.data.crops.settings import CropSettings

_PATIENCE = 3  # frames after which the last kept crop of an object that is not seen is forgotten


@dataclass
class KeptCrop:
    """A crop: name, object, top and left, pixels uint8 [side, side], last frame that showed the object."""

    name: str
    detection: Detection
    corner: tuple[int, int]
    pixels: Array
    last_seen: int


class Thinning:
    """Memory of the last kept crop of each object; the frames of a video are given in order."""

    def __init__(self, settings: CropSettings) -> None:
        self._settings = settings
        self._kept: list[KeptCrop] = []
        self._earlier: list[KeptCrop] = []

    def begin_frame(self) -> None:
        """Compare with the crops kept so far only: crops of one frame never thin each other."""
        self._earlier = list(self._kept)

    def end_frame(self, number: int) -> None:
        """Forget the objects that have not been seen for a few frames."""
        self._kept = [kept for kept in self._kept if number - kept.last_seen < _PATIENCE]

    def keep(self, new: KeptCrop, gray: Array) -> str | None:
        """Remember a crop unless it hardly differs from an earlier one.

        Args:
            new: the crop.
            gray: the whole frame, uint8 [H, W].

        Returns:
            The name of the earlier crop that it hardly differs from; else None.
        """
        settings = self._settings
        if not (settings.max_shift and settings.max_change):
            return None

        def shift(kept: KeptCrop) -> float:
            return math.hypot(
                kept.detection.row - new.detection.row,
                kept.detection.column - new.detection.column,
            )

        near = [k for k in self._earlier if shift(k) <= settings.max_shift * settings.object_size]
        for kept in sorted(near, key=shift):
            # At the place of the kept crop: the detected center trembles by a pixel or two.
            now = crop(gray, *kept.corner, settings.crop_side, settings.padding)
            change = np.abs(now.astype(np.int16) - kept.pixels).mean() / 255
            if change <= settings.max_change:
                kept.last_seen = new.last_seen
                return kept.name
        self._kept = [kept for kept in self._kept if not any(kept is other for other in near)]
        self._kept.append(new)
        return None
