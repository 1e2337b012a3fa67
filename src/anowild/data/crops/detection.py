"""Detection of contrasted objects in frames, and of the instances of a mask."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from anowild.arrays import Array
from anowild.data.crops.settings import CropSettings
from anowild.data.preprocessing import resize
from anowild.libraries import library

# All lengths are in object sizes. They were chosen on one real phase-contrast video (bench/crops.py
# measures it); the comments say what each one trades.
_WINDOW = (
    1 / 12
)  # sigma of the window of the local contrast: a smaller one finds more specks of dirt
_BACKGROUND = 4.0  # side of the square whose median is the background: up to 10 it hardly matters
_SCALES = (0.25, 0.12)  # sigmas at which peaks are sought: whole lumps first, then their parts
_PEAK_DISTANCE = 0.4  # least distance of two peaks
_MIN_AREA = 1 / 64  # in squared object sizes: a speck of an eighth of the diameter
_NOISE_PERCENTILE = 10  # of the local contrast; is the noise as long as 1/10 of the frame is empty
_WORKING_SIZE = 64.0  # larger objects are sought in a reduced frame, which is much faster

#: Detections whose centers are nearer than this, in object sizes, are the same object.
SAME_OBJECT = 0.3

_NEEDED_BY = "--crop-objects"  # the feature that an error message about a missing library names


@dataclass(frozen=True)
class Detection:
    """An object: its center of mass, and the diameter of a circle of its area, in pixels."""

    row: float
    column: float
    size: float


def find_objects(frame: Array, settings: CropSettings) -> list[Detection]:
    """Find the contrasted objects of a frame, sorted by row and column.

    Areas above the contrast threshold are divided by watersheds between the peaks of their smoothed
    contrast, at two scales. So a lump that may be one object or several is found as a whole and in
    its parts, unless their centers nearly coincide.

    Args:
        frame: [H, W], of any real type, finite.
        settings: ``object_size`` and ``contrast`` are used.
    """
    low, high = (float(v) for v in np.percentile(frame, (0.1, 99.9)))
    if not high > low:  # blank, but for a few pixels
        low, high = float(frame.min()), float(frame.max())
        if not high > low:
            return []
    frame = ((frame.astype(np.float64).clip(low, high) - low) / (high - low)).astype(np.float32)
    factor = max(1.0, settings.object_size / _WORKING_SIZE)
    height, width = (max(1, round(n / factor)) for n in frame.shape)
    # The two factors differ a little, as the sides are rounded.
    rows, columns = frame.shape[0] / height, frame.shape[1] / width
    frame = resize(frame, height, width)
    return sorted(
        (
            # The center of the first pixel is 0 at every scale.
            Detection((d.row + 0.5) * rows - 0.5, (d.column + 0.5) * columns - 0.5, d.size * factor)
            for d in _find(frame, settings.object_size / factor, settings.contrast)
        ),
        key=lambda d: (d.row, d.column),
    )


def _find(frame: Array, size: float, threshold: float) -> list[Detection]:
    ndimage = library("scipy.ndimage", _NEEDED_BY)
    contrast = local_contrast(frame, size, limit=2 * threshold)
    regions, count = ndimage.label(ndimage.binary_fill_holes(contrast > threshold))
    large = np.bincount(regions.ravel(), minlength=count + 1) >= _MIN_AREA * size * size
    large[0] = False
    regions *= large[regions]
    contrast = np.where(regions > 0, contrast, 0).astype(np.float32)
    found: list[Detection] = []
    for scale in _SCALES:
        for new in _divide(contrast, regions, size, scale):
            if all(
                math.hypot(new.row - d.row, new.column - d.column) >= SAME_OBJECT * size
                for d in found
            ):
                found.append(new)
    return found


def local_contrast(frame: Array, size: float, limit: float) -> Array:
    """Compute the local contrast of a frame [H, W] in [0, 1], in multiples of its noise.

    Args:
        frame: float32.
        size: diameter of an object, in pixels.
        limit: contrast at which a pixel is clipped, so that a bright halo does not outshine a pale
            cell.
    """
    ndimage = library("scipy.ndimage", _NEEDED_BY)
    # The background has no detail: 4 pixels for an object are as good, and much faster.
    coarse = [max(1, round(n * 4 / size)) if size > 4 else n for n in frame.shape]
    scale = min(size, 4.0)
    window = int(_BACKGROUND * scale) | 1
    # The mean would be too high beside bright objects, and empty places would look like objects.
    background = ndimage.median_filter(resize(frame, *coarse), size=window)
    background = resize(ndimage.gaussian_filter(background, scale / 2), *frame.shape)
    distance = np.abs(frame - background)
    # A window of fewer pixels would take noise for objects.
    sigma = max(1.5, _WINDOW * size)
    # Drawn frames have no noise: half a gray level of 8 bits is the least.
    level = float(np.percentile(ndimage.gaussian_filter(distance, sigma), _NOISE_PERCENTILE))
    noise = max(level, 0.5 / 255)
    return np.asarray(ndimage.gaussian_filter(np.minimum(distance, limit * noise), sigma) / noise)


def _divide(contrast: Array, regions: Array, size: float, scale: float) -> Iterator[Detection]:
    """Divide regions into the watersheds around the peaks of their contrast at a scale."""
    smooth = library("scipy.ndimage", _NEEDED_BY).gaussian_filter(contrast, scale * size)
    peaks = library("skimage.feature", _NEEDED_BY).peak_local_max(
        smooth,
        min_distance=max(1, round(max(_PEAK_DISTANCE, 2 * scale) * size)),
        exclude_border=False,
    )
    peaks = peaks[regions[peaks[:, 0], peaks[:, 1]] > 0]
    markers = np.zeros(regions.shape, np.int32)
    markers[peaks[:, 0], peaks[:, 1]] = np.arange(1, len(peaks) + 1)
    # A small region beside a large one may have no peak of its own; it is an object all the same.
    without_peak = np.ones(int(regions.max()) + 1, bool)
    without_peak[regions[peaks[:, 0], peaks[:, 1]]] = False
    without_peak[0] = False
    markers = np.where(without_peak[regions], regions + len(peaks), markers)
    parts = library("skimage.segmentation", _NEEDED_BY).watershed(
        -smooth, markers, mask=regions > 0
    )
    return (d for d in _centers(parts) if d.size**2 * math.pi / 4 >= _MIN_AREA * size * size)


def _centers(labels: Array) -> Iterator[Detection]:
    for part in library("skimage.measure", _NEEDED_BY).regionprops(labels):
        row, column = part.centroid
        yield Detection(float(row), float(column), math.sqrt(4 / math.pi * part.area))


def objects_in_mask(mask: Array) -> list[Detection]:
    """Return the objects of an instance mask, sorted by row and column.

    Args:
        mask: integers [H, W]; 0 is background. Each other number is one object. If there is only one
            other number, each connected area is one.
    """
    return sorted(_centers(label_instances(mask)), key=lambda d: (d.row, d.column))


def label_instances(mask: Array) -> Array:
    """Label the instances of a mask [H, W] with 1, 2, ..., without gaps; 0 is background.

    Gaps would make a mask of large numbers costly.
    """
    values, labels = np.unique(mask, return_inverse=True)
    labels = labels.reshape(mask.shape) + (0 if values[0] == 0 else 1)
    if labels.max() == 1:
        labels = library("skimage.measure", _NEEDED_BY).label(labels)
    return np.asarray(labels)
