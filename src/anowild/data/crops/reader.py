"""Source of crops, made of a source of frames."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice, repeat, zip_longest
from pathlib import Path

import numpy as np

from anowild.arrays import Array
from anowild.data.crops.detection import Detection, find_objects, objects_in_mask
from anowild.data.crops.levels import to_8_bit, to_gray, video_levels
from anowild.data.crops.placement import crop, crop_corner, select_objects
from anowild.data.crops.settings import CropSettings
from anowild.data.crops.thinning import KeptCrop, Thinning
from anowild.data.dataset.contact_sheet import SheetCollector
from anowild.data.readers.base import ImageSource, PassedOver, Record, Shape, SkippedImage
from anowild.errors import UserError
from anowild.libraries import require


class CropReader(ImageSource):
    """Crops of all frames of another source, in memory that does not grow with their number.

    A crop is named ``<frame>@<row>,<column>`` after its center, and has uint8 pixels [side, side, 1].
    Its provenance holds the number of its frame, and its top and left (negative beyond the border).
    Crops that hardly differ from the last kept crop of their object come out as
    :class:`SkippedImage`, so that they are counted. Frames without objects yield nothing.

    Args:
        frames: source of the frames, in the order of time.
        settings: what to crop, and how.
        masks: one instance mask for each frame, in the same order; they replace the detection.
        sheet: receives every frame and every crop.

    Raises:
        UserError: on construction or while reading, if the masks do not fit the frames; on construction,
            if a library is not installed.
    """

    def __init__(
        self,
        frames: ImageSource,
        settings: CropSettings,
        masks: ImageSource | None = None,
        sheet: SheetCollector | None = None,
    ) -> None:
        require("crops of objects", "skimage")
        self.frames = frames
        self.settings = settings
        self.masks = masks
        self.sheet = sheet
        self._levels: tuple[float, float] | None = settings.grays
        if masks is not None:
            counts = frames.count(), masks.count()
            if None not in counts and counts[0] != counts[1]:
                raise UserError(
                    f"{_place(masks)}: holds {counts[1]} masks for the {counts[0]} frames of "
                    f"{_place(frames)}; give one mask for each frame, in the same order"
                )

    def files(self) -> Iterable[Path]:
        return [*self.frames.files(), *(self.masks.files() if self.masks else ())]

    def passed_over(self) -> list[PassedOver]:
        return self.frames.passed_over()

    def shapes(self, most: int) -> Iterator[Shape]:
        side = self.settings.crop_side
        return repeat((side, side, 1), most)

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        # The number of crops of a frame is only known after its detection, and thinning depends on
        # the frames before: everything is done again from the first frame on.
        for number, record in enumerate(self._records()):
            if self.sheet is not None:
                self.sheet.add(record)
            if number >= start:
                yield record

    def _records(self) -> Iterator[Record | SkippedImage]:
        thinning = Thinning(self.settings)
        for number, (frame, detections) in enumerate(self._detections()):
            if isinstance(frame, SkippedImage):
                yield frame
                continue
            gray = to_gray(frame.pixels)
            gray = to_8_bit(gray, *self._black_and_white(gray))
            yield from self._crops(frame, gray, detections, thinning, number)
            thinning.end_frame(number)

    def _crops(
        self,
        frame: Record,
        gray: Array,
        detections: list[Detection],
        thinning: Thinning,
        number: int,
    ) -> Iterator[Record | SkippedImage]:
        side, padding = self.settings.crop_side, self.settings.padding
        if padding == "skip" and min(gray.shape) < side:
            yield SkippedImage(
                frame.name,
                f"{gray.shape[1]}x{gray.shape[0]} pixels are too few for crops of side {side} "
                "without padding",
                frame.origin,
            )
            return
        out: list[Record | SkippedImage] = []
        corners: list[tuple[int, int]] = []
        names: set[str] = set()
        thinning.begin_frame()
        for detection in select_objects(
            detections, gray.shape, self.settings, merge=self.masks is None
        ):
            row, column = math.floor(detection.row + 0.5), math.floor(detection.column + 0.5)
            name = f"{frame.name}@{row},{column}"
            if name in names:  # two instances of a mask with one center give one crop
                continue
            names.add(name)
            corner = crop_corner(detection, gray.shape, side, padding)
            # A label or a mask of the whole frame says nothing about this part of it.
            origin = replace(frame.origin, position=corner, label=None, mask=None)
            pixels = crop(gray, *corner, side, padding)
            earlier = thinning.keep(KeptCrop(name, detection, corner, pixels, number), gray)
            if earlier is None:
                corners.append(corner)
                out.append(Record(name, pixels[:, :, None], origin))
            else:
                reason = f"hardly differs from an earlier crop ({earlier})"
                out.append(SkippedImage(name, reason, origin))
        if self.sheet is not None:
            self.sheet.watch(frame.name, gray, corners, side)
        yield from out

    def _detections(self) -> Iterator[tuple[Record | SkippedImage, list[Detection]]]:
        """Yield every frame with its objects."""
        for frame, mask in self._frames_and_masks():
            self.idle()
            if isinstance(frame, SkippedImage):
                yield frame, []
                continue
            try:
                gray = to_gray(frame.pixels)
            except ValueError as error:
                yield SkippedImage(frame.name, str(error), frame.origin), []
                continue
            if mask is None:
                yield frame, find_objects(gray, self.settings)
            elif isinstance(mask, SkippedImage):
                reason = f"its mask {mask.name} cannot be read: {mask.reason}"
                yield SkippedImage(frame.name, reason, frame.origin), []
            else:
                yield frame, objects_in_mask(_instance_mask(mask, frame))

    def _frames_and_masks(
        self,
    ) -> Iterator[tuple[Record | SkippedImage, Record | SkippedImage | None]]:
        if self.masks is None:
            for frame in islice(self.frames.records(), 0, None, self.settings.every):
                yield frame, None
            return
        for i, (one, mask) in enumerate(zip_longest(self.frames.records(), self.masks.records())):
            if one is None or mask is None:
                fewer, what = (self.frames, "frames") if one is None else (self.masks, "masks")
                more, others = (self.masks, "masks") if one is None else (self.frames, "frames")
                raise UserError(
                    f"{_place(fewer)}: holds {i} {what}, {_place(more)} has more {others}; "
                    "give one mask for each frame, in the same order"
                )
            if i % self.settings.every == 0:
                yield one, mask

    def _black_and_white(self, gray: Array) -> tuple[float, float]:
        settings = self.settings
        if settings.levels == "frame":
            black, white = np.percentile(gray, settings.percentiles)
            return float(black), float(white)
        if self._levels is None:
            self._levels = video_levels(self._grays, settings.percentiles)
        return self._levels

    def _grays(self) -> Iterator[Array]:
        for frame in islice(self.frames.records(), 0, None, self.settings.every):
            self.idle()
            if isinstance(frame, Record):
                try:
                    yield to_gray(frame.pixels)
                except ValueError:  # reported when the crops of this frame are due
                    continue


def _instance_mask(mask: Record, frame: Record) -> Array:
    """Return the mask of a frame as integers [H, W].

    Raises:
        UserError: it is no mask, or of another size than the frame.
    """
    pixels = mask.pixels
    if pixels.shape[2] == 3 and (pixels == pixels[:, :, :1]).all():  # gray, saved as color
        pixels = pixels[:, :, :1]
    if pixels.shape[2] != 1 or pixels.dtype.kind not in "uib":
        raise UserError(
            f"{mask.name}: is no instance mask (it has {pixels.shape[2]} channels of type "
            f"{pixels.dtype}); give one channel of integers, 0 for the background and "
            "another number for each object"
        )
    if pixels.shape[:2] != frame.pixels.shape[:2]:
        sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (pixels, frame.pixels)]
        raise UserError(
            f"{mask.name}: has {sizes[0]} pixels, its frame {frame.name} has {sizes[1]}; "
            "give masks of the size of the frames"
        )
    return pixels[:, :, 0]


def _place(source: ImageSource) -> str:
    """Name a source in a message: its file, or the folder of its files."""
    files = list(islice(source.files(), 2))
    return str(files[0].parent if len(files) > 1 else files[0]) if files else "the source"
