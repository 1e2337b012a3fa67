"""Peak memory and time of ``anowild score`` to a file, by the number of images.

    python -m bench memory [--images 10000 100000 1000000] [--out csv]

Each size runs in a process of its own, whose peak is read from /proc/self/status. The networks are
tiny and untrained (8x8), so that reading, writing and what stays in memory are most of it. The
images are 32x32 noise that costs next to nothing to make (``bench data``), with names of 30 letters.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from anowild import api
from anowild.data.readers import Record, SkippedImage
from anowild.presets import preset
from bench.data import SIDE, Generated, peak_mb

#: Networks that cost an image less than its preprocessing.
TINY = {
    "resolution": 8,
    "fmap_base": 16,
    "fmap_max": 4,
    "latent_size": 4,
    "kimg": 0.0,
    "views": ("gan",),
}


class Named(Generated):
    """Source of noise with names as long as those of files."""

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for i, record in enumerate(super().records(start), start):
            yield replace(record, name=f"folder/{i // 1000:07}/{i:07}.image.png")


def make_model(folder: Path) -> None:
    """Save an untrained detector; a few images calibrate it."""
    images = np.random.default_rng(0).integers(0, 256, (256, SIDE, SIDE), dtype=np.uint8)
    api.train(images, folder, preset("laptop").settings().replace(**TINY), "cpu", threads=1)


def score(model: Path, count: int, out: Path) -> None:
    """Score, and print the seconds and the peak memory of this process."""
    from anowild.device import configure_process
    from anowild.scoring import Detector

    configure_process(threads=1)
    detector = Detector.load(model, "cpu")
    side = detector.preprocess.resolution
    detector.score(np.zeros((1, 1, side, side), np.uint8))
    before, started = peak_mb(), time.perf_counter()
    with mock.patch("anowild.scoring.stream.open_all", return_value=[Named(str(count))]):
        table = api.score(detector, "generated", out)
    seconds = time.perf_counter() - started
    assert len(table) == count
    print(seconds, before, peak_mb(), out.stat().st_size / 2**20, flush=True)


def main(arguments: list[str]) -> int:
    """Measure each size in a process; with ``--score``, be one of them."""
    parser = argparse.ArgumentParser(
        prog="python -m bench memory", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--out", choices=["csv", "parquet"], default="csv")
    parser.add_argument("--folder", type=Path, default=None, help="where to work")
    parser.add_argument("--score", nargs=3, metavar=("MODEL", "N", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.score:
        model, count, out = given.score
        score(Path(model), int(count), Path(out))
        return 0
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        folder = Path(temporary)
        make_model(folder / "model")
        print("   images   seconds   us/image  file MB   peak MB  beyond the first  before scoring")
        first = None
        for count in given.images:
            out = folder / f"scores-{count}.{given.out}"
            command = ["-m", "bench.memory", "--score", str(folder / "model"), str(count), str(out)]
            finished = subprocess.run(
                [sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True
            )
            seconds, before, peak, size = map(float, finished.stdout.split())
            first = peak if first is None else first
            print(
                f"{count:9}  {seconds:8.1f}  {seconds / count * 1e6:9.0f}  {size:7.1f}  {peak:8.1f}  "
                f"{peak - first:16.1f}  {before:14.1f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
