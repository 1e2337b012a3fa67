"""Match between the crops that are cut out of a video and given instance masks.

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

import numpy as np

from anowild.data.crops import (
    Coverage,
    CropSettings,
    Found,
    coverage,
    find_objects,
    to_cut,
    to_gray,
)
from anowild.data.readers import Record, open_source


def regular_grid(count: int, height: int, width: int) -> list[Found]:
    """Return the centers of at least ``count`` crops, in nearly as many rows as columns."""
    rows = max(1, math.isqrt(count))
    columns = -(-count // rows)
    places = [((np.arange(n) + 0.5) * side / n) for n, side in ((rows, height), (columns, width))]
    return [Found(float(y), float(x), 1.0) for y in places[0] for x in places[1]]


def line(name: object, part: Coverage, frames: int = 1) -> str:
    """Format a row of the table."""
    return (
        f"{name!s:>8}  {part.crops / frames:6.1f}  {part.instances / frames:9.1f}  "
        f"{part.recall:6.3f}  {part.centerd_recall:7.3f}  {part.precision:9.3f}"
    )


def measure(video: str, masks: str, settings: CropSettings, quiet: bool = False) -> None:
    """Print one line for each frame, and the summaries."""
    side = settings.crop_side
    parts: list[Coverage] = []
    grids: list[Coverage] = []
    seconds: list[float] = []
    print(f"{video}: object size {settings.object_size:g}, crop side {side}")
    print("   frame   crops  instances  recall centered  precision  seconds")
    for number, (frame, mask) in enumerate(
        zip(open_source(video), open_source(masks), strict=False)
    ):
        if not isinstance(frame, Record) or not isinstance(mask, Record):
            print(f"{number:8}  cannot be read")
            continue
        gray, ids = to_gray(frame.pixels), mask.pixels[:, :, 0]
        started = time.perf_counter()
        found = to_cut(find_objects(gray, settings), gray.shape, settings)
        seconds.append(time.perf_counter() - started)
        parts.append(coverage(found, ids, side, padding=settings.padding))
        grids.append(coverage(regular_grid(len(found), *gray.shape), ids, side))
        if not quiet:
            print(f"{line(number, parts[-1])}  {seconds[-1]:7.3f}", flush=True)
    pooled, by_chance = sum(parts, Coverage()), sum(grids, Coverage())
    recall = np.nanmean([p.recall for p in parts])
    centerd = np.nanmean([p.centerd_recall for p in parts])
    precision = np.nanmean([p.precision for p in parts])
    print(f"{'mean':>8}  {'':6}  {'':9}  {recall:6.3f}  {centerd:7.3f}  {precision:9.3f}  "
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
