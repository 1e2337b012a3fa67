"""The files of a model: ``model.json`` describes views and calibration, ``model.safetensors`` has the weights.

A model stores the names of its own views and cues. One that lacks a cue of this version is scored
without it; one with a cue that this version does not know is scored without that cue, with a warning.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from anowild.data import Preprocess
from anowild.device import select_device
from anowild.errors import UserError
from anowild.files import atomic_write, read_tensors, write_json
from anowild.scoring.calibration import Calibration
from anowild.scoring.description import Description, StoredView
from anowild.scoring.model_file import DESCRIPTION, FORMAT, MEND, WEIGHTS
from anowild.scoring.reference_images import ReferenceImages
from anowild.scoring.trained_on import TrainedOn
from anowild.version import VERSION
from anowild.views import View, view_class, view_names
from anowild.views.base import Precision

if TYPE_CHECKING:
    from anowild.scoring.detector import Detector

log = logging.getLogger("anowild")

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
#: Types that weights have.
TYPES = (torch.float32, torch.float64, torch.int64, torch.uint8)


def save(detector: Detector, folder: Path) -> None:
    """Write the files of a detector; see :meth:`Detector.save`."""
    tensors = _tensors(detector.views)
    checksum = _digest(tensors)
    detector.reference_images.save(folder, checksum)
    if detector.trained_on is not None:
        detector.trained_on.save(folder, checksum)
    with atomic_write(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"id": checksum})
    write_json(
        folder / DESCRIPTION,
        {
            "format": FORMAT,
            "anowild": VERSION,
            "weights_id": checksum,
            "views": [
                {
                    "name": view.name,
                    "cues": [cue.name for cue in view.cues],
                    "facts": view.facts(),
                }
                for view in detector.views
            ],
            "preprocess": detector.preprocess.to_json(),
            "calibration": detector.calibration.to_json(),
            "training": detector.training_info,
        },
    )


def load(folder: Path, device: torch.device | str, precision: Precision) -> Detector:
    """Read the files of a detector; see :meth:`Detector.load`."""
    from anowild.scoring.detector import Detector

    if precision not in PRECISIONS:
        raise UserError(f"precision '{precision}': has to be {' or '.join(PRECISIONS)}")
    _check_files(folder)
    path = folder / DESCRIPTION
    described = Description.read(path)
    device = select_device(str(device))
    tensors = _read_tensors(folder / WEIGHTS, described.weights_id)
    if described.format == 4:
        tensors = {f"gan/{key}": tensor for key, tensor in tensors.items()}
    views = [
        _load_view(stored, tensors, described.preprocess, path, device, precision)
        for stored in described.views
        if stored.name in view_names()  # the cues of others are missed below
    ]
    _check_cues(views, described.calibration, path)
    preprocess, checksum = described.preprocess, described.weights_id
    shape = preprocess.channels, preprocess.resolution, preprocess.resolution
    images = ReferenceImages.load(folder, checksum, shape, preprocess.dtype)
    hashes = TrainedOn.load(folder, checksum)
    return Detector(
        views,
        preprocess,
        described.calibration,
        described.training,
        images,
        checksum,
        hashes,
        folder,
        precision,
    )


def checksum_of(views: Sequence[View]) -> str:
    """Return the checksum of all weights of some views."""
    return _digest(_tensors(views))


def _tensors(views: Sequence[View]) -> dict[str, Tensor]:
    return {f"{view.name}/{key}": value for view in views for key, value in view.tensors().items()}


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        if folder.is_file() and folder.suffix.lower() == ".onnx":
            raise UserError(
                f"{folder}: is an exported model, which `anowild score {folder.name} IMAGES` takes alone, with the "
                "model before all options"
            )
        raise UserError(
            f"{folder}: there is no such model folder; check the path, or train a model with `anowild train`"
        )
    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            begun = (folder / "training").is_dir() and not (folder / DESCRIPTION).is_file()
            mend = (
                "its training has not finished: give the same train command again"
                if begun
                else "it is not a whole model: copy the folder again, or train again"
            )
            raise UserError(f"{folder}: {name} is missing; {mend}")


def _read_tensors(path: Path, checksum: str) -> dict[str, Tensor]:
    """Read the weights, which have to be those that were saved, bit by bit."""
    try:
        metadata, tensors = read_tensors(path, "pt")
        if metadata.get("id") != checksum:
            raise UserError(
                f"{path}: belongs to another model than {DESCRIPTION} beside it; "
                "copy the folder again, or give the train command again"
            )
        for name, tensor in tensors.items():
            if tensor.dtype not in TYPES:
                raise ValueError(f"{name} is of type {tensor.dtype}")
        if _digest(tensors) != checksum:
            raise ValueError("its values are not those that were saved")
    except ValueError as error:
        raise UserError(f"{path}: is damaged ({error}); {MEND}") from error
    return tensors


def _load_view(
    stored: StoredView,
    tensors: Mapping[str, Tensor],
    preprocess: Preprocess,
    path: Path,
    device: torch.device,
    precision: Precision,
) -> View:
    prefix = f"{stored.name}/"
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    try:
        view = view_class(stored.name).load(stored.facts, own, stored.cues, device, precision)
        view.check_input(preprocess.channels, preprocess.resolution)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise UserError(
            f"{path}: is damaged, or does not fit {WEIGHTS} (view '{stored.name}': {reason}); {MEND}"
        ) from error
    return view


def _check_cues(views: Sequence[View], calibration: Calibration, path: Path) -> None:
    """Warn of cues that count but cannot be measured; raise UserError where none is left."""
    measured = {cue.name for view in views for cue in view.cues}
    counted = [cue for view in calibration.views.values() for cue in view.cues]
    unknown = [name for name in counted if name not in measured]
    if len(unknown) == len(counted):
        raise UserError(f"{path}: this version knows none of the model's cues; update anowild")
    if unknown:
        log.warning(
            "%s: this version does not know the model's %s; scores are made without it and too low, "
            "until anowild is updated",
            path, ", ".join(unknown),
        )  # fmt: skip


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name].numpy()).data)
    return digest.hexdigest()
