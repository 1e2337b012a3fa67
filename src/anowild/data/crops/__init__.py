"""Square crops of contrasted objects, cut out of microscope frames: cells, and what else is there.

Nothing here knows what a cell is. An object is what stands out from the frame's background over
an area that is not tiny against the stated size of an object, so that debris, dead cells and
dirt are cut as well: the rare ones among them are what a detector is to find.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, repeat, zip_longest
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from anowild.arrays import Array
from anowild.data.dataset.contact_sheet import SheetCollector
from anowild.data.preprocessing import MIN_SIDE
from anowild.data.readers.base import Reader, Record, Shape, SkippedImage, library
from anowild.errors import UserError

PADDINGS = ("shift", "reflect", "edge", "zero", "skip")
LEVELS = ("frame", "video", "fixed")

# All lengths of the detection are in object sizes. Chosen on one real phase-contrast video
# (bench/crops.py measures it); what they trade is told in the comments.
_WINDOW = 1 / 12  # sigma of the window for local contrast: finer cuts more specks of dirt
_BACKGROUND = 4.0  # side of the square whose median is the background: to 10 it hardly matters
_SCALES = (0.25, 0.12)  # sigmas at which peaks are sought: whole lumps first, then their parts
_APART = 0.4  # least distance of two peaks
_SAME = 0.3  # centers nearer than this are one object
_LEAST_AREA = 1 / 64  # in squared object sizes: a speck of an eighth of its diameter
_QUIET = 10  # percentile of local contrast that counts as noise: holds while 1/10 is empty
_WORKING_SIZE = 64.0  # larger objects are sought in a reduced frame, which is much faster

_LARGEST = 8192  # side of a crop

# Frames for which the last kept crop of an object that is not found again is remembered.
_PATIENCE = 3

# ITU-R 601 luma, as in preprocess.py.
_LUMA = np.array([0.299, 0.587, 0.114])

_NEEDED_BY = "--crop-objects"  # names what needs the library, in the message that it is missing


@dataclass(frozen=True)
class CropSettings:
    """What to cut, and how. Positions and lengths are in pixels of the frame.

    Raises:
        UserError: a value makes no sense.
    """

    #: Typical diameter of an object, in pixels: of a circle of the same area. Rather too large
    #: than too small: what is too small cuts objects into parts, and crops them too tightly.
    object_size: float
    #: Least local contrast of an object, in multiples of the frame's noise. Local contrast is
    #: the mean distance of the gray values from the background (the median over 4 by 4 object
    #: sizes) in a Gaussian window with a sigma of 1/12 object size; the noise is the 10th
    #: percentile of it over the frame. Lower values cut fainter things, and more of them.
    contrast: float = 4.0
    #: Side of a crop in pixels; None: twice the object size, to the next even number.
    side: int | None = None
    #: At the border of the frame: 'shift' moves the crop until it lies in the frame, so that its
    #: object is no longer in the middle; 'reflect', 'edge' (repeat the last pixel) and 'zero'
    #: (black) keep it there and make up the pixels beyond, which a detector then finds odd;
    #: with 'skip', objects whose crop would leave the frame are not cut.
    padding: str = "shift"
    #: The gray values that become 0 and 255: ``percentiles`` of each 'frame', or of the whole
    #: 'video' (read twice), or the two 'fixed' ``grays``.
    levels: str = "frame"
    percentiles: tuple[float, float] = (0.1, 99.9)
    grays: tuple[float, float] | None = None
    #: A crop is dropped if since the last kept crop of its object the object moved by at most
    #: ``still`` object sizes and the pixels at that crop's place changed by at most ``changed``
    #: (mean absolute difference after 8-bit conversion, as a share of 255). 0 in either: off.
    still: float = 0.1
    changed: float = 0.03
    #: Only every so many frames are read, from the first on.
    every: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.object_size) and self.object_size >= MIN_SIDE):
            raise UserError(
                f"object size {self.object_size:g}: give the typical diameter of an object in "
                f"pixels, at least {MIN_SIDE}"
            )
        if not (math.isfinite(self.contrast) and self.contrast > 1):
            raise UserError(
                f"contrast {self.contrast:g}: is in multiples of the noise and has to be above 1; "
                "4 is usual"
            )
        if not MIN_SIDE <= self.crop_side <= _LARGEST:
            raise UserError(
                f"crop side {self.crop_side}: has to be from {MIN_SIDE} to {_LARGEST} pixels"
            )
        if self.padding not in PADDINGS:
            raise UserError(f"padding '{self.padding}': choose one of {', '.join(PADDINGS)}")
        if self.levels not in LEVELS:
            raise UserError(f"levels '{self.levels}': choose one of {', '.join(LEVELS)}")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise UserError(f"percentiles {low:g} and {high:g}: have to rise within 0 to 100")
        if (self.levels == "fixed") != (self.grays is not None):
            raise UserError(
                "fixed levels and two gray values go together: give levels 'fixed' and the gray "
                "values that become black and white, or neither"
            )
        if self.grays is not None and not all(map(math.isfinite, self.grays)):
            raise UserError(
                f"gray values {self.grays[0]:g} and {self.grays[1]:g}: have to be finite"
            )
        if self.grays is not None and not self.grays[0] < self.grays[1]:
            raise UserError(
                f"gray values {self.grays[0]:g} and {self.grays[1]:g}: the first becomes black, "
                "the second white, and has to be the higher one"
            )
        if not (0 <= self.still < math.inf and 0 <= self.changed <= 1):
            raise UserError(
                f"thinning at {self.still:g} object sizes and a change of {self.changed:g}: the "
                "first is 0 (off) or more, the second from 0 (off) to 1"
            )
        if not 1 <= self.every < 2**31:
            raise UserError(f"every {self.every} frames: has to be at least 1, and no such number")

    @property
    def crop_side(self) -> int:
        """Side of a crop in pixels."""
        return self.side if self.side is not None else 2 * math.ceil(self.object_size)

    def to_json(self) -> dict[str, Any]:
        """All values, with the crop side that holds."""
        return asdict(self) | {"side": self.crop_side}


@dataclass(frozen=True)
class Found:
    """An object: its center of mass, and the diameter of a circle of its area, in pixels."""

    row: float
    column: float
    size: float

    def corner(self, side: int) -> tuple[int, int]:
        """Top and left of the crop of this side that is centerd on the object."""
        half = (side - 1) / 2
        return math.floor(self.row - half + 0.5), math.floor(self.column - half + 0.5)


def find_objects(frame: Array, settings: CropSettings) -> list[Found]:
    """The contrasted objects of a frame, by rows.

    What lies above the contrast is divided by watersheds between the peaks of its smoothed
    contrast, at two scales: a lump that may be one object or several is found as a whole and in
    its parts, unless their centers nearly coincide.

    Args:
        frame: [H, W], of any real type, finite.
    """
    low, high = (float(v) for v in np.percentile(frame, (0.1, 99.9)))
    if not high > low:  # blank, but for a few pixels
        low, high = float(frame.min()), float(frame.max())
        if not high > low:
            return []
    frame = ((frame.astype(np.float64).clip(low, high) - low) / (high - low)).astype(np.float32)
    factor = max(1.0, settings.object_size / _WORKING_SIZE)
    height, width = (max(1, round(n / factor)) for n in frame.shape)
    # Both factors, as the sides are rounded.
    rows, columns = frame.shape[0] / height, frame.shape[1] / width
    frame = _resize(frame, (height, width))
    return sorted(
        (
            # The center of the first pixel is 0 at every scale.
            Found((f.row + 0.5) * rows - 0.5, (f.column + 0.5) * columns - 0.5, f.size * factor)
            for f in _find(frame, settings.object_size / factor, settings.contrast)
        ),
        key=lambda f: (f.row, f.column),
    )


def _find(frame: Array, size: float, least: float) -> list[Found]:
    ndimage = library("scipy.ndimage", _NEEDED_BY)
    contrast = local_contrast(frame, size, most=2 * least)
    regions, count = ndimage.label(ndimage.binary_fill_holes(contrast > least))
    large = np.bincount(regions.ravel(), minlength=count + 1) >= _LEAST_AREA * size * size
    large[0] = False
    regions *= large[regions]
    contrast = np.where(regions > 0, contrast, 0).astype(np.float32)
    found: list[Found] = []
    for scale in _SCALES:
        for new in _divide(contrast, regions, size, scale):
            if all(
                math.hypot(new.row - f.row, new.column - f.column) >= _SAME * size for f in found
            ):
                found.append(new)
    return found


def local_contrast(frame: Array, size: float, most: float) -> Array:
    """Local contrast of a frame [H, W] with values in [0, 1], in multiples of its noise.

    Args:
        size: of an object, in pixels.
        most: a pixel counts up to here, so that a bright halo does not outshine a pale cell.
    """
    ndimage = library("scipy.ndimage", _NEEDED_BY)
    # The background has no detail: 4 pixels for an object are as good, and much faster.
    coarse = tuple(max(1, round(n * 4 / size)) if size > 4 else n for n in frame.shape)
    scale = min(size, 4.0)
    window = int(_BACKGROUND * scale) | 1
    # Not the mean: beside bright objects that is too high, and empty places look like objects.
    background = ndimage.median_filter(_resize(frame, coarse), size=window)
    background = _resize(ndimage.gaussian_filter(background, scale / 2), frame.shape)
    distance = np.abs(frame - background)
    # A window of fewer pixels would take noise for objects.
    sigma = max(1.5, _WINDOW * size)
    # Frames without noise are there too, drawn ones: half a gray level of 8 bits is the least.
    level = float(np.percentile(ndimage.gaussian_filter(distance, sigma), _QUIET))
    noise = max(level, 0.5 / 255)
    return np.asarray(ndimage.gaussian_filter(np.minimum(distance, most * noise), sigma) / noise)


def _divide(contrast: Array, regions: Array, size: float, scale: float) -> Iterator[Found]:
    """The parts of the regions around the peaks of their contrast at a scale."""
    smooth = library("scipy.ndimage", _NEEDED_BY).gaussian_filter(contrast, scale * size)
    peaks = library("skimage.feature", _NEEDED_BY).peak_local_max(
        smooth, min_distance=max(1, round(max(_APART, 2 * scale) * size)), exclude_border=False
    )
    peaks = peaks[regions[peaks[:, 0], peaks[:, 1]] > 0]
    markers = np.zeros(regions.shape, np.int32)
    markers[peaks[:, 0], peaks[:, 1]] = np.arange(1, len(peaks) + 1)
    # A small region beside a large one may have no peak of its own; it is an object all the same.
    without = np.ones(int(regions.max()) + 1, bool)
    without[regions[peaks[:, 0], peaks[:, 1]]] = False
    without[0] = False
    markers = np.where(without[regions], regions + len(peaks), markers)
    parts = library("skimage.segmentation", _NEEDED_BY).watershed(
        -smooth, markers, mask=regions > 0
    )
    return (f for f in _centers(parts) if f.size**2 * math.pi / 4 >= _LEAST_AREA * size * size)


def _centers(labels: Array) -> Iterator[Found]:
    for part in library("skimage.measure", _NEEDED_BY).regionprops(labels):
        row, column = part.centroid
        yield Found(float(row), float(column), math.sqrt(4 / math.pi * part.area))


def _resize(frame: Array, shape: Sequence[int]) -> Array:
    if frame.shape == tuple(shape):
        return frame
    shrinks = shape[0] <= frame.shape[0] and shape[1] <= frame.shape[1]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(frame).resize((shape[1], shape[0]), method))


def objects_in_mask(mask: Array) -> list[Found]:
    """The objects of an instance mask, by rows.

    Args:
        mask: whole numbers [H, W]; 0 is background. Each other number is one object; where there
            is only one other number, each connected area is.
    """
    return sorted(_centers(_instances(mask)), key=lambda f: (f.row, f.column))


def _instances(mask: Array) -> Array:
    """Labels from 1 on, without gaps, so that a mask of large numbers costs no more."""
    values, labels = np.unique(mask, return_inverse=True)
    labels = labels.reshape(mask.shape) + (0 if values[0] == 0 else 1)
    if labels.max() == 1:
        labels = library("skimage.measure", _NEEDED_BY).label(labels)
    return np.asarray(labels)


@dataclass(frozen=True)
class Coverage:
    """How well crops match the instances of a mask; add several to pool them."""

    instances: int = 0
    #: Instances whose center of mass, and at least 75 % of whose pixels, lie in one single crop.
    covered: int = 0
    #: Instances that have the center of a crop on one of their pixels.
    centerd: int = 0
    crops: int = 0
    #: Crops whose center lies on an instance.
    on_instance: int = 0

    @property
    def recall(self) -> float:
        """Share of instances that are covered; NaN without instances."""
        return self.covered / self.instances if self.instances else math.nan

    @property
    def centerd_recall(self) -> float:
        """Share of instances on which a crop is centerd; NaN without instances."""
        return self.centerd / self.instances if self.instances else math.nan

    @property
    def precision(self) -> float:
        """Share of crops that are centerd on an instance; NaN without crops."""
        return self.on_instance / self.crops if self.crops else math.nan

    def __add__(self, other: Coverage) -> Coverage:
        return Coverage(
            self.instances + other.instances,
            self.covered + other.covered,
            self.centerd + other.centerd,
            self.crops + other.crops,
            self.on_instance + other.on_instance,
        )


def coverage(
    found: Iterable[Found], mask: Array, side: int, near: float = 0.0, padding: str = "shift"
) -> Coverage:
    """Compare crops with an instance mask; :class:`Coverage` says what counts.

    Large crops cover much by chance: compare with as many crops on a regular grid.

    Args:
        found: what the crops are centerd on.
        mask: [H, W], as :func:`objects_in_mask` takes it.
        side: of the crops, in pixels.
        near: a center at most so many pixels off an instance counts as on it, for
            ``on_instance``.
        padding: how the crops are cut at the border.
    """
    labels = _instances(mask)
    areas = np.bincount(labels.ravel())
    centers = np.full((len(areas), 2), -np.inf)
    for part in library("skimage.measure", _NEEDED_BY).regionprops(labels):
        centers[part.label] = part.centroid
    off = library("scipy.ndimage", _NEEDED_BY).distance_transform_edt(labels == 0)
    covered, centerd = np.zeros(len(areas), bool), np.zeros(len(areas), bool)
    crops = on_instance = 0
    for f in found:
        top, left = placed(f, labels.shape, side, padding)
        inside = labels[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
        share = np.bincount(inside.ravel(), minlength=len(areas)) / np.maximum(areas, 1)
        middle = (centers >= (top, left)) & (centers <= (top + side - 1, left + side - 1))
        covered |= (share >= 0.75) & middle.all(axis=1)
        row, column = (round(min(max(v, 0), n - 1)) for v, n in zip(
            (f.row, f.column), labels.shape, strict=True))  # fmt: skip
        centerd[labels[row, column]] = True
        # Without any instance nothing is near one, whatever the transform says.
        on_instance += bool(len(areas) > 1 and off[row, column] <= near)
        crops += 1
    ids = np.flatnonzero(areas[1:]) + 1
    return Coverage(len(ids), int(covered[ids].sum()), int(centerd[ids].sum()), crops, on_instance)


def placed(found: Found, shape: Sequence[int], side: int, padding: str) -> tuple[int, int]:
    """Top and left of the crop of an object in a frame of a shape [H, W]."""
    top, left = found.corner(side)
    if padding != "shift":
        return top, left
    # A frame smaller than the crop stays in the middle.
    return (
        min(max(top, min(0, shape[0] - side)), max(0, shape[0] - side)),
        min(max(left, min(0, shape[1] - side)), max(0, shape[1] - side)),
    )


def to_cut(
    found: Iterable[Found], shape: Sequence[int], settings: CropSettings, merge: bool = True
) -> list[Found]:
    """The objects of a frame [H, W] that get a crop.

    With padding 'skip' those whose crop leaves the frame do not; with 'shift' and ``merge``
    those do not whose crop, once moved, hardly differs in its place from one before.
    """
    side, chosen = settings.crop_side, []
    corners: list[tuple[int, int]] = []
    for f in found:
        top, left = corner = placed(f, shape, side, settings.padding)
        leaves = top < 0 or left < 0 or top + side > shape[0] or left + side > shape[1]
        if settings.padding == "skip" and leaves:
            continue
        near = _SAME * settings.object_size
        moved = merge and corner != f.corner(side)
        if moved and any(math.dist(corner, other) < near for other in corners):
            continue
        chosen.append(f)
        corners.append(corner)
    return chosen


def cut(frame: Array, top: int, left: int, side: int, padding: str) -> Array:
    """A square [side, side] of a frame [H, W]; what lies beyond it is made up.

    'shift' reflects where the frame is smaller than the crop.
    """
    height, width = frame.shape
    if padding == "zero":
        out = np.zeros((side, side), frame.dtype)
        inner = frame[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
        row, column = max(-top, 0), max(-left, 0)
        out[row : row + inner.shape[0], column : column + inner.shape[1]] = inner
        return out
    indices = [
        _beyond(np.arange(start, start + side), count, padding)
        for start, count in ((top, height), (left, width))
    ]
    return np.asarray(frame[np.ix_(*indices)])


def _beyond(index: Array, count: int, padding: str) -> Array:
    if padding in ("reflect", "shift") and count > 1:
        # The border itself is not repeated; small frames are reflected again and again.
        index = np.abs((index + count - 1) % (2 * count - 2) - (count - 1))
    return np.asarray(index.clip(0, count - 1))


def to_8_bit(frame: Array, black: float, white: float) -> Array:
    """Gray values to uint8: ``black`` and below to 0, ``white`` and above to 255, rounded."""
    span = white - black if white > black else 1.0
    return np.rint(((frame - black) * (255.0 / span)).clip(0, 255)).astype(np.uint8)


def to_gray(pixels: Array) -> Array:
    """[H, W, C] to [H, W]: uint8 and uint16 as they are, other types as float64.

    Raises:
        ValueError: the frame cannot be used; the message is a clause that says why.
    """
    if 0 in pixels.shape:
        raise ValueError("it has no pixels")
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(f"it has the shape {list(pixels.shape)}; gray or RGB can be cut")
    whole = pixels.dtype in (np.uint8, np.uint16)
    if not whole and not np.isfinite(pixels).all():
        raise ValueError("it holds NaN or infinite values")
    if pixels.shape[2] == 1:
        gray = pixels[:, :, 0]
    else:
        gray = np.rint(pixels @ _LUMA) if whole else pixels @ _LUMA
    return gray.astype(pixels.dtype if whole else np.float64)


@dataclass
class _Kept:
    """The last kept crop of an object, and the last frame in which the object was seen."""

    name: str
    found: Found
    corner: tuple[int, int]
    pixels: Array
    seen: int


class CropReader(Reader):
    """The crops of all frames of another reader, in memory that does not grow with the frames.

    A crop is named ``<frame>@<row>,<column>`` after its center, has uint8 pixels
    [side, side, 1], and tells its frame, and its top and left (negative beyond the border), in
    its origin. Crops that hardly differ from the last kept crop of their object come out as
    unreadable, with that reason, so that they are counted. Frames without objects yield nothing.

    Args:
        frames: where the frames are from; each record is one frame, in the order of time.
        masks: one instance mask for each frame, in the same order; they replace the detection.
        sheet: is shown every frame and every crop.

    Raises:
        UserError: here, or when the records are read: the masks do not fit the frames.
    """

    KIND: ClassVar[str] = "frames that crops are cut out of"

    def __init__(
        self,
        frames: Reader,
        settings: CropSettings,
        masks: Reader | None = None,
        sheet: SheetCollector | None = None,
    ) -> None:
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

    @staticmethod
    def takes(source: str) -> bool:
        del source  # it is made of another reader
        return False

    def files(self) -> Iterable[Path]:
        return [*self.frames.files(), *(self.masks.files() if self.masks else ())]

    def shapes(self, most: int) -> Iterator[Shape]:
        side = self.settings.crop_side
        return repeat((side, side, 1), most)

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        # How many crops a frame has is only known once it is searched, and what is dropped
        # depends on the frames before.
        for number, record in enumerate(self._records()):
            if self.sheet is not None:
                self.sheet.add(record)
            if number >= start:
                yield record

    def _records(self) -> Iterator[Record | SkippedImage]:
        kept: list[_Kept] = []
        for number, (frame, found) in enumerate(self._searched()):
            if isinstance(frame, SkippedImage):
                yield frame
                continue
            gray = to_gray(frame.pixels)
            yield from self._crops(frame, to_8_bit(gray, *self._black_and_white(gray)), found,
                                   kept, number)  # fmt: skip
            kept[:] = [k for k in kept if number - k.seen < _PATIENCE]

    def _crops(
        self, frame: Record, gray: Array, found: list[Found], kept: list[_Kept], number: int
    ) -> Iterator[Record | SkippedImage]:
        settings, side = self.settings, self.settings.crop_side
        if settings.padding == "skip" and min(gray.shape) < side:
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
        earlier = list(kept)  # crops of one frame never thin each other
        for f in to_cut(found, gray.shape, settings, merge=self.masks is None):
            corner = placed(f, gray.shape, side, settings.padding)
            name = f"{frame.name}@{math.floor(f.row + 0.5)},{math.floor(f.column + 0.5)}"
            if name in names:  # two instances of a mask with one center give one crop
                continue
            names.add(name)
            # What the frame says of a label or a mask is not about this part of it.
            origin = replace(frame.origin, position=corner, label=None, mask=None)
            same, still = self._last(f, gray, earlier)
            if still is not None:
                still.seen = number
                out.append(
                    SkippedImage(
                        name, f"hardly differs from an earlier crop ({still.name})", origin
                    )
                )
                continue
            kept[:] = [k for k in kept if not any(k is s for s in same)]
            pixels = cut(gray, *corner, side, settings.padding)
            if settings.still and settings.changed:
                kept.append(_Kept(name, f, corner, pixels, number))
            corners.append(corner)
            out.append(Record(name, pixels[:, :, None], origin))
        if self.sheet is not None:
            self.sheet.watch(frame.name, gray, corners, side)
        yield from out

    def _last(
        self, found: Found, gray: Array, kept: list[_Kept]
    ) -> tuple[list[_Kept], _Kept | None]:
        """Kept crops of an object that hardly moved, and the nearest that hardly changed."""
        settings = self.settings

        def moved(k: _Kept) -> float:
            return math.hypot(k.found.row - found.row, k.found.column - found.column)

        same = sorted(
            (k for k in kept if moved(k) <= settings.still * settings.object_size), key=moved
        )
        for k in same:
            # At the same place, not around the new center: that trembles by a pixel or two.
            now = cut(gray, *k.corner, settings.crop_side, settings.padding)
            change = np.abs(now.astype(np.int16) - k.pixels).mean() / 255
            if change <= settings.changed:
                return same, k
        return same, None

    def _searched(self) -> Iterator[tuple[Record | SkippedImage, list[Found]]]:
        """Every frame, with its objects."""
        for frame, mask in self._pairs():
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
                yield frame, objects_in_mask(_fitting(mask, frame))

    def _pairs(self) -> Iterator[tuple[Record | SkippedImage, Record | SkippedImage | None]]:
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
                except ValueError:  # is told when it is the turn of the frame to be cut
                    continue


def video_levels(
    frames: Callable[[], Iterable[Array]], percentiles: tuple[float, float]
) -> tuple[float, float]:
    """Two percentiles of all pixels of all frames, from a histogram.

    As ``np.percentile`` has them for uint8 and uint16; for floats to 1/65536 of their range, in
    a second pass.

    Args:
        frames: called for each pass; there has to be at least one frame.
    """
    counts = np.zeros(65536, np.int64)
    low, high, whole = math.inf, -math.inf, True
    for frame in frames():
        low, high = min(low, float(frame.min())), max(high, float(frame.max()))
        whole = whole and frame.dtype.kind == "u"
        if whole:
            counts += np.bincount(frame.ravel(), minlength=65536)
    start, step = 0.0, 1.0
    if not whole:
        if not high > low:
            return low, high
        start, step = low, (high - low) / 65535
        counts[:] = 0
        for frame in frames():
            bins = np.rint((frame.astype(np.float64) - start) / step).astype(np.int64)
            counts += np.bincount(bins.ravel(), minlength=65536)
    below = counts.cumsum()
    levels = []
    for percent in percentiles:
        place = percent / 100 * (int(below[-1]) - 1)
        lower, upper = np.searchsorted(below, (math.floor(place), math.ceil(place)), side="right")
        levels.append(start + step * (lower + (upper - lower) * (place - math.floor(place))))
    return float(levels[0]), float(levels[1])


def _fitting(mask: Record, frame: Record) -> Array:
    """The mask of a frame: [H, W] of whole numbers."""
    pixels = mask.pixels
    if pixels.shape[2] == 3 and (pixels == pixels[:, :, :1]).all():  # gray, saved as color
        pixels = pixels[:, :, :1]
    if pixels.shape[2] != 1 or pixels.dtype.kind not in "uib":
        raise UserError(
            f"{mask.name}: is no instance mask (it has {pixels.shape[2]} channels of type "
            f"{pixels.dtype}); give one channel of whole numbers, 0 for the background and "
            "another number for each object"
        )
    if pixels.shape[:2] != frame.pixels.shape[:2]:
        sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (pixels, frame.pixels)]
        raise UserError(
            f"{mask.name}: is {sizes[0]} pixels large, its frame {frame.name} {sizes[1]}; "
            "give masks of the size of the frames"
        )
    return pixels[:, :, 0]


def _place(reader: Reader) -> str:
    """What to call a reader in a message: its file, or the folder of its files."""
    files = list(islice(reader.files(), 2))
    return str(files[0].parent if len(files) > 1 else files[0]) if files else "the source"
