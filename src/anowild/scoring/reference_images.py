"""Ordinary training images that a model keeps, to be shown beside odd ones."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from anowild.arrays import Array
from anowild.files import atomic_write, read_tensors

log = logging.getLogger("anowild")

REFERENCE_IMAGES = "examples.safetensors"
#: Bytes of images, at most; and the fewest images all the same.
MOST_BYTES, FEWEST = 8_000_000, 16


@dataclass(frozen=True)
class ReferenceImages:
    """Preprocessed images, uint8 or uint16 [M, C, R, R]; M may be 0."""

    images: Array

    @staticmethod
    def choose(images: Array, score: Array, count: int, seed: int) -> ReferenceImages:
        """Draw at most ``count`` of the images whose score is at most the median.

        Args:
            images: preprocessed training images, [N, C, R, R].
            score: [N], higher is odder.
        """
        ordinary = np.flatnonzero(score <= np.median(score))
        count = min(count, max(FEWEST, MOST_BYTES // images[0].nbytes))
        drawn = np.random.default_rng(seed).permutation(ordinary)[:count]
        return ReferenceImages(np.ascontiguousarray(images[np.sort(drawn)]))

    def save(self, folder: Path, checksum: str) -> None:
        """Write the images beside the weights that they belong to.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        with atomic_write(folder / REFERENCE_IMAGES) as temporary:
            save_file({"images": self.images}, temporary, metadata={"id": checksum})

    @staticmethod
    def load(folder: Path, checksum: str, shape: tuple[int, ...], dtype: Any) -> ReferenceImages:
        """Load the images of a model.

        Returns no image, and logs a warning, if the file is damaged or belongs to another model: scores
        do not depend on it.

        Args:
            shape: of an image.
        """
        path, none = folder / REFERENCE_IMAGES, ReferenceImages(np.empty((0, *shape), dtype))
        if not path.exists():
            return none
        try:
            metadata, tensors = read_tensors(path, "np")
            if metadata.get("id") != checksum:
                raise ValueError("it is of another model")
            images = tensors["images"]
            if images.shape[1:] != shape or images.dtype != dtype:
                raise ValueError("it does not fit the model")
        except (KeyError, ValueError) as error:
            log.warning("%s: cannot be used (%s); no ordinary images are shown", path, error)
            return none
        return ReferenceImages(images)
