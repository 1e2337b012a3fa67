"""Contamination: known anomalies injected into a training set, for experiments on their effect."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.data.dataset.build import build_set
from anowild.data.dataset.format import DESCRIPTION, PackedSet
from anowild.data.dataset.writer import Part
from anowild.data.label_file import words_of
from anowild.data.readers import ImageSource, Provenance, Record, SkippedImage
from anowild.data.readers.base import Shape
from anowild.errors import UserError

#: Labels that are normal by default.
NORMAL_WORDS = frozenset({"0", "normal", "good", "ok", "false"})

#: Names of the classes of CIFAR-10, by their labels.
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """Evaluation protocol: the normal classes, and the number of test images.

    The test images are drawn with a fixed seed, so that they do not depend on what is injected.
    """

    classes: tuple[str, ...]
    normal: tuple[str, ...] | None  # None: one class, which the user names
    test_each: int | None  # most test images of either kind; None: as many as the rarer kind has
    source: str  # of the protocol


PROTOCOLS = {
    "cifar10-one-vs-rest": Protocol(
        CIFAR10_CLASSES, None, 1000, "the paper's released code, where it is commented out"
    ),
    "cifar10-vehicles-vs-animals": Protocol(
        CIFAR10_CLASSES,
        ("airplane", "automobile", "ship", "truck"),
        1000,
        "the paper's released code",
    ),
    "mnist-one-vs-rest": Protocol(
        tuple("0123456789"), None, None, "the released code's example with the digit 2"
    ),
}


@dataclass(frozen=True)
class Contamination:
    """Record of an injection: share of anomalies, seed of the draw, their rows in the result."""

    rate: float
    seed: int
    indices: list[int]


def draw(normal: int, anomalous: int, rate: float, seed: int) -> Array:
    """Draw the anomalies to inject, so that they make up ``rate`` of the result.

    The paper's rule: n = p N / (1 - p) anomalies for N normal images and rate p, drawn without
    replacement.

    Args:
        normal: number of normal images.
        anomalous: number of anomalies to draw from.
        rate: p, from 0 to below 1.
        seed: of the draw.

    Returns:
        Positions from 0 to ``anomalous`` - 1, int64 [n].

    Raises:
        ValueError: a rate out of range, or too few anomalies for it.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"a contamination rate of {rate} is not from 0 to below 1")
    count = round(rate * normal / (1 - rate))
    if count > anomalous:
        raise ValueError(f"a rate of {rate} needs {count} anomalies, there are {anomalous}")
    return np.random.default_rng(seed).permutation(anomalous)[:count]


def inject_anomalies(
    normal: Array, anomalous: Array, rate: float, seed: int
) -> tuple[Array, Contamination]:
    """Append drawn anomalies to normal images.

    Args:
        normal: normal images, [N, ...].
        anomalous: anomalies to draw from, [M, ...].
        rate: share of anomalies in the result, from 0 to below 1.
        seed: of the draw.

    Returns:
        The images [N + n, ...], and what was injected.

    Raises:
        ValueError: as for :func:`draw`.
    """
    drawn = draw(len(normal), len(anomalous), rate, seed)
    images = np.concatenate([normal, anomalous[drawn]])
    return images, Contamination(rate, seed, list(range(len(normal), len(images))))


def contaminate_set(
    packed: PackedSet,
    out: Path,
    rate: float,
    seed: int,
    normal: Collection[str] = (),
    protocol: str | None = None,
) -> PackedSet:
    """Build a data set whose training split holds normal images and a known share of anomalies.

    Anomalies are drawn from the training split. If it has too few and no protocol fixes the test
    images, they are also drawn from the test split. Injected images, and images that equal a training
    image, are removed from the test split.

    Args:
        packed: a data set with labels.
        out: folder of the new data set.
        rate: share of anomalies in the new training split, from 0 to below 1.
        seed: of the draw.
        normal: labels of normal images; empty: :data:`NORMAL_WORDS`.
        protocol: a key of :data:`PROTOCOLS`.

    Raises:
        UserError: images without labels, no normal images, too few anomalies, an unknown protocol.
    """
    chosen = _protocol(protocol)
    words = _normal_words(chosen, normal)
    table = packed.manifest(["split", "index", "label", "hash", "name"])
    split = np.array(table["split"].to_pylist(), object)
    used = table["index"].is_valid().to_numpy()
    anomaly = _anomalies(packed, table, used, words, chosen)
    hashes = table["hash"].fill_null(0).to_numpy()

    def rows(name: str, anomalous: bool) -> Array:
        return np.flatnonzero(used & (split == name) & (anomaly == anomalous))

    normals, pool = rows("train", False), rows("train", True)
    if not len(normals):
        raise UserError(
            f"{packed.path}: no training image is labeled {' or '.join(sorted(words))}; give --normal"
        )
    needed = round(rate * len(normals) / (1 - rate)) if 0 <= rate < 1 else 0
    if len(pool) < needed and chosen is None:
        pool = np.concatenate([pool, rows("test", True)])
    try:
        injected = pool[draw(len(normals), len(pool), rate, seed)]
    except ValueError as error:
        raise UserError(f"{packed.path}: {error}") from error
    training = np.concatenate([normals, injected])
    test = np.flatnonzero(used & (split == "test") & ~np.isin(hashes, hashes[training]))
    test = np.setdiff1d(test, injected)
    if chosen is not None:
        test = _balanced(test, anomaly, chosen)
    contamination = {
        "rate": rate,
        "seed": seed,
        "protocol": protocol,
        "normal": sorted(words),
        "indices": list(range(len(normals), len(training))),
        "of": {"path": str(packed.path), "id": packed.id},
    }
    mark = np.isin(np.arange(len(anomaly)), injected)
    parts = [
        Part([_PackedRows(packed, training, anomaly, mark)], "train"),
        Part([_PackedRows(packed, test, anomaly, mark)], "test"),
    ]
    return build_set(parts, out, packed.preprocess, {"contamination": contamination}, leaks="keep")


