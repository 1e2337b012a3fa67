"""Looks at large folders, long tables, and the time from a file to its score.

    python -m bench watch [--files 100000] [--rows 1000000] [--folder DIR] [--model MODEL --images FOLDER]

First the seconds of looks at a folder of so many files that are all recorded, and the memory that they take. Then a
journal of so many rows, of 24 scores of views and cues each: rows a second, bytes a row, and the seconds and the
memory of writing the table. With a model, image files are moved into a watched folder one after the other, and the time from
there until each is recorded is printed. Times are those of the clock, and in brackets of the processor.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from anowild.data.readers import FolderReader
from anowild.device import configure_process
from anowild.scoring import Detector
from anowild.watching.arrivals import Arrivals, State
from anowild.watching.journal import About, Image, Journal, ScoredFile
from anowild.watching.table_file import TableFile
from anowild.watching.watch import JOURNAL, WatchOptions, watch

VIEWS, CUES = ("a", "b", "c", "d"), tuple(f"cue_{i}" for i in range(20))
WHY = (
    "much less like the rest (to the network trained on photographs) than 99.6 % of the training images; darker than "
    "98.5 %"
)
#: Files that are recorded together, as a batch of images is.
TOGETHER = 64
#: Seconds between the images of the last part.
PACE = 0.37


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a block took."""
    begun, cpu = time.monotonic(), time.process_time()
    yield
    seconds, used = time.monotonic() - begun, time.process_time() - cpu
    print(f"{what}: {seconds:.2f} s ({used:.2f} s)", flush=True)


def memory() -> float:
    """Return the memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def looks(folder: Path, files: int) -> None:
    """Measure looks at a folder of recorded files."""
    for number in range(files):
        (folder / f"camera-1-{number:08}.png").touch()
    arrivals, before = Arrivals(folder, lambda path, state: True, 10.0), memory()
    with timed(f"full look at {files} files"):
        arrivals.look()
    for _ in range(2):
        with timed(f"look at {files} files"):
            arrivals.look()
    print(f"memory: {(memory() - before) * 1e6 / files:.0f} bytes a file")


def tables(folder: Path, rows: int) -> None:
    """Measure a journal, and the tables that are written from it."""
    about = About("/camera", "model", 1.3, "float32", VIEWS, CUES, "/camera", "id")
    rng = np.random.default_rng(0)
    with closing(Journal(folder / JOURNAL, about)) as journal:
        with timed(f"{rows} rows recorded"):
            for first in range(0, rows, TOGETHER):
                journal.add([
                    ScoredFile(
                        f"2026-11-27/camera-1-{number:08}.png", State(100_000, number),
                        [Image("", float(rng.exponential(0.4)), False, WHY, rng.random(24).tolist())],
                    )
                    for number in range(first, min(rows, first + TOGETHER))
                ])  # fmt: skip
        size = sum(path.stat().st_size for path in folder.glob(f"{JOURNAL}*"))
        print(f"journal: {size / rows:.0f} bytes a row")
        for name in ("scores.parquet", "scores.csv"):
            table, before = TableFile(folder / name, journal, 0.0), memory()
            with timed(f"{name} written"):
                table.finish()
            written = (folder / name).stat().st_size
            print(
                f"{name}: {written / rows:.0f} bytes a row, {memory() - before:.0f} MB of memory more"
            )


def latencies(folder: Path, model: Path, images: Path) -> None:
    """Measure the time from a file to its score, of files that come one by one."""
    camera, out = folder / "camera", folder / "scores.csv"
    camera.mkdir()

    def run() -> None:
        configure_process(1)
        watch(Detector.load(model), camera, out, 10.0, WatchOptions())

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    while not (folder / "scores.csv.watch" / JOURNAL).exists():
        time.sleep(0.1)
    moved: dict[str, float] = {}
    for path in FolderReader(str(images)).paths[:100]:
        shutil.copy(path, camera / ".next")
        name = f"{len(moved)}{path.suffix}"
        (camera / ".next").replace(camera / name)
        moved[name] = time.time()
        time.sleep(PACE)
    time.sleep(3)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    with closing(sqlite3.connect(folder / "scores.csv.watch" / JOURNAL)) as database:
        found = database.execute("SELECT file, time FROM images").fetchall()
    seconds = [when / 1000 - moved[os.fsdecode(file)] for file, when in found]
    told = {f"{q} %": round(float(np.quantile(seconds, q / 100)), 2) for q in (50, 95, 100)}
    print(f"from file to score, {len(seconds)} images, looks every second: {json.dumps(told)} s")


def main(arguments: list[str]) -> int:
    """Print all that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench watch", description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--images", type=Path)
    given = parser.parse_args(arguments)
    for part in (looks, tables):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            part(Path(folder), given.files if part is looks else given.rows)
    if given.model and given.images:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            latencies(Path(folder), given.model, given.images)
    return 0
