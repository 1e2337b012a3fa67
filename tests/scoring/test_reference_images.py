"""Ordinary training images: which are kept, and which are like another one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anowild import api
from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.scoring import Detector
from anowild.scoring.reference_images import FEWEST, REFERENCE_IMAGES, ReferenceImages
from anowild.settings import Settings


def test_some_by_chance_of_the_ordinary_ones() -> None:
    images = np.arange(1000, dtype=np.uint16).reshape(-1, 1, 1, 1)
    score = np.random.default_rng(0).permutation(1000)
    kept = ReferenceImages.choose(images, score, 200, seed=1).images[:, 0, 0, 0]
    assert len(np.unique(kept)) == 200
    assert score[kept].max() <= np.median(score)
    assert score[kept].mean() == pytest.approx(250, abs=30)
    assert not np.array_equal(
        kept, ReferenceImages.choose(images, score, 200, seed=2).images[:, 0, 0, 0]
    )
    assert len(ReferenceImages.choose(images, score, 0, seed=1).images) == 0
    assert len(ReferenceImages.choose(images[:3], score[:3], 200, seed=1).images) == 2


def test_large_images_are_fewer() -> None:
    images = np.broadcast_to(np.uint8(0), (100, 3, 1024, 1024))
    assert len(ReferenceImages.choose(images, np.zeros(100), 200, seed=1).images) == FEWEST


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_they_are_read_as_they_were_written(tmp_path: Path, dtype: Any) -> None:
    images = np.random.default_rng(0).integers(0, 200, (7, 3, 8, 8)).astype(dtype)
    ReferenceImages(images).save(tmp_path, "id")
    found = ReferenceImages.load(tmp_path, "id", (3, 8, 8), np.dtype(dtype)).images
    assert found.dtype == dtype
    assert np.array_equal(found, images)
    assert ReferenceImages.load(tmp_path, "id", (1, 8, 8), np.dtype(dtype)).images.shape == (
        0,
        1,
        8,
        8,
    )


def test_the_nearest_by_the_latents_and_never_itself(
    detector: Detector, image_set: ImageSet
) -> None:
    kept = detector.reference_images.images
    assert len(kept) == 150  # half of the training images
    images = np.concatenate([kept[:5], image_set.images[:20]])
    found = detector.neighbors(images, 3)
    there, here = (detector.features(x) for x in (kept, images))
    seen = detector.explain(kept).seen
    for image, latent, near in zip(images, here, found, strict=True):
        distances = np.square(there - latent).sum(axis=1)
        distances[(kept == image).all(axis=(1, 2, 3))] = np.inf
        assert np.allclose(near, seen[np.argsort(distances)[:3]], atol=1e-6)
        assert len(near) == 3
    assert detector.neighbors(images[:0], 3) == []


def test_a_model_without_them_shows_none(
    detector: Detector, model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    detector.reference_images.save(folder, "another")
    images = detector.reference_images.images[:2]
    for text in ("it is of another model", ""):
        caplog.clear()
        without = Detector.load(folder)
        assert text in caplog.text
        assert [len(near) for near in without.neighbors(images, 3)] == [0, 0]
        assert np.array_equal(without.score(images).score, detector.score(images).score)
        (folder / REFERENCE_IMAGES).unlink(missing_ok=True)
    (folder / REFERENCE_IMAGES).write_bytes(b"damaged")
    assert len(Detector.load(folder).reference_images.images) == 0
    assert f"{REFERENCE_IMAGES}: cannot be used" in caplog.text
    # One example alone is like everything but itself.
    ReferenceImages(images[:1]).save(folder, detector.checksum)
    assert [len(near) for near in Detector.load(folder).neighbors(images, 3)] == [0, 1]


def test_a_trained_model_can_do_without_them(
    digits: Array, model_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    before = json.loads((model_folder / "training" / "settings.json").read_text())["settings"]
    settings = Settings.from_json(before).replace(reference_images=0)
    detector = api.train(digits, tmp_path / "model", settings)
    assert len(detector.reference_images.images) == 0
    assert len(Detector.load(tmp_path / "model").reference_images.images) == 0
