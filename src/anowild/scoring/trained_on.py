"""The images that a model was trained on, as hashes: enough to know one again."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from anowild.arrays import Array
from anowild.data.dataset.quality import content_hashes
from anowild.data.image_stream import Batch
from anowild.files import atomic_write, read_tensors
from anowild.scoring.scores import Scores

log = logging.getLogger("anowild")

TRAINED_ON = "trained_on.safetensors"


@dataclass(frozen=True)
class TrainedOn:
    """Hashes of preprocessed training images, uint64 [N], sorted: 8 bytes an image."""

    hashes: Array

    @staticmethod
    def of(images: Array) -> TrainedOn:
        """Hash preprocessed images, uint8 or uint16 [N, C, R, R]."""
        return TrainedOn(np.unique(content_hashes(images)))

    def contains(self, images: Array) -> Array:
        """Return which images have the same pixels as a training image, after preprocessing: bool [n]."""
        hashes = content_hashes(images)
        if not len(self.hashes):
            return np.zeros(len(hashes), bool)
        places = np.searchsorted(self.hashes, hashes)
        return np.asarray(self.hashes.take(places, mode="clip") == hashes)

    def save(self, folder: Path, checksum: str) -> None:
        """Write the hashes beside the weights that they belong to.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        with atomic_write(folder / TRAINED_ON) as temporary:
            save_file({"hashes": self.hashes}, temporary, metadata={"id": checksum})

    @staticmethod
    def load(folder: Path, checksum: str) -> TrainedOn | None:
        """Load the hashes of a model; None if it has none, as models of earlier versions.

        Logs a warning if the file is damaged or belongs to another model: scores do not depend on it.
        """
        path = folder / TRAINED_ON
        if not path.exists():
            return None
        try:
            metadata, tensors = read_tensors(path, "np")
            if metadata.get("id") != checksum:
                raise ValueError("it is of another model")
            hashes = tensors["hashes"]
            if hashes.dtype != np.uint64 or hashes.ndim != 1:
                raise ValueError("it does not hold hashes")
        except (KeyError, ValueError) as error:
            log.warning("%s: cannot be used (%s); training images are not known again", path, error)
            return None
        return TrainedOn(hashes)


class TrainingImages:
    """A sink of the scoring pass that counts training images, and says how many there were."""

    def __init__(self, trained_on: TrainedOn | None) -> None:
        self.trained_on = trained_on
        self.count, self.found = 0, 0
        self.first = ""  # name of the first that was found

    def begin(self, count: int | None) -> None:
        """Do nothing; see `Sink`."""

    def take(self, batch: Batch, scores: Scores) -> None:
        """Look for training images in a batch."""
        self.count += len(batch.names)
        if self.trained_on is not None:
            known = self.trained_on.contains(batch.images)
            # Of tiles all have to be known: plain ones may equal those of any image.
            whole = np.bincount(batch.owners, known) == np.bincount(batch.owners)
            places = np.flatnonzero(whole)
            if len(places) and not self.found:
                self.first = batch.names[int(places[0])]
            self.found += len(places)

    def end(self, left_out: int) -> None:
        """Log a warning if there were any."""
        if self.found:
            log.warning(
                "%d of these %d images are training images, which a model finds less odd than others like "
                "them; suspects.csv beside the model ranks them by what was fitted without them",
                self.found, self.count,
            )  # fmt: skip
