"""The estimator of scikit-learn and the detector of PyOD: their own checks, and what they say of images."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import anowild
from anowild import AnomalyDetector, UserError
from anowild.arrays import Array
from anowild.estimator import FILE
from anowild.pyod import AnoWild

#: The view that trains nothing: an estimator that fits in a moment.
QUICK: dict[str, Any] = {"views": ("pixels",), "device": "cpu"}
ROWS = {**QUICK, "layout": "flat", "image_shape": "square", "value_range": "training"}
ODD = np.arange(80) >= 72


@pytest.fixture(scope="module")
def images() -> Array:
    """Noise on gratings, of which the last eight are faint: uint8 [80, 16, 16]."""
    rng = np.random.default_rng(0)
    contrast = np.where(ODD, 0.2, 1.0)[:, None, None] * rng.uniform(0.8, 1.2, (80, 1, 1))
    grating = 60 * np.sin(np.arange(16) / 2)
    return (
        (120 + contrast * (grating + rng.normal(0, 15, (80, 16, 16)))).clip(0, 255).astype(np.uint8)
    )


@pytest.fixture(scope="module")
def fitted(images: Array) -> AnomalyDetector:
    return AnomalyDetector(**QUICK).fit(images)


@parametrize_with_checks([AnomalyDetector(**ROWS)])
def test_the_checks_of_scikit_learn(estimator: AnomalyDetector, check: Any) -> None:
    check(estimator)


def test_odd_images_are_found(fitted: AnomalyDetector, images: Array) -> None:
    assert roc_auc_score(ODD, fitted.decision_scores_) > 0.99
    assert roc_auc_score(ODD, -fitted.score_samples(images)) > 0.99
    assert np.array_equal(fitted.predict(images) == -1, fitted.decision_function(images) < 0)
    assert np.array_equal(fitted.labels_ == 1, fitted.decision_scores_ > fitted.threshold_)
    shares = fitted.predict_proba(images)
    assert np.allclose(shares.sum(axis=1), 1)
    assert np.array_equal(np.argsort(shares[:, 1]), np.argsort(-fitted.score_samples(images)))
    share = AnomalyDetector(**QUICK, contamination=0.1).fit(images)
    assert share.labels_.sum() == 8
    assert (share.predict(images) == -1).sum() == 8


def test_layouts_are_declared(fitted: AnomalyDetector, images: Array) -> None:
    expected = fitted.score_samples(images)
    for layout, given in {
        "NHWC": images[..., None],
        "NCHW": images[:, None],
        "flat": images.reshape(80, 256),
    }.items():
        found = AnomalyDetector(**QUICK, layout=layout, image_shape=(16, 16))  # type: ignore[arg-type]
        assert np.array_equal(found.fit(given).score_samples(given), expected), layout
    color = np.stack([images, images, 255 - images], axis=1)
    assert AnomalyDetector(**QUICK, layout="NCHW").fit(color).detector_.preprocess.channels == 3
    floats = AnomalyDetector(**QUICK).fit(images / 255)
    np.testing.assert_allclose(floats.score_samples(images / 255), expected)


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({}, (80, 16, 16, 1), "has 4 axes|has 3 axes"),
        ({"layout": "flat"}, (80, 256), "needs image_shape"),
        ({"layout": "flat", "image_shape": (8, 8)}, (80, 256), "rows of X have 256 values"),
        ({"layout": "HWN"}, (80, 16, 16), "take one of NHW"),
        ({"contamination": 0.7}, (80, 16, 16), "at most 0.5"),
        ({"value_range": "given"}, (80, 16, 16), "a pair"),
        ({}, (80, 2, 2), "2x2 pixels are too few"),
        ({"contamination": "Auto"}, (80, 16, 16), "or 'auto'"),
        ({"layout": "flat", "image_shape": "sqare"}, (80, 256), "or 'square'"),
        ({"layout": "flat", "image_shape": 256}, (80, 256), "or 'square'"),
        ({"value_range": (255, 0)}, (80, 16, 16), "a pair"),
        ({"value_range": 5}, (80, 16, 16), "a pair"),
        ({"settings": {"seed": 3}}, (80, 16, 16), "random_state"),
        ({"settings": {"sed": 3}}, (80, 16, 16), "sed"),
        ({"preset": "none"}, (80, 16, 16), "none"),
    ],
)
def test_what_does_not_fit_is_said(
    changes: dict[str, Any], shape: tuple[int, ...], message: str
) -> None:
    given = np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match=message):
        AnomalyDetector(**QUICK, **changes).fit(given)


def test_values_that_are_no_pixels_need_a_range(images: Array) -> None:
    for given in (images.astype(float), images.astype(int)):
        with pytest.raises(ValueError, match="value_range"):
            AnomalyDetector(**QUICK).fit(given)
    found = AnomalyDetector(**ROWS).fit(images.reshape(80, 256) - 100.0)
    assert found.score_samples(images.reshape(80, 256)).shape == (80,)  # black does not fit uint8


def test_a_fit_that_fails_leaves_nothing_fitted(images: Array) -> None:
    found = AnomalyDetector(**QUICK).fit(images)
    with pytest.raises(ValueError, match="too few"):
        found.fit(images[:, :2, :2])
    with pytest.raises(NotFittedError):
        found.predict(images)


def test_numbers_of_numpy_are_numbers(images: Array, tmp_path: Path) -> None:
    plain = AnomalyDetector(**QUICK, random_state=3, contamination=0.25).fit(images)
    of_numpy: dict[str, Any] = {
        "random_state": np.int64(3),
        "contamination": np.float32(0.25),
        "value_range": np.array([0, 255]),
    }
    given = AnomalyDetector(**QUICK, **of_numpy).fit(images)
    assert np.array_equal(plain.score_samples(images), given.score_samples(images))
    given.save(tmp_path)
    assert np.array_equal(
        AnomalyDetector.load(tmp_path, "cpu").predict(images), plain.predict(images)
    )


def test_files_of_two_models_are_told(
    fitted: AnomalyDetector, images: Array, tmp_path: Path
) -> None:
    fitted.save(tmp_path)
    AnomalyDetector(**QUICK).fit(images[:60]).detector_.save(tmp_path)
    with pytest.raises(UserError, match="belongs to another model"):
        AnomalyDetector.load(tmp_path)


def test_a_model_goes_with_it(fitted: AnomalyDetector, images: Array, tmp_path: Path) -> None:
    expected = fitted.score_samples(images)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.score_samples(images), expected)
    fitted.save(tmp_path / "model")
    found = AnomalyDetector.load(tmp_path / "model", device="cpu")
    assert np.array_equal(found.score_samples(images), expected)
    assert np.array_equal(found.labels_, fitted.labels_)
    assert found.get_params() == fitted.get_params()
    table = anowild.score(anowild.Detector.load(tmp_path / "model", "cpu"), images)
    assert np.array_equal(np.sort(table.score), np.sort(-expected))
    (tmp_path / "model" / FILE).write_text("{}")
    with pytest.raises(UserError, match="is damaged"):
        AnomalyDetector.load(tmp_path / "model")
    with pytest.raises(NotFittedError):
        AnomalyDetector().save(tmp_path / "none")


def test_another_model_is_not_replaced(
    fitted: AnomalyDetector, model_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="has a model that no estimator saved"):
        fitted.save(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    fitted.save(tmp_path / "own")
    fitted.save(tmp_path / "own")


def test_pixels_of_another_depth_are_told(
    fitted: AnomalyDetector, images: Array, caplog: pytest.LogCaptureFixture
) -> None:
    fitted.predict(images[:20])
    assert "most images are of type" not in caplog.text
    fitted.predict(images[:20].astype(np.uint16))
    assert "most images are of type uint16" in caplog.text


@pytest.mark.parametrize(
    "parameters", [{"views": "nope"}, {"settings": {1: 1}}, {"settings": {"nope": 1}}]
)
def test_wrong_parameters_are_errors_of_value(images: Array, parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"nope|no name of a setting"):
        AnomalyDetector(**QUICK | parameters).fit(images)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"parameters": {"layout": "XYZ"}}, "layout is 'XYZ'"),
        ({"parameters": {"contamination": "x"}}, "contamination is 'x'"),
        ({"decision_scores": []}, "decision_scores is empty"),
        ({"value_range": [2.0, 1.0]}, r"value_range is \[2.0, 1.0\]"),
    ],
)
def test_a_damaged_file_is_told(
    fitted: AnomalyDetector, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    fitted.save(tmp_path)
    saved = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(saved | change))
    with pytest.raises(UserError, match=rf"estimator\.json: is damaged \(.*{sentence}"):
        AnomalyDetector.load(tmp_path)


def test_an_unpickled_model_has_no_folder(fitted: AnomalyDetector) -> None:
    assert pickle.loads(pickle.dumps(fitted)).detector_.folder is None


def test_values_of_another_type_than_in_training_are_said(
    fitted: AnomalyDetector, images: Array
) -> None:
    with pytest.raises(ValueError, match=r"X holds values of type int64 from \d+ to \d+"):
        fitted.predict(images.astype(np.int64))


def test_it_is_a_step_and_is_searched(images: Array) -> None:
    steps = make_pipeline(FunctionTransformer(lambda x: 255 - x), AnomalyDetector(**QUICK))
    assert roc_auc_score(ODD, -steps.fit(images).score_samples(images)) > 0.99
    search = GridSearchCV(
        AnomalyDetector(**QUICK),
        {"contamination": [0.05, 0.2]},
        scoring=lambda found, x, y: ((found.predict(x) == -1) == y).mean(),
        cv=2,
    )
    order = np.random.default_rng(0).permutation(80)
    search.fit(images[order], ODD[order])
    assert set(search.best_params_) == {"contamination"}
    assert clone(search.best_estimator_).get_params() == search.best_estimator_.get_params()


# PyOD, after the pattern of its own tests of detectors


@pytest.fixture(scope="module")
def pyod_detector(images: Array) -> AnoWild:
    return AnoWild(contamination=0.1, image_shape=(16, 16), **QUICK).fit(images.reshape(80, 256))


def test_attributes_of_pyod(pyod_detector: AnoWild) -> None:
    for name in ("decision_scores_", "labels_", "threshold_", "contamination"):
        assert getattr(pyod_detector, name) is not None, name
    assert len(pyod_detector.decision_scores_) == 80
    assert pyod_detector.labels_.sum() == 8


def test_predictions_of_pyod(pyod_detector: AnoWild, images: Array) -> None:
    rows = images.reshape(80, 256)
    scores = pyod_detector.decision_function(rows)
    assert scores.shape == (80,)
    assert roc_auc_score(ODD, scores) > 0.99
    assert set(pyod_detector.predict(rows)) <= {0, 1}
    for method in ("linear", "unify"):
        shares = pyod_detector.predict_proba(rows, method=method)
        assert shares.shape == (80, 2)
        assert shares.min() >= 0
        assert shares.max() <= 1
    with pytest.raises(ValueError, match="something"):
        pyod_detector.predict_proba(rows, method="something")
    labels, confidence = pyod_detector.predict(rows, return_confidence=True)
    assert labels.shape == confidence.shape == (80,)
    assert confidence.min() >= 0
    assert confidence.max() <= 1


def test_a_wrong_share_is_told_before_pyod_trains(images: Array) -> None:
    for wrong in ("auto", np.float32(0.1)):
        with pytest.raises(ValueError, match="thresholder"):
            AnoWild(contamination=wrong, **QUICK).fit(images.reshape(80, 256))


def test_fits_and_clones_of_pyod(pyod_detector: AnoWild, images: Array) -> None:
    rows = images.reshape(80, 256)
    again = clone(pyod_detector)
    with pytest.raises(NotFittedError):
        again.decision_function(rows)
    assert np.array_equal(again.fit_predict(rows), pyod_detector.labels_)
    assert again.fit_predict_score(rows, ODD) > 0.99
    kept = pickle.loads(pickle.dumps(pyod_detector))
    assert np.array_equal(kept.decision_function(rows), pyod_detector.decision_function(rows))
