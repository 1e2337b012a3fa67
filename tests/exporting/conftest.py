"""A detector of all views, and its files."""

from pathlib import Path

import pytest

from anowild import api
from anowild.arrays import Array
from anowild.exporting.formats import export
from anowild.scoring import Detector
from tests.conftest import shared_folder, tiny_settings


@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory, digits: Array) -> Detector:
    """A detector of all views, trained for a moment on 120 digits; the processes of one run train it once."""
    settings = tiny_settings(views=("transforms", "pixels", "pretrained", "gan"), kimg=0.3)
    with shared_folder(tmp_path_factory, "whole") as shared:
        if not (shared / "model" / "model.json").exists():
            api.train(digits[:120], shared / "model", settings)
        return Detector.load(shared / "model", "cpu")


@pytest.fixture(scope="package")
def onnx_file(tmp_path_factory: pytest.TempPathFactory, whole: Detector) -> Path:
    """The same as an ONNX file, which they make once."""
    with shared_folder(tmp_path_factory, "exported") as shared:
        if not (shared / "model.onnx").exists():
            export(whole, shared / "model.onnx")
        return shared / "model.onnx"
