"""Image sets of the study that follow from the files of ``anowild data fetch``.

Each function takes the original images and labels and returns arrays by name, as the set's file
holds them. Images are uint8 [N, C, H, W]; labels are class numbers [N].
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.data.contamination import CIFAR10_CLASSES
from anowild.data.readers import Reader, Record
from anowild.data.readers.cifar import CifarReader
from anowild.data.readers.idx import IdxReader
from anowild.errors import UserError
from anowild.files import read_json

#: Images and labels by split.
Labeled = dict[str, tuple[Array, Array]]


def find_mnist(folder: Path) -> Path | None:
    """Return where the idx files of MNIST lie in a folder or its subfolder ``mnist``, if anywhere."""
    for path in (folder, folder / "mnist"):
        if path.is_dir() and IdxReader.takes(str(path)):
            return path
    return None


def find_cifar10(folder: Path) -> Path | None:
    """Return where CIFAR-10 lies in a folder or its subfolder ``cifar10``, packed or not, if anywhere."""
    name = "cifar-10-python.tar.gz"
    for path in (folder / name, folder / "cifar10" / name, folder, folder / "cifar10"):
        if CifarReader.takes(str(path)):
            return path
    return None


def read_mnist(path: Path) -> Labeled:
    """Read the idx files of MNIST.

    Raises:
        UserError: they are damaged, incomplete, or those of another set.
    """
    found = _read(IdxReader(str(path)), int)
    twos = {split: int((labels == 2).sum()) for split, (_, labels) in found.items()}
    if twos != {"train": 5958, "test": 1032}:  # Fashion-MNIST's files have the same names
        raise UserError(f"{path}: is not MNIST; get it with `anowild data fetch mnist`")
    return found


def read_cifar10(path: Path) -> Labeled:
    """Read CIFAR-10 from its archive or the unpacked folder, in the official order.

    Raises:
        UserError: it is damaged or incomplete.
    """
    found = _read(CifarReader(str(path)), CIFAR10_CLASSES.index)
    if {split: len(labels) for split, (_, labels) in found.items()} != {
        "train": 50_000, "test": 10_000,
    }:  # fmt: skip
        raise UserError(f"{path}: is not all of CIFAR-10; get it with `anowild data fetch cifar10`")
    return found


def _read(reader: Reader, number: Callable[[Any], int]) -> Labeled:
    """Read all images of a source; ``number`` turns a label into a class number."""
    images: dict[str, list[Array]] = {}
    labels: dict[str, list[int]] = {}
    for record in reader.records():
        if isinstance(record, Record):
            split = record.origin.split or "train"
            images.setdefault(split, []).append(record.pixels)
            labels.setdefault(split, []).append(number(record.origin.label))
    return {
        split: (
            np.ascontiguousarray(np.stack(images[split]).transpose(0, 3, 1, 2)),
            np.array(labels[split], np.uint8),
        )
        for split in images
    }


def mnist2(mnist: Labeled) -> dict[str, Array]:
    """Digit 2 against the others, padded to 32x32, as the paper's authors packed it.

    ``train``: all twos in the order of their TFRecords, which NumPy's RandomState(123) shuffled.
    ``test_normal``: the test set's twos; ``test_anomaly``: as many others, the first ones.
    """
    (images, labels), (test, test_labels) = mnist["train"], mnist["test"]
    twos = np.flatnonzero(labels == 2)
    order = np.arange(len(twos))
    np.random.RandomState(123).shuffle(order)
    normal = test[test_labels == 2]
    return {
        "train": _padded(images[twos[order]]),
        "test_normal": _padded(normal),
        "test_anomaly": _padded(test[test_labels != 2][: len(normal)]),
    }


def mnist2_contaminants(mnist: Labeled, count: int = 1200) -> dict[str, Array]:
    """Training digits other than 2, drawn at random, to contaminate :func:`mnist2` with."""
    images, labels = mnist["train"]
    rng = np.random.RandomState(1000)
    drawn = np.sort(rng.choice(np.flatnonzero(labels != 2), count, replace=False))
    index = rng.permutation(drawn)
    return {"images": _padded(images[index]), "label": labels[index], "index": index}


def _padded(images: Array) -> Array:
    """Two black pixels on each side: 28x28 -> 32x32."""
    return np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))


def cifar10(cifar10: Labeled) -> dict[str, Array]:
    """All of CIFAR-10."""
    found: dict[str, Array] = {}
    for split, (images, labels) in cifar10.items():
        found |= {split: images, f"{split}_label": labels}
    return found


def cifar10_subset(cifar10: Labeled) -> dict[str, Array]:
    """All automobiles and horses, 125 training images of each other class, 200 test images of each.

    The others were drawn once at random; ``cifar10_subset.json`` holds their positions.
    """
    (images, labels), (test, test_labels) = cifar10["train"], cifar10["test"]
    drawn = read_json(Path(str(files("anowild.study") / "cifar10_subset.json")))
    index = np.concatenate(
        [np.flatnonzero(labels == 1), np.flatnonzero(labels == 7), drawn["train_others"]]
    ).astype(np.int32)
    test_index = np.array(drawn["test"], np.int32)
    return {
        "train": images[index], "train_label": labels[index], "train_index": index,
        "test": test[test_index], "test_label": test_labels[test_index], "test_index": test_index,
    }  # fmt: skip
