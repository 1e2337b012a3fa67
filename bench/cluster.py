"""Scoring by a Ray cluster of two workers, one of which is killed, beside one process.

    python -m bench cluster [--images 200000] [--workers 2] [--folder FOLDER]

The images are scikit-learn's digits, enlarged to 32x32, shifted, and with noise of seed 0, as PNG in Parquet files.
The model has the view `pixels` alone, trained on 2,000 of them: so scoring is cheap, and what a cluster adds shows.
When half of the images are scored, one worker is killed (SIGKILL, by its id). Printed are the images that are missing
or doubled in the table, the largest difference of any score or cue from one process's, images a second, with and
without the start of Ray, and the memory of the workers on the way. Everything has one thread.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
from PIL import Image
from sklearn.datasets import load_digits

from anowild import api
from anowild.arrays import Array
from anowild.cluster import score as cluster_score
from anowild.cluster.engine import Result
from anowild.device import configure_process
from anowild.presets import preset
from anowild.scoring.partitions import PARTS

#: Images of a file, and of its row groups.
FILE, GROUP = 25_000, 2_500
TRAINED = 2_000
#: Shares of the images at which memory is looked at.
MARKS = (0.25, 0.5, 0.75, 1.0)


def digits(count: int, seed: int = 0) -> Iterator[Array]:
    """Yield images, uint8 [32, 32]."""
    rng = np.random.default_rng(seed)
    small = (load_digits().images / 16 * 220).astype(np.uint8)
    for number in range(count):
        image = np.kron(small[number % len(small)], np.ones((4, 4), np.uint8)).astype(np.int16)
        image = np.roll(image, rng.integers(-2, 3, 2), axis=(0, 1))
        yield (image + rng.integers(0, 24, (32, 32), np.int16)).astype(np.uint8)


def write_images(folder: Path, count: int) -> None:
    """Write the images as PNG into Parquet files."""
    folder.mkdir(parents=True)
    cells: list[bytes] = []
    for number, image in enumerate(digits(count), start=1):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG", compress_level=1)
        cells.append(file.getvalue())
        if len(cells) == FILE or number == count:
            path = folder / f"digits-{number:07d}.parquet"
            pa.parquet.write_table(pa.table({"image": cells}), path, row_group_size=GROUP)
            cells = []


def resident_mb(process: int) -> float | None:
    """Return the resident memory of a process; None: there is none."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
    return found[0] / 1e3 if found else None


class Watch:
    """Looks at the workers while they score, and kills one in the middle."""

    def __init__(self, images: int) -> None:
        self.images, self.done = images, 0
        self.processes: list[int] = []
        self.killed: int | None = None
        self.marks = list(MARKS)
        self.first: tuple[float, int] | None = None  # when the first result came, and its images
        self.last = 0.0
        self.seen: list[str] = []

    def __call__(self, result: Result) -> None:
        """Receive the result of a piece."""
        self.done += len(result.value.names)
        self.last = time.perf_counter()
        self.first = self.first or (self.last, self.done)
        if result.process not in self.processes:
            self.processes.append(result.process)
        share = self.done / self.images
        if self.marks and share >= self.marks[0]:
            found = [(process, resident_mb(process)) for process in self.processes]
            held = ", ".join(
                f"worker {self.processes.index(process) + 1}: {mb:.0f} MB"
                for process, mb in found
                if mb
            )
            self.seen.append(f"memory at {100 * share:3.0f} %: {held}")
            self.marks = [mark for mark in self.marks if mark > share]
        if self.killed is None and share >= 0.5:
            self.killed = result.process
            os.kill(result.process, signal.SIGKILL)

    @property
    def rate(self) -> float:
        """Images a second from the first result to the last."""
        if self.first is None or self.last <= self.first[0]:
            return float("nan")
        return (self.done - self.first[1]) / (self.last - self.first[0])


def main(arguments: list[str]) -> int:
    """Score with both, and print how they compare; the exit status is 1 if they differ."""
    parser = argparse.ArgumentParser(
        prog="python -m bench cluster", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="for images, model and tables; else temporary")
    given = parser.parse_args(arguments)
    configure_process(1)
    with tempfile.TemporaryDirectory() as temporary:
        return compare(given.images, given.workers, given.folder or Path(temporary))


def compare(images: int, workers: int, folder: Path) -> int:
    """Score ``images`` images with a cluster and with one process; return the exit status."""
    source, model = folder / "images", folder / "model"
    if not source.exists():
        write_images(source, images)
    if not model.exists():
        settings = preset("quick").settings().replace(views=("pixels",))
        some = np.stack(list(digits(TRAINED, seed=1)))
        api.train(some, model, settings, threads=1)

    watch = Watch(images)
    started = time.perf_counter()
    cluster_score.score(model, source, folder / "ray", workers=workers, watch=watch)
    with_ray = time.perf_counter() - started
    started = time.perf_counter()
    api.score(model, source, folder / "one.parquet")
    alone = time.perf_counter() - started

    one = pa.parquet.read_table(folder / "one.parquet").sort_by("path")
    ray = pa.dataset.dataset(folder / "ray" / PARTS).to_table().sort_by("path")
    paths, expected = (table["path"].to_pylist() for table in (ray, one))
    missing, doubled = len(set(expected) - set(paths)), len(paths) - len(set(paths))
    print(f"{images} images of 32x32, view pixels, {workers} workers with one thread each")
    print(f"killed: worker {watch.processes.index(watch.killed) + 1 if watch.killed else None}")
    print(f"missing: {missing}, doubled: {doubled}")
    if paths == expected:
        numbers = [name for name in one.column_names if name not in ("path", "why")]
        difference = max(
            float(np.abs(one[name].to_numpy() - ray[name].to_numpy()).max()) for name in numbers
        )
        print(f"largest difference of a score, rank, view or cue: {difference:g}")
    else:
        difference = float("nan")
    print(f"one process: {alone:.1f} s, {images / alone:.0f} images/s")
    print(
        f"ray: {with_ray:.1f} s, {images / with_ray:.0f} images/s with its start and the ranking;"
    )
    print(f"     {watch.rate:.0f} images/s from the first result to the last")
    print("\n".join(watch.seen))
    return 0 if difference == 0 and not missing and not doubled else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
