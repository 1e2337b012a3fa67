"""Speed of training full-size networks, at every level of detail.

    python -m bench levels [--presets paper-cifar10 paper-kth-cells] [--fast] [--minibatch 4]

For each preset, level and fade: seconds per iteration (D, G and E once each), seconds per kimg and
images a second at that minibatch, GFLOP/s by the cost model and their share of the machine's
matrix-product peak, and the most memory the process has taken so far. Then the hours that the
preset's whole schedule would take at these rates. The images are noise: what is measured is cost,
not quality.
"""

from __future__ import annotations

import argparse
import gc
import math
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from anowild.device import (
    configure_process,
    full_float32,
    matrix_product_peak,
    peak_memory_mb,
    select_device,
    training_dtype,
)
from anowild.presets import FAST, PRESETS, preset
from anowild.settings import Settings
from anowild.training.cuda_graphs import GraphedStep
from anowild.training.flops import flops_per_image
from anowild.training.networks import Networks
from anowild.training.noise import StepNoise
from anowild.training.sampler import MinibatchSampler
from anowild.training.schedule import Schedule
from anowild.training.step import Step

HEADER = (
    f"{'preset':16} {'lod':>4}  {'pixels':>7} {'batch':>5}  {'s/iteration':>11}  {'s/kimg':>8}  "
    f"{'images/s':>8}  {'GFLOP/s':>8}  {'of peak':>7}  {'peak MB':>8}"
)


