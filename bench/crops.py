"""How well the crops that are cut out of a video match given instance masks.

    python -m bench.crops VIDEO --masks MASKS --object-size 56

For each frame: crops, instances, recall (instances of which one crop holds the center of mass and
at least 75 % of the pixels), centered (instances on which a crop is centered), precision (crops that
are centered on an instance), seconds for finding the objects. Then the means over frames, the
pooled shares, and the same for a regular grid of at least as many crops of the same side: large
crops cover much by chance. Masks beyond the last frame are not used.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from anowild.arrays import Array
from anowild.data.crops import (
    CropSettings,
    Detection,
    crop_corner,
    find_objects,
    select_objects,
    to_gray,
)
from anowild.data.crops.detection import label_instances
from anowild.data.readers import Record, open_source
from anowild.libraries import library


@dataclass(frozen=True)
class Coverage:
    """Counts of how well crops match the instances of a mask; the sum of several pools them."""

    instances: int = 0
    #: Instances whose center of mass, and at least 75 % of whose pixels, lie in one single crop.
    covered: int = 0
    #: Instances that have the center of a crop on one of their pixels.
    centered: int = 0
    crops: int = 0
    #: Crops whose center lies on an instance.
    on_instance: int = 0

    @property
    def recall(self) -> float:
        """Share of instances that are covered; NaN without instances."""
        return self.covered / self.instances if self.instances else math.nan

    @property
    def centered_recall(self) -> float:
        """Share of instances on which a crop is centered; NaN without instances."""
        return self.centered / self.instances if self.instances else math.nan

    @property
    def precision(self) -> float:
        """Share of crops that are centered on an instance; NaN without crops."""
        return self.on_instance / self.crops if self.crops else math.nan

    def __add__(self, other: Coverage) -> Coverage:
        return Coverage(
            self.instances + other.instances,
            self.covered + other.covered,
            self.centered + other.centered,
            self.crops + other.crops,
            self.on_instance + other.on_instance,
        )


def coverage(
    found: Iterable[Detection], mask: Array, side: int, near: float = 0.0, padding: str = "shift"
) -> Coverage:
    """Compare crops with an instance mask; :class:`Coverage` defines the counts.

    Large crops cover much by chance: compare with as many crops on a regular grid.

    Args:
        found: objects that the crops are centered on.
        mask: [H, W], as for :func:`anowild.data.crops.objects_in_mask`.
        side: of the crops, in pixels.
        near: distance in pixels up to which a center counts as on an instance, for ``on_instance``.
        padding: of crops that leave the frame.
    """
    labels = label_instances(mask)
    areas = np.bincount(labels.ravel())
    centers = np.full((len(areas), 2), -np.inf)
    for part in library("skimage.measure", "a mask").regionprops(labels):
        centers[part.label] = part.centroid
    off = distance_transform_edt(labels == 0)
    covered, centered = np.zeros(len(areas), bool), np.zeros(len(areas), bool)
    crops = on_instance = 0
    for f in found:
        top, left = crop_corner(f, labels.shape, side, padding)
        inside = labels[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
        share = np.bincount(inside.ravel(), minlength=len(areas)) / np.maximum(areas, 1)
        middle = (centers >= (top, left)) & (centers <= (top + side - 1, left + side - 1))
        covered |= (share >= 0.75) & middle.all(axis=1)
        row, column = (round(min(max(v, 0), n - 1)) for v, n in zip(
            (f.row, f.column), labels.shape, strict=True))  # fmt: skip
        centered[labels[row, column]] = True
        # Without any instance nothing is near one, whatever the transform says.
        on_instance += bool(len(areas) > 1 and off[row, column] <= near)
        crops += 1
    ids = np.flatnonzero(areas[1:]) + 1
    return Coverage(len(ids), int(covered[ids].sum()), int(centered[ids].sum()), crops, on_instance)


def regular_grid(count: int, height: int, width: int) -> list[Detection]:
    """Return the centers of at least ``count`` crops, in nearly as many rows as columns."""
    rows = max(1, math.isqrt(count))
    columns = -(-count // rows)
    places = [((np.arange(n) + 0.5) * side / n) for n, side in ((rows, height), (columns, width))]
    return [Detection(float(y), float(x), 1.0) for y in places[0] for x in places[1]]


def line(name: object, part: Coverage, frames: int = 1) -> str:
    return (
        f"{name!s:>8}  {part.crops / frames:6.1f}  {part.instances / frames:9.1f}  "
        f"{part.recall:6.3f}  {part.centered_recall:7.3f}  {part.precision:9.3f}"
    )


def measure(video: str, masks: str, settings: CropSettings, quiet: bool = False) -> None:
    """Print one line for each frame, and the summaries."""
    side = settings.crop_side
    parts: list[Coverage] = []
    grids: list[Coverage] = []
    seconds: list[float] = []
    print(f"{video}: object size {settings.object_size:g}, crop side {side}")
    print("   frame   crops  instances  recall  centered  precision  seconds")
    for number, (frame, mask) in enumerate(
        zip(open_source(video), open_source(masks), strict=False)
    ):
        if not isinstance(frame, Record) or not isinstance(mask, Record):
            print(f"{number:8}  cannot be read")
            continue
        gray, ids = to_gray(frame.pixels), mask.pixels[:, :, 0]
        started = time.perf_counter()
        found = select_objects(find_objects(gray, settings), gray.shape, settings)
        seconds.append(time.perf_counter() - started)
        parts.append(coverage(found, ids, side, padding=settings.padding))
        grids.append(coverage(regular_grid(len(found), *gray.shape), ids, side))
        if not quiet:
            print(f"{line(number, parts[-1])}  {seconds[-1]:7.3f}", flush=True)
    pooled, by_chance = sum(parts, Coverage()), sum(grids, Coverage())
    recall = np.nanmean([p.recall for p in parts])
    centered = np.nanmean([p.centered_recall for p in parts])
    precision = np.nanmean([p.precision for p in parts])
    print(f"{'mean':>8}  {'':6}  {'':9}  {recall:6.3f}  {centered:7.3f}  {precision:9.3f}  "
          f"{np.mean(seconds):7.3f}")  # fmt: skip
    print(line("pooled", pooled, len(parts)))
    print(line("grid", by_chance, len(parts)))
    print(f"crops for each instance: {pooled.crops / max(1, pooled.instances):.2f}")


def main(arguments: list[str]) -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.crops")
    parser.add_argument("video", help="video, multi-page TIFF, or folder of frames")
    parser.add_argument("--masks", required=True, help="one instance mask for each frame")
    parser.add_argument("--object-size", type=float, default=56.0, help="in pixels")
    parser.add_argument("--side", type=int, default=None, help="of a crop, in pixels")
    parser.add_argument("--contrast", type=float, default=4.0, help="in multiples of the noise")
    parser.add_argument("--quiet", action="store_true", help="only the summaries")
    given = parser.parse_args(arguments)
    settings = CropSettings(given.object_size, contrast=given.contrast, side=given.side)
    measure(given.video, given.masks, settings, given.quiet)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
