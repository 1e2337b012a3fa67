"""Seconds and peak memory of a preset, view by view, for several numbers of images.

    python -m bench presets -o OUT --data DATA [--preset quick] [--images 5000,50000]

Trains with `anowild train` on the first images of CIFAR-10's training set (DATA/cifar10.zip or what
`anowild data fetch cifar10` leaves there), written as PNG files, and reads the seconds of each view from
the model. Peak memory is the sum over all its processes, twice a second (Linux).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from anowild.study.datasets import load_set


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench presets")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--images", default="5000,50000")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE, as `anowild train`")
    given = parser.parse_args(arguments)
    pixels = load_set(given.data, "cifar10")["train"]
    order = np.random.default_rng(0).permutation(len(pixels))
    for count in map(int, given.images.split(",")):
        folder = given.out / f"images-{count}"
        folder.mkdir(parents=True, exist_ok=True)
        for i in order[:count]:
            path = folder / f"{i:05}.png"
            if not path.exists():
                Image.fromarray(pixels[i].transpose(1, 2, 0)).save(path)
        model = given.out / f"{given.preset}-{count}"
        command = [sys.executable, "-m", "anowild", "train", str(folder), "-o", str(model)]
        command += ["--preset", given.preset, "--threads", str(given.threads)]
        command += [f"--set={change}" for change in given.set]
        seconds, memory = run(command)
        views = json.loads((model / "model.json").read_text())["training"]["views"]
        parts = ", ".join(f"{name} {view['seconds']:.0f} s" for name, view in views.items())
        print(
            f"{given.preset}, {count} images: {seconds:.0f} s, {memory:.2f} GB ({parts})",
            flush=True,
        )
    return 0


def run(command: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds, and the peak memory of all its processes in GB."""
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(resident, tree(process.pid))))
            time.sleep(0.5)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.perf_counter() - started, peak / 1e9


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in path.read_text().split():
                found += tree(int(child))
        except OSError:
            continue
    return found


def resident(pid: int) -> int:
    """Return the memory that a process has for itself, in bytes; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
