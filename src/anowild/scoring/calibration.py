"""From cues to one score that needs no label, no contamination rate, and no batch.

1. Each cue that counts is taken on a log scale, and held against its distribution over the
   (contaminated) training set. For most cues more is odder. For a two-sided one ("both", as brightness)
   the distance from the median counts. For one whose odd side is "either" the training set decides:
   contamination itself lengthens one tail (the idea of COPOD and ECOD), so the skewness says how likely
   it is that the lower side is the odd one, and the tail probabilities of both sides are weighed by that
   likelihood. The log of the inverse tail probability is the cue's surprise.
2. A cue's evidence is its surprise within the middle of the training set. Beyond, where anomalies may lie
   among the training images, it rises as fast as from the median to there: so a cue in which some images
   stand apart speaks louder than one in which some have to be the last. A surprise, which only counts how
   many are farther out, cannot tell the two.
3. A view speaks with the sum of its cues' evidence, each times the cue's weight: less than 1 for plain
   statistics, as brightness; where the fitting of the view found that the cue says little; and where a cue of
   another view contradicts it: images that stand out there, but are among the most usual here, are many and
   alike, and hide from what measures distances from the training images. The sum is divided by its median over
   the training set, so a view of many cues speaks no louder than one of a single cue.
4. The two largest of the views' sums are added, each times the view's weight: the largest of its cues',
   times how far the oddest twentieth of the training images stands apart in it, to the power 1.5, times the
   root of its mean correlation with the other views (0.2 where that is less). So views that see nothing in
   an image do not speak against those that do. The total is held against its own distribution over the
   training set: a score of s says that about one in 10^s training images is as odd, or odder.
5. An image that is cut into tiles is scored by its oddest ones: the mean of their scores is held against
   its own distribution over the training images.

docs/choosing.md says on which image sets this was chosen, docs/results.md on which it was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from anowild.arrays import Array
from anowild.checked import Amount, Count, Share, checked
from anowild.errors import UserError
from anowild.scoring.scores import Scores
from anowild.views.base import Cue, OddSide

Side = Literal["upper", "lower", "both"]

#: Skewness of a log cue at which either side is as likely to be the odd one, and the scale of the
#: logistic curve around it.
EVEN_SKEWNESS, SKEWNESS_SCALE = -0.5, 0.15
#: Where the training set decides which side is odd, the odds are never longer than one in this many.
LONGEST_ODDS = 1000
#: Share of the training images within which a tail begins. Beyond may be anomalies: up to a quarter of the
#: images, for which it gives way a little where they are few (docs/choosing.md).
BULK = 0.75
#: Views whose evidence is added.
LOUDEST = 2
#: Share of the training images of which is asked how far they stand apart, the power of the answer that weighs
#: views, and the largest answer: that of a single image is no measure of a view.
APART_SHARE, APART_POWER, FARTHEST = 0.05, 1.5, 25.0
#: The power of the agreement that weighs views, and the least agreement: those that have nothing in common are
#: not weighed by chance.
AGREEMENT_POWER, LEAST_AGREEMENT = 0.5, 0.2
#: A cue is contradicted where images that another cue finds oddest, a share of :data:`APART_SHARE`, have a mean rank
#: below this in it, from 0 (most usual) to 1; its weight falls with the power of how far below. Few images prove
#: little: so many of a middle rank are added to them.
CONTRADICTED, CONTRADICTED_POWER, IMAGES_ADDED = 0.25, 2, 5
#: Tiles of an image whose scores are averaged: its oddest. One alone is more often odd by chance.
ODDEST_TILES = 3
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
    lower_rate: Amount  # of the exponential tails, per unit of the values
    upper_rate: Amount

    def __post_init__(self) -> None:
        if not self.knots or len(self.knots) != len(self.laplace):
            raise ValueError(f"{len(self.knots)} knots and {len(self.laplace)} values of laplace")
        if min(np.diff(self.knots), default=0) < 0 or min(np.diff(self.laplace), default=0) < 0:
            raise ValueError("knots or laplace do not increase")

    @staticmethod
    def fit(sample: Array, bulk: float | None = None) -> Tail:
        """Fit to the values of a sample; a constant sample gives a tail that says nothing.

        Where most values are equal there is one knot, and the tails fall at the mean distance of the others from it.

        Args:
            bulk: share of the sample, above 0.5, beyond which each tail goes on at the mean rate from the
                median to there, whatever the sample holds beyond.
        """
        values = np.sort(np.asarray(sample, np.float64))
        count = len(values)
        # Probabilities from a half down to about two observations, or to where the bulk ends.
        last = max(min(2.0 / count, 0.05), 1e-4) if bulk is None else 1 - bulk
        outer = np.geomspace(0.5, last, 40)[1:]
        quantiles = np.quantile(values, [*outer[::-1], 0.5, *(1 - outer)])
        laplace = np.log(2 * outer[::-1])
        laplace = np.concatenate([laplace, [0.0], -laplace[::-1]])
        # Equal quantiles become one knot, as likely as all that is equal: at the probability nearest to the median.
        new = np.diff(quantiles) > 1e-9 * (1 + np.abs(quantiles[1:]))
        group = np.concatenate([[0], np.cumsum(new)])
        knots = np.bincount(group, quantiles) / np.bincount(group)
        starts = np.flatnonzero(np.concatenate([[True], new]))
        first, last_of = (ends.reduceat(laplace, starts) for ends in (np.minimum, np.maximum))
        laplace = np.clip(0.0, first, last_of)
        least = 1e-3 * float(values[-1] - values[0])
        if len(knots) == 1:  # most images have the same value: the others tell how far is far
            away = values - knots[0]
            if np.abs(away).max() <= 1e-9 * (1 + abs(float(knots[0]))):
                return Tail(knots.tolist(), [0.0], 0.0, 0.0)
            below, above = (
                float(x[x > least].mean()) if (x > least).any() else 0.0 for x in (-away, away)
            )
            laplace = np.zeros(1)
        elif bulk is None:
            # Mean excess over the threshold: the estimator of Hill (1975), on values that are logs.
            twentieth = max(2, count // 20)
            low, high = values[:twentieth], values[-twentieth:]
            below, above = float((low[-1] - low).mean()), float((high - high[0]).mean())
        else:
            middle = float(np.interp(0.0, laplace, knots))
            below = float(middle - knots[0]) / max(-float(laplace[0]), TINY)
            above = float(knots[-1] - middle) / max(float(laplace[-1]), TINY)
        return Tail(
            knots.tolist(), laplace.tolist(), 1.0 / max(below, least), 1.0 / max(above, least)
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
    lower: Share  # probability that the lower side is the odd one
    training: Tail  # of the log cue; where ``center`` is given, of its distance from there
    counts: bool = True  # whether the cue enters the score
    weight: Share = 1.0  # of its evidence
    center: float | None = None  # median of the log cue, where both sides are odd
    #: As ``training``, with tails that go on from the bulk; None: the evidence is the surprise (models up to
    #: format 6).
    bulk: Tail | None = None

    @staticmethod
    def fit(
        values: Array,
        odd_side: OddSide = "upper",
        counts: bool = True,
        lower: float | None = None,
        weight: float = 1.0,
    ) -> CueCalibration:
        """Fit to a cue over the training set, [N].

        Args:
            odd_side: as the :class:`Cue` says.
            lower: probability of the lower side, in the place of what ``odd_side`` implies.
            weight: of the cue's evidence.
        """
        x = log_cue(values)
        skew = skewness(x)
        if odd_side == "both":
            center = float(np.median(x))
            x, lower = np.abs(x - center), 0.5
        else:
            center = None
            if lower is None:
                lower = 0.0 if odd_side == "upper" else lower_side(skew)
        return CueCalibration(skew, lower, Tail.fit(x), counts, weight, center, Tail.fit(x, BULK))

    @property
    def side(self) -> Side:
        """The odd side in a word."""
        return "upper" if self.lower < 0.25 else "lower" if self.lower > 0.75 else "both"

    def surprise(self, values: Array) -> Array:
        """Return how surprising each value is, in nats: about -log of its tail probability."""
        return self._surprise(self.training, values)

    def evidence(self, values: Array) -> Array:
        """Return the evidence that each value is odd, in nats: its surprise if the tails went on as they begin."""
        return self._surprise(self.bulk or self.training, values)

    def _surprise(self, tail: Tail, values: Array) -> Array:
        x = log_cue(values)
        if self.center is not None:
            return -tail.log_upper(np.abs(x - self.center))
        upper = np.log1p(-self.lower) - tail.log_upper(x)
        if not self.lower:
            return upper
        return np.logaddexp(upper, np.log(self.lower) - tail.log_lower(x))

    def odd_tail(self, values: Array) -> tuple[Array, Array]:
        """Return the share of training images as far out, and whether that is the lower side: each [N].

        The side is the one from which more of the evidence comes.
        """
        x = log_cue(values)
        if self.center is not None:
            share, lower = self.training.log_upper(np.abs(x - self.center)), x < self.center
        else:
            share, lower = self.training.log_upper(x), np.zeros(len(x), bool)
            if self.lower:
                below = self.training.log_lower(x)
                lower = np.log(self.lower) - below > np.log1p(-self.lower) - share
                share = np.where(lower, below, share)
        return np.maximum(np.exp(share), np.finfo(np.float64).tiny), lower


@dataclass(frozen=True)
class ViewCalibration:
    """The counting cues of one view, and the distribution of what they say together."""

    cues: tuple[str, ...]
    weight: Share  # of what the view says
    #: Of the sum of the cues' evidence over the training set; in models of format 6, of their largest
    #: surprise. None: it is added as it is (models up to format 5).
    training: Tail | None = None
    #: Median of the sum of the cues' evidence over the training set; None: a view speaks with the largest of
    #: their surprises (models up to format 6).
    scale: Amount | None = None


@dataclass(frozen=True)
class Calibration:
    """Everything that turns cues into scores; saved with the model."""

    cues: Mapping[str, CueCalibration]  # of all cues of the model, those that do not count as well
    views: Mapping[str, ViewCalibration]  # of the views that have a counting cue
    combined: Tail  # of the raw score over the training set
    #: Of the mean score of an image's oddest tiles over the training images; None: images are seen whole.
    tiles: Tail | None = None
    #: Views whose evidence is added, the loudest; None: all (models up to format 6).
    loudest: Count | None = None

    @staticmethod
    def fit(
        views: Mapping[str, Iterable[Cue]],
        training: Mapping[str, Array],
        weights: Mapping[str, float] | None = None,
        contradict: bool = True,
    ) -> Calibration:
        """Fit to the cues of the training images, each [N] by name.

        Args:
            views: cues by the name of their view. A cue with a voice of its own makes a view by that name.
            training: cues of the training images, all of them.
            weights: factors of the cues' own weights, by name; 1 unless given. That of a cue with a
                :attr:`Cue.gated_beside` is ignored unless ``views`` has the view of that name.
            contradict: whether cues lose weight where those of other views contradict them.

        Raises:
            UserError: no cue counts, or all that do have the weight 0.
        """
        weights = weights or {}

        def factor(cue: Cue) -> float:
            counts = cue.gated_beside is None or cue.gated_beside in views
            return weights.get(cue.name, 1.0) if counts else 1.0

        cues = {
            cue.name: CueCalibration.fit(
                training[cue.name],
                cue.odd_side,
                cue.counts,
                weight=cue.weight * factor(cue),
            )
            for group in views.values()
            for cue in group
        }
        by_voice = {
            name: tuple(c.name for c in group if cues[c.name].counts and cues[c.name].weight)
            for name, group in _by_voice(views).items()
        }
        if not any(by_voice.values()):
            raise UserError(
                f"no cue of the views {', '.join(views)} counts, so there is no score; add a view whose cues count"
            )
        if contradict:
            shares = contradictions(
                {
                    name: {cue: cues[cue].evidence(training[cue]) for cue in group}
                    for name, group in by_voice.items()
                }
            )
            cues |= {
                cue: replace(cues[cue], weight=cues[cue].weight * share)
                for cue, share in shares.items()
            }
        found: dict[str, ViewCalibration] = {}
        for name, counted in by_voice.items():
            if counted:
                evidence = _sum_of_evidence(cues, counted, training)
                scale = max(float(np.median(evidence)), TINY)
                found[name] = ViewCalibration(counted, 1.0, Tail.fit(evidence), scale)
        even = Calibration(cues, found, Tail([0.0], [0.0], 0.0, 0.0), loudest=LOUDEST)
        said = np.stack([*even.view_evidence(training).values()])
        shares_of_views = loudness(said)
        weighed = {}
        for share, (name, view) in zip(
            shares_of_views / shares_of_views.max(), found.items(), strict=True
        ):
            loudest = max(cues[cue].weight for cue in view.cues)
            weighed[name] = replace(view, weight=loudest * float(share))
        joined = replace(even, views=weighed)
        return replace(joined, combined=Tail.fit(joined.raw_score(training)))

    @property
    def counted(self) -> list[str]:
        """Names of the cues that enter the score."""
        return [name for name, cue in self.cues.items() if cue.counts]

    def view_surprises(self, cues: Mapping[str, Array]) -> dict[str, Array]:
        """Return by view, [N] each, in nats: about -log of the share of training images as odd or odder."""
        found = {}
        for name, view in self.views.items():
            measured = [cue for cue in view.cues if cue in cues]
            if measured:
                said = (_largest_surprise if view.scale is None else _sum_of_evidence)(
                    self.cues, measured, cues
                )
                found[name] = said if view.training is None else -view.training.log_upper(said)
        return found

    def view_evidence(self, cues: Mapping[str, Array]) -> dict[str, Array]:
        """Return what each view says, [N], in units of its median over the training set."""
        found = {}
        for name, view in self.views.items():
            measured = [cue for cue in view.cues if cue in cues]
            if measured and view.scale is not None:
                found[name] = _sum_of_evidence(self.cues, measured, cues) / view.scale
        return found or self.view_surprises(cues)  # of a model up to format 6

    def raw_score(self, cues: Mapping[str, Array]) -> Array:
        """Return the weighted sum of what the loudest views say, [N]; absent cues add nothing."""
        said = self.view_evidence(cues)
        weighted = np.stack([self.views[name].weight * evidence for name, evidence in said.items()])
        return loudest_sum(weighted, self.loudest)

    def score(self, cues: Mapping[str, Array]) -> Array:
        """Return scores [N]: -log10 of the share of training images that are as odd, or odder."""
        return -self.combined.log_upper(self.raw_score(cues)) / np.log(10.0)

    def scores(self, cues: Mapping[str, Array]) -> Scores:
        """Return the scores of all views together and of each view alone, with the cues.

        Models up to format 5 have no scores of views.
        """
        surprises = self.view_surprises(cues)
        alone = {
            name: surprise / np.log(10.0)
            for name, surprise in surprises.items()
            if self.views[name].training is not None
        }
        return Scores(self.score(cues), dict(cues), alone)

    def with_tiles(self, scores: Scores, owners: Array) -> Calibration:
        """Return a calibration that scores images by their tiles.

        Args:
            scores: of the M tiles of the training images.
            owners: number of the image that each tile is of, int [M], ascending.
        """
        mean, _ = _oddest_tiles(scores.score, owners)
        return replace(self, tiles=Tail.fit(mean))

    def of_images(self, scores: Scores, owners: Array) -> Scores:
        """Join the scores of tiles, [M], to those of images, [N]; `owners` as for :meth:`with_tiles`."""
        if self.tiles is None:
            return scores
        mean, oddest = _oddest_tiles(scores.score, owners)
        joined = replace(scores.select(oddest), score=-self.tiles.log_upper(mean) / np.log(10.0))
        return replace(joined, tile=oddest - np.searchsorted(owners, owners[oddest]))

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that :meth:`from_json` reads."""
        return asdict(self)

    @staticmethod
    def from_json(value: Any) -> Calibration:
        """Rebuild a calibration, with the cues that it names.

        Raises:
            ValueError: something is missing, unknown, of another type or out of bounds; the message says what.
        """
        found = checked(Calibration, value, "calibration")
        for name, view in found.views.items():
            for cue in view.cues:
                if cue not in found.cues:
                    raise ValueError(
                        f"calibration.views.{name}.cues names '{cue}', which is not in calibration.cues"
                    )
        return found


