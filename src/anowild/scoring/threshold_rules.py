"""Rules that choose the limit from which images are flagged; `anowild.score` and `report` take one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anowild.data.sources import Source
from anowild.errors import UserError
from anowild.files import printable
from anowild.scoring import thresholds
from anowild.scoring.detector import Detector
from anowild.scoring.saved_limit import chosen_limit
from anowild.scoring.stream import Trained, open_stream, score_pass
from anowild.scoring.table import Scored, Table
from anowild.scoring.thresholds import Threshold
from anowild.scoring.trained_on import TrainingImages

log = logging.getLogger("anowild")


@dataclass(frozen=True)
class FixedScore:
    """Flag the images that score at least a given value, the same every time.

    Args:
        score: the limit; a score of s is reached by about one in 10^s training images.

    Raises:
        UserError: ``score`` is no number.
    """

    score: float

    def __post_init__(self) -> None:
        thresholds.check_score(self.score)

    @staticmethod
    def saved(model: str | Path) -> FixedScore:
        """Return the rule of the limit that is kept with the model in a folder.

        Raises:
            UserError: there is no such model, none is kept with it, or the file is damaged.
        """
        return FixedScore(chosen_limit(Path(model)))

    def fit(self, model: Trained) -> Callable[[Scored], Threshold]:
        """Return what finds the limit for a table."""
        images = model.training_images
        return lambda table: thresholds.fixed_score(table.score, self.score, images)


@dataclass(frozen=True)
class Budget:
    """Flag the oddest images, as many as somebody can look at.

    Args:
        count: 1 or more.

    Raises:
        UserError: ``count`` is less than 1.
    """

    count: int

    def __post_init__(self) -> None:
        thresholds.check_budget(self.count)

    def fit(self, model: Trained) -> Callable[[Scored], Threshold]:
        """Return what finds the limit for a table."""
        return lambda table: thresholds.budget(table.score, self.count)


@dataclass(frozen=True)
class ExpectedShare:
    """Flag as many of the oddest images as are expected to be anomalies.

    Args:
        share: between 0 and 1.

    Raises:
        UserError: ``share`` is out of range.
    """

    share: float

    def __post_init__(self) -> None:
        thresholds.check_share("an expected share", self.share)

    def fit(self, model: Trained) -> Callable[[Scored], Threshold]:
        """Return what finds the limit for a table."""
        return lambda table: thresholds.expected_share(table.score, self.share)


@dataclass(frozen=True)
class FalseDiscoveryRate:
    """Flag such that at most a share of the flags is false, on average (Bates et al. 2023).

    Args:
        rate: between 0 and 1.
        calibration: images like the normal ones, on which was not trained.

    Raises:
        UserError: ``rate`` is out of range.
    """

    rate: float
    calibration: Source | Sequence[Source]

    def __post_init__(self) -> None:
        thresholds.check_share("a false discovery rate", self.rate)

    def fit(self, model: Trained) -> Callable[[Scored], Threshold]:
        """Score the calibration images, and return what finds the limit for a table.

        Logs a warning if the model does not know its training images, as models of earlier versions.

        Raises:
            UserError: the calibration images cannot be read, or some of them were trained on; or ``model`` is no
                detector.
        """
        detector = _detector(model)
        if detector.trained_on is None:
            log.warning(
                "the model is of an earlier version and does not know its training images; make sure "
                "that the calibration images are not among them"
            )
        usual = Table(detector.cue_names, views=detector.view_names)
        stream = open_stream(detector, self.calibration)
        score_pass(detector, stream, usual, _Calibration(detector.trained_on))
        return lambda table: thresholds.false_discovery_rate(table.score, usual.score, self.rate)


class _Calibration(TrainingImages):
    """A sink of the scoring pass that refuses calibration images that were trained on."""

    def end(self, left_out: int) -> None:
        """Raise UserError if there was a training image; see `Sink`."""
        if self.found:
            raise UserError(
                f"{self.found} of the {self.count} calibration images ({100 * self.found / self.count:.3g} %) "
                f"were trained on, beginning with {printable(self.first)}; the false discovery rate would "
                "not hold: take images that the model has not seen"
            )


@dataclass(frozen=True)
class Gap:
    """Flag the images that lie apart from the rest, if the scores fall apart into two groups."""

    def fit(self, model: Trained) -> Callable[[Scored], Threshold]:
        """Return what finds the limit for a table; raise UserError if ``model`` is no detector."""
        calibration = _detector(model).calibration
        # Of an image with tiles, the score is the mean of several.
        if calibration.tiles is not None:
            return lambda table: thresholds.gap(table.score, np.exp(table.score))
        return lambda table: thresholds.gap(table.score, table.raw_score(calibration))


def _detector(model: Trained) -> Detector:
    """Return a model that is a detector; of others only the number of training images is known."""
    if not isinstance(model, Detector):
        raise UserError(
            "this limit needs the model; choose it when the images are scored, and the table keeps it"
        )
    return model