def measure(
    settings: Settings, networks: Networks, lod: float, seconds: float, peak: float,
    *, minibatch: int | None = None, graphs: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Measure the speed at one level of detail, on noise, on the device of the networks.

    Args:
        settings: of the training; ``minibatch`` decides the minibatch unless it is given here.
        networks: of the settings' size.
        lod: level of detail; 0 is the full resolution, k + 0.5 the middle of a fade.
        seconds: time to measure for, about; at least one iteration runs.
        peak: FLOP/s that count as 1 in ``of_peak``.
        minibatch: images of a minibatch; None for that of the settings.
        graphs: whether to use CUDA graphs.

    Raises:
        RuntimeError: ``graphs``, and nothing could be recorded.
    """
    device = next(networks.generator.parameters()).device
    side = networks.generator.resolution >> math.floor(lod)
    if minibatch is None:
        starting_here = settings.replace(initial_resolution=side, stable_kimg=1e7)
        minibatch = Schedule(starting_here, settings.resolution or side).at(0).minibatch
    shape = (4 * minibatch, networks.generator.channels, *[networks.generator.resolution] * 2)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    batches = MinibatchSampler(noise, seed=0, device=device)
    step = Step(networks, settings)
    graphed = GraphedStep(step) if graphs else None
    for optimizer in step.optimizers.values() if graphs else ():
        optimizer.count = 10_000  # epsilon has settled there, so that recording may begin
    done = 0

    def iterate(iterations: int) -> float:
        """Return the mean seconds of an iteration."""
        nonlocal done
        _wait(device)
        started = time.perf_counter()
        for _ in range(iterations):
            reals = batches.reals(done * minibatch, minibatch, lod)
            latent = (minibatch, networks.generator.latent_size)
            normals = [torch.randn(latent, device=device) for _ in range(3)]
            mix = torch.rand((minibatch, 1, 1, 1), device=device)
            noises = StepNoise(normals[0], mix, *normals[1:])
            with full_float32(device):
                (graphed or step)(reals, noises, lod, 0.001, 0.999)
            done += 1
        _wait(device)
        return (time.perf_counter() - started) / iterations

    if device.type == "cuda":
        gc.collect()  # memory that an earlier row has left would count here
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    # Not timed: the preparations of the first iterations, recordings above all.
    iterate(GraphedStep.WARM_UP + 1 if graphed else 1)
    if graphed is not None and (graphed.failure or not graphed.replayed):
        raise RuntimeError(graphed.failure or "nothing was recorded")
    times, counted = [iterate(1)], 1
    if times[0] < seconds:
        counted = max(1, round(seconds / 3 / times[0]))
        times = [iterate(counted) for _ in range(3)]
    best = min(times)
    work = flops_per_image(networks, settings, lod, minibatch) * minibatch
    return {
        "resolution": side,
        "minibatch": minibatch,
        "s_per_iteration": best,
        "slowest": max(times),
        "s_per_kimg": best / minibatch * 1000,
        "images_per_s": minibatch / best,
        "gflop_per_iteration": work / 1e9,
        "gflops": work / best / 1e9,
        "of_peak": work / best / peak,
        "peak_memory_mb": round(peak_memory_mb(device)),
        "iterations": counted * len(times),
        "skipped": step.skipped,
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


#: Iterations after the optimizers were reset in which epsilon still changes.
SETTLING = 1725


def schedule_kimg(settings: Settings, resolution: int) -> Counter[tuple[float, bool]]:
    """Return the kimg of a schedule by level (k + 0.5 for a fade) and whether graphs can be used."""
    schedule = Schedule(settings, resolution)
    found: Counter[tuple[float, bool]] = Counter()
    level, settling = math.nan, 0.0
    for kimg in range(math.ceil(settings.kimg)):
        point = schedule.at(kimg * 1000)
        lod = point.lod if point.lod == math.floor(point.lod) else math.floor(point.lod) + 0.5
        if lod != level:  # here the optimizers are reset
            level, settling = lod, SETTLING * point.minibatch / 1000
        found[lod, lod % 1 == 0 and settling <= 0] += 1
        settling -= 1
    return found


def schedule_hours(
    kimg: Mapping[tuple[float, bool], float],
    plain: Mapping[float, float],
    recorded: Mapping[float, float] | None = None,
) -> float | None:
    """Return the hours of a schedule; None if a level was not measured.

    Args:
        kimg: as :func:`schedule_kimg` returns it.
        plain: seconds per kimg by level.
        recorded: the same with CUDA graphs, at whole levels.
    """
    seconds = 0.0
    for (lod, can_be_recorded), count in kimg.items():
        table = plain if recorded is None or not can_be_recorded else recorded
        if lod not in table:
            return None
        seconds += table[lod] * count
    return seconds / 3600


def main(arguments: list[str]) -> int:
    """Print a row for each preset and level, and the hours of each schedule."""
    parser = argparse.ArgumentParser(
        prog="python -m bench levels", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--presets", nargs="+", choices=PRESETS, default=["paper-cifar10", "paper-kth-cells"]
    )
    parser.add_argument("--minibatch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each level, about")
    parser.add_argument("--fast", action="store_true", help="as `anowild train --fast`")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args(arguments)
    configure_process(given.threads)
    device = select_device(given.device)
    changes = dict(change.split("=", 1) for change in given.changes)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads")
    peaks = {d: matrix_product_peak(device, d) for d in (torch.float32, torch.bfloat16)}
    for dtype, peak in peaks.items():
        print(f"matrix-product peak, {dtype}: {peak / 1e9:.0f} GFLOP/s")
    print(HEADER)
    for name in given.presets:
        settings = (
            preset(name).settings().replace(**(FAST if given.fast else {})).replace(**changes)
        )
        resolution, channels = settings.resolution, settings.channels
        assert resolution is not None
        assert channels is not None
        networks = Networks.build(settings, resolution, channels).to(device)
        peak = peaks[training_dtype(settings.precision, device) or torch.float32]
        s_per_kimg = {}
        for lod in np.arange(networks.generator.max_lod, -0.5, -0.5).tolist():
            row = measure(settings, networks, lod, given.seconds, peak, minibatch=given.minibatch)
            assert row["skipped"] == 0
            s_per_kimg[lod] = row["s_per_kimg"]
            size = f"{row['resolution']}x{row['resolution']}"
            print(
                f"{name:16} {lod:4.1f}  {size:>7} {row['minibatch']:5}  "
                f"{row['s_per_iteration']:11.3f}  {row['s_per_kimg']:8.1f}  "
                f"{row['images_per_s']:8.2f}  {row['gflops']:8.1f}  {row['of_peak']:7.2f}  "
                f"{row['peak_memory_mb']:8}",
                flush=True,
            )
        hours = schedule_hours(schedule_kimg(settings, resolution), s_per_kimg)
        print(f"{name}: {hours:.0f} hours for {settings.kimg:g} kimg at these rates")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
