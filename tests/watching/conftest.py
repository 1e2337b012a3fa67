"""A watched folder, and watches that run in a process of their own, so that they can be killed."""

from __future__ import annotations

import csv
import io
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.scoring import Detector
from anowild.watching.watch import WatchOptions, WatchSummary, watch

#: Seconds between looks: damaged files are tried again after ten of them.
INTERVAL = 0.02
#: Limit that some of the inverted digits and hardly any others reach.
LIMIT = 1.3


def put(folder: Path, image: Array, name: str) -> Path:
    """Write an image file in one step, as a careful camera does."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{Path(name).name}"
    Image.fromarray(image).save(temporary, format="PNG")
    return temporary.replace(path)


def rows(table: Path) -> list[dict[str, Any]]:
    """Read a table, in its order."""
    if table.suffix == ".parquet":
        # Read at once: the file may be replaced meanwhile.
        return pq.read_table(io.BytesIO(table.read_bytes())).to_pylist()
    with table.open(newline="", errors="surrogateescape") as file:
        return [
            {k: v if k in ("path", "why", "time") else float(v) for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


class Watched:
    """A folder, its table, and what a watch said."""

    def __init__(self, detector: Detector, tmp_path: Path) -> None:
        self.detector = detector
        self.folder, self.out = tmp_path / "camera", tmp_path / "scores.parquet"
        self.said = tmp_path / "said.txt"
        self.folder.mkdir()
        self._processes: list[BaseProcess] = []

    def put(self, images: Array, first: int = 0) -> list[Path]:
        """Write images as files with numbers as names."""
        return [put(self.folder, image, f"{first + i:04}.png") for i, image in enumerate(images)]

    def once(self, **options: Any) -> WatchSummary:
        """Score what is there."""
        return self._watch(WatchOptions(**{"interval": INTERVAL, "once": True} | options))

    def start(self, prepare: Callable[[], None] = lambda: None, **options: Any) -> BaseProcess:
        """Watch in a process of its own, which calls ``prepare`` first."""

        def run() -> None:
            prepare()
            logging.getLogger("anowild").addHandler(logging.FileHandler(self.said))
            self._watch(WatchOptions(**{"interval": INTERVAL} | options))

        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        self._processes.append(process)
        return process

    def _watch(self, options: WatchOptions) -> WatchSummary:
        return watch(self.detector, self.folder, self.out, LIMIT, options, say=self._say)

    def _say(self, text: str) -> None:
        with self.said.open("a") as file:
            print(text, file=file)

    def rows(self) -> list[dict[str, Any]]:
        """Read the table."""
        return rows(self.out)

    def close(self) -> None:
        """Kill what is left running."""
        for process in self._processes:
            process.kill()
            process.join()


def terminate(process: BaseProcess) -> int | None:
    """Ask a process to end, and return its exit code."""
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    return process.exitcode


@pytest.fixture
def watched(detector: Detector, tmp_path: Path) -> Iterator[Watched]:
    found = Watched(detector, tmp_path)
    yield found
    found.close()
