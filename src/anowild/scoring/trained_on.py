"""The images that a model was trained on, as hashes: enough to know one again."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from anowild.arrays import Array
from anowild.files import atomic_write, read_tensors

log = logging.getLogger("anowild")

TRAINED_ON = "trained_on.safetensors"


@dataclass(frozen=True)
class TrainedOn:
    """Hashes of preprocessed training images, uint64 [N], sorted: 8 bytes an image."""

    hashes: Array

    @staticmethod
    def of(images: Array) -> TrainedOn:
        """Hash preprocessed images, uint8 or uint16 [N, C, R, R]."""
        return TrainedOn(np.unique(_hashes(images)))

    def contains(self, images: Array) -> Array:
        """Return which images have the same pixels as a training image, after preprocessing: bool [n]."""
        return np.isin(_hashes(images), self.hashes)

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


def _hashes(images: Array) -> Array:
    digests = [
        hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest()
        for image in images
    ]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
