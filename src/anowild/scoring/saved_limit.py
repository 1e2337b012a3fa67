"""The limit that somebody has chosen for a model, in a small file of the model's folder; and the one in use."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from anowild.checked import Count, checked
from anowild.errors import UserError
from anowild.files import read_json, write_json
from anowild.scoring.model_file import read_brief
from anowild.scoring.scores import USUAL_LIMIT
from anowild.scoring.thresholds import check_score

log = logging.getLogger("anowild")

LIMIT = "limit.json"


@dataclass(frozen=True)
class SavedLimit:
    """A score from which images are flagged, and the model that it was chosen for."""

    score: float
    saved: str  # when, in ISO 8601, UTC
    training_images: Count | None  # None: a model that does not know how many
    model: str  # checksum of its weights


@dataclass(frozen=True)
class LimitInUse:
    """The score from which images are flagged, and where it is from."""

    score: float
    origin: Literal["given", "saved", "default"]


def save_limit(folder: Path, score: float) -> SavedLimit:
    """Keep a limit with the model in ``folder``, in the place of an earlier one.

    Raises:
        UserError: it is no number, there is no model in the folder, or the folder cannot be written.
    """
    check_score(score)
    model = read_brief(folder)
    saved = datetime.now(UTC).isoformat(timespec="seconds")
    limit = SavedLimit(float(score), saved, model.images, model.weights_id)
    write_json(folder / LIMIT, asdict(limit))
    return limit


def load_limit(folder: Path) -> SavedLimit | None:
    """Return the limit that is kept with the model in ``folder``; None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / LIMIT
    if not path.exists():
        return None
    value = read_json(path)
    try:
        return checked(SavedLimit, value, "the limit")
    except ValueError as error:
        raise UserError(
            f"{path}: is damaged ({error}); choose the limit again with `anowild limit {folder} SCORE`"
        ) from error


def chosen_limit(folder: Path) -> float:
    """Return the score of the limit that is kept with the model in ``folder``; see :func:`kept_limit`.

    Raises:
        UserError: there is no model in the folder, none is kept with it, or the file is damaged.
    """
    score = kept_limit(folder)
    if score is None:
        raise UserError(
            f"{folder}: no limit is kept with this model; choose one with `anowild limit {folder} SCORE`, "
            "or in a review"
        )
    return score


def kept_limit(folder: Path) -> float | None:
    """Return the score of the limit that is kept with the model in ``folder``; None if there is none.

    Logs a warning if the model was trained again since.

    Raises:
        UserError: there is no model in the folder, or the file is damaged.
    """
    weights_id = read_brief(folder).weights_id
    limit = load_limit(folder)
    if limit is None:
        return None
    if limit.model != weights_id:
        log.warning(
            "%s: the limit was chosen before the model was trained again; about as many training images "
            "reach it as before, but look whether it still fits",
            folder / LIMIT,
        )
    return limit.score


def limit_in_use(folder: Path | None, given: float | None = None) -> LimitInUse:
    """Return the given limit, else the one that is kept with a model, else what 5 % of the training images reach.

    Args:
        folder: of the model; None: it has none.
        given: by the user.

    Raises:
        UserError: as :func:`kept_limit`.
    """
    if given is not None:
        check_score(given)
        return LimitInUse(given, "given")
    kept = None if folder is None else kept_limit(folder)
    if kept is not None:
        return LimitInUse(kept, "saved")
    return LimitInUse(USUAL_LIMIT, "default")
