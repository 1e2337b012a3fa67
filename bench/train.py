"""Training speed beside a peer, in one run.

    python -m bench train [--maps 64] [--batch 16] [--rounds 7] [--peer-python PYTHON]

32x32 RGB at full size, one thread each. The peer is the D and G step of pro-gan-pth (WGAN-GP, the
same noise for both); its Python needs bench/requirements.txt alone. Our steps are, in float32 and,
where the CPU multiplies it faster, in bfloat16:

- *like for like*: D and G, the same generated images for both;
- *like for like, with E*: D, G and E, the same generated images for all;
- *paper*: D, G and E in turn, each with images of its own;
- *fast*: D, G and E as ``anowild train --fast`` has them.

Printed are images per CPU-second, the ratio to the peer in the same round, GFLOP an image (counted
as they run), GFLOP a second, and its share of the matrix-product peak: the best matrix product of
that precision that any of our processes reached at its start.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from anowild.device import configure_process, matrix_product_peak, select_device, training_dtype
from anowild.settings import Settings
from anowild.training.networks import Networks
from anowild.training.noise import StepNoise
from anowild.training.step import Step
from bench.flops import Flops
from bench.peers import Measured, alternate, serve, spread

PEER = "pro-gan-pth"
RESOLUTION, CHANNELS = 32, 3

#: Our steps: every setting that decides how much an iteration computes. All others have the
#: defaults of ``Settings``, the paper's configuration; a preset would bring its own step.
OURS: dict[str, dict[str, Any]] = {
    "like for like": {
        "encoder": "sequential", "shared_fakes": True, "simultaneous": False, "penalty_share": 1.0,
    },
    "like for like, with E": {
        "encoder": "joint", "shared_fakes": True, "simultaneous": False, "penalty_share": 1.0,
    },
    "paper": {
        "encoder": "joint", "shared_fakes": False, "simultaneous": False, "penalty_share": 1.0,
    },
    "fast": {
        "encoder": "joint", "shared_fakes": False, "simultaneous": True, "penalty_share": 0.25,
    },
}  # fmt: skip


def settings(kind: str, maps: int, precision: str) -> Settings:
    """Return the settings of one of ``OURS`` with ``maps`` maps in every layer."""
    wide = {"fmap_base": maps << 7, "fmap_max": maps, "resolution": RESOLUTION}
    return Settings().replace(**OURS[kind] | wide | {"precision": precision})


def iteration(kind: str, maps: int, batch: int, precision: str) -> Callable[[], None]:
    """Build networks at full size, and return one iteration of their training on noise."""
    chosen = settings(kind, maps, precision)
    networks = Networks.build(chosen, RESOLUTION, CHANNELS)
    step = Step(networks, chosen)
    reals = torch.rand(batch, CHANNELS, RESOLUTION, RESOLUTION) * 2 - 1
    reals = reals.contiguous(memory_format=torch.channels_last)
    latent = networks.generator.latent_size

    def iterate() -> None:
        normals = [torch.randn(batch, latent) for _ in range(3)]
        noise = StepNoise(normals[0], torch.rand(batch, 1, 1, 1), normals[1], normals[2])
        step(reals, noise, 0.0, 0.001, 0.999)

    return iterate


def gflop_per_image(iterate: Callable[[], None], batch: int) -> float:
    """Run one iteration, and count its convolutions and matrix products."""
    with Flops() as flops:
        iterate()
    return flops.total / batch / 1e9


def serve_ours(kind: str, maps: int, batch: int, iterations: int, precision: str) -> None:
    """Serve rounds of one of ``OURS``."""
    configure_process(threads=1)
    device = select_device("cpu")
    iterate = iteration(kind, maps, batch, precision)
    dtype = training_dtype(precision, device) or torch.float32  # type: ignore[arg-type]
    serve(
        iterate, batch, iterations, gflop=gflop_per_image(iterate, batch),
        peak=matrix_product_peak(device, dtype) / 1e9, versions=f"torch {torch.__version__}",
    )  # fmt: skip


def table(found: dict[str, Measured]) -> str:
    """Format one line for each candidate; their names end in ", PRECISION"."""
    reference = found.get(f"{PEER}, float32")
    peaks: dict[str, float] = defaultdict(float)
    for name, measured in found.items():
        precision = name.rsplit(", ", 1)[1]
        peaks[precision] = max(peaks[precision], measured.facts.get("peak", 0.0))
    rows = [
        f"{'':32} {'images/CPU-s':>20} {'ratio to the peer':>18} {'GFLOP/image':>12} "
        f"{'GFLOP/s':>8} {'of peak':>8}"
    ]
    for name, measured in found.items():
        rates = [r.rate for r in measured.rounds]
        ratios = "-"
        if reference is not None:
            pairs = zip(measured.rounds, reference.rounds, strict=True)
            ratios = spread([ours.rate / theirs.rate for ours, theirs in pairs])
        gflop, peak = measured.facts["gflop"], peaks[name.rsplit(", ", 1)[1]]
        sustained = gflop * statistics.median(rates)
        rows.append(
            f"{name:32} {spread(rates):>20} {ratios:>18} {gflop:12.3f} {sustained:8.1f} "
            + (f"{sustained / peak:8.2f}" if peak else f"{'-':>8}")
        )
    for precision, peak in peaks.items():
        if peak:
            rows.append(f"matrix-product peak, {precision}: {peak:.0f} GFLOP/s")
    if reference is not None:
        rows.append(f"peer: {reference.facts['versions']}")
    return "\n".join(rows)


def main(arguments: list[str]) -> int:
    """Run all candidates and print the table; with ``--serve``, be one of them."""
    parser = argparse.ArgumentParser(
        prog="python -m bench train", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--maps", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=8, help="iterations of a round")
    parser.add_argument(
        "--peer-python", default=sys.executable, help="Python with bench/requirements.txt"
    )
    parser.add_argument("--serve", nargs=2, metavar=("KIND", "PRECISION"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        kind, precision = given.serve
        serve_ours(kind, given.maps, given.batch, given.iterations, precision)
        return 0
    precisions = ["float32"]
    if training_dtype("auto", torch.device("cpu")) is not None:
        precisions.append("bfloat16")
    size = [f"--{name}={getattr(given, name)}" for name in ("maps", "batch", "iterations")]
    commands: dict[str, list[str]] = {}
    for precision in precisions:
        commands[f"{PEER}, {precision}"] = [
            given.peer_python, "-m", "bench.peer_progan", *size, "--precision", precision,
        ]  # fmt: skip
        for kind in OURS:
            commands[f"{kind}, {precision}"] = [
                sys.executable, "-m", "bench.train", *size, "--serve", kind, precision,
            ]  # fmt: skip
    print(
        f"{RESOLUTION}x{RESOLUTION}, {given.maps} maps, batch {given.batch}, one thread, "
        f"{given.rounds} rounds, min/median/max; torch {torch.__version__}"
    )
    print(table(alternate(commands, given.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
