"""Trainings of several networks side by side, each in a process of its own with its share of the threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anowild.arrays import MappedArray
from anowild.data import ImageSet, Preprocess
from anowild.device import configure_process
from anowild.errors import ViewUnavailable
from anowild.files import atomic_write
from anowild.progress import bars
from anowild.settings import Settings
from anowild.signals import Interrupted, stop_request
from anowild.workers import Worker, work

#: This module, which a worker runs.
MODULE = "anowild.training.side_by_side"
#: Holds the images while processes run, unless they are mapped from a file anyway.
IMAGES = "images.raw"


def run_pieces(
    names: Sequence[str], images: ImageSet, settings: Settings, folder: Path, device: torch.device
) -> None:
    """Run pieces of the fits of views (`fitting.pieces_of`) to their ends, as many at a time as threads.

    Does nothing on a GPU, with a single thread, or for a single piece: then the fits train by themselves.
    The piece of a view that cannot be used ends early, and the fit will say why.

    Raises:
        UserError: of a piece; or a process was killed.
        Interrupted: by Ctrl-C or SIGTERM, after all have saved their states.
    """
    threads = torch.get_num_threads()
    at_a_time = min(threads, len(names))
    if device.type != "cpu" or at_a_time < 2:
        return
    with stop_request() as stop, _images_file(images, folder) as stored, bars() as shown:
        job: dict[str, Any] = {
            "settings": settings.to_json(),
            "preprocess": images.preprocess.to_json(),
            "images": stored,
            "digest": images.digest,
            "tiles": None if images.owners is None else np.bincount(images.owners).tolist(),
            "folder": str(folder),
            "threads": threads // at_a_time,
        }
        waiting = list(names)
        running: dict[str, Worker] = {}
        try:
            while waiting or running:
                while waiting and len(running) < at_a_time:
                    name = waiting.pop(0)
                    running[name] = Worker(MODULE, {**job, "piece": name}, job["threads"])
                if stop.signum is not None:
                    raise Interrupted(stop.signum, "the training of the networks")
                for name in [name for name, process in running.items() if process.ended(shown)]:
                    running.pop(name).check(name)
            if stop.signum is not None:
                raise Interrupted(stop.signum, "the training of the networks")
        finally:
            for process in running.values():
                process.stop()


def remove_images(folder: Path) -> None:
    """Remove the images that a killed run left behind; processes that still map them keep them until their end."""
    with suppress(OSError):
        (folder / IMAGES).unlink(missing_ok=True)


@contextmanager
def _images_file(images: ImageSet, folder: Path) -> Iterator[dict[str, Any]]:
    """Give the place of the images in a file, which is written if there is none: the arguments of memmap."""
    array = images.images
    facts = {"dtype": str(array.dtype), "shape": list(array.shape)}
    if isinstance(array, np.memmap) and array.flags.c_contiguous and array.filename is not None:
        yield {**facts, "filename": str(array.filename), "offset": int(array.offset)}
        return
    path = folder / IMAGES
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(np.ascontiguousarray(array).data.cast("B"))
        yield {**facts, "filename": str(path), "offset": 0}
    finally:
        path.unlink(missing_ok=True)


def _run_piece(job: dict[str, Any]) -> None:
    from anowild.training.fitting import FAILURES, failure, pieces_of

    configure_process(job["threads"])
    settings = Settings.from_json(job["settings"])
    stored = {**job["images"], "shape": tuple(job["images"]["shape"])}
    array = np.memmap(mode="r", **stored).view(MappedArray)
    preprocess = Preprocess(**job["preprocess"])
    tiles = job["tiles"]
    owners = None if tiles is None else np.repeat(np.arange(len(tiles)), tiles)
    images = ImageSet(array, [], preprocess, known_digest=job["digest"], owners=owners)
    pieces = {k: v for view in settings.views for k, v in pieces_of(view, settings).items()}
    try:
        pieces[job["piece"]](images, settings, Path(job["folder"]), torch.device("cpu"))
    except FAILURES as error:
        raise ViewUnavailable(failure(job["piece"], error)) from error


if __name__ == "__main__":
    sys.exit(work(_run_piece))
