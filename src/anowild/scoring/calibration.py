"""From cues to one score that needs no label, no contamination rate, and no batch.

1. Four cues count: relative residual, latent distance, hidden distance and contrast. Each is taken on
   a log scale and held against its distribution over the (contaminated) training set.
2. Of the first three more is odder. Which contrast is odd depends on the data. Contamination itself
   lengthens one tail (the idea of COPOD and ECOD), so the skewness over the training set decides how
   likely it is that the lower side is the odd one: hardly, unless it is clearly negative.
3. The evidence of a cue is the mean of the inverse tail probabilities of both sides, weighted by
   that likelihood. Nothing jumps, and the side that is held to be unlikely still counts where a
   value is far beyond all of the training set.
4. The logarithms of the evidence are added (as in Fisher's method), and the sum is held against
   its own distribution over the training set: a score of s says that about one in 10^s training
   images is as odd, or odder.

docs/results.md says on which image sets this was chosen, and on which it was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from anowild.arrays import Array
from anowild.scoring.cues import CUES

Side = Literal["upper", "lower", "both"]

#: Cues that make the score, and those of them whose odd side is not known beforehand.
COMBINED = ("relative_residual", "latent_distance", "hidden_distance", "contrast")
EITHER_SIDE = ("contrast",)
#: Skewness of a log cue at which either side is as likely to be the odd one, and the scale of the
#: logistic curve around it.
EVEN_SKEWNESS, SKEWNESS_SCALE = -0.5, 0.15
#: The odds of a side are never longer than one in so many.
LONGEST_ODDS = 1000
#: Cues are taken to be at least this before the logarithm.
TINY = 1e-12


@dataclass(frozen=True)
class Tail:
    """A smooth, strictly monotone model of a distribution, from a sample.

    Knots stand at quantiles, dense towards both ends, and each is given the quantile of a
    standard Laplace distribution at the same probability: a scale on which the log probability
    of the nearer tail is a straight line. It is interpolated linearly, and beyond the outermost
    knots goes on at the rate that the outermost twentieth of the sample shows. So a value beyond
    all of the sample still has a probability of its own.
    """

    knots: list[float]  # increasing
    laplace: list[float]  # increasing; 0 at the median
    lower_rate: float  # of the exponential tails, per unit of the values
    upper_rate: float

    @staticmethod
    def fit(sample: Array) -> Tail:
        """Fit to the values of a sample; a constant sample gives a tail that says nothing."""
        values = np.sort(np.asarray(sample, np.float64))
        count = len(values)
        # Probabilities from a half down to about two observations.
        outer = np.geomspace(0.5, max(min(2.0 / count, 0.05), 1e-4), 40)[1:]
        quantiles = np.quantile(values, [*outer[::-1], 0.5, *(1 - outer)])
        laplace = np.log(2 * outer[::-1])
        laplace = np.concatenate([laplace, [0.0], -laplace[::-1]])
        # Equal quantiles become one knot in their middle.
        new = np.diff(quantiles) > 1e-9 * (1 + np.abs(quantiles[1:]))
        group = np.concatenate([[0], np.cumsum(new)])
        sizes = np.bincount(group)
        knots = np.bincount(group, quantiles) / sizes
        if len(knots) == 1:
            return Tail(knots.tolist(), [0.0], 0.0, 0.0)
        # Mean excess over the threshold: the estimator of Hill (1975), on values that are logs.
        twentieth = max(2, count // 20)
        low, high = values[:twentieth], values[-twentieth:]
        least = 1e-3 * float(values[-1] - values[0])
        return Tail(
            knots=knots.tolist(),
            laplace=(np.bincount(group, laplace) / sizes).tolist(),
            lower_rate=1.0 / max(float((low[-1] - low).mean()), least),
            upper_rate=1.0 / max(float((high - high[0]).mean()), least),
        )

    def log_upper(self, x: Array) -> Array:
        """log P(X >= x)."""
        return _log_upper_laplace(self._to_laplace(x))

    def log_lower(self, x: Array) -> Array:
        """log P(X <= x)."""
        return _log_upper_laplace(-self._to_laplace(x))

    def _to_laplace(self, x: Array) -> Array:
        x = np.asarray(x, np.float64)
        below = np.minimum(x - self.knots[0], 0) * self.lower_rate
        above = np.maximum(x - self.knots[-1], 0) * self.upper_rate
        return np.asarray(np.interp(x, self.knots, self.laplace) + below + above)


def _log_upper_laplace(t: Array) -> Array:
    """log P(T >= t) of a standard Laplace variable."""
    tail = -np.abs(t) - np.log(2.0)
    return np.where(t >= 0, tail, np.log1p(-np.exp(tail)))


@dataclass(frozen=True)
class CueCalibration:
    """What is usual for one cue, and on which side of that the odd lies."""

    skewness: float  # of the log cue over the training set
    lower: float  # how likely it is that the lower side is the odd one
    training: Tail  # of the log cue

    @staticmethod
    def fit(name: str, cue: Array, lower: float | None = None) -> CueCalibration:
        """Fit to a cue over the training set, [N].

        Args:
            lower: how likely the lower side is; None: as the name of the cue, or its skewness, says.
        """
        x = log_cue(cue)
        skew = skewness(x)
        if lower is None:
            known = name in COMBINED and name not in EITHER_SIDE
            lower = 1 / LONGEST_ODDS if known else lower_side(skew)
        return CueCalibration(skew, lower, Tail.fit(x))

    @property
    def side(self) -> Side:
        """The odd side in a word."""
        return "upper" if self.lower < 0.25 else "lower" if self.lower > 0.75 else "both"

    def surprise(self, cue: Array) -> Array:
        """Log evidence that each value is odd, in nats; about -log of its tail probability."""
        x = log_cue(cue)
        return np.logaddexp(
            np.log1p(-self.lower) - self.training.log_upper(x),
            np.log(self.lower) - self.training.log_lower(x),
        )


@dataclass(frozen=True)
class Calibration:
    """All that turns cues into scores; saved with the model."""

    cues: Mapping[str, CueCalibration]  # of all cues, those that do not count as well
    combined: Tail  # of the sum of surprises over the training set

    @staticmethod
    def fit(training: Mapping[str, Array]) -> Calibration:
        """Fit to the cues of the training images, each [N] by name."""
        cues = {name: CueCalibration.fit(name, training[name]) for name in CUES}
        return Calibration(cues, Tail.fit(_added(cues, training)))

    def oddness(self, cues: Mapping[str, Array]) -> Array:
        """The sum of surprises, [N], in nats."""
        return _added(self.cues, cues)

    def score(self, cues: Mapping[str, Array]) -> Array:
        """Scores [N]: -log10 of the share of training images that are as odd, or odder."""
        return -self.combined.log_upper(_added(self.cues, cues)) / np.log(10.0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Calibration:
        """Raises KeyError or TypeError where something is missing."""
        cues = {
            name: CueCalibration(
                skewness=given["skewness"],
                lower=given["lower"],
                training=Tail(**given["training"]),
            )
            for name, given in ((name, value["cues"][name]) for name in CUES)
        }
        return Calibration(cues, Tail(**value["combined"]))


def _added(calibrations: Mapping[str, CueCalibration], cues: Mapping[str, Array]) -> Array:
    return np.sum([calibrations[name].surprise(cues[name]) for name in COMBINED], axis=0)


def log_cue(cue: Array) -> Array:
    """The logarithm of a cue, which is 0 or more."""
    return np.log(np.maximum(cue, TINY))


def lower_side(skew: float) -> float:
    """How likely it is that the lower side is odd, by the skewness of a log cue."""
    likely = 1 / (1 + np.exp((skew - EVEN_SKEWNESS) / SKEWNESS_SCALE))
    return float(np.clip(likely, 1 / LONGEST_ODDS, 1 - 1 / LONGEST_ODDS))


def skewness(x: Array) -> float:
    """The third standardized moment; 0 of a constant."""
    centerd = x - x.mean()
    deviation = float(np.sqrt((centerd**2).mean()))
    return float((centerd**3).mean() / deviation**3) if deviation > 1e-9 else 0.0
