"""Exported models of each preset on a thousand real images of any size, in ONNX Runtime and OpenVINO."""

import pytest

from anowild.presets import PRESETS
from bench.export import KINDS, PYTORCH, Compared, compare

PAPER = [name for name in PRESETS if name.startswith("paper")]


def check(found: dict[str, Compared]) -> None:
    for runtime, row in found.items():
        if runtime != PYTORCH:
            assert row.relative <= 1e-4, runtime
            assert row.own_size <= 1e-4, runtime
            assert row.absolute <= 3e-5, runtime
            assert round(row.correlation, 6) == 1, runtime


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_thousand_images_score_alike(preset: str, kind: str) -> None:
    check(compare(preset, kind, 1000, 1000, 0.5 if preset in PAPER else 1.0, threads=1))


@pytest.mark.slow
@pytest.mark.parametrize("preset", PAPER)
def test_networks_of_full_size_score_alike(preset: str) -> None:
    check(compare(preset, "gray", 200, 100, 0.0, threads=1, full_size=True))
