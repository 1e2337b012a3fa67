"""Scoring speed beside a peer, in one run.

    python -m bench score [--maps 64] [--batches 16 64] [--rounds 7]

32x32 RGB, one thread each, random weights: what is measured is cost, not quality. Ours are the
three cues (E, G, and D's features of image and reconstruction) of stored images, from uint8 to
float64; the peer is anomalib's GANomaly (encoder, decoder, encoder), as its model scores a batch of
float images. The two do not do the same amount of work. So beside images per CPU-second stands
what decides at equal multiply-adds: counted GFLOP an image, and GFLOP a second.

    python -m bench score --model MODEL --images SOURCE

prints instead how well a trained model's scores in bfloat16 rank a source as those in float32 do
(Spearman's rank correlation), and the seconds that each takes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from anowild import api
from anowild.device import select_device
from anowild.presets import preset
from anowild.scoring import Detector, cues
from anowild.scoring.detector import PRECISIONS, cue_computer
from anowild.settings import Settings
from anowild.training.step import Networks
from bench.flops import Flops
from bench.peers import Measured, alternate, serve, spread, without_torchvision_kernels

PEER, PEER_VERSION = "GANomaly", "anomalib 2.7.0"
RESOLUTION, CHANNELS = 32, 3
#: Seconds of a round, about.
SECONDS = 1.0


def settings(maps: int) -> Settings:
    """With ``maps`` maps in every layer."""
    wide = {"fmap_base": maps << 7, "fmap_max": maps, "resolution": RESOLUTION}
    return preset("laptop").settings().replace(**wide)


def serve_ours(maps: int, batch: int, precision: Any) -> None:
    device = select_device("cpu", threads=1)
    networks = Networks.build(settings(maps), RESOLUTION, CHANNELS).to(device)
    cues.PASS = batch
    computer = cue_computer(
        {
            "generator": networks.generator,
            "discriminator": networks.discriminator,
            "encoder": networks.encoder,
        },
        0.0,
        precision,
    )
    shape = (batch, CHANNELS, RESOLUTION, RESOLUTION)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def iterate() -> None:
        computer(images)

    _serve(iterate, batch)


def serve_peer(batch: int) -> None:
    torch.set_num_threads(1)
    without_torchvision_kernels()
    untyped: Any = torch.library
    more = untyped.Library("torchvision", "FRAGMENT")
    more.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from anomalib.models.image.ganomaly.torch_model import GanomalyModel

    model = GanomalyModel(
        input_size=(RESOLUTION, RESOLUTION), num_input_channels=CHANNELS, n_features=64,
        latent_vec_size=100, extra_layers=0, add_final_conv_layer=True,
    ).eval()  # fmt: skip
    images = torch.rand(batch, CHANNELS, RESOLUTION, RESOLUTION)

    @torch.no_grad()
    def iterate() -> None:
        model(images)

    _serve(iterate, batch)


def _serve(iterate: Callable[[], None], batch: int) -> None:
    with Flops() as flops:
        iterate()
    # Rounds of about as long for both, by what they have to compute at 50 GFLOP a second.
    iterations = max(1, round(SECONDS * 50e9 / flops.total))
    serve(iterate, batch, iterations, gflop=flops.total / batch / 1e9)


def table(found: dict[str, Measured]) -> str:
    """A line for each candidate."""
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
    return "\n".join(rows)


def agreement(model: str, source: str) -> None:
    """Print the rank correlation of each column between the precisions."""
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
        kind, precision = given.serve
        (batch,) = given.batches
        if kind == PEER:
            serve_peer(batch)
        else:
            serve_ours(given.maps, batch, precision)
        return 0
    if given.model:
        agreement(given.model, given.images)
        return 0
    for batch in given.batches:
        size = ["--maps", str(given.maps), "--batches", str(batch)]
        commands = {
            f"{kind}, {precision}": [
                given.peer_python if kind == PEER else sys.executable,
                "-m", "bench.score", *size, "--serve", kind, precision,
            ]
            for kind, precision in (
                (PEER, "float32"), ("three cues", "float32"), ("three cues", "bfloat16"),
            )
        }  # fmt: skip
        print(
            f"{RESOLUTION}x{RESOLUTION}, {given.maps} maps, batch {batch}, one thread, "
            f"{given.rounds} rounds, min/median/max; torch {torch.__version__}; "
            f"peer {PEER} ({PEER_VERSION})"
        )
        print(table(alternate(commands, given.rounds)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
