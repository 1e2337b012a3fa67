"""How often each training image is drawn: the images that other views find odd, less often.

The views that are fitted first rank the training images, each image by what was fitted without it. The
oddest tenth gives way to the others by its rank, so no rate has to be known, and a clean set loses a
twentieth of its draws. The weights lie beside the state of the training that they are for: it goes on
with the weights that it began with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.errors import UserError
from anowild.files import atomic_write, read_tensors
from anowild.scoring.scores import oddest_first
from anowild.views.loading import check_tensors

#: The file in the folder of a training.
FILE = "draw_weights.safetensors"


def weights_of(score: Array, share: float) -> Array:
    """Return weights from 0 to 1, float64 [N]: 1 beyond the oddest ``share``, within it falling with the rank.

    Args:
        score: of the training images, [N], higher for odder.
        share: of the images, from 0 to 0.5; the weights add up to about N (1 - share / 2).
    """
    weights = np.ones(len(score))
    count = int(share * len(score))
    weights[oddest_first(score)[:count]] = np.arange(count) / max(count, 1)
    return weights


def save(folder: Path, images: ImageSet, weights: Array) -> None:
    """Write the weights of images for the training in ``folder``, unless it has some for these images."""
    try:
        load(folder, images)
    except UserError:
        with atomic_write(folder / FILE) as temporary:
            save_file(
                {"weights": torch.from_numpy(weights)},
                temporary,
                metadata={"images": images.digest},
            )


def load(folder: Path, images: ImageSet) -> Array:
    """Read the weights of images: float64 [N].

    Raises:
        UserError: there are none, or they are damaged or of other images.
    """
    path = folder / FILE
    try:
        metadata, tensors = read_tensors(path, "pt")
        check_tensors(tensors, {"weights": ((len(images),), torch.float64)})
        if metadata.get("images") != images.digest:
            raise ValueError("they are of other images")
        weights: Array = tensors["weights"].numpy()
        if not ((weights >= 0) & (weights <= 1)).all() or not weights.any():
            raise ValueError("they are not between 0 and 1")
    except ValueError as error:
        raise UserError(
            f"{path}: the weights of the training images cannot be used ({error}); delete {folder} to start again"
        ) from error
    return weights
