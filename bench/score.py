"""Scoring speed beside a peer, in one run.

    python -m bench score [--maps 64] [--batches 16 64] [--rounds 7] [--peer-python PYTHON]

32x32 RGB, one thread each, random weights: cost is measured, not quality. Ours computes the cues
(E, G, and D's features of image and reconstruction) of stored images, from uint8 to float64. The
peer is anomalib's GANomaly (encoder, decoder, encoder), as its model scores a batch of float images;
its Python needs bench/requirements.txt alone. The two do not do the same amount of work, so counted
GFLOP an image and GFLOP a second are printed beside images per CPU-second.

    python -m bench score --model MODEL --images SOURCE

prints instead how well the bfloat16 scores of a trained model rank a source as its float32 scores
do (Spearman's rank correlation), and the seconds that each takes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from anowild import api
from anowild.device import configure_process, select_device
from anowild.scoring import Detector
from anowild.scoring.persistence import PRECISIONS
from anowild.settings import Settings
from anowild.training.networks import Networks
from anowild.views.gan import GanView, ScoringNetworks
from bench.flops import Flops
from bench.peers import Measured, alternate, serve, spread

PEER = "GANomaly"
RESOLUTION, CHANNELS = 32, 3
#: Work of a round, the same for both: about a second.
FLOP_PER_ROUND = 50e9


def settings(maps: int) -> Settings:
    """Return settings with ``maps`` maps in every layer."""
    wide = {"fmap_base": maps << 7, "fmap_max": maps, "resolution": RESOLUTION}
    return Settings().replace(**wide)


def serve_ours(maps: int, batch: int, precision: Any) -> None:
    """Serve rounds of scoring."""
    configure_process(threads=1)
    device = select_device("cpu")
    networks = Networks.build(settings(maps), RESOLUTION, CHANNELS).to(device)
    scoring = ScoringNetworks(networks.generator, networks.discriminator, networks.encoder)
    dtype = torch.bfloat16 if precision == "bfloat16" else None
    view = GanView(scoring, {}, lod=0.0, dtype=dtype)
    view.batch_size = min(batch, view.batch_size)
    shape = (batch, CHANNELS, RESOLUTION, RESOLUTION)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def iterate() -> None:
        view.measure(images)

    with Flops() as flops:
        iterate()
    iterations = max(1, round(FLOP_PER_ROUND / flops.total))
    serve(iterate, batch, iterations, gflop=flops.total / batch / 1e9)


def table(found: dict[str, Measured]) -> str:
    """Format one line for each candidate."""
    peer = found.get(f"{PEER}, float32")
    rows = [
        f"{'':28} {'images/CPU-s':>20} {'images/s':>9} {'GFLOP/image':>12} {'GFLOP/s':>20} "
        f"{'ratio of GFLOP/s':>18}"
    ]
    for name, measured in found.items():
        gflop = measured.facts["gflop"]
        sustained = [gflop * r.rate for r in measured.rounds]
        ratios = "-"
        if peer is not None:
            theirs = [peer.facts["gflop"] * r.rate for r in peer.rounds]
            ratios = spread([a / b for a, b in zip(sustained, theirs, strict=True)])
        walls = statistics.median(r.images / r.seconds for r in measured.rounds)
        rows.append(
            f"{name:28} {spread([r.rate for r in measured.rounds], 0):>20} {walls:9.0f} "
            f"{gflop:12.3f} {spread(sustained, 1):>20} {ratios:>18}"
        )
    if peer is not None:
        rows.append(f"peer: {peer.facts['versions']}")
    return "\n".join(rows)


def agreement(model: str, source: str) -> None:
    """Print the rank correlation of each score column between the precisions."""
    device = select_device("cpu")
    columns, seconds = {}, {}
    for precision in PRECISIONS:
        detector = Detector.load(model, device, precision)
        started = time.process_time()
        columns[precision] = api.score(detector, source).scores.columns()
        seconds[precision] = time.process_time() - started
    full, rough = (columns[precision] for precision in PRECISIONS)
    count = len(full["score"])
    for precision, taken in seconds.items():
        print(f"{precision}: {count} images in {taken:.1f} CPU-seconds, reading included")
    for name, values in full.items():
        print(f"{name:20} rank correlation {spearmanr(values, rough[name]).statistic:.5f}")


def main(arguments: list[str]) -> int:
    """Run all candidates and print a table for each batch size; with ``--serve``, be one of them."""
    parser = argparse.ArgumentParser(
        prog="python -m bench score", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--maps", type=int, default=64, help="of ours; the peer has 64")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--peer-python", default=sys.executable, help="Python with bench/requirements.txt"
    )
    parser.add_argument("--model", help="compare this model's precisions instead")
    parser.add_argument("--images", help="the source that it scores")
    parser.add_argument("--serve", nargs=2, metavar=("KIND", "PRECISION"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        _, precision = given.serve
        (batch,) = given.batches
        serve_ours(given.maps, batch, precision)
        return 0
    if given.model:
        agreement(given.model, given.images)
        return 0
    for batch in given.batches:
        commands = {
            f"{PEER}, float32": [
                given.peer_python, "-m", "bench.peer_ganomaly",
                "--batch", str(batch), "--flop-per-round", str(FLOP_PER_ROUND),
            ],
        }  # fmt: skip
        for precision in PRECISIONS:
            commands[f"cues, {precision}"] = [
                sys.executable, "-m", "bench.score", "--maps", str(given.maps),
                "--batches", str(batch), "--serve", "cues", precision,
            ]  # fmt: skip
        print(
            f"{RESOLUTION}x{RESOLUTION}, {given.maps} maps, batch {batch}, one thread, "
            f"{given.rounds} rounds, min/median/max; torch {torch.__version__}"
        )
        print(table(alternate(commands, given.rounds)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
