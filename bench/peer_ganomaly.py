"""The peer of ``python -m bench score``: anomalib's GANomaly (encoder, decoder, encoder).

    PYTHON -m bench.peer_ganomaly --batch 16 --flop-per-round 50e9

Needs torch and anomalib alone (bench/requirements.txt).
"""

from __future__ import annotations

import argparse
from importlib.metadata import version

import torch

from bench.flops import Flops
from bench.peers import serve
from bench.torchvision_stub import define_missing_operators

RESOLUTION, CHANNELS = 32, 3


def main() -> None:
    """Serve rounds of scoring."""
    parser = argparse.ArgumentParser(prog="python -m bench.peer_ganomaly", description=__doc__)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--flop-per-round", type=float, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    define_missing_operators()
    from anomalib.models.image.ganomaly.torch_model import GanomalyModel

    model = GanomalyModel(
        input_size=(RESOLUTION, RESOLUTION), num_input_channels=CHANNELS, n_features=64,
        latent_vec_size=100, extra_layers=0, add_final_conv_layer=True,
    ).eval()  # fmt: skip
    images = torch.rand(given.batch, CHANNELS, RESOLUTION, RESOLUTION)

    @torch.no_grad()
    def iterate() -> None:
        model(images)

    with Flops() as flops:
        iterate()
    gflop = flops.total / given.batch / 1e9
    versions = f"anomalib {version('anomalib')}, torch {torch.__version__}"
    iterations = max(1, round(given.flop_per_round / flops.total))
    serve(iterate, given.batch, iterations, gflop=gflop, versions=versions)


if __name__ == "__main__":
    main()
