"""The files of a model: ``model.json`` describes views and calibration, ``model.safetensors`` has the weights.

A model stores the names of its own views and cues. One that lacks a cue of this version is scored
without it; one with a cue that this version does not know is scored without that cue, with a warning.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anowild.data import Preprocess
from anowild.device import select_device
from anowild.errors import UserError
from anowild.files import atomic_write, read_json, write_json
from anowild.scoring.calibration import Calibration
from anowild.scoring.reference_images import ReferenceImages
from anowild.scoring.trained_on import TrainedOn
from anowild.version import VERSION
from anowild.views import View, view_class, view_names
from anowild.views.base import Precision

if TYPE_CHECKING:
    from anowild.scoring.detector import Detector

log = logging.getLogger("anowild")

FORMAT = 6  # 4 had the GAN alone; 5 added the surprises of all cues
FORMATS = (4, 5, FORMAT)
DESCRIPTION, WEIGHTS = "model.json", "model.safetensors"
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


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
    value = read_json(path)
    known = isinstance(value, dict) and value.get("format") in FORMATS
    if not known:
        raise UserError(f"{path}: is not of format 4 to {FORMAT}, which this version reads")
    device = select_device(str(device))
    tensors = _read_tensors(folder / WEIGHTS, value.get("weights_id"))
    try:
        if value["format"] == 4:
            value, tensors = _from_format_4(value, tensors)
        if value["format"] <= 5:
            value = _from_format_5(value)
        views = [
            _load_view(stored, tensors, folder, device, precision)
            for stored in value["views"]
            if stored["name"] in view_names()  # the cues of others are missed below
        ]
        preprocess = Preprocess(**value["preprocess"])
        calibration = Calibration.from_json(value["calibration"])
        _check_cues(views, calibration, path)
        shape = preprocess.channels, preprocess.resolution, preprocess.resolution
        checksum = value["weights_id"]
        images = ReferenceImages.load(folder, checksum, shape, preprocess.dtype)
        hashes = TrainedOn.load(folder, checksum)
        return Detector(views, preprocess, calibration, value["training"], images, checksum, hashes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: is damaged ({error!r})") from error


def checksum_of(views: Sequence[View]) -> str:
    """Return the checksum of all weights of some views."""
    return _digest(_tensors(views))


def _tensors(views: Sequence[View]) -> dict[str, Tensor]:
    return {f"{view.name}/{key}": value for view in views for key, value in view.tensors().items()}


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such model folder")
    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            begun = (folder / "training").is_dir() and not (folder / DESCRIPTION).is_file()
            mend = (
                "its training has not finished: give the same train command again"
                if begun
                else "it is not a whole model: copy the folder again, or train again"
            )
            raise UserError(f"{folder}: {name} is missing; {mend}")


def _read_tensors(path: Path, checksum: str | None) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("id") != checksum:
                raise UserError(
                    f"{path}: belongs to another model than {DESCRIPTION} beside it; "
                    "copy the folder again, or give the train command again"
                )
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is damaged ({error})") from error


def _load_view(
    stored: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    folder: Path,
    device: torch.device,
    precision: Precision,
) -> View:
    prefix = f"{stored['name']}/"
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    view = view_class(stored["name"])
    try:
        return view.load(stored["facts"], own, stored["cues"], device, precision)
    except RuntimeError as error:
        raise UserError(
            f"{folder / WEIGHTS}: does not fit what {DESCRIPTION} says of the view '{view.name}'"
        ) from error


def _check_cues(views: Sequence[View], calibration: Calibration, path: Path) -> None:
    """Warn of cues that count but cannot be measured; raise UserError where none is left."""
    measured = {cue.name for view in views for cue in view.cues}
    unknown = [name for name in calibration.counted if name not in measured]
    if len(unknown) == len(calibration.counted):
        raise UserError(f"{path}: this version knows none of the model's cues; update anowild")
    if unknown:
        log.warning(
            "%s: this version does not know the model's %s; scores are made without it and too low, "
            "until anowild is updated",
            path, ", ".join(unknown),
        )  # fmt: skip


#: The cues that made the score of models of format 4.
_COUNTED_4 = ("relative_residual", "latent_distance", "hidden_distance", "contrast")


def _from_format_4(
    value: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Bring a model of format 4 into the form of format 5: one view, the GAN."""
    cues = value["calibration"]["cues"]
    calibration = {
        "cues": {name: {**cue, "counts": name in _COUNTED_4} for name, cue in cues.items()},
        "combined": value["calibration"]["combined"],
    }
    facts = {"networks": value["networks"], "lod": value["lod"]}
    view = {"name": "gan", "cues": list(cues), "facts": facts}
    training = value["training"]
    info = {name: training[name] for name in ("images", "settings") if name in training}
    info["views"] = {"gan": {k: v for k, v in training.items() if k not in info}}
    converted = {"views": [view], "calibration": calibration, "training": info}
    return {**value, **converted}, {f"gan/{key}": tensor for key, tensor in tensors.items()}


def _from_format_5(value: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a model of format 5 into the form of format 6: each counting cue is a view of its own."""
    calibration = value["calibration"]
    views = {
        name: {"cues": [name], "weight": 1.0, "training": None}
        for name, cue in calibration["cues"].items()
        if cue["counts"]
    }
    return {**value, "calibration": {**calibration, "views": views}}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
