"""The view `pixels`: descriptors say what they mean, move little with contamination, and export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.networks.inputs import to_unit
from anowild.scoring import Calibration
from anowild.settings import Settings
from anowild.training.fitting import FittedView
from anowild.training.pixels import fit
from anowild.views import pixels
from anowild.views.gaussian import GaussianReference
from tests.conftest import tiny_settings

CPU = torch.device("cpu")


def color(count: int, seed: int = 0) -> Array:
    """Smooth random color images, uint8 [N, 3, 32, 32]."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(128, 40, (count, 3, 8, 8)))
    smooth = nn.functional.interpolate(coarse, 32, mode="bicubic")
    return smooth.clamp(0, 255).to(torch.uint8).numpy()


def fitted(images: Array, **changes: object) -> FittedView:
    settings: Settings = tiny_settings(resolution=images.shape[-1], **changes)
    return fit(ImageSet.load(images, settings), settings, Path("unused"), CPU)


def surprises(found: FittedView, images: Array) -> dict[str, Array]:
    assert found.training_cues is not None
    calibration = Calibration.fit({"pixels": found.view.cues}, found.training_cues)
    measured = found.view.measure(images)
    return {name: cue.surprise(measured[name]) for name, cue in calibration.cues.items()}


@pytest.mark.parametrize(
    ("cue", "change"),
    [
        ("brightness", lambda x: x * 0.15),
        ("brightness", lambda x: 255 - (255 - x) * 0.15),
        ("contrast", lambda x: 128 + (x - 128) * 0.1),
        ("sharpness", lambda x: x + np.random.default_rng(0).normal(0, 30, x.shape)),
        ("descriptors", lambda x: np.where(np.arange(32) % 4 < 2, x, 255 - x)),
        ("pca_residual", lambda x: np.random.default_rng(0).permuted(x, axis=3)),
    ],
)
def test_each_cue_finds_its_kind(cue: str, change: object) -> None:
    found = fitted(color(400))
    usual = color(20, seed=1)
    odd = np.clip(change(usual.astype(np.float64)), 0, 255).astype(np.uint8)  # type: ignore[operator]
    values = surprises(found, np.concatenate([usual, odd]))
    assert np.median(values[cue][20:]) > np.median(values[cue][:20]) + 2, cue


def test_gray_images_have_fewer_descriptors() -> None:
    x = torch.from_numpy(color(3)) / 127.5 - 1
    assert pixels.descriptors(x).shape[1] > pixels.descriptors(x[:, :1]).shape[1] > 60
    assert torch.isfinite(pixels.descriptors(torch.zeros(2, 1, 8, 8))).all()


@pytest.mark.parametrize(
    ("channels", "resolution"), [(1, 8), (1, 64), (2, 16), (3, 8), (3, 32), (7, 16)]
)
def test_descriptors_are_counted(channels: int, resolution: int) -> None:
    images = torch.zeros(1, channels, resolution, resolution)
    assert pixels.descriptor_count(channels, resolution) == pixels.descriptors(images).shape[1]
    assert pixels.coarse(images).shape[1] == min(resolution, pixels.PCA_SIDE) ** 2


def test_contamination_moves_a_trimmed_reference_less() -> None:
    rng = np.random.default_rng(0)
    usual, odd = rng.normal(size=(950, 5)), rng.normal(6, 1, (50, 5))
    both = np.concatenate([usual, odd])
    plain, trimmed = GaussianReference.fit(both), GaussianReference.fit_trimmed(both)
    assert trimmed.mean.norm() < 0.4 * plain.mean.norm()
    distances = [reference(torch.from_numpy(both)).numpy() for reference in (plain, trimmed)]
    apart = [d[950:].mean() / d[:950].mean() for d in distances]
    assert apart[1] > 1.5 * apart[0]


def test_training_images_are_measured_without_themselves() -> None:
    found = fitted(color(120))
    assert found.training_cues is not None
    own = found.view.measure(color(120))["descriptors"]
    fresh = found.view.measure(color(120, seed=1))["descriptors"]
    crossed = found.training_cues["descriptors"]
    assert own.mean() < 0.8 * fresh.mean()
    assert abs(np.log(crossed.mean() / fresh.mean())) < abs(np.log(own.mean() / fresh.mean()))


class Measured(nn.Module):
    """The descriptors, as a network to export."""

    def forward(self, stored: Tensor) -> Tensor:
        return pixels.descriptors(to_unit(stored))


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_descriptors_export(tmp_path: Path, dynamo: bool) -> None:
    import onnxruntime

    path = tmp_path / "descriptors.onnx"
    images = torch.from_numpy(color(4))
    torch.onnx.export(Measured(), (images,), path, dynamo=dynamo, opset_version=18)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert np.allclose(found, Measured()(images).numpy(), rtol=1e-4, atol=1e-4)
