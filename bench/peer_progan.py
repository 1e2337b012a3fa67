"""The peer of ``python -m bench train``: the D and G step of pro-gan-pth (WGAN-GP, no encoder).

    PYTHON -m bench.peer_progan --maps 64 --batch 16 --iterations 8 --precision float32

Needs torch and pro-gan-pth alone (bench/requirements.txt).
"""

from __future__ import annotations

import argparse
from importlib.metadata import version

import torch

from bench.flops import Flops
from bench.peers import serve
from bench.torchvision_stub import define_missing_operators

RESOLUTION, CHANNELS, DEPTH = 32, 3, 4


def main() -> None:
    """Serve rounds of training steps."""
    parser = argparse.ArgumentParser(prog="python -m bench.peer_progan", description=__doc__)
    parser.add_argument("--maps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--iterations", type=int, required=True, help="iterations of a round")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    define_missing_operators()
    from pro_gan_pytorch.PRO_GAN import ProGAN

    # PyTorch 2 wants both betas to be floats.
    peer = ProGAN(depth=DEPTH, latent_size=given.maps, beta_1=0.0)
    reals = torch.rand(given.batch, CHANNELS, RESOLUTION, RESOLUTION) * 2 - 1

    def iterate() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "bfloat16"):
            noise = torch.randn(given.batch, given.maps)
            peer.optimize_discriminator(noise, reals, DEPTH - 1, 1.0)
            peer.optimize_generator(noise, reals, DEPTH - 1, 1.0)

    with Flops() as flops:
        iterate()
    gflop = flops.total / given.batch / 1e9
    versions = f"pro-gan-pth {version('pro-gan-pth')}, torch {torch.__version__}"
    serve(iterate, given.batch, given.iterations, gflop=gflop, versions=versions)


if __name__ == "__main__":
    main()
