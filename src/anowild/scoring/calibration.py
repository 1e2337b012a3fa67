"""From cues to one score that needs no label, no contamination rate, and no batch.

1. Each cue is taken on a log scale and held against its distribution over the (contaminated)
   training set.
2. Which side of a cue is odd depends on the data: where anomalies are simpler than normal
   images they are rebuilt *better*. Residual and feature distance both say how well an image is
   rebuilt, so they share a side. Contamination itself lengthens one tail, and the sign of their
   mean skewness says which (the idea of COPOD and ECOD); where there is hardly any, both sides
   count. The latent norm takes a side only where two hints agree: its own skewness, and the
   side on which those training images lie that are the oddest by the other two cues. A wrong
   side costs more than both.
3. The cues' log tail probabilities are added (Fisher's method), and the sum is held against
   its own distribution over the training set: a score of s says that about one in 10^s training
   images is as odd, or odder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from anowild.scoring.cues import CUES

Array = np.ndarray[Any, Any]
Side = Literal["upper", "lower", "both"]

#: Cues that say how well an image is rebuilt; they lead in the choice of sides.
LEADING = ("residual", "feature_distance")
#: Share of the training images that counts as the oddest by the leading cues.
ODDEST = 0.05
#: Deviations that the median of those has to lie off the middle of another cue to take a side.
LITTLE_SHIFT = 0.25
#: Absolute skewness of a log cue below which both of its tails count.
LITTLE_SKEWNESS = 0.1
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

    side: Side
    skewness: float  # of the log cue over the training set
    training: Tail  # of the log cue
    samples: Tail  # of the log cue over G's own images

    def surprise(self, cue: Array) -> Array:
        """-log tail probability of each value, in nats; 0 or more."""
        x = _log(cue)
        if self.side == "upper":
            return -self.training.log_upper(x)
        if self.side == "lower":
            return -self.training.log_lower(x)
        nearer = np.minimum(self.training.log_upper(x), self.training.log_lower(x))
        return -np.minimum(nearer + np.log(2.0), 0.0)


@dataclass(frozen=True)
class Calibration:
    """All that turns cues into scores; saved with the model."""

    cues: Mapping[str, CueCalibration]
    combined: Tail  # of the sum of surprises over the training set

    @staticmethod
    def fit(training: Mapping[str, Array], samples: Mapping[str, Array]) -> Calibration:
        """Fit to the cues of the training images and of G's own samples, each [N] by name."""
        logs = {name: _log(training[name]) for name in CUES}
        skewness = {name: _skewness(values) for name, values in logs.items()}
        side = _side(float(np.mean([skewness[name] for name in LEADING])), LITTLE_SKEWNESS)
        tails = {name: (Tail.fit(logs[name]), Tail.fit(_log(samples[name]))) for name in CUES}
        cues = {name: CueCalibration(side, skewness[name], *tails[name]) for name in LEADING}
        oddness = np.sum([cues[name].surprise(training[name]) for name in LEADING], axis=0)
        oddest = oddness >= np.quantile(oddness, 1 - ODDEST)
        for name in CUES:
            if name not in LEADING:
                hints = {
                    _side(_shift(logs[name], oddest), LITTLE_SHIFT),
                    _side(skewness[name], LITTLE_SKEWNESS),
                }
                side = hints.pop() if len(hints) == 1 else "both"
                cues[name] = CueCalibration(side, skewness[name], *tails[name])
        return Calibration(cues, Tail.fit(_added(cues, training)))

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
                side=given["side"],
                skewness=given["skewness"],
                training=Tail(**given["training"]),
                samples=Tail(**given["samples"]),
            )
            for name, given in ((name, value["cues"][name]) for name in CUES)
        }
        return Calibration(cues, Tail(**value["combined"]))


def _added(calibrations: Mapping[str, CueCalibration], cues: Mapping[str, Array]) -> Array:
    return np.sum([calibrations[name].surprise(cues[name]) for name in CUES], axis=0)


def _log(cue: Array) -> Array:
    return np.log(np.maximum(cue, TINY))


def _side(asymmetry: float, little: float) -> Side:
    if abs(asymmetry) < little:
        return "both"
    return "upper" if asymmetry > 0 else "lower"


def _shift(x: Array, chosen: Array) -> float:
    """How far the median of the chosen values lies above that of all, in deviations."""
    deviation = float(x.std())
    return float(np.median(x[chosen]) - np.median(x)) / deviation if deviation > 1e-9 else 0.0


def _skewness(x: Array) -> float:
    centred = x - x.mean()
    deviation = float(np.sqrt((centred**2).mean()))
    return float((centred**3).mean() / deviation**3) if deviation > 1e-9 else 0.0
