"""Training speed beside a peer, in one run.

    python -m bench train [--maps 64] [--batch 16] [--rounds 7]

32x32 RGB at full size, one thread each. The peer is pro-gan-pth's own D and G step (WGAN-GP, the
same noise for both). Ours are, in float32 and, where the CPU multiplies it faster, in bfloat16:

- *like for like*: D and G, the same generated images for both;
- *like for like, with E*: D, G and E, the same generated images for all;
- *paper*: D, G and E, each with images of its own;
- *fast*: D, G and E as ``anowild train --fast`` has them.

Images per CPU-second, the ratio to the peer in the same round, GFLOP an image (counted) and a
second, and their share of the machine's matrix-product peak.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

import torch

from anowild.device import matrix_product_peak, select_device, training_dtype
from anowild.presets import FAST, preset
from anowild.settings import Settings
from anowild.training.step import Networks, Step, StepNoise
from bench.flops import Flops
from bench.peers import Measured, alternate, serve, spread, without_torchvision_kernels

PEER, PEER_VERSION = "pro-gan-pth", "2.1.1"
RESOLUTION, CHANNELS = 32, 3

OURS: dict[str, dict[str, Any]] = {
    "like for like": {"encoder": "sequential", "shared_fakes": True},
    "like for like, with E": {"shared_fakes": True},
    "paper": {},
    "fast": dict(FAST),
}


def settings(kind: str, maps: int, precision: str) -> Settings:
    """Of one of ``OURS``, with ``maps`` maps in every layer."""
    wide = {"fmap_base": maps << 7, "fmap_max": maps, "resolution": RESOLUTION}
    return preset("laptop").settings().replace(**OURS[kind] | wide | {"precision": precision})


def serve_ours(kind: str, maps: int, batch: int, iterations: int, precision: str) -> None:
    chosen = settings(kind, maps, precision)
    device = select_device("cpu", threads=1)
    networks = Networks.build(chosen, RESOLUTION, CHANNELS).to(device)
    step = Step(networks, chosen)
    reals = _noise(batch).contiguous(memory_format=torch.channels_last)
    latent = networks.generator.latent_size

    def iterate() -> None:
        normals = [torch.randn(batch, latent) for _ in range(3)]
        draws = StepNoise(normals[0], torch.rand(batch, 1, 1, 1), normals[1], normals[2])
        step(reals, draws, 0.0, 0.001, 0.999)

    _serve(iterate, batch, iterations, precision)


def serve_peer(maps: int, batch: int, iterations: int, precision: str) -> None:
    torch.set_num_threads(1)
    without_torchvision_kernels()
    from pro_gan_pytorch.PRO_GAN import ProGAN

    # This torch wants both betas to be floats.
    peer = ProGAN(depth=4, latent_size=maps, beta_1=0.0)
    reals = _noise(batch)

    def iterate() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            noise = torch.randn(batch, maps)
            peer.optimize_discriminator(noise, reals, 3, 1.0)
            peer.optimize_generator(noise, reals, 3, 1.0)

    _serve(iterate, batch, iterations, precision)


def _noise(batch: int) -> torch.Tensor:
    return torch.rand(batch, CHANNELS, RESOLUTION, RESOLUTION) * 2 - 1


def _serve(iterate: Any, batch: int, iterations: int, precision: str) -> None:
    with Flops() as flops:
        iterate()
    dtype = training_dtype(precision, torch.device("cpu")) or torch.float32  # type: ignore[arg-type]
    peak = matrix_product_peak(torch.device("cpu"), dtype)
    serve(iterate, batch, iterations, gflop=flops.total / batch / 1e9, peak=peak / 1e9)


def table(found: dict[str, Measured]) -> str:
    """A line for each candidate."""
    reference = found.get(f"{PEER}, float32")
    rows = [
        f"{'':32} {'images/CPU-s':>20} {'ratio to the peer':>18} {'GFLOP/image':>12} "
        f"{'GFLOP/s':>8} {'of peak':>8}"
    ]
    for name, measured in found.items():
        rates = [r.rate for r in measured.rounds]
        ratios = (
            spread(
                [r.rate / p.rate for r, p in zip(measured.rounds, reference.rounds, strict=True)]
            )
            if reference
            else "-"
        )
        gflop, peak = measured.facts["gflop"], measured.facts["peak"]
        sustained = gflop * statistics.median(rates)
        rows.append(
            f"{name:32} {spread(rates):>20} {ratios:>18} {gflop:12.3f} {sustained:8.1f} "
            f"{sustained / peak:8.2f}"
        )
    return "\n".join(rows)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench train", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--maps", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=8, help="of a round")
    parser.add_argument(
        "--peer-python", default=sys.executable, help="Python with bench/requirements.txt"
    )
    parser.add_argument("--serve", nargs=2, metavar=("KIND", "PRECISION"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        kind, precision = given.serve
        if kind == PEER:
            serve_peer(given.maps, given.batch, given.iterations, precision)
        else:
            serve_ours(kind, given.maps, given.batch, given.iterations, precision)
        return 0
    precisions = ["float32"]
    if training_dtype("auto", torch.device("cpu")) is not None:
        precisions.append("bfloat16")
    size = [f"--{name}={getattr(given, name)}" for name in ("maps", "batch", "iterations")]
    commands = {
        f"{kind}, {precision}": [
            given.peer_python if kind == PEER else sys.executable,
            "-m", "bench.train", *size, "--serve", kind, precision,
        ]
        for precision in precisions
        for kind in (PEER, *OURS)
    }  # fmt: skip
    print(
        f"{RESOLUTION}x{RESOLUTION}, {given.maps} maps, batch {given.batch}, one thread, "
        f"{given.rounds} rounds, min/median/max; torch {torch.__version__}; "
        f"peer {PEER} {PEER_VERSION}"
    )
    print(table(alternate(commands, given.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
