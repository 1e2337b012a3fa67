"""A training from sources to the files of a model."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from anowild.checked import checked
from anowild.data import ImageSet
from anowild.data.sources import Source
from anowild.device import configure_process, select_device
from anowild.errors import UserError
from anowild.files import atomic_write, is_file, read_tensors
from anowild.scoring import Scores
from anowild.settings import Settings
from anowild.tracking import TrackerChoice, following
from anowild.training.distributed import ALONE, World
from anowild.training.fitting import (
    FittedDetector,
    check_shares,
    check_views,
    fit_detector,
    follow,
)
from anowild.training.run_folder import training_lock
from anowild.training.suspects import write_suspects
from anowild.version import VERSION

log = logging.getLogger("anowild")

#: Fewer training images than this get a warning.
FEW_IMAGES = 200
#: What the model says of the images that it was trained on.
TRAINING_SCORES, SUSPECTS = "training_scores.safetensors", "suspects.csv"


def train(
    sources: Source | Sequence[Source],
    out: Path,
    settings: Settings,
    device: str = "auto",
    threads: int | None = None,
    track: TrackerChoice | None = None,
    world: World = ALONE,
) -> FittedDetector:
    """Train a detector and write its files, with the scores of its training images; see `anowild.train`.

    ``world`` has the processes that train together. This is the first of them; the others :func:`take_part`.
    """
    images, torch_device = _begin(sources, settings, device, threads, world)
    p = images.preprocess
    what = "tiles" if p.tiles else "images"
    log.info(
        "training on %d %s of %dx%d, %d channel(s); %d left out",
        len(images), what, p.resolution, p.resolution, p.channels, len(images.left_out),
    )  # fmt: skip
    if len(images) < FEW_IMAGES:
        log.warning("only %d %s: little can be learned from them", len(images), what)
    folder = out / "training"
    _check_images_before(out, images.digest)
    # Before anything in the folder changes; the networks' own locks are held by the processes that train them.
    owned = training_lock(folder / "views")
    with owned, following(track, folder, out.absolute().name, settings.to_json()) as follower:
        fitted = fit_detector(images, settings, folder, torch_device, world)
        if follower is not None:
            follower.results = fitted.detector.training_info["views"]
        fitted.detector.save(out)
        fitted.detector.folder = out
        write_suspects(out / SUSPECTS, images, fitted)
        _save_training_scores(out, fitted, images.digest)
    return fitted


def take_part(
    sources: Source | Sequence[Source],
    settings: Settings,
    device: str,
    threads: int | None,
    world: World,
) -> None:
    """Train networks together with the first process, which is in :func:`train` with the same arguments."""
    images, torch_device = _begin(sources, settings, device, threads, world)
    follow(images, settings, torch_device, world)


def _begin(
    sources: Source | Sequence[Source],
    settings: Settings,
    device: str,
    threads: int | None,
    world: World,
) -> tuple[ImageSet, torch.device]:
    """Set up the process, and read the images."""
    check_views(settings)
    torch_device = select_device(world.device(device))
    configure_process(threads)
    images = ImageSet.load(sources, settings)
    if world.size > 1:
        check_shares(images, settings, world.size)
        world.agree(
            settings=json.dumps(settings.to_json()), images=images.digest,
            versions=f"{VERSION} {torch.__version__}", devices=torch_device.type,
        )  # fmt: skip
    return images, torch_device


def _check_images_before(out: Path, digest: str) -> None:
    """Check that a folder does not have a model of other images, which a new one would replace.

    Raises:
        UserError: it has.
    """
    path = out / TRAINING_SCORES
    if not is_file(path):
        return
    try:
        metadata, _ = read_tensors(path, "np")
        before = checked(_ScoresFacts, json.loads(metadata["anowild"]), "the file").images
    except (KeyError, ValueError, RecursionError, UserError):
        return  # it is damaged, and will be replaced
    if before != digest:
        raise UserError(
            f"{out}: holds a model of other images, or of these in another form, as packed or not; give what "
            f"was given before, or another output, or delete {out}"
        )


def _save_training_scores(out: Path, fitted: FittedDetector, digest: str) -> None:
    arrays = fitted.training.to_arrays()
    tensors = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    facts = {"model": fitted.detector.identity, "images": digest, "order": [*tensors]}
    with atomic_write(out / TRAINING_SCORES) as temporary:
        save_file(tensors, temporary, metadata={"anowild": json.dumps(facts)})


@dataclass(frozen=True)
class _ScoresFacts:
    """Metadata of the scores of the training images."""

    model: str  # identity
    images: str  # digest
    order: tuple[str, ...]  # of the columns


def load_training_scores(folder: Path, model: str, digest: str) -> Scores:
    """Read the scores of the training images of a model, measured by what was fitted without them.

    Args:
        folder: of the model.
        model: its :attr:`Detector.identity`.
        digest: of the training images.

    Raises:
        UserError: the file is missing or damaged, or belongs to another model or other images.
    """
    path = folder / TRAINING_SCORES
    try:
        metadata, read = read_tensors(path, "np")
        facts = checked(_ScoresFacts, json.loads(metadata["anowild"]), "the file")
        if (facts.model, facts.images) != (model, digest):
            raise ValueError("it is of another model, or of other images")
        return Scores.from_arrays({key: read[key] for key in facts.order})
    except (KeyError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be used ({error}); delete {folder} and train again"
        ) from error
