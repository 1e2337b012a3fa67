"""Which training images networks are trained on: all but those that other views find oddest.

In the wild, training images hold some of the anomalies, and what a network is trained on it finds usual. The views
that train no network rank the images first, each image by what was fitted without it; R, and G and D, are
trained on the others. No rate has to be known: the share is the same for all sets, more than there are anomalies in
most. The choice lies beside the states of the trainings, which go on with what they began with.
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
from anowild.settings import Settings
from anowild.training.distributed import ALONE, World
from anowild.views.loading import check_tensors

#: The file in the folder of a training.
FILE = "trusted.safetensors"


def trusted_of(score: Array, left_out: float) -> Array:
    """Return which images to train on: bool [N], False for the oddest.

    Args:
        score: of the training images, [N], higher for odder.
        left_out: share of the images, from 0 to 0.5.
    """
    trusted = np.ones(len(score), bool)
    trusted[oddest_first(score)[: int(left_out * len(score))]] = False
    return trusted


def save(folder: Path, images: ImageSet, settings: Settings, trusted: Array) -> None:
    """Write which images the trainings in ``folder`` are trained on, unless that is known."""
    try:
        if load(folder, images, settings) is not None:
            return
    except UserError:
        pass  # it is written anew
    with atomic_write(folder / FILE) as temporary:
        save_file(
            {"trusted": torch.from_numpy(trusted)}, temporary, metadata=_origin(images, settings)
        )


def for_training(folder: Path, images: ImageSet, settings: Settings, world: World = ALONE) -> Array:
    """Return which images to train on, bool [N]; of several processes the first one alone reads ``folder``."""

    def make() -> Array:
        found = load(folder, images, settings)
        return np.ones(len(images), bool) if found is None else found

    return world.broadcast_array(make)


def load(folder: Path, images: ImageSet, settings: Settings) -> Array | None:
    """Read which images to train on: bool [N]; None where none are left out, or that is not chosen yet.

    Raises:
        UserError: the file is damaged, or of other images, or another share is left out.
    """
    path = folder / FILE
    if not settings.left_out or not path.exists():
        return None
    try:
        metadata, tensors = read_tensors(path, "pt")
        check_tensors(tensors, {"trusted": ((len(images),), torch.bool)})
        if metadata != _origin(images, settings):
            raise ValueError("it is of other images, or leaves out another share")
        trusted: Array = tensors["trusted"].numpy()
        if not trusted.any():
            raise ValueError("it leaves out all images")
    except ValueError as error:
        raise UserError(
            f"{path}: cannot be used ({error}); delete {folder} to start again"
        ) from error
    return trusted


def _origin(images: ImageSet, settings: Settings) -> dict[str, str]:
    """Return what a choice is of; a run that is killed before its settings are saved may go on with others."""
    return {"images": images.digest, "left_out": str(settings.left_out)}
