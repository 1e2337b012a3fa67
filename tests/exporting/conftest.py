"""A detector of all views, and its files."""

from pathlib import Path

import pytest

from anowild import api
from anowild.arrays import Array
from anowild.exporting.formats import export
from anowild.scoring import Detector
from tests.conftest import tiny_settings


@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory, digits: Array) -> Detector:
    """A detector of all views, trained for a moment on 120 digits."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    settings = tiny_settings(views=("transforms", "pixels", "pretrained", "gan"), kimg=0.3)
    api.train(digits[:120], folder, settings)
    return Detector.load(folder, "cpu")


@pytest.fixture(scope="package")
def onnx_file(tmp_path_factory: pytest.TempPathFactory, whole: Detector) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export(whole, path)
    return path
