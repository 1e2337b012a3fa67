"""Cost of training the GAN for each thousand images, by the length and the number of images.

    python -m bench linear [--kimg 2 4 8] [--images 1000 100000]

Trains the GAN of the preset ``laptop`` alone, at 16x16 on noise, and prints the seconds of a core for
each kimg, for runs of several lengths and training sets of several sizes. What a run costs once (reading
images, measuring the machine, checkpoints) is included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from anowild.data import ImageSet
from anowild.device import configure_process, peak_memory_mb, select_device
from anowild.presets import preset
from anowild.training.loop import train_gan

SIDE = 16


def one(kimg: float, count: int) -> None:
    """Train once, and print a line."""
    configure_process(threads=1)
    device = select_device("cpu")
    settings = preset("laptop").settings().replace(resolution=SIDE, kimg=kimg, precision="float32")
    noise = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        train_gan(ImageSet.load(noise, settings), settings, Path(folder), device)
        seconds = time.process_time() - started
    print(
        f"{count:8}  {kimg:5g}  {seconds:11.1f}  {seconds / kimg:10.2f}  "
        f"{peak_memory_mb(device):8.0f}",
        flush=True,
    )


def main(arguments: list[str]) -> int:
    """Train with each length and set; with ``--one``, train once."""
    parser = argparse.ArgumentParser(prog="python -m bench linear")
    parser.add_argument("--kimg", type=float, nargs="+", default=[2, 4, 8])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--one", nargs=2, metavar=("KIMG", "COUNT"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        one(float(given.one[0]), int(given.one[1]))
        return 0
    print("  images   kimg  CPU-seconds  s per kimg   peak MB", flush=True)
    for count in given.images:
        for kimg in given.kimg:
            # Each in a process of its own, so that its peak memory is its own.
            command = [sys.executable, "-m", "bench.linear", "--one", str(kimg), str(count)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
