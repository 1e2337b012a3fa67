"""The view `transforms`: tasks are right, odd images raise doubt, each half is judged by the other's network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.errors import UserError, ViewUnavailable
from anowild.scoring import Calibration
from anowild.settings import Settings
from anowild.training import references, transforms
from anowild.training.fitting import FittedView
from anowild.views.transforms import (
    FEATURES_DEVIATION,
    TASKS,
    TransformsView,
    accuracy,
    doubt,
    gate,
)
from tests.conftest import tiny_settings

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", TASKS)
def test_tasks_keep_the_pixels_and_begin_with_the_image(name: str) -> None:
    x = torch.rand(3, 2, 16, 16)
    found = TASKS[name].apply(x).view(TASKS[name].classes, 3, 2, 16, 16)
    assert torch.equal(found[0], x)
    for k in range(1, TASKS[name].classes):
        assert not torch.equal(found[k], x)
        assert torch.equal(found[k].flatten(2).sort().values, x.flatten(2).sort().values)
    assert len({tuple(image.flatten().tolist()) for image in found[:, 0]}) == TASKS[name].classes


def test_doubt_accuracy_and_gate() -> None:
    sure, guess = torch.eye(4).expand(2, 4, 4), torch.full((2, 4, 4), 0.25)
    assert doubt(sure).tolist() == pytest.approx([1e-6, 1e-6])
    assert doubt(guess).tolist() == pytest.approx([0.75, 0.75])
    assert accuracy(sure).tolist() == [1, 1]
    assert (gate(1.0, 4), gate(0.25, 4), gate(0.1, 4)) == (1.0, 0.0, 0.0)
    assert gate(0.625, 4) == pytest.approx(0.5)


def enlarged(which: Array) -> Array:
    small = load_digits().images[which] / 16.0 * 255
    return small.astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[FittedView, Array]:
    """R trained on sevens with a few of them upside down; and which are."""
    sevens = enlarged(np.flatnonzero(load_digits().target == 7))
    odd = np.zeros(len(sevens), bool)
    odd[::20] = True
    images = np.where(odd[:, None, None], sevens[:, ::-1, ::-1], sevens)
    settings: Settings = tiny_settings(transforms_kimg=3, transforms_maps=8)
    place = tmp_path_factory.mktemp("transforms")
    return transforms.fit(ImageSet.load(images, settings), settings, place, CPU), odd


def test_images_that_stand_otherwise_raise_doubt(learned: tuple[FittedView, Array]) -> None:
    found, odd = learned
    assert found.info["accuracy"]["turns"] > 0.6
    assert found.weights["turns"] == pytest.approx(
        gate(found.info["accuracy"]["turns"], 4), abs=1e-4
    )
    assert found.weights["transform_features"] == found.weights["turns"]  # the mean of one
    assert found.training_cues is not None
    alone = Calibration.fit({"transforms": found.view.cues}, found.training_cues, found.weights)
    assert alone.cues["transform_features"].weight == 0.5
    beside = Calibration.fit(
        {"transforms": found.view.cues, "pretrained": []}, found.training_cues, found.weights
    )
    gated = 0.5 * found.weights["transform_features"]
    assert beside.cues["transform_features"].weight == gated
    assert roc_auc_score(odd, found.training_cues["turns"]) > 0.9


def test_a_training_image_is_judged_by_the_other_network(
    learned: tuple[FittedView, Array],
) -> None:
    found, odd = learned
    view, cues = found.view, found.training_cues
    assert isinstance(view, TransformsView)
    assert cues is not None
    halves = transforms.split(np.arange(len(odd)), 0)
    assert sorted(np.concatenate(halves)) == list(range(len(odd)))
    sevens = enlarged(np.flatnonzero(load_digits().target == 7))
    stored = torch.from_numpy(np.where(odd[:, None, None], sevens[:, ::-1, ::-1], sevens)[:, None])
    seen_by_first = halves[0]
    judged = doubt(view.answers(stored[seen_by_first], 1)["turns"]).numpy()
    assert np.allclose(cues["turns"][seen_by_first], judged, rtol=1e-4)


def test_references_are_fitted_to_a_sample_of_all_folders(
    digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images come folder by folder; the first ones are not like the last ones."""
    images = np.concatenate([digits[:150], 255 - digits[150:300]])
    settings = tiny_settings()
    medians = []
    for most in (20_000, 60):
        monkeypatch.setattr(references, "MOST_FITTED", most)
        found = transforms.fit(ImageSet.load(images, settings), settings, tmp_path, CPU)
        assert found.training_cues is not None
        distances = found.training_cues["transform_features"]
        medians.append(np.median(distances[150:]) / np.median(distances[:150]))
    assert medians[1] == pytest.approx(medians[0], rel=0.25)


def test_features_of_both_networks_count_alike(learned: tuple[FittedView, Array]) -> None:
    view, sevens = learned[0].view, enlarged(np.flatnonzero(load_digits().target == 7))
    found = view.features(sevens[:, None])
    assert found is not None
    variances = [half.var(axis=0).sum() for half in np.split(found, 2, axis=1)]
    # The references leave a fifth of the images out, so all vary somewhat more.
    assert variances == pytest.approx([FEATURES_DEVIATION**2 / 2] * 2, rel=0.35)


def test_an_unknown_task_and_too_few_images_get_a_sentence(
    image_set: ImageSet, digits: Array, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="there is no 'magic'; take some of turns"):
        transforms.fit(image_set, tiny_settings(transforms=("magic",)), tmp_path, CPU)
    few = ImageSet.load(digits[:20], tiny_settings())
    with pytest.raises(ViewUnavailable, match="20 images are too few for the view 'transforms'"):
        transforms.fit(few, tiny_settings(), tmp_path, CPU)


def test_a_damaged_state_is_trained_again(image_set: ImageSet, tmp_path: Path) -> None:
    settings = tiny_settings()
    first, _ = transforms.train(0, image_set, settings, tmp_path, CPU)
    (tmp_path / "transforms" / "0" / transforms.STATE).write_bytes(b"damaged")
    again, _ = transforms.train(0, image_set, settings, tmp_path, CPU)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
