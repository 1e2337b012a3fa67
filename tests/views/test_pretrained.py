"""The view `pretrained`: what it finds, where its vectors come from, and what it says when they cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.errors import UserError, ViewUnavailable
from anowild.scoring import Calibration, Detector
from anowild.scoring.reference_images import ReferenceImages
from anowild.training import pretrained
from anowild.training.fitting import FittedView
from anowild.training.pretrained import left_out, read_vectors
from anowild.views import features
from anowild.views.gaussian import GaussianReference
from anowild.views.pretrained import PretrainedView
from tests.conftest import Run, tiny_settings

CPU = torch.device("cpu")


def fit(images: Array, source: str = features.LITE0) -> tuple[FittedView, ImageSet]:
    settings = tiny_settings(features=source)
    loaded = ImageSet.load(images, settings)
    return pretrained.fit(loaded, settings, Path("unused"), CPU), loaded


def again(view: PretrainedView) -> PretrainedView:
    names = [cue.name for cue in view.cues]
    return PretrainedView.load(view.facts(), view.tensors(), names, CPU, "float32")


@pytest.fixture(scope="module")
def odd() -> Array:
    """Which images of `contaminated` are odd: bool [96]."""
    return np.arange(96) >= 90


@pytest.fixture(scope="module")
def contaminated(odd: Array) -> Array:
    """Discs with noise, and a group of odd ones: squares; uint8 [96, 16, 16]."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :16] - 7.5
    images = []
    for square in odd:
        y, x = rng.uniform(-2, 2, size=2)
        radius = rng.uniform(3, 5)
        far = np.maximum if square else np.hypot
        inside = far(np.abs(rows - y), np.abs(columns - x)) < radius
        images.append(60 + 130 * inside + rng.normal(0, 8, (16, 16)))
    return np.clip(images, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def lite0(contaminated: Array) -> tuple[FittedView, ImageSet]:
    return fit(contaminated)


def test_planted_group_ranks_high(lite0: tuple[FittedView, ImageSet], odd: Array) -> None:
    fitted, _ = lite0
    assert fitted.training_cues is not None
    for name in ("pretrained_distance", "pretrained_neighbors"):
        assert roc_auc_score(odd, fitted.training_cues[name]) > 0.95, name


def test_batch_does_not_change_a_score(lite0: tuple[FittedView, ImageSet]) -> None:
    fitted, images = lite0
    alone = fitted.view.measure(images.images[:1])
    for name, values in fitted.view.measure(images.images[:40]).items():
        assert values[0] == pytest.approx(alone[name][0], rel=1e-6), name
    assert all(len(values) == 0 for values in fitted.view.measure(images.images[:0]).values())


def test_saved_model_scores_without_the_package(
    lite0: tuple[FittedView, ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, images = lite0
    assert fitted.training_cues is not None
    calibration = Calibration.fit({"pretrained": fitted.view.cues}, fitted.training_cues)
    info = {"views": {"pretrained": dict(fitted.info)}}
    few = ReferenceImages(images.images[:3])
    detector = Detector([fitted.view], images.preprocess, calibration, info, few)
    detector.save(tmp_path)
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    expected = detector.score(images).score
    assert np.array_equal(Detector.load(tmp_path, CPU).score(images).score, expected)


def test_left_out_distance_is_that_of_a_fit_without_the_image() -> None:
    x = np.random.default_rng(0).normal(size=(60, 10))
    distances = GaussianReference.fit_trimmed(x, pretrained.SHRINKAGE, kept=1.0, rounds=0)(
        torch.from_numpy(x)
    )
    found = left_out(np.concatenate([distances.numpy(), np.full(15, 99.0)])[:, None])[:60, 0]
    for row in range(0, 60, 7):
        rest = GaussianReference.fit_trimmed(
            np.delete(x, row, axis=0), pretrained.SHRINKAGE, kept=1.0, rounds=0
        )
        expected = rest(torch.from_numpy(x[row : row + 1])).item()
        assert found[row] == pytest.approx(expected, rel=0.05)


def test_training_image_is_not_its_own_neighbor(lite0: tuple[FittedView, ImageSet]) -> None:
    fitted, images = lite0
    view = fitted.view
    assert isinstance(view, PretrainedView)
    vectors = view.features(images.images)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    distances = 1 - vectors @ vectors.T
    np.fill_diagonal(distances, np.inf)
    expected = np.sort(distances, axis=1)[:, 9]
    found = view.measure(images.images)["pretrained_neighbors"]
    assert np.allclose(found, expected, atol=2e-6)


def test_large_set_is_sampled(contaminated: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "SAMPLE", 40)
    fitted, images = fit(contaminated)
    assert isinstance(fitted.view, PretrainedView)
    assert len(fitted.view.neighbors) == 40
    assert fitted.training_cues is not None
    expected = fitted.view.measure(images.images)
    assert all(np.array_equal(fitted.training_cues[name], v) for name, v in expected.items())
    # The page learns and looks for alike images by them.
    vectors = fitted.view.features(images.images)
    assert fitted.features is not None
    assert np.allclose(fitted.features, vectors, atol=1e-3)
    monkeypatch.setattr(pretrained, "MOST_HANDED_ON", 2 * vectors.size - 1)
    again, _ = fit(contaminated)
    assert again.features is None
    assert again.training_cues is not None
    assert all(np.array_equal(again.training_cues[name], v) for name, v in expected.items())


def test_alike_or_single_images_give_finite_cues() -> None:
    alike = np.full((20, 16, 16), 100, np.uint8)
    alike[3, 4:9, 4:9] = 200
    for images in (alike, alike[:1]):
        fitted, loaded = fit(images)
        assert fitted.training_cues is not None
        for name, values in fitted.training_cues.items():
            assert values.shape == (len(loaded),), name
            assert np.isfinite(values).all(), name
            assert values.argmax() == (3 if len(images) > 1 else 0), name


def test_heat_map_is_brightest_at_a_defect() -> None:
    rng = np.random.default_rng(1)
    stripes = 90 + 60 * (np.arange(64) // 8 % 2)
    images = np.clip(stripes + rng.normal(0, 6, (80, 64, 64)), 0, 255).astype(np.uint8)
    settings = tiny_settings(resolution=64)
    loaded = ImageSet.load(images, settings)
    view = pretrained.fit(loaded, settings, Path("unused"), CPU).view
    damaged = loaded.images[:1].copy()
    damaged[0, 0, 36:44, 12:20] = 230
    explanation = view.explain(damaged)
    assert explanation is not None
    heat = explanation.heat["places"][0]
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert abs(row - 40) <= 8
    assert abs(column - 16) <= 8
    usual, found = (view.measure(x)["pretrained_places"][0] for x in (loaded.images[:1], damaged))
    assert found > 1.5 * usual


def test_channels_and_depth_are_brought_to_rgb() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (2, 1, 16, 16)).astype(np.uint8)

    def as_rgb(images: Array, side: int) -> Tensor:
        return features.as_rgb(torch.from_numpy(images), side)

    expected = as_rgb(gray, 96)
    assert expected.shape == (2, 3, 96, 96)
    assert torch.equal(as_rgb(np.repeat(gray, 3, axis=1), 96), expected)
    assert torch.allclose(as_rgb(np.repeat(gray, 4, axis=1), 96), expected)
    assert torch.allclose(as_rgb(gray.astype(np.uint16) * 257, 96), expected)
    assert torch.allclose(
        as_rgb(np.kron(gray, np.ones((1, 1, 2, 2), np.uint8)), 16)[:, :1],
        torch.from_numpy(gray).float() / 255,
    )


def test_missing_package_is_named(contaminated: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(ViewUnavailable, match=r"pip install 'anowild\[pretrained\]'"):
        fit(contaminated)


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "SHA256", "0" * 64)
    with pytest.raises(UserError, match=r"57934424.pth: is not the file .*force-reinstall"):
        pretrained.published_weights()


# ONNX


def onnx_file(path: Path, network: nn.Module, side: int = 16) -> Path:
    torch.onnx.export(
        network.eval(), (torch.zeros(1, 3, side, side),), path, dynamo=False,
        input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
    )  # fmt: skip
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("pooled", [True, False], ids=["vectors", "maps"])
def test_onnx_network_is_kept_in_the_model(
    pooled: bool, contaminated: Array, odd: Array, tmp_path: Path
) -> None:
    layers: list[nn.Module] = [nn.Conv2d(3, 12, 5, stride=2), nn.ReLU()]
    if pooled:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    path = onnx_file(tmp_path / "network.onnx", nn.Sequential(*layers))
    fitted, images = fit(contaminated, str(path))
    assert [cue.name for cue in fitted.view.cues] == ["pretrained_distance", "pretrained_neighbors"]
    path.unlink()
    assert isinstance(fitted.view, PretrainedView)
    found, expected = again(fitted.view).measure(images.images), fitted.view.measure(images.images)
    assert all(np.array_equal(found[name], values) for name, values in expected.items())
    assert fitted.view.explain(images.images[:2]) is None
    x = features.imagenet_input(torch.from_numpy(images.images[:3]), 16)
    with torch.no_grad():
        vectors = nn.Sequential(*layers[:2])(x).mean(dim=(2, 3))
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    assert np.allclose(fitted.view.features(images.images[:3]), unit, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_unusable_onnx_file_is_named(contaminated: Array, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    with pytest.raises(UserError, match=r"network.onnx: cannot be read"):
        fit(contaminated, str(path))
    path.write_bytes(b"no network")
    with pytest.raises(UserError, match=r"network.onnx: cannot be read as an ONNX network"):
        fit(contaminated, str(path))
    onnx_file(path, nn.Flatten(0))
    with pytest.raises(UserError, match=r"network.onnx: (gives|cannot be run)"):
        fit(contaminated, str(path))


# timm


class FakeTimm:
    """The part of timm that is used."""

    def create_model(self, name: str, pretrained: bool, num_classes: int) -> nn.Module:
        if name != "tiny":
            raise RuntimeError(f"Unknown model ({name})")
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 12, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        cfg = {"input_size": (3, 16, 16), "mean": (0.5,) * 3, "std": (0.5,) * 3}
        network.default_cfg = cfg  # type: ignore[assignment]
        return network


def test_timm_network_is_made_again(contaminated: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", FakeTimm())
    fitted, images = fit(contaminated, "timm:tiny")
    assert isinstance(fitted.view, PretrainedView)
    found, expected = again(fitted.view).measure(images.images), fitted.view.measure(images.images)
    assert all(np.array_equal(found[name], values) for name, values in expected.items())
    with pytest.raises(UserError, match=r"timm:huge: cannot be made \(Unknown model \(huge\)\)"):
        fit(contaminated, "timm:huge")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ViewUnavailable, match=r"pip install timm"):
        again(fitted.view)


# Vectors


@pytest.fixture
def vectors(tmp_path: Path, odd: Array) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "vectors.npy"
    np.save(path, rng.normal(size=(96, 6)) + 4 * odd[:, None])
    return path


def test_vectors_belong_to_their_images(vectors: Path, contaminated: Array, odd: Array) -> None:
    fitted, images = fit(contaminated, str(vectors))
    assert fitted.training_cues is not None
    assert roc_auc_score(odd, fitted.training_cues["pretrained_distance"]) > 0.95
    assert isinstance(fitted.view, PretrainedView)
    view, order = again(fitted.view), np.random.default_rng(0).permutation(96)
    found, expected = view.measure(images.images[order]), fitted.view.measure(images.images)
    for name, values in expected.items():
        assert np.allclose(found[name], values[order], rtol=1e-6), name
    with pytest.raises(UserError, match=r"no vector is known for this image"):
        view.measure(255 - images.images[:1])


def test_long_vectors_are_reduced(
    contaminated: Array, odd: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "MOST_COMPONENTS", 8)
    rng = np.random.default_rng(0)
    path = tmp_path / "vectors.npy"
    np.save(path, 5 + rng.normal(size=(96, 5)) @ rng.normal(size=(5, 40)) * (1 + 3 * odd[:, None]))
    fitted, _ = fit(contaminated, str(path))
    assert fitted.view.tensors()["pretrained_distance/whitening"].shape == (1, 40, 8)
    assert fitted.training_cues is not None
    assert roc_auc_score(odd, fitted.training_cues["pretrained_distance"]) > 0.9


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 3)), r"has 5 vectors for 96 training images"),
        (np.zeros(96), r"is float64 \(96,\); it has to be numbers \[N, D\]"),
        (np.full((96, 2), "a"), r"has to be numbers"),
        (np.array([[0.0]] * 95 + [[np.nan]]), r"row 95 has a value that is not finite"),
        (np.array([[0.0]] * 95 + [[1e39]]), r"row 95 has a value that is not finite in 32 bits"),
        (np.array([{}] * 96), r"cannot be read as an array"),
    ],
)
def test_faulty_vectors_are_described(array: Array, message: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        read_vectors(path, 96)


def test_damaged_or_missing_vectors_are_described(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    with pytest.raises(UserError, match=r"vectors.npy: cannot be read"):
        read_vectors(path, 96)
    for content in (b"", b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"vectors.npy: cannot be read"):
            read_vectors(path, 96)


def test_features_are_chosen_on_the_command_line(anowild: Run) -> None:
    code, out, _ = anowild("train", "x", "-o", "y", "--features", "net.onnx", "--dry-run")
    assert code == 0
    assert '"features": "net.onnx"' in out
    code, _, err = anowild("train", "x", "-o", "y", "--features", "resnet", "--dry-run")
    assert code != 0
    assert "efficientnet-lite0, timm:NAME, FILE.onnx or FILE.npy" in err
