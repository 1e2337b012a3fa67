"""Ground-truth labels of images, for evaluation only."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anowild.arrays import Array
from anowild.data.contamination import NORMAL_WORDS
from anowild.data.image_stream import Batch
from anowild.data.label_file import LabelFile, words_of
from anowild.data.readers import Provenance
from anowild.errors import UserError
from anowild.files import printable
from anowild.scoring import Scores

log = logging.getLogger("anowild")

ANOMALY_WORDS = frozenset({"1", "anomaly", "anomalous", "abnormal", "odd", "bad", "defect", "true"})

#: Label of an image without one, where not all need one.
UNKNOWN = -1
#: With fewer normal images or anomalies than this a warning says that figures say little.
FEW = 50
#: Labels that match no image are named up to this number.
NAMED = 3
#: Words that stand for no label.
NO_LABEL = ("", "-1", "nan", "na", "n/a", "none", "null")


class Labels:
    """Ground-truth labels of images: 1 for an anomaly, 0 for a normal image, -1 for unknown.

    Args:
        source: a file as for :class:`LabelFile`; ``folders``, which takes the name of the folder
            that an image lies in; or ``source``, which takes the class that the images' source
            itself knows (packed data sets, the MVTec layout, CIFAR, MNIST, ...).
        normal: label or labels that are normal; all others are anomalous then. Unless given: normal,
            good, ok and 0, and in a file the others have to be words for anomalies.
        partial: images that a file does not name, or with an empty label or -1 there, and images
            whose source tells no class, are unknown.

    Raises:
        UserError: the source cannot be read as labels.
    """

    def __init__(
        self, source: str | Path, normal: str | Sequence[str] = (), partial: bool = False
    ) -> None:
        self.source = source = os.fspath(source)
        self.partial = partial
        self.normal = frozenset(words_of(normal))
        self._file: LabelFile | None = None
        if partial and source == "folders":
            raise UserError("every image lies in a folder: with 'folders' none is without a label")
        if source in ("folders", "source"):
            return
        if not Path(source.rpartition(":")[0] or source).exists() and not Path(source).exists():
            raise UserError(
                f"{source}: there is no such file of labels (or give 'folders' or 'source')"
            )
        self._file = LabelFile(source)
        for word, line in (self._file.by_path or {}).values():
            self._value(word, f"{source}, line {line}")
        for word in self._file.by_position or ():
            self._value(word, source)

    def of(
        self,
        names: Sequence[str],
        positions: Sequence[int],
        known: Sequence[Provenance] = (),
    ) -> Array:
        """Return labels, int64 [N], of images by name and by position in the source.

        Args:
            known: where the images are from, one for each name. What a protocol says of a
                class holds unless ``normal`` was given.

        Raises:
            UserError: an image has no label.
        """
        if self.source == "folders":
            words = [Path(name).parent.name for name in names]
            return np.array([not self._is_normal(word) for word in words], np.int64)
        if self.source == "source":
            return np.array(list(map(self._known, names, known)), np.int64)
        assert self._file is not None
        find = self._file.if_any if self.partial else self._file.of
        given = [find(n, p) for n, p in zip(names, positions, strict=True)]
        return np.array([self._value(word or "", self.source) for word in given], np.int64)

    def begin(self, images: int | None) -> None:
        """Begin a pass over the images; to be called before each. ``images`` is None where it is not known.

        Raises:
            UserError: the labels are a list of another length.
        """
        if self._file is not None:
            self._file.begin(images)

    def end(self, parts: Sequence[Array], left_out: int) -> Array:
        """Join the labels of the batches of a pass: int64 [N].

        Args:
            left_out: images of the source that could not be read.

        Raises:
            UserError: the labels are a list of another length than the images; or no image has one.
        """
        truth = np.concatenate(parts)
        if self._file is not None:
            self._file.check_count(len(truth) + left_out)
        if (truth == UNKNOWN).all():
            raise UserError(f"{self.source}: has no label for any of the {len(truth)} images")
        self._warn_of_unmatched()
        if fewest(truth) < FEW:
            log.warning(
                "%s: %d normal images and %d anomalies are few: figures say little, and the intervals of average "
                "precision and F1 are too narrow", self.source, *counts(truth),
            )  # fmt: skip
        return truth

    def _warn_of_unmatched(self) -> None:
        """Say which labels of a file match no image, where images need none: a path may be misspelled."""
        if self._file is None or not self.partial:
            return
        labeled = self._file.by_path or {}
        left = [p for p in self._file.unmatched() if labeled[p][0].lower() not in NO_LABEL]
        if left:
            shown = ", ".join(map(printable, left[:NAMED])) + (", ..." if len(left) > NAMED else "")
            log.warning(
                "%s: labels of %d images match none that was read: %s; look whether their paths are right",
                self.source, len(left), shown,
            )  # fmt: skip

    def _known(self, name: str, origin: Provenance) -> int:
        if origin.anomaly is not None and not self.normal:
            return origin.anomaly
        if origin.label is None and self.partial:
            return UNKNOWN
        if origin.label is None:
            raise UserError(f"{name}: its source tells no class; give a file of labels")
        return not self._is_normal(origin.label)

    def _is_normal(self, word: str) -> bool:
        return word.lower() in (self.normal or NORMAL_WORDS)

    def _value(self, word: str, where: str) -> int:
        if word.lower() in NO_LABEL:
            if self.partial:
                return UNKNOWN
            raise UserError(
                f"{where}: an image has no label ('{word}'); give one, or --partial, which leaves such images out"
            )
        if not self.normal and word.lower() not in NORMAL_WORDS | ANOMALY_WORDS:
            raise UserError(
                f"{where}: the label is '{word}'; it has to be 0 (normal) or 1 (anomaly), "
                "or --normal has to say which are normal"
            )
        return not self._is_normal(word)


class LabelCollector:
    """A sink of the scoring pass that collects the labels of its images.

    Args:
        labels: where they come from.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.truth: Array = np.empty(0, np.int64)  # [N] after the pass
        self._parts: list[Array] = []

    def begin(self, count: int | None) -> None:
        """Check, before anything is scored, that there can be as many labels as images."""
        self.labels.begin(count)

    def take(self, batch: Batch, scores: Scores) -> None:
        """Look the labels of a batch up."""
        found = self.labels.of(batch.names, batch.positions, known=batch.origins)
        self._parts.append(found)

    def end(self, left_out: int) -> None:
        """Join and check the labels of the pass."""
        self.truth = self.labels.end(self._parts, left_out)


def counts(truth: Array) -> tuple[int, int]:
    """Count the images that are labeled normal, and anomalous."""
    return int((truth == 0).sum()), int((truth == 1).sum())


def fewest(truth: Array) -> int:
    """Count the images with the rarer label."""
    return min(counts(truth))
