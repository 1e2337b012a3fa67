"""What ``model.json`` says of a model, checked field by field before anything relies on it.

A model of format 4 or 5 is brought into the form of format 6 first, which is read as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from anowild.checked import Amount, Range, checked
from anowild.data import Preprocess
from anowild.scoring.calibration import Calibration
from anowild.scoring.model_file import damaged, preprocess_of, read_raw


@dataclass(frozen=True)
class StoredView:
    """A view, as a model names it."""

    name: str
    cues: tuple[str, ...]
    facts: Mapping[str, Any]  # checked when the view is made


@dataclass(frozen=True)
class Training:
    """How a model was trained, as far as reports show it."""

    images: Annotated[int, Range(1, 2**53)] | None = None  # how many
    tiles: Annotated[int, Range(1, 2**53)] | None = None  # how many, of images that are cut
    settings: Mapping[str, Any] = field(default_factory=dict)
    views: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # how each was fitted
    failed: Mapping[str, str] = field(default_factory=dict)  # why a view could not be used

    def __post_init__(self) -> None:
        for name, facts in self.views.items():
            for amount in ("seconds", "kimg"):
                if amount in facts:
                    checked(Amount, facts[amount], f"views.{name}.{amount}")


@dataclass(frozen=True)
class Description:
    """Everything in ``model.json`` that is used."""

    format: int  # of the file
    weights_id: str  # checksum of the weights
    views: tuple[StoredView, ...]
    preprocess: Preprocess
    calibration: Calibration
    training: dict[str, Any]  # of `Training`, and what else was saved

    @staticmethod
    def read(path: Path) -> Description:
        """Read and check the description of a model.

        Raises:
            LaterVersion: it is of a format that is not known yet.
            UserError: it cannot be read, is of another format, or a field is missing or wrong; the message
                names the field.
        """
        value = read_raw(path)
        try:
            return _checked(value)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise damaged(path, error) from error


def _checked(value: dict[str, Any]) -> Description:
    number = int(value["format"])
    if number == 4:
        value = _from_format_4(value)
    if number <= 5:
        value = _from_format_5(value)
    preprocess = preprocess_of(value)
    calibration = Calibration.from_json(value["calibration"])
    if bool(preprocess.tiles) != (calibration.tiles is not None):
        raise ValueError("preprocess.tiles and calibration.tiles do not belong together")
    return Description(
        number,
        checked(str, value["weights_id"], "weights_id"),
        checked(tuple[StoredView, ...], value["views"], "views"),
        preprocess,
        calibration,
        _training(value["training"]),
    )


def _training(value: Any) -> dict[str, Any]:
    known = {f.name for f in fields(Training)}
    found = checked(dict[str, Any], value, "training")
    given = {name: item for name, item in found.items() if name in known}
    return found | asdict(checked(Training, given, "training"))


#: The cues that made the score of models of format 4.
_COUNTED_4 = ("relative_residual", "latent_distance", "hidden_distance", "contrast")


def _from_format_4(value: Mapping[str, Any]) -> dict[str, Any]:
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
    return {**value, "views": [view], "calibration": calibration, "training": info}


def _from_format_5(value: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a model of format 5 into the form of format 6: each counting cue is a view of its own."""
    calibration = value["calibration"]
    views = {
        name: {"cues": [name], "weight": 1.0, "training": None}
        for name, cue in calibration["cues"].items()
        if cue["counts"]
    }
    return {**value, "calibration": {**calibration, "views": views}}