def _by_voice(views: Mapping[str, Iterable[Cue]]) -> dict[str, list[Cue]]:
    found: dict[str, list[Cue]] = {}
    for name, group in views.items():
        for cue in group:
            found.setdefault(cue.voice or name, []).append(cue)
    return found


def _oddest_tiles(score: Array, owners: Array) -> tuple[Array, Array]:
    """Return the mean score of each image's oddest tiles, [N], and the number of the oddest, int [N]."""
    order = np.lexsort((-score, owners))
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    rank = np.arange(len(owners)) - np.searchsorted(owners, owners)
    among = rank < ODDEST_TILES
    sums = np.add.reduceat(np.where(among, score[order], 0.0), starts)
    return sums / np.add.reduceat(among.astype(float), starts), order[starts]


def loudest_sum(weighted: Array, count: int | None) -> Array:
    """Sum the ``count`` largest of each column, [N]; None: all.

    Args:
        weighted: [views, N].
    """
    if count is not None and count < len(weighted):
        weighted = np.sort(weighted, axis=0)[-count:]
    return np.asarray(weighted.sum(axis=0))


def _sum_of_evidence(
    calibrations: Mapping[str, CueCalibration], names: Iterable[str], cues: Mapping[str, Array]
) -> Array:
    """Return the weighted sum of the evidence of some cues, [N]."""
    found = [calibrations[name].weight * calibrations[name].evidence(cues[name]) for name in names]
    return np.asarray(np.sum(found, axis=0))


