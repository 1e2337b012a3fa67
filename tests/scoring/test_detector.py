"""A score is a property of one image; and a model folder is whole or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.errors import UserError
from anowild.scoring import Detector
from anowild.scoring.scores import Scores
from anowild.training.fitting import fit_detector
from anowild.views.gan import CPU_BATCH as PASS
from anowild.views.gan import CUES
from tests.conftest import tiny_settings

CPU = torch.device("cpu")
TOLERANCE = 1e-5  # relative


def score_tolerance(detector: Detector, scores: Scores) -> Array:
    """[N]: by how much the score may differ where each cue may by ``TOLERANCE``."""
    total = np.zeros(len(scores.score))
    for name in detector.calibration.counted:
        differences = [
            np.abs(detector.calibration.score(scores.cues | {name: changed}) - scores.score)
            for changed in (
                scores.cues[name] * (1 - TOLERANCE),
                scores.cues[name] * (1 + TOLERANCE),
            )
        ]
        total += np.maximum(*differences)
    return total


def assert_same_scores(detector: Detector, images: Any, order: Any, *batches: Any) -> None:
    """Score ``batches``, which hold the images of ``images`` in ``order``, and compare."""
    expected = detector.score(images).columns()
    parts = [detector.score(batch).columns() for batch in batches]
    for name, values in expected.items():
        found = np.concatenate([part[name] for part in parts])
        assert np.allclose(found, values[order], rtol=TOLERANCE, atol=0), name


def test_order_does_not_matter(detector: Detector, image_set: ImageSet) -> None:
    order = np.random.default_rng(0).permutation(len(image_set))
    assert_same_scores(detector, image_set.images, order, image_set.images[order])


@pytest.mark.parametrize("sizes", [[1] * 9, [2, 7], [PASS + 1, 3], [5, PASS, 2 * PASS + 1]])
def test_batch_size_does_not_matter(
    detector: Detector, image_set: ImageSet, sizes: list[int]
) -> None:
    images = image_set.images[: sum(sizes)]
    batches = np.split(images, np.cumsum(sizes)[:-1])
    assert_same_scores(detector, images, np.arange(len(images)), *batches)


def test_companions_do_not_matter(detector: Detector, image_set: ImageSet) -> None:
    image = image_set.images[:1]
    for others in (np.zeros_like(image), np.full_like(image, 255), image, image_set.images[50:51]):
        batch = np.concatenate([np.repeat(others, 30, axis=0), image])
        last = {name: values[-1:] for name, values in detector.score(batch).columns().items()}
        alone = detector.score(image).columns()
        for name, values in alone.items():
            assert np.allclose(last[name], values, rtol=TOLERANCE, atol=0), name


@pytest.mark.parametrize("size", [1, 3, 8, 64])
def test_batch_size_of_a_view_is_rounding(
    detector: Detector, image_set: ImageSet, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    images = image_set.images[:70]
    expected = detector.score(images)
    (view,) = detector.views
    monkeypatch.setattr(view, "batch_size", max(2, size))
    found = detector.score(images)
    for name, values in found.cues.items():
        assert np.allclose(values, expected.cues[name], rtol=TOLERANCE, atol=0), name
    assert np.all(np.abs(found.score - expected.score) <= score_tolerance(detector, expected))


def test_threads_are_rounding(detector: Detector, image_set: ImageSet) -> None:
    images = image_set.images[:40]
    one = detector.score(images)
    torch.set_num_threads(2)
    two = detector.score(images)
    assert np.all(np.abs(two.score - one.score) <= score_tolerance(detector, one))


def test_scores_and_cues_vary(detector: Detector, image_set: ImageSet) -> None:
    columns = detector.score(image_set).columns()
    current = [name for name, cue in CUES.items() if not cue.retired]
    assert list(columns) == ["score", "view_gan", *current]
    for values in columns.values():
        assert values.shape == (len(image_set),)
        assert np.isfinite(values).all()
        assert len(np.unique(values)) > 0.9 * len(values)


def test_ranks_begin_with_the_oddest(detector: Detector, image_set: ImageSet) -> None:
    scores = detector.score(image_set)
    ranks = scores.ranks()
    assert sorted(ranks) == list(range(1, len(image_set) + 1))
    assert scores.score[ranks.argmin()] == scores.score.max()
    assert (np.diff(scores.score[np.argsort(ranks)]) <= 0).all()


def test_images_of_another_form_are_refused(detector: Detector) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        detector.score(np.zeros((2, 1, 32, 32), np.uint8))
    with pytest.raises(ValueError, match="expected uint8"):
        detector.score(np.zeros((2, 1, 16, 16)))


def test_reconstructions_are_of_the_images(detector: Detector, image_set: ImageSet) -> None:
    shown = detector.explain(image_set.images[:5])
    seen, rebuilt = shown.seen, shown.rebuilt
    assert rebuilt is not None
    assert np.allclose(seen, image_set.images[:5] / 127.5 - 1, atol=1e-6)
    residual = np.abs(seen - rebuilt).mean(axis=(1, 2, 3))
    assert np.allclose(residual, detector.measure(image_set.images[:5])["residual"], rtol=1e-5)


def test_a_saved_detector_scores_the_same(
    detector: Detector, image_set: ImageSet, tmp_path: Path
) -> None:
    detector.save(tmp_path)
    again = Detector.load(tmp_path)
    assert np.array_equal(detector.score(image_set).score, again.score(image_set).score)
    assert again.preprocess == detector.preprocess


def test_models_whose_calibrations_differ_are_different_models(
    detector: Detector, tmp_path: Path
) -> None:
    detector.save(tmp_path)
    assert Detector.load(tmp_path, "cpu").identity == detector.identity
    description = json.loads((tmp_path / "model.json").read_text())
    knots = description["calibration"]["combined"]["knots"]
    knots[-1] += 1e-9
    (tmp_path / "model.json").write_text(json.dumps(description))
    other = Detector.load(tmp_path, "cpu")
    assert other.checksum == detector.checksum
    assert other.identity != detector.identity


def test_raw_weights_can_be_chosen_afterwards(image_set: ImageSet, tmp_path: Path) -> None:
    short = {"kimg": 0.3, "initial_resolution": None}
    averaged, raw = (tiny_settings(**short, scoring_weights=w) for w in ("averaged", "raw"))
    scores = [
        fit_detector(image_set, s, tmp_path, CPU).detector.score(image_set).score
        for s in (averaged, raw)
    ]
    assert not np.allclose(scores[0], scores[1])


def test_a_training_that_did_not_grow_to_the_end_scores_at_its_level(
    image_set: ImageSet, tmp_path: Path
) -> None:
    settings = tiny_settings(kimg=0.3)
    detector = fit_detector(image_set, settings, tmp_path, CPU).detector
    (lod,) = (view.facts()["lod"] for view in detector.views)
    assert 0 < lod < 1
    detector.save(tmp_path)
    assert [view.facts()["lod"] for view in Detector.load(tmp_path).views] == [lod]
    assert detector.explain(image_set.images[:2]).seen.shape == (2, 1, 16, 16)
    assert detector.score(image_set).score.std() > 0


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: (f / "model.json").unlink(), "model.json is missing"),
        (lambda f: shutil.rmtree(f), "no such model folder"),
        (lambda f: (f / "model.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "model.json").write_text('{"format": 99}'), "a later version of AnoWild; update"),
        (lambda f: (f / "model.json").write_text('{"format": 3}'), "not of format 4 to 7"),
        (lambda f: (f / "model.json").write_text('{"format": 6}'), "is damaged .preprocess is missing"),
        (lambda f: (f / "model.json").write_text("[]"), "not of format 4"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "model.safetensors: is damaged"),
        (lambda f: _truncate(f / "model.safetensors"), "model.safetensors: is damaged"),
        (lambda f: _replace_weights(f), "belongs to another model"),
        (lambda f: _change(f, "fmap_max", 4), "does not fit"),
        (lambda f: _change(f, "resolution", 24), "is damaged"),
    ],
)  # fmt: skip
def test_a_spoilt_model_is_refused_with_a_sentence(
    model_folder: Path, tmp_path: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns("training"))
    spoil(folder)
    with pytest.raises(UserError, match=sentence):
        Detector.load(folder)


def test_an_unfinished_training_is_told_from_a_broken_model(
    model_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_folder / "training", tmp_path / "training")
    with pytest.raises(UserError, match="training has not finished"):
        Detector.load(tmp_path)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _replace_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path), path, metadata={"id": "another"})


def _change(folder: Path, name: str, value: Any) -> None:
    path = folder / "model.json"
    description = json.loads(path.read_text())
    description["views"][0]["facts"]["networks"][name] = value
    path.write_text(json.dumps(description))


def test_loading_changes_no_setting_of_the_process(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    for allowed in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        detector = Detector.load(model_folder, torch.device("cpu"))
        detector.score(np.zeros((2, 1, 16, 16), np.uint8))
        assert torch.backends.cudnn.allow_tf32 == allowed
        assert torch.get_num_threads() == threads
