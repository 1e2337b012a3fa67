"""Exported models of each preset on a thousand real images of any size, in ONNX Runtime and OpenVINO."""

import pytest

from anowild.presets import PRESETS
from bench.export import KINDS, PYTORCH, compare


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_thousand_images_score_alike(preset: str, kind: str) -> None:
    for runtime, found in compare(preset, kind, 1000, 1.0, threads=1).items():
        if runtime == PYTORCH:
            continue
        assert found.own_size <= 1e-4, runtime
        if runtime == "ONNX Runtime":
            assert found.relative <= 1e-4
            assert found.absolute <= 3e-5
            assert round(found.correlation, 6) == 1
        else:  # in float32, scaling rounds a pixel to the next level here and there
            assert found.relative <= 0.1
            assert found.correlation > 0.9999
