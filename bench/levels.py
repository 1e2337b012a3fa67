"""Trains full-size networks for a few real iterations at every level of detail.

    python -m bench.levels [--presets paper-cifar10 paper-kth-cells] [--minibatch 4]

Prints, for each preset, level and fade, seconds per iteration (D, G and E once each), seconds
per kimg at that minibatch, and the most memory the process has taken so far. The images are
noise: what is measured is cost, not quality.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from anowild.config import preset
from anowild.data.batches import Batches
from anowild.device import choose_device, peak_memory_mb
from anowild.training.step import Draws, Networks, Step


def measure(preset_name: str, minibatch: int, iterations: int, device: torch.device) -> None:
    """Print one line for each level and each fade of a preset."""
    settings = preset(preset_name).settings()
    assert settings.resolution is not None
    assert settings.channels is not None
    shape = (8 * minibatch, settings.channels, settings.resolution, settings.resolution)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    batches = Batches(noise, seed=0)
    networks = Networks.build(settings, settings.resolution, settings.channels).to(device)
    step = Step(networks, settings)
    max_lod = networks.generator.max_lod
    for lod in np.arange(max_lod, -0.5, -0.5):
        times = []
        for i in range(iterations + 1):
            started = time.perf_counter()
            reals = batches.reals(i * minibatch, minibatch, float(lod)).to(device)
            latent = (minibatch, networks.generator.latent_size)
            draws = Draws(
                torch.randn(latent, device=device),
                torch.rand((minibatch, 1, 1, 1), device=device),
                torch.randn(latent, device=device),
                torch.randn(latent, device=device),
            )
            report = step(reals, draws, float(lod), 0.001, 0.999)
            assert all(bool(torch.isfinite(v).all()) for v in report.values())
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - started)
        seconds = min(times[1:])  # the first one also prepares the kernels
        side = settings.resolution >> int(lod)
        print(
            f"{preset_name:16} {lod:4.1f}  {side:3}x{side:<3} {minibatch:4}  {seconds:9.2f}  "
            f"{seconds / minibatch * 1000:9.0f}  {peak_memory_mb(device):8.0f}",
            flush=True,
        )
    assert step.skipped == 0


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.levels")
    parser.add_argument("--presets", nargs="+", default=["paper-cifar10", "paper-kth-cells"])
    parser.add_argument("--minibatch", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args()
    device = choose_device(given.device, given.threads)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads")
    print("preset            lod  pixels  batch  s/iteration    s/kimg  peak MB")
    for name in given.presets:
        measure(name, given.minibatch, given.iterations, device)


if __name__ == "__main__":
    main()
