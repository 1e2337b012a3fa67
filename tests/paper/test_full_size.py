"""What takes minutes, or a GPU: `make test-slow`, `pytest -m gpu`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from anowild.data import ImageSet
from anowild.device import select_device
from anowild.networks import operators
from anowild.scoring import Detector
from anowild.training.fitting import fit_detector
from anowild.training.loop import train_gan
from bench import levels
from tests.conftest import tiny_settings


@pytest.mark.slow
@pytest.mark.parametrize("preset_name", ["paper-cifar10", "paper-kth-cells"])
def test_paper_size_networks_train_at_every_level(
    preset_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert levels.main(["--presets", preset_name, "--seconds", "0"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if preset_name in line]
    assert len(lines) == (8 if preset_name == "paper-cifar10" else 10)
    assert re.fullmatch(f"{preset_name}: [1-9]\\d* hours for 12000 kimg at these rates", lines[-1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_trains_and_scores_as_a_cpu_does(image_set: ImageSet, tmp_path: Path) -> None:
    device = select_device("cuda")
    on_gpu = fit_detector(image_set, tiny_settings(), tmp_path / "run", device).detector
    on_gpu.save(tmp_path)
    on_cpu = Detector.load(tmp_path, "cpu")
    a, b = on_gpu.measure(image_set.images), on_cpu.measure(image_set.images)
    for name, values in a.items():
        assert np.allclose(values, b[name], rtol=1e-4), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_goes_on_with_what_it_saved(image_set: ImageSet, tmp_path: Path) -> None:
    device, settings = select_device("cuda"), tiny_settings(kimg=0.4)
    train_gan(image_set, settings, tmp_path, device)
    assert train_gan(image_set, settings.replace(kimg=0.6), tmp_path, device).kimg >= 0.6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("padding", [0, 1])
def test_boxes_on_a_gpu(padding: int) -> None:
    x = torch.randn((16, 512, 33, 33), device="cuda").contiguous(memory_format=torch.channels_last)
    assert x.numel() >= operators._LARGE_NUMEL
    ours = operators._BoxFilter.apply(x, padding)
    expected = torch.nn.functional.avg_pool2d(x, 2, stride=1, padding=padding)
    assert ours.stride() == expected.stride()
    torch.testing.assert_close(ours, expected)
