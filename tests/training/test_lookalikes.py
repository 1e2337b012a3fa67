"""Views that help each other: what an image is like, and how odd that is to all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from anowild.data import ImageSet
from anowild.scoring import Calibration, Detector
from anowild.settings import Settings
from anowild.training import pretrained
from anowild.training.fitting import FittedDetector, fit_detector
from anowild.views.pretrained import PretrainedView
from tests.conftest import tiny_settings

CPU = torch.device("cpu")
ODD = np.arange(240) >= 216
CUE = "lookalikes"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Vectors among which the odd images are near to each other, and so are usual to distances."""
    rng = np.random.default_rng(0)
    vectors = 3 + rng.normal(size=(240, 6))
    vectors[ODD] = 3 + 0.05 * rng.normal(size=(ODD.sum(), 6))
    path = tmp_path_factory.mktemp("vectors") / "vectors.npy"
    np.save(path, vectors)
    return tiny_settings(features=str(path), views=("pixels", "pretrained"))


@pytest.fixture(scope="module")
def images(settings: Settings) -> ImageSet:
    """Noise on gratings; the odd ones are much fainter."""
    rng = np.random.default_rng(1)
    grating = 60 * np.sin(np.arange(16) / 2)
    contrast = np.where(ODD, 0.3, 1.0)[:, None, None] * rng.uniform(0.7, 1.3, (240, 1, 1))
    found = 120 + contrast * (grating + rng.normal(0, 20, (240, 16, 16)))
    return ImageSet.load(np.clip(found, 0, 255).astype(np.uint8), settings)


@pytest.fixture(scope="module")
def fitted(images: ImageSet, settings: Settings) -> FittedDetector:
    return fit_detector(images, settings, Path("unused"), CPU)


def view_of(detector: Detector) -> PretrainedView:
    (view,) = (view for view in detector.views if isinstance(view, PretrainedView))
    return view


def test_odd_images_that_are_alike_are_found(fitted: FittedDetector) -> None:
    cues, views = fitted.training.cues, fitted.training.views
    assert roc_auc_score(ODD, views["pretrained"]) < 0.5
    assert roc_auc_score(ODD, views["lookalikes"]) > 0.95
    assert roc_auc_score(ODD, fitted.training.score) > 0.97
    vectors = view_of(fitted.detector).neighbors.double().numpy()
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -2)
    nearest = np.argsort(-similar, axis=1)[:, :30]  # one in 8 of 240
    measured = {view.name: view.cues for view in fitted.detector.views}
    before = {name: [cue for cue in cues if cue.name != CUE] for name, cues in measured.items()}
    first = Calibration.fit(before, cues).score(cues)[nearest].mean(axis=1)
    told = {**cues, CUE: first}
    second = Calibration.fit(measured, told).score(told)[nearest].mean(axis=1)
    np.testing.assert_allclose(cues[CUE], second, rtol=1e-6)
    assert [cue.name for cue in measured["pretrained"]].count(CUE) == 1


def test_a_saved_model_says_the_same_of_each_image_alone(
    fitted: FittedDetector, images: ImageSet, tmp_path: Path
) -> None:
    fitted.detector.save(tmp_path)
    found = Detector.load(tmp_path, CPU)
    scores = found.score(images.images[:20])
    # A training image is not its own lookalike: it is measured as in training.
    np.testing.assert_allclose(scores.cues[CUE], fitted.training.cues[CUE][:20], rtol=1e-9)
    alone = found.score(images.images[7:8])
    assert alone.score[0] == scores.score[7]
    assert "lookalikes" in found.view_names
    reasons = found.reasons(found.score(images.images[ODD]))
    told = "like training images that are odd themselves"
    assert any(told in reason.text for image in reasons for reason in image)


@pytest.mark.parametrize("wrong", [torch.zeros(239).double(), torch.zeros(240)])
def test_a_damaged_oddness_is_told(fitted: FittedDetector, wrong: Tensor) -> None:
    view = view_of(fitted.detector)
    tensors = {**view.tensors(), "oddness": wrong}
    with pytest.raises(ValueError, match="oddness is"):
        PretrainedView.load(view.facts(), tensors, [CUE], CPU, "float32")


def test_a_view_alone_listens_to_itself(images: ImageSet, settings: Settings) -> None:
    alone = fit_detector(images, settings.replace(views=("pretrained",)), Path("unused"), CPU)
    assert CUE in alone.training.cues
    assert alone.detector.calibration.views.keys() == {"pretrained", CUE}


def test_many_images_are_like_some_of_them(
    fitted: FittedDetector, images: ImageSet, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anowild.training.pretrained.SAMPLE", 160)
    found = fit_detector(images, settings, Path("unused"), CPU)
    view = view_of(found.detector)
    assert view.oddness is not None
    assert len(view.oddness) == 160
    expected = view.measure(images.images)[CUE]
    np.testing.assert_allclose(found.training.cues[CUE], expected, rtol=1e-9)
    assert roc_auc_score(ODD, found.training.views["lookalikes"]) > 0.9


def test_tiles_have_none(images: ImageSet, settings: Settings) -> None:
    owners = np.repeat(np.arange(60), 4)
    tiles = ImageSet(images.images, [], images.preprocess, owners=owners)
    assert pretrained.fit(tiles, settings, Path("unused"), CPU).lookalikes is None
