"""Rules that draw a line through the scores of a source; `anowild.score` and `report` take one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anowild.data.image_set import Source
from anowild.scoring import thresholds
from anowild.scoring.detector import Detector
from anowild.scoring.stream import score
from anowild.scoring.table import Table
from anowild.scoring.thresholds import Threshold


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

    def fit(self, detector: Detector) -> Callable[[Table], Threshold]:
        """Return what draws the line through a table."""
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

    def fit(self, detector: Detector) -> Callable[[Table], Threshold]:
        """Return what draws the line through a table."""
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

    def fit(self, detector: Detector) -> Callable[[Table], Threshold]:
        """Score the calibration images, and return what draws the line through a table.

        Raises:
            UserError: the calibration images cannot be read.
        """
        usual = score(detector, self.calibration).score
        return lambda table: thresholds.false_discovery_rate(table.score, usual, self.rate)


@dataclass(frozen=True)
class Gap:
    """Flag the images that lie apart from the rest, if the scores fall apart into two groups."""

    def fit(self, detector: Detector) -> Callable[[Table], Threshold]:
        """Return what draws the line through a table."""
        calibration = detector.calibration
        return lambda table: thresholds.gap(table.score, calibration.raw_score(table.scores.cues))
