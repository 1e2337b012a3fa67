"""The files of a model by name, and the little of ``model.json`` that is known without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anowild.checked import Count, checked
from anowild.data import Preprocess
from anowild.errors import LaterVersion, UserError
from anowild.files import read_json
from anowild.settings import RESOLUTIONS

#: 4 had the GAN alone; 5 added the surprises of all cues; 6 joined views by the largest surprise of each.
FORMAT = 7
FORMATS = (4, 5, 6, FORMAT)
DESCRIPTION, WEIGHTS = "model.json", "model.safetensors"
#: What to do about a model that is not whole.
MEND = "copy the folder again, or train again"


@dataclass(frozen=True)
class Brief:
    """What a model is, in brief."""

    weights_id: str  # checksum of the weights
    images: int | None  # how many it was trained on; None: not known
    preprocess: Preprocess


def read_brief(folder: Path) -> Brief:
    """Read in brief what the model in ``folder`` is.

    Raises:
        LaterVersion: it is of a format that is not known yet.
        UserError: there is no model in the folder, or its description is damaged.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(f"{folder}: there is no trained model; give the folder of one")
    value = read_raw(path)
    try:
        images = value["training"].get("images")
        return Brief(
            checked(str, value["weights_id"], "weights_id"),
            None if images is None else checked(Count, images, "training.images"),
            preprocess_of(value),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise damaged(path, error) from error


def read_raw(path: Path) -> dict[str, Any]:
    """Read ``model.json``, of which only the format is checked.

    Raises:
        LaterVersion: it is of a format that is not known yet.
        UserError: it cannot be read, or is of another format.
    """
    value = read_json(path)
    number = value.get("format") if isinstance(value, dict) else None
    if type(number) is int and number > FORMAT:
        raise LaterVersion(f"{path}: was written by a later version of AnoWild; update anowild")
    if type(number) is not int or number not in FORMATS:
        raise UserError(f"{path}: is not of format 4 to {FORMAT}, which this version reads; {MEND}")
    return dict(value)


def preprocess_of(value: dict[str, Any]) -> Preprocess:
    """Return how a model's images are preprocessed.

    Raises:
        KeyError, ValueError: it is missing or impossible; see :func:`damaged`.
    """
    preprocess: Preprocess = checked(Preprocess, value["preprocess"], "preprocess")
    if preprocess.resolution not in RESOLUTIONS:
        raise ValueError(
            f"preprocess.resolution is {preprocess.resolution}: it must be one of "
            f"{', '.join(map(str, RESOLUTIONS))}"
        )
    return preprocess


def damaged(path: Path, error: Exception) -> UserError:
    """Return the error for a description of which a field is missing or wrong."""
    what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
    return UserError(f"{path}: is damaged ({what}); {MEND}")
