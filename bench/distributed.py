"""Throughput of two processes beside one, in one run.

    python -m bench distributed [--maps 64] [--batch 32] [--rounds 7]

32x32 RGB at full size, the same minibatch for all, the paper's step and that of ``anowild train --fast``, on
noise: one process of one thread; two processes of one thread each, which exchange gradients by gloo; one process
of two threads. Printed are images a second of the wall clock, and the ratio to one process of one thread in the
same round. It takes two cores that nothing else uses: see the load that is printed.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime

import torch

from anowild.device import configure_process
from anowild.settings import Settings
from anowild.training.distributed import joined
from anowild.training.networks import Networks
from anowild.training.noise import StepNoise
from anowild.training.step import Step
from bench.peers import Round, alternate, serve, spread
from bench.train import CHANNELS, RESOLUTION, settings

#: Candidates: processes, and threads of each.
LAYOUTS = {"1 process, 1 thread": (1, 1), "2 processes, 1 thread each": (2, 1), "1 process, 2 threads": (1, 2)}  # fmt: skip
KINDS = ("paper", "fast")


def take_part(chosen: Settings, batch: int, threads: int, iterations: int) -> None:
    """Serve rounds of the step, or take part in those of the first process."""
    configure_process(threads)
    with joined("cpu") as world:
        networks = Networks.build(chosen, RESOLUTION, CHANNELS).to(torch.device("cpu"))
        step = Step(networks, chosen, world)
        latent = networks.generator.latent_size
        reals = torch.rand(batch, CHANNELS, RESOLUTION, RESOLUTION) * 2 - 1
        number = 0

        def iterate() -> None:
            nonlocal number
            number += 1
            rng = torch.Generator().manual_seed(number)
            noise = StepNoise.new(batch, latent, False, torch.device("cpu"), rng)
            step(world.share(reals), noise.share(world), 0.0, 0.001, 0.999)
            # As the loop does, to stop all at the same iteration.
            world.largest(0)

        if world.first:
            serve(iterate, batch, iterations)
        while not world.first:
            iterate()  # until the first process ends


def start(layout: str, size: list[str], kind: str) -> None:
    """Be the first process of a layout, and start the others."""
    processes, threads = LAYOUTS[layout]
    given = parse(size)
    if processes > 1 and "RANK" not in os.environ:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)
        }  # fmt: skip
        for rank in range(1, processes):
            subprocess.Popen(
                [sys.executable, "-m", "bench.distributed", *size, "--serve", layout, kind],
                env=os.environ | {"RANK": str(rank)}, stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
        os.environ["RANK"] = "0"
    take_part(settings(kind, given.maps, "float32"), given.batch, threads, given.iterations)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench distributed", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--maps", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=4, help="iterations of a round")
    parser.add_argument("--serve", nargs=2, metavar=("LAYOUT", "KIND"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def rate(measured: Round) -> float:
    return measured.images / measured.seconds


def main(arguments: list[str]) -> int:
    """Run all layouts in turns and print the table; with ``--serve``, be one of them."""
    given = parse(arguments)
    size = [f"--{name}={getattr(given, name)}" for name in ("maps", "batch", "iterations")]
    if given.serve:
        layout, kind = given.serve
        start(layout, size, kind)
        return 0
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; "
        f"{RESOLUTION}x{RESOLUTION}, {given.maps} maps, batch {given.batch}, {given.rounds} rounds, "
        f"min/median/max; torch {torch.__version__}"
    )
    for kind in KINDS:
        found = alternate(
            {name: [sys.executable, "-m", "bench.distributed", *size, "--serve", name, kind] for name in LAYOUTS},
            given.rounds,
        )  # fmt: skip
        reference = next(iter(found.values())).rounds
        for name, measured in found.items():
            ratios = [rate(a) / rate(b) for a, b in zip(measured.rounds, reference, strict=True)]
            rates = spread([rate(one) for one in measured.rounds])
            print(f"{kind:6} {name:28} {rates:>20} images/s   {spread(ratios):>15} times")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
