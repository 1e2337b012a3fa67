"""From cues to one score that needs no label, no contamination rate, and no batch.

1. Each cue that counts is taken on a log scale, and held against its distribution over the
   (contaminated) training set.
2. For most cues more is odder. For a cue whose odd side is "either", as contrast, the training set
   decides: contamination itself lengthens one tail (the idea of COPOD and ECOD), so the skewness says
   how likely it is that the lower side is the odd one: hardly, unless it is clearly negative.
3. The evidence of a cue is the mean of the inverse tail probabilities of both sides, weighted by that
   likelihood; its logarithm is the cue's surprise. Nothing jumps, and the unlikely side still counts
   where a value is far beyond all of the training set.
4. The surprises are added (as in Fisher's method), and the sum is held against its own distribution
   over the training set: a score of s says that about one in 10^s training images is as odd, or odder.

docs/results.md says on which image sets this was chosen, and on which it was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from anowild.arrays import Array
from anowild.views.base import Cue

Side = Literal["upper", "lower", "both"]

#: Skewness of a log cue at which either side is as likely to be the odd one, and the scale of the
#: logistic curve around it.
EVEN_SKEWNESS, SKEWNESS_SCALE = -0.5, 0.15
#: The odds of a side are never longer than one in this many.
LONGEST_ODDS = 1000
#: Cues are raised to this before the logarithm.
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
        """Log P(X >= x)."""
        return _log_upper_laplace(self._to_laplace(x))

    def log_lower(self, x: Array) -> Array:
        """Log P(X <= x)."""
        return _log_upper_laplace(-self._to_laplace(x))

    def _to_laplace(self, x: Array) -> Array:
        x = np.asarray(x, np.float64)
        below = np.minimum(x - self.knots[0], 0) * self.lower_rate
        above = np.maximum(x - self.knots[-1], 0) * self.upper_rate
        return np.asarray(np.interp(x, self.knots, self.laplace) + below + above)


def _log_upper_laplace(t: Array) -> Array:
    """Log P(T >= t) of a standard Laplace variable."""
    tail = -np.abs(t) - np.log(2.0)
    return np.where(t >= 0, tail, np.log1p(-np.exp(tail)))


@dataclass(frozen=True)
class CueCalibration:
    """The distribution of one cue over the training set, and on which side of it the odd images lie."""

    skewness: float  # of the log cue over the training set
    lower: float  # probability that the lower side is the odd one
    training: Tail  # of the log cue
    counts: bool = True  # whether the cue enters the score

    @staticmethod
    def fit(
        values: Array,
        odd_side: Literal["upper", "either"] = "upper",
        counts: bool = True,
        lower: float | None = None,
    ) -> CueCalibration:
        """Fit to a cue over the training set, [N].

        Args:
            odd_side: as the :class:`Cue` says.
            lower: probability of the lower side, in the place of what ``odd_side`` implies.
        """
        x = log_cue(values)
        skew = skewness(x)
        if lower is None:
            lower = 1 / LONGEST_ODDS if odd_side == "upper" else lower_side(skew)
        return CueCalibration(skew, lower, Tail.fit(x), counts)

    @property
    def side(self) -> Side:
        """The odd side in a word."""
        return "upper" if self.lower < 0.25 else "lower" if self.lower > 0.75 else "both"

    def surprise(self, values: Array) -> Array:
        """Return the log evidence that each value is odd, in nats; about -log of its tail probability."""
        x = log_cue(values)
        return np.logaddexp(
            np.log1p(-self.lower) - self.training.log_upper(x),
            np.log(self.lower) - self.training.log_lower(x),
        )

    def tail_shares(self, values: Array) -> tuple[Array, Array]:
        """Return the shares of training images with as high, and with as low a value: each [N]."""
        x = log_cue(values)
        floor = np.finfo(np.float64).tiny
        above, below = self.training.log_upper(x), self.training.log_lower(x)
        return np.maximum(np.exp(above), floor), np.maximum(np.exp(below), floor)


@dataclass(frozen=True)
class Calibration:
    """Everything that turns cues into scores; saved with the model."""

    cues: Mapping[str, CueCalibration]  # of all cues of the model, those that do not count as well
    combined: Tail  # of the sum of surprises over the training set

    @staticmethod
    def fit(cues: Iterable[Cue], training: Mapping[str, Array]) -> Calibration:
        """Fit to the cues of the training images, each [N] by name."""
        fitted = {
            cue.name: CueCalibration.fit(training[cue.name], cue.odd_side, cue.counts)
            for cue in cues
        }
        return Calibration(fitted, Tail.fit(_sum_of_surprises(fitted, training)))

    @property
    def counted(self) -> list[str]:
        """Names of the cues that enter the score."""
        return [name for name, cue in self.cues.items() if cue.counts]

    def raw_score(self, cues: Mapping[str, Array]) -> Array:
        """Return the sum of surprises, [N], in nats."""
        return _sum_of_surprises(self.cues, cues)

    def score(self, cues: Mapping[str, Array]) -> Array:
        """Return scores [N]: -log10 of the share of training images that are as odd, or odder."""
        return -self.combined.log_upper(self.raw_score(cues)) / np.log(10.0)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that :meth:`from_json` reads."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Calibration:
        """Rebuild a calibration, with the cues that it names.

        Raises:
            KeyError, TypeError: something is missing, or of another type.
        """
        cues = {
            name: CueCalibration(
                skewness=given["skewness"],
                lower=given["lower"],
                training=Tail(**given["training"]),
                counts=given["counts"],
            )
            for name, given in value["cues"].items()
        }
        return Calibration(cues, Tail(**value["combined"]))


def _sum_of_surprises(
    calibrations: Mapping[str, CueCalibration], cues: Mapping[str, Array]
) -> Array:
    """Add the surprises of the counting cues; one that is not among ``cues`` adds nothing."""
    counted = [name for name, cue in calibrations.items() if cue.counts and name in cues]
    return np.sum([calibrations[name].surprise(cues[name]) for name in counted], axis=0)


def log_cue(values: Array) -> Array:
    """Return the logarithm of a cue, which is 0 or more."""
    return np.log(np.maximum(values, TINY))


def lower_side(skew: float) -> float:
    """Return the probability that the lower side is odd, from the skewness of a log cue."""
    likely = 1 / (1 + np.exp((skew - EVEN_SKEWNESS) / SKEWNESS_SCALE))
    return float(np.clip(likely, 1 / LONGEST_ODDS, 1 - 1 / LONGEST_ODDS))


def skewness(x: Array) -> float:
    """Return the third standardized moment; 0 for a constant."""
    return float(stats.skew(x)) if float(x.std()) > 1e-9 else 0.0