def _largest_surprise(
    calibrations: Mapping[str, CueCalibration], names: Iterable[str], cues: Mapping[str, Array]
) -> Array:
    """Return the largest weighted surprise among some cues, [N]: how views up to format 6 speak."""
    found = [calibrations[name].weight * calibrations[name].surprise(cues[name]) for name in names]
    return np.max(found, axis=0)


def standing_apart(evidence: Array) -> float:
    """Return how far the oddest images stand apart from the bulk, from 1 to :data:`FARTHEST`.

    It is the geometric mean of their distances from the median, in units of the distance of the quantile
    :data:`BULK` from there; of an exponential distribution 4.6.

    Args:
        evidence: of a view over the training set, [N].
    """
    values = np.sort(evidence)
    middle, end = np.quantile(values, [0.5, BULK])
    oddest = values[-max(1, round(APART_SHARE * len(values))) :] - middle
    least = max(float(end - middle), 1e-9 * (1 + abs(float(middle))))
    return float(np.exp(np.log(np.clip(oddest / least, 1.0, FARTHEST)).mean()))


def loudness(
    evidence: Array, apart: float = APART_POWER, agreeing: float = AGREEMENT_POWER
) -> Array:
    """Return how much each view counts, [views]: powers of how far images stand apart in it, and of its agreement.

    Args:
        evidence: of the views over the training set, [views, N].
    """
    stands = np.array([standing_apart(view) for view in evidence])
    return np.asarray(stands**apart * agreement(evidence) ** agreeing)


