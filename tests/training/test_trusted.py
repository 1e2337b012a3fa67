"""Networks are not trained on what other views find odd, from the start and over interruptions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from anowild.data import ImageSet
from anowild.errors import UserError
from anowild.files import exclusive_lock
from anowild.training import transforms, trusted
from anowild.training.fitting import FittedDetector, fit_detector
from anowild.training.run import train
from tests.conftest import tiny_settings

CPU = torch.device("cpu")
SETTINGS = tiny_settings(views=("gan", "pixels"), initial_resolution=None, kimg=0.1)


def test_the_oddest_share_is_left_out() -> None:
    score = np.array([5.0, 0.1, 9.0, 0.2, 7.0, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert np.flatnonzero(~trusted.trusted_of(score, 0.3)).tolist() == [0, 2, 4]
    assert np.flatnonzero(~trusted.trusted_of(score, 0.29)).tolist() == [2, 4]
    assert trusted.trusted_of(score, 0.0).all()


@pytest.fixture(scope="module")
def contaminated(digits: np.ndarray) -> ImageSet:
    """Digits, and noise in place of the last five."""
    images = digits[:100].copy()
    images[-5:] = np.random.default_rng(0).integers(0, 256, (5, 16, 16))
    return ImageSet.load(images, SETTINGS)


def test_networks_train_on_what_other_views_trust(contaminated: ImageSet, tmp_path: Path) -> None:
    settings = SETTINGS.replace(views=("gan", "transforms", "pixels"), transforms_kimg=0.1)
    apart = fit_detector(contaminated, settings, tmp_path / "apart", CPU)
    chosen = trusted.load(tmp_path / "apart", contaminated, settings)
    assert chosen is not None
    assert chosen.sum() == 80
    assert not chosen[-5:].any()  # the noise
    together = fit_detector(
        contaminated, settings.replace(left_out=0.0), tmp_path / "together", CPU
    )
    for name in ("gan", "transforms"):
        before, after = (parameters(fitted, name) for fitted in (together, apart))
        assert not torch.equal(before, after)
    assert not (tmp_path / "together" / trusted.FILE).exists()


def test_the_views_that_judge_are_told_anew_of_odd_images(
    contaminated: ImageSet, tmp_path: Path
) -> None:
    """The cue `lookalikes` is the same as if they had not judged."""
    np.save(tmp_path / "vectors.npy", contaminated.images.reshape(100, -1).astype(np.float32))
    settings = SETTINGS.replace(
        views=("pixels", "transforms", "pretrained"), transforms_kimg=0.0,
        features=str(tmp_path / "vectors.npy"),
    )  # fmt: skip
    found = [
        fit_detector(contaminated, settings.replace(left_out=share), tmp_path / str(share), CPU)
        for share in (0.0, 0.2)
    ]
    assert (tmp_path / "0.2" / trusted.FILE).exists()
    first, second = (fitted.training.cues["lookalikes"] for fitted in found)
    assert np.array_equal(first, second)


def parameters(fitted: FittedDetector, name: str) -> torch.Tensor:
    (view,) = (view for view in fitted.detector.views if view.name == name)
    return torch.cat([x.flatten().double() for x in view.tensors().values()])


@pytest.mark.slow
def test_a_training_goes_on_with_the_images_that_it_began_with(
    contaminated: ImageSet, tmp_path: Path
) -> None:
    fit_detector(contaminated, SETTINGS, tmp_path / "first", CPU)
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    longer = SETTINGS.replace(kimg=0.4)
    first, second = (
        fit_detector(contaminated, longer, tmp_path / name, CPU) for name in ("first", "second")
    )
    assert torch.equal(parameters(first, "gan"), parameters(second, "gan"))


def test_a_half_in_which_nothing_is_trusted_is_trained_on(
    contaminated: ImageSet, tmp_path: Path
) -> None:
    """Of two images one has few tiles, and these are the oddest."""
    tiles = ImageSet(
        contaminated.images, [], contaminated.preprocess, owners=np.repeat([0, 1], [90, 10])
    )
    settings = SETTINGS.replace(views=("transforms",), transforms_kimg=0.1)
    trusted.save(tmp_path, tiles, settings, np.arange(100) < 80)
    for number in range(2):
        network, _ = transforms.train(number, tiles, settings, tmp_path, CPU)
        assert all(p.isfinite().all() for p in network.parameters())


def test_what_is_trusted_stays(contaminated: ImageSet, tmp_path: Path) -> None:
    first = np.arange(100) > 10
    trusted.save(tmp_path, contaminated, SETTINGS, first)
    trusted.save(tmp_path, contaminated, SETTINGS, ~first)
    found = trusted.load(tmp_path, contaminated, SETTINGS)
    assert found is not None
    assert np.array_equal(found, first)
    # Unless another share is to be left out: no training has begun with it.
    more = SETTINGS.replace(left_out=0.3)
    trusted.save(tmp_path, contaminated, more, ~first)
    assert np.array_equal(trusted.for_training(tmp_path, contaminated, more), ~first)


def test_what_other_views_chose_gives_way_until_a_training_has_begun(
    contaminated: ImageSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that is killed before a network has saved a state, and is given again with another view."""
    (tmp_path / "transforms" / "0").mkdir(parents=True)
    (tmp_path / "transforms" / "0" / "settings.json").touch()  # written first
    others = np.arange(100) >= 20
    trusted.save(tmp_path, contaminated, SETTINGS, others, "other views")
    fit_detector(contaminated, SETTINGS, tmp_path, CPU)
    chosen = trusted.for_training(tmp_path, contaminated, SETTINGS)
    assert not chosen[-5:].any()  # the noise, which the view `pixels` finds odd

    assert not caplog.records
    trusted.save(tmp_path, contaminated, SETTINGS, others, "other views")
    assert np.array_equal(trusted.for_training(tmp_path, contaminated, SETTINGS), chosen)
    assert "goes on with those that it began with; delete" in caplog.text


@pytest.mark.parametrize(
    "chosen", [np.ones(99, bool), np.ones(100), np.zeros(100, bool)], ids=["99", "float", "none"]
)
def test_a_damaged_choice_is_a_sentence(
    contaminated: ImageSet, tmp_path: Path, chosen: np.ndarray
) -> None:
    trusted.save(tmp_path, contaminated, SETTINGS, chosen)
    with pytest.raises(UserError, match=r"trusted.safetensors: .*; delete .* to start again"):
        trusted.load(tmp_path, contaminated, SETTINGS)


def test_without_a_view_that_judges_all_images_are_trusted(
    contaminated: ImageSet, tmp_path: Path
) -> None:
    fit_detector(contaminated, SETTINGS.replace(views=("gan",)), tmp_path, CPU)
    assert trusted.for_training(tmp_path, contaminated, SETTINGS).all()
    # The GAN goes on with them where a view that judges is added.
    fit_detector(contaminated, SETTINGS, tmp_path, CPU)
    assert trusted.for_training(tmp_path, contaminated, SETTINGS).all()


def test_a_second_command_in_the_folder_is_refused_before_it_changes_anything(
    contaminated: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anowild.training.run_folder.PATIENCE", 0.0)
    folder = tmp_path / "training"
    with (
        exclusive_lock(folder / "views", ""),
        pytest.raises(UserError, match="another process is training there"),
    ):
        train(contaminated.images[:, 0], tmp_path, SETTINGS)
    assert [path.name for path in folder.iterdir()] == ["views"]
