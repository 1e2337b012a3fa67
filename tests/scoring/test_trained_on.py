"""A model knows its training images again, and without that goes on with a word."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from anowild import score
from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.errors import UserError
from anowild.scoring import Detector
from anowild.scoring.threshold_rules import FalseDiscoveryRate
from anowild.scoring.trained_on import TRAINED_ON, TrainedOn


def test_training_images_are_known_again(detector: Detector, image_set: ImageSet) -> None:
    known = detector.trained_on
    assert known is not None
    assert known.contains(image_set.images).all()
    changed = image_set.images.copy()
    changed[:, 0, 0, 0] ^= 1
    assert not known.contains(changed).any()
    assert len(known.hashes) == len(np.unique(image_set.images, axis=0))


def test_hashes_are_of_pixels_in_any_order_in_memory() -> None:
    images = np.random.default_rng(0).integers(0, 1 << 16, (5, 3, 8, 8), dtype=np.uint16)
    known = TrainedOn.of(images)
    assert known.contains(np.asfortranarray(images)).all()
    assert known.contains(images[:0]).shape == (0,)


@pytest.mark.parametrize("kind", ["missing", "damaged", "another", "other"])
def test_a_model_without_hashes_goes_on_with_a_word(
    model_folder: Path, digits: Array, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns("training"))
    path = folder / TRAINED_ON
    checksum = Detector.load(folder).checksum
    if kind == "missing":
        path.unlink()
    elif kind == "damaged":
        path.write_bytes(b"x" * 50)
    elif kind == "another":
        save_file({"hashes": np.arange(3, dtype=np.uint64)}, path, metadata={"id": "another"})
    else:
        save_file({"hashes": np.zeros(3)}, path, metadata={"id": checksum})
    detector = Detector.load(folder)
    assert detector.trained_on is None
    assert ("training images are not known again" in caplog.text) == (kind != "missing")
    FalseDiscoveryRate(0.2, digits[:50]).fit(detector)
    assert "does not know its training images" in caplog.text


def test_calibration_with_training_images_is_refused(detector: Detector, digits: Array) -> None:
    others = 255 - digits[:30]
    mixed = np.concatenate([others, digits[:10]])
    with pytest.raises(UserError, match=r"10 of the 40 calibration images \(25 %\).*array\[30\]"):
        FalseDiscoveryRate(0.2, mixed).fit(detector)
    FalseDiscoveryRate(0.2, others).fit(detector)


def test_scoring_says_how_many_are_training_images(
    detector: Detector, digits: Array, caplog: pytest.LogCaptureFixture
) -> None:
    score(detector, 255 - digits[:30])
    assert "training images" not in caplog.text
    score(detector, np.concatenate([255 - digits[:30], digits[:10]]))
    assert "10 of these 40 images are training images" in caplog.text
    assert not TrainedOn(np.empty(0, np.uint64)).contains(digits[:3]).any()