def agreement(evidence: Array) -> Array:
    """Return each view's mean correlation with the others, :data:`LEAST_AGREEMENT` to 1: [views]; 1 for a single view.

    Args:
        evidence: of the views over the training set, [views, N].
    """
    if len(evidence) < 2:
        return np.ones(len(evidence))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations = np.nan_to_num(np.corrcoef(evidence))  # 0 with what is constant
    np.fill_diagonal(correlations, 0)
    return np.asarray(np.maximum(correlations.sum(axis=1) / (len(evidence) - 1), LEAST_AGREEMENT))


def contradictions(evidence: Mapping[str, Mapping[str, Array]]) -> dict[str, float]:
    """Return by cue what is left of its weight, from 0 to 1: less than 1 where a cue of another view contradicts it.

    Args:
        evidence: of the cues of each view over the training set, [N] by name.
    """
    ranks = {(v, c): _mean_ranks(x) for v, cues in evidence.items() for c, x in cues.items()}
    oddest = {(v, c): np.flatnonzero(x > 1 - APART_SHARE) for (v, c), x in ranks.items()}
    found = {}
    for (view, cue), rank in ranks.items():
        means = [
            (rank[rows].sum() + IMAGES_ADDED / 2) / (len(rows) + IMAGES_ADDED)
            for (other, _), rows in oddest.items()
            if other != view
        ]
        lowest = float(min(means, default=1.0))
        found[cue] = min(1.0, lowest / CONTRADICTED) ** CONTRADICTED_POWER
    return found


def _mean_ranks(x: Array) -> Array:
    """Return the share of values that are smaller, plus half of those that are equal: [N] -> [N]."""
    _, group, sizes = np.unique(x, return_inverse=True, return_counts=True)
    middles = (np.cumsum(sizes) - sizes / 2) / len(x)
    return np.asarray(middles[group])


def log_cue(values: Array) -> Array:
    """Return the logarithm of a cue, which is 0 or more."""
    return np.log(np.maximum(values, TINY))


def lower_side(skew: float) -> float:
    """Return the probability that the lower side is odd, from the skewness of a log cue."""
    likely = 1 / (1 + np.exp((skew - EVEN_SKEWNESS) / SKEWNESS_SCALE))
    return float(np.clip(likely, 1 / LONGEST_ODDS, 1 - 1 / LONGEST_ODDS))


def skewness(x: Array) -> float:
    """Return the third standardized moment; 0 for a constant."""
    # Not scipy.stats.skew: to import it takes each command a second.
    away = x - x.mean()
    return float((away**2 * away).mean() / (away**2).mean() ** 1.5) if x.std() > 1e-9 else 0.0