class _PackedRows(ImageSource):
    """Images of a packed data set, by their rows in its manifest.

    Args:
        packed: the data set.
        rows: rows of the images, int64 [n].
        anomaly: whether each row of the manifest is anomalous, bool [N].
        injected: whether each row of the manifest is injected, bool [N].
    """

    def __init__(self, packed: PackedSet, rows: Array, anomaly: Array, injected: Array) -> None:
        self.packed: PackedSet = packed
        self.rows, self.anomaly, self.injected = rows, anomaly, injected

    def count(self) -> int:
        return len(self.rows)

    def files(self) -> Iterable[Path]:
        return [self.packed.path / DESCRIPTION]

    def shapes(self, most: int) -> Iterator[Shape]:
        p = self.packed.preprocess
        return repeat((p.resolution, p.resolution, p.channels), min(most, len(self.rows)))

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        columns = ["name", "source", "frame", "top", "left", "label", "mask", "split", "index"]
        table = self.packed.manifest(columns)
        images = {split: self.packed.images(split) for split in self.packed.counts}
        for begin in range(start, len(self.rows), 1024):
            numbers = self.rows[begin : begin + 1024]
            for number, row in zip(numbers, table.take(numbers).to_pylist(), strict=True):
                origin = Provenance(
                    row["source"],
                    row["frame"],
                    None if row["top"] is None else (row["top"], row["left"]),
                    label=row["label"],
                    mask=row["mask"],
                    anomaly=bool(self.anomaly[number]),
                    injected=bool(self.injected[number]),
                )
                image = images[row["split"]][row["index"]]
                yield Record(row["name"], np.moveaxis(image, 0, -1), origin)


def _protocol(name: str | None) -> Protocol | None:
    if name is None:
        return None
    if name not in PROTOCOLS:
        raise UserError(f"there is no protocol '{name}'; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _normal_words(protocol: Protocol | None, given: Collection[str]) -> frozenset[str]:
    if protocol is None:
        return frozenset(given) or NORMAL_WORDS
    if protocol.normal is not None:
        if given:
            raise UserError("this protocol fixes the normal classes; omit --normal")
        return frozenset(protocol.normal)
    words = frozenset(_class(word, protocol) for word in given)
    if len(words) != 1 or not words <= set(protocol.classes):
        raise UserError(
            f"this protocol needs one normal class; give --normal with one of "
            f"{', '.join(protocol.classes)}"
        )
    return words


def _class(label: str, protocol: Protocol | None) -> str:
    """Return the name of a class, where a label may be its number."""
    if protocol is None or label in protocol.classes or not label.isdecimal():
        return label
    return protocol.classes[int(label)] if int(label) < len(protocol.classes) else label


def _anomalies(
    packed: PackedSet,
    table: Any,
    used: Array,
    normal: Collection[str],
    protocol: Protocol | None,
) -> Array:
    """Whether each row of the manifest is anomalous, bool [N]."""
    labels: Sequence[str | None] = table["label"].to_pylist()
    for row in np.flatnonzero(used):
        if labels[int(row)] is None:
            raise UserError(
                f"{packed.path}: {table['name'][int(row)]} has no label; prepare the data set "
                "with --labels FILE"
            )
    found = {label: _class(label, protocol) for label in set(labels) if label is not None}
    if protocol is not None and not set(found.values()) <= set(protocol.classes):
        strange = sorted(set(found.values()) - set(protocol.classes))
        raise UserError(
            f"{packed.path}: '{strange[0]}' is no class of this protocol; choose another protocol"
        )
    words = set(words_of(normal))
    return np.array([label is not None and found[label].lower() not in words for label in labels])


def _balanced(test: Array, anomaly: Array, protocol: Protocol) -> Array:
    """Draw equally many normal and anomalous test images; the order stays."""
    kinds = [test[anomaly[test] == anomalous] for anomalous in (False, True)]
    each = min(len(kind) for kind in kinds)
    each = min(each, protocol.test_each or each)
    rng = np.random.default_rng(0)
    return np.sort(np.concatenate([kind[rng.permutation(len(kind))[:each]] for kind in kinds]))
