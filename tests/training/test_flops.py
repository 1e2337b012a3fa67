"""The cost model against what really runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anowild.networks import Generator
from anowild.training.flops import encoder_flops_per_image, flops_per_image, forward_flops
from anowild.training.networks import Networks
from anowild.training.noise import StepNoise
from anowild.training.step import Step
from bench.flops import Flops
from tests.conftest import tiny_settings

BATCH = 8


@pytest.mark.parametrize("lod", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoder": "sequential"},
        {"shared_fakes": True},
        {"simultaneous": True, "penalty_share": 0.25, "encoder_reals": 1.0},
    ],
)
def test_cost_of_an_iteration(changes: dict[str, Any], lod: float) -> None:
    settings = tiny_settings(fmap_base=512, fmap_max=16, **changes)
    networks = Networks.build(settings, 16, 1)
    step = Step(networks, settings)
    side = 16 >> int(lod)
    normals = [torch.randn(BATCH, networks.generator.latent_size) for _ in range(3)]
    noise = StepNoise(normals[0], torch.rand(BATCH, 1, 1, 1), *normals[1:])
    with Flops() as flops:
        step(torch.rand(BATCH, 1, side, side), noise, lod, 1e-3, 0.9)
    counted = flops.total / BATCH
    # A quarter of the minibatch is less than a group of minibatch stddev: a half is penalized.
    # The model takes the layers at the border of the networks to be as dear as those inside.
    assert flops_per_image(networks, settings, lod, BATCH) == pytest.approx(counted, rel=0.04)


@pytest.mark.parametrize("encoder_reals", [0.0, 1.0])
def test_cost_of_training_an_encoder_alone(encoder_reals: float) -> None:
    settings = tiny_settings(
        fmap_base=512, fmap_max=16, encoder="sequential", encoder_reals=encoder_reals
    )
    networks = Networks.build(settings, 16, 1)
    noise = StepNoise(*(torch.randn(BATCH, networks.generator.latent_size) for _ in range(4)))
    with Flops() as flops:
        Step(networks, settings).encoder_alone(torch.rand(BATCH, 1, 16, 16), noise, 0.0, 1e-3, 0.9)
    assert encoder_flops_per_image(networks, settings, 0.0) == pytest.approx(
        flops.total / BATCH, rel=0.04
    )


def test_forward_cost_of_the_paper_s_networks() -> None:
    with torch.device("meta"):
        generator = Generator(resolution=32, channels=3)
    # 4.6 G multiplications with fused 4x4 kernels; the 3x3 ones beside a box need 7/16 less there.
    assert forward_flops(generator, 0.0) / 2 == pytest.approx(3.9e9, rel=0.05)
