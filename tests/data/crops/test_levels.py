"""Conversion of frames to 8-bit gray."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.data.crops import crop, to_gray, video_levels
from tests.data.crops.frames import PLACES, crops_of, drawn, kept

pytest.importorskip("skimage")


def frames_of(kind: str) -> list[Array]:
    frames = [drawn(seed=i) + np.uint8(10 * i) for i in range(3)]
    if kind == "uint16":
        return [f.astype(np.uint16) * 250 + np.uint16(i) for i, f in enumerate(frames)]
    if kind == "float":
        return [f / 300.0 - 0.2 for f in frames]
    return frames


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("percentiles", [(0.1, 99.9), (0.0, 100.0), (3.3, 50.0)])
def test_levels_of_a_video_are_those_of_numpy(kind: str, percentiles: tuple[float, float]) -> None:
    grays = [f[:, :, 0] for f in frames_of(kind)]
    expected = np.percentile(np.stack(grays), percentiles)
    assert video_levels(lambda: grays, percentiles) == pytest.approx(tuple(expected), rel=1e-12)


def test_levels_of_a_video_of_floats_are_near_those_of_numpy() -> None:
    grays = [np.random.default_rng(i).normal(size=(100, 100)) for i in range(4)]
    expected = np.percentile(np.stack(grays), (0.1, 99.9))
    step = np.ptp(grays) / 65535
    assert video_levels(lambda: grays, (0.1, 99.9)) == pytest.approx(tuple(expected), abs=step)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float"])
@pytest.mark.parametrize("levels", ["frame", "video", "fixed"])
def test_levels(kind: str, levels: str) -> None:
    frames = frames_of(kind)
    grays = (float(frames[0].min()), float(frames[2].max())) if levels == "fixed" else None
    crops = kept(crops_of(frames, levels=levels, grays=grays, max_shift=0))
    assert len(crops) == 3 * len(PLACES)
    for found in crops:
        assert found.origin.frame is not None
        assert found.origin.position is not None
        black, white = grays or np.percentile(
            frames[found.origin.frame] if levels == "frame" else np.stack(frames), (0.1, 99.9)
        )
        top, left = found.origin.position
        gray = frames[found.origin.frame][:, :, 0].astype(float)
        square = crop(gray, top, left, 32, "reflect")
        expected = np.rint(((square - black) * (255 / (white - black))).clip(0, 255))
        off = np.abs(found.pixels[:, :, 0] - expected)
        # The percentiles of a video may differ in the last bit, those of floats a bit more.
        assert off.max() <= (levels == "video")
        assert off.mean() < 0.02


def test_color_becomes_gray_by_luma() -> None:
    color = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(color).convert("L")).astype(int)
    assert np.abs(to_gray(color) - expected).max() <= 1
    assert to_gray(color).dtype == np.uint8
    same = drawn()
    assert np.array_equal(to_gray(np.repeat(same, 3, axis=2)), same[:, :, 0])
