"""Trains full-size networks for a few real iterations at every level of detail.

    python -m bench levels [--presets paper-cifar10 paper-kth-cells] [--minibatch 4] [--set NAME=VALUE]

For each preset, level and fade: seconds per iteration (D, G and E once each), seconds per kimg and
images a second at that minibatch, GFLOP/s by the cost model and their share of the machine's
matrix-product peak, and the most memory the process has taken so far. Then the hours that the
preset's whole schedule would take at these rates. The images are noise: what is measured is cost,
not quality.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping

import numpy as np
import torch

from anowild.config import FAST, PRESETS, Settings, preset
from anowild.data.batches import Batches
from anowild.device import choose_device, matrix_product_peak, peak_memory_mb, training_dtype
from anowild.training.cost import flops_per_image
from anowild.training.schedule import Schedule
from anowild.training.step import Draws, Networks, Step

HEADER = (
    f"{'preset':16} {'lod':>4}  {'pixels':>7} {'batch':>5}  {'s/iteration':>11}  {'s/kimg':>8}  "
    f"{'images/s':>8}  {'GFLOP/s':>8}  {'of peak':>7}  {'peak MB':>8}"
)


def measure(
    name: str, settings: Settings, minibatch: int, iterations: int, device: torch.device
) -> dict[float, float]:
    """Print a line for each level and each fade; seconds per kimg by level of detail."""
    resolution, channels = settings.resolution, settings.channels
    assert resolution is not None
    assert channels is not None
    shape = (8 * minibatch, channels, resolution, resolution)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    batches = Batches(noise, seed=0, device=device)
    networks = Networks.build(settings, resolution, channels).to(device)
    step = Step(networks, settings)
    dtype = training_dtype(settings.precision, device) or torch.float32
    peak = matrix_product_peak(device, dtype)
    # Whole rounds of what is not done in every iteration.
    period = math.lcm(settings.penalty_interval, settings.encoder_interval)
    rounds = period * -(-iterations // period)
    found = {}
    for lod in np.arange(networks.generator.max_lod, -0.5, -0.5).tolist():
        for i in range(rounds + 1):
            if i == 1:  # the first one also prepares the kernels
                _wait(device)
                started = time.perf_counter()
            reals = batches.reals(i * minibatch, minibatch, lod)
            latent = (minibatch, networks.generator.latent_size)
            normals = [torch.randn(latent, device=device) for _ in range(3)]
            mix = torch.rand((minibatch, 1, 1, 1), device=device)
            step(reals, Draws(normals[0], mix, *normals[1:]), lod, 0.001, 0.999)
        _wait(device)
        seconds = (time.perf_counter() - started) / rounds
        found[lod] = seconds / minibatch * 1000
        flops = flops_per_image(networks, settings, lod) * minibatch / seconds
        side = resolution >> math.floor(lod)
        print(
            f"{name:16} {lod:4.1f}  {f'{side}x{side}':>7} {minibatch:5}  {seconds:11.3f}  "
            f"{found[lod]:8.1f}  {minibatch / seconds:8.2f}  {flops / 1e9:8.1f}  "
            f"{flops / peak:7.2f}  {peak_memory_mb(device):8.0f}",
            flush=True,
        )
    assert step.skipped == 0
    return found


def schedule_hours(settings: Settings, resolution: int, s_per_kimg: Mapping[float, float]) -> float:
    """Hours of the whole schedule, from seconds per kimg at whole levels and in half-way fades."""
    schedule = Schedule(settings, resolution)
    seconds = 0.0
    for kimg in range(math.ceil(settings.kimg)):
        lod = schedule.lod(kimg * 1000)
        seconds += s_per_kimg[lod if lod == math.floor(lod) else math.floor(lod) + 0.5]
    return seconds / 3600


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench levels")
    parser.add_argument(
        "--presets", nargs="+", choices=PRESETS, default=["paper-cifar10", "paper-kth-cells"]
    )
    parser.add_argument("--minibatch", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--fast", action="store_true", help="as `anowild train --fast`")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args(arguments)
    device = choose_device(given.device, given.threads)
    changes = dict(change.split("=", 1) for change in given.changes)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads")
    for dtype in (torch.float32, torch.bfloat16):
        print(
            f"matrix-product peak, {dtype}: {matrix_product_peak(device, dtype) / 1e9:.0f} GFLOP/s"
        )
    print(HEADER)
    for name in given.presets:
        settings = preset(name).settings().but(**(FAST if given.fast else {})).but(**changes)
        found = measure(name, settings, given.minibatch, given.iterations, device)
        assert settings.resolution is not None
        hours = schedule_hours(settings, settings.resolution, found)
        print(f"{name}: {hours:.0f} hours for {settings.kimg:g} kimg at these rates")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
