"""Exported models of each preset on a thousand real images of any size, in ONNX Runtime and OpenVINO."""

import pytest

from anowild.presets import PRESETS
from bench.export import KINDS, PYTORCH, compare


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_thousand_images_score_alike(preset: str, kind: str) -> None:
    training, kimg = (200, 0.0) if preset.startswith("paper") else (1000, 1.0)
    for runtime, found in compare(preset, kind, 1000, training, kimg, threads=1).items():
        if runtime != PYTORCH:
            assert found.relative <= 1e-4, runtime
            assert found.own_size <= 1e-4, runtime
            assert found.absolute <= 3e-5, runtime
            assert round(found.correlation, 6) == 1, runtime
