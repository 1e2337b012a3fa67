"""Small defects on textured surfaces: found by images seen whole, and by tiles.

    python -m bench defects [--tiles 0,128,64,32] [--views pixels,pretrained] [--seeds 3]

Cuts 240 gray images of 384x384 out of each of scikit-image's brick, grass and gravel, mirrored and in
other light, and draws a defect of 12 to 24 pixels on 12 of them: a scratch, a hole or a spot. Prints AUROC
of the out-of-fold training scores, mean and deviation over the seeds, how often the oddest tile lies on
the defect, and seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFilter

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.evaluation.metrics import auroc
from anowild.presets import preset
from anowild.process import exit_status
from anowild.settings import Settings
from anowild.training.run import load_training_scores, train

SURFACES = ("brick", "grass", "gravel")
SIDE, IMAGES, DEFECTS = 384, 240, 12


def make(surface: str, seed: int) -> tuple[Array, dict[int, tuple[int, int]]]:
    """Return images of a surface, uint8 [N, SIDE, SIDE], and the middle (row, column) of each defect."""
    rng = np.random.default_rng(seed)
    texture = getattr(skimage.data, surface)()
    places: dict[int, tuple[int, int]] = {}
    made = []
    for number in range(IMAGES):
        top, left = rng.integers(0, texture.shape[0] - SIDE, 2)
        image = texture[top : top + SIDE, left : left + SIDE] * rng.uniform(0.85, 1.15)
        if rng.integers(2):
            image = image[:, ::-1]
        image = (image + rng.normal(0, 2.0, image.shape)).round().clip(0, 255).astype(np.uint8)
        if number < DEFECTS:
            places[number] = tuple(rng.integers(32, SIDE - 32, 2).tolist())
            image = _spoilt(image, places[number], ("scratch", "hole", "spot")[number % 3], rng)
        made.append(image)
    return np.stack(made), places


def _spoilt(image: Array, place: tuple[int, int], kind: str, rng: np.random.Generator) -> Array:
    """Draw a defect on an image."""
    y, x = place
    radius = rng.uniform(6, 12)
    mask = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(mask)
    if kind == "scratch":
        angle = rng.uniform(0, np.pi)
        across, down = radius * np.cos(angle), radius * np.sin(angle)
        draw.line((x - across, y - down, x + across, y + down), fill=255, width=3)
    else:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    share = np.asarray(mask.filter(ImageFilter.GaussianBlur(1)), np.float64)[:, :] / 255
    value = {"scratch": 235.0, "hole": 12.0, "spot": float(image.mean())}[kind]
    return (image * (1 - share) + value * share).round().astype(np.uint8)


def trial(surface: str, seed: int, settings: Settings) -> tuple[float, float, float]:
    """Return AUROC, the share of defects on which the oddest tile lies, and seconds."""
    images, places = make(surface, seed)
    truth = np.isin(np.arange(IMAGES), list(places))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        detector = train(images, Path(folder) / "model", settings).detector
        digest = ImageSet.load(images, settings).digest
        scores = load_training_scores(Path(folder) / "model", detector.identity, digest)
    seconds = time.perf_counter() - started
    hits = 0
    if scores.tile is not None:
        boxes = detector.preprocess.boxes(SIDE, SIDE)
        for number, (y, x) in places.items():
            top, left, height, width = boxes[scores.tile[number]]
            hits += (
                abs(y - top - height / 2) < height / 2 + 8
                and abs(x - left - width / 2) < width / 2 + 8
            )
    return auroc(truth, scores.score), hits / DEFECTS, seconds


def main(arguments: list[str]) -> int:
    """Parse the command line and print a row for each surface and side of tiles."""
    parser = argparse.ArgumentParser(
        prog="python -m bench defects", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--tiles", default="0,128,64,32")
    parser.add_argument("--views", default="pixels,pretrained")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args(arguments)

    def work() -> int:
        for surface in SURFACES:
            for tiles in map(int, given.tiles.split(",")):
                settings = preset("quick").settings().replace(views=given.views, tiles=tiles)
                found = np.array([trial(surface, seed, settings) for seed in range(given.seeds)])
                mean, spread = found.mean(axis=0), found.std(axis=0)
                name = f"tiles of {tiles}" if tiles else "seen whole"
                print(
                    f"{surface:7} {name:13} AUROC {mean[0]:.3f} +- {spread[0]:.3f}, on the defect "
                    f"{100 * mean[1]:3.0f} %, {mean[2]:.0f} s",
                    flush=True,
                )
        return 0

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
