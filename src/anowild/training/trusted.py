"""Which training images networks are trained on: all but those that other views find oddest.

In the wild, training images hold some of the anomalies, and what a network is trained on it finds usual. The views
that train no network rank the images first, each image by what was fitted without it; R, and G and D, are
trained on the others. No rate has to be known: the share is the same for all sets, more than there are anomalies in
most. The choice lies beside the states of the trainings, which go on with what they began with. Where no training
has saved a state yet, as in a run that was killed early, what other views choose replaces it.
"""

from __future__ import annotations

import logging
from contextlib import suppress
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

log = logging.getLogger("anowild")

#: The file in the folder of a training.
FILE = "trusted.safetensors"
#: States of trainings in that folder: of the GAN, and of networks that have folders of their own.
STATES = ("state*.safetensors", "*/*/state*.safetensors")
#: Metadata: what the choice was made by.
JUDGED = "judged"


def trusted_of(score: Array, left_out: float) -> Array:
    """Return which images to train on: bool [N], False for the oddest.

    Args:
        score: of the training images, [N], higher for odder.
        left_out: share of the images, from 0 to 0.5.
    """
    trusted = np.ones(len(score), bool)
    trusted[oddest_first(score)[: int(left_out * len(score))]] = False
    return trusted


def save(
    folder: Path, images: ImageSet, settings: Settings, trusted: Array, judged: str = ""
) -> None:
    """Write which images the trainings in ``folder`` are trained on.

    An earlier choice for the same images and settings stays if it was made by the same scores, or if a training has begun
    with it.

    Args:
        trusted: which images, bool [N].
        judged: identifies the scores that the choice was made by.
    """
    path = folder / FILE
    with suppress(UserError):  # it is written anew
        kept, by = _read(folder, images, settings)
        begun = any(next(folder.glob(pattern), None) for pattern in STATES)
        if kept is not None and (begun or by == judged):
            if not np.array_equal(kept, trusted):
                log.warning(
                    "%s: other images would be left out now, but the training goes on with those that it began with; "
                    "delete %s to start again", path, folder,
                )  # fmt: skip
            return
    origin = {**_origin(images, settings), JUDGED: judged}
    with atomic_write(path) as temporary:
        save_file({"trusted": torch.from_numpy(trusted)}, temporary, metadata=origin)


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
    return _read(folder, images, settings)[0]


def _read(folder: Path, images: ImageSet, settings: Settings) -> tuple[Array | None, str]:
    """Return what :func:`load` does, and what the choice was made by."""
    path = folder / FILE
    if not settings.left_out or not path.exists():
        return None, ""
    try:
        metadata, tensors = read_tensors(path, "pt")
        check_tensors(tensors, {"trusted": ((len(images),), torch.bool)})
        judged = metadata.pop(JUDGED, "")
        if metadata != _origin(images, settings):
            raise ValueError("it is of other images, or leaves out another share")
        trusted: Array = tensors["trusted"].numpy()
        if not trusted.any():
            raise ValueError("it leaves out all images")
    except ValueError as error:
        raise UserError(
            f"{path}: cannot be used ({error}); delete {folder} to start again"
        ) from error
    return trusted, judged


def _origin(images: ImageSet, settings: Settings) -> dict[str, str]:
    """Return what a choice is of; a run that is killed before its settings are saved may go on with others."""
    return {"images": images.digest, "left_out": str(settings.left_out)}
