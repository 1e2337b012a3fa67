"""From scores to a decision: which limit to take, what that promises, and under which assumption.

Scores alone cannot say how many images are odd: a clean set has an upper tail as well. So each rule
takes one thing from the user (how many images they can look at, what share they expect, what share
of false alarms they bear), or answers only where the scores fall apart by themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.scoring.scores import limit_of_share
from anowild.shown import shown_limit

#: Bootstrap resamples of the search for a gap, and the share of them that has to find one.
RESAMPLES, CONVINCED = 200, 0.95
#: Confidence of the least number of odd images, and the shares of the calibration images from whose lowest score on
#: images are counted for it.
CONFIDENCE, COUNTED_FROM = 0.95, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
#: Fewest images among which two groups are looked for.
FEWEST = 20
#: The valley between the two groups is at most this share of the lower of its two hills.
DEEPEST = 0.5
#: Places at which a density is looked at.
_PLACES = 256


@dataclass(frozen=True)
class Threshold:
    """A limit: images that score at least ``score`` are flagged; None flags none."""

    score: float | None
    flagged: int
    promise: str  # what one may expect of it, in a sentence or two
    assumption: str  # what that rests on, and what becomes of it if that fails

    def flags(self, scores: Array) -> Array:
        """Return which scores are flagged: bool [N]."""
        return np.zeros(len(scores), bool) if self.score is None else scores >= self.score

    def is_reached(self, score: float) -> bool:
        """Whether an image with this score is flagged."""
        return self.score is not None and score >= self.score


def check_budget(count: object) -> None:
    """Raise UserError unless ``count`` is a whole number of 1 or more."""
    if not (isinstance(count, Integral) and int(count) >= 1):
        raise UserError(f"a budget of {count} images: has to be a whole number of 1 or more")


def check_share(what: str, share: object) -> None:
    """Raise UserError unless ``share`` lies between 0 and 1; ``what`` names it in the message."""
    if not 0 < _number(share) < 1:
        raise UserError(f"{what} of {share}: has to be between 0 and 1")


def check_score(score: object, name: str = "a limit") -> None:
    """Raise UserError unless ``score`` is a finite number; ``name`` names it in the message."""
    if not math.isfinite(_number(score)):
        raise UserError(f"{name} of {score}: has to be a number, such as 2.5")


def _number(value: object) -> float:
    """Return a real number as a float; NaN for anything else."""
    try:
        return float(value) if isinstance(value, Real) else math.nan
    except OverflowError:
        return math.inf


def budget(scores: Array, count: int) -> Threshold:
    """Flag the ``count`` oddest images, and those that score as high as the last of them.

    Raises:
        UserError: ``count`` is less than 1, or there are no images.
    """
    check_budget(count)
    if len(scores) == 0:
        raise UserError("there are no images to flag; give some")
    score = float(np.sort(scores)[-min(count, len(scores))])
    flagged = int((scores >= score).sum())
    equal = " (more than asked for: their scores are equal)" if flagged > count else ""
    return Threshold(
        score,
        flagged,
        f"You look at the {flagged} oddest images{equal}.",
        "None. It says nothing about how many of them are anomalies, or how many are missed.",
    )


def expected_share(scores: Array, share: float) -> Threshold:
    """Flag as many of the oddest images as are expected to be anomalies.

    Raises:
        UserError: the share is out of range, or there are no images.
    """
    check_share("an expected share", share)
    count = max(1, round(share * len(scores)))
    found = budget(scores, count)
    return Threshold(
        found.score,
        found.flagged,
        f"{found.flagged} of {len(scores)} images are flagged, for the share that you expect"
        + (
            f". That are more than the {count} asked for: their scores are equal."
            if found.flagged > count
            else ". As many anomalies are missed as normal images are flagged, if you are right."
        ),
        "The share is yours. If there are fewer anomalies, the rest of the flags are false alarms; if "
        "there are more, the rest is missed.",
    )


def training_share(scores: Array, share: float) -> Threshold:
    """Flag the images that are as odd as the oddest ``share`` of the training images.

    A score of s says that one in 10^s training images is as odd, or odder.

    Raises:
        UserError: the share is out of range.
    """
    check_share("a share of the training images", share)
    score = limit_of_share(share)
    return Threshold(
        score,
        int((scores >= score).sum()),
        f"Images that score {score:.2f} or more are flagged: {100 * share:g} % of the training images score "
        "as high.",
        "None. This limit is a convention and promises nothing. The options --threshold, --budget, "
        "--expected-share and --fdr choose another one, and say what it promises.",
    )


def fixed_score(scores: Array, score: float, training_images: int | None = None) -> Threshold:
    """Flag the images that score at least ``score``, the same limit every day.

    Args:
        training_images: how many images the model was trained on; None: not known.

    Raises:
        UserError: ``score`` is no number.
    """
    check_score(score)
    flagged = int((scores >= score).sum())
    if training_images and score > math.log10(training_images):
        reached = f"hardly any of the {training_images} training images scores as high"
    else:
        reached = (
            f"about {100 * 10.0 ** -max(score, 0.0):.3g} % of the training images score as high"
        )
    return Threshold(
        score,
        flagged,
        f"Images that score {shown_limit(score)} or more are flagged, the same limit every time: {reached}.",
        "The images come from where the training images come from: with another camera, light or "
        "subject, normal images score higher. How many of the flagged images are anomalies it does not say.",
    )


def p_values(scores: Array, calibration: Array) -> Array:
    """Return conformal p-values (Bates et al. 2023, eq. 3): (1 + calibration scores as high) / (1 + n).

    A normal image has a p-value of at most t with a chance of at most t, if it and the calibration
    images could change places. Scores are [N], ``calibration`` [n].
    """
    ordered = np.sort(calibration)
    as_high = len(ordered) - np.searchsorted(ordered, scores, "left")
    return (1.0 + as_high) / (1.0 + len(ordered))


def fewest_odd(scores: Array, calibration: Array) -> int:
    """Return a lower confidence bound on the number of odd images among some: 0 says that it can't tell.

    Of the normal images, as many lie above the k-th highest calibration score as in any order of both (a negative
    hypergeometric distribution). The bound is the smallest number of odd images, all of them taken to lie above,
    that leaves the count above it likely enough, for each of a few k (Bonferroni), the best of these bounds. So it holds
    for any scores, if normal and calibration images could change places. There is no upper bound: odd images may score as
    normal ones do.

    Args:
        scores: of the images, [N].
        calibration: of images like the normal ones, on which was not trained, [n].
    """
    from scipy.stats import hypergeom  # a second

    ordered = np.sort(calibration)[::-1]
    ranks = np.unique([max(1, round(share * len(ordered))) for share in COUNTED_FROM])
    chance = (1 - CONFIDENCE) / len(ranks)
    above = (scores[:, None] > ordered[ranks - 1]).sum(axis=0)
    low, high = (
        np.zeros_like(above),
        above,
    )  # the bounds lie between: the more are odd, the likelier
    while (low < high).any():
        odd = (low + high) // 2
        # The chance that as many or more normal images lie above, if so many of all that do are odd.
        likely = hypergeom.cdf(
            ranks - 1, len(scores) - odd + len(ordered), len(ordered), above - odd + ranks - 1
        )
        low, high = (
            np.where(likely > chance, low, odd + 1),
            np.where(likely > chance, odd, high),
        )
    return int(low.max())


def false_discovery_rate(scores: Array, calibration: Array, rate: float) -> Threshold:
    """Flag such that false alarms are at most a share ``rate`` of the flags, on average.

    Benjamini and Hochberg's (1995) rule over conformal p-values; it holds for those, although they
    share their calibration images (Bates et al. 2023, theorem 2).

    Args:
        calibration: scores of images like the normal ones, on which was not trained.

    Raises:
        UserError: the share is out of range, or there are no images.
    """
    from scipy.stats import false_discovery_control  # a second

    check_share("a false discovery rate", rate)
    if len(calibration) == 0 or len(scores) == 0:
        raise UserError("there are no images to calibrate with, or none to flag; give some")
    p = p_values(scores, calibration)
    # The tolerance is for values that are equal but for rounding.
    flags = false_discovery_control(p) <= rate * (1 + 1e-12)
    assumption = (
        "The calibration images are normal, were not trained on, and come from where the normal "
        "images come from. If some of them are anomalies, fewer images are flagged, and the promise "
        "holds all the more; take those that you know out, and the rest is found again."
    )
    odd = fewest_odd(scores, calibration)
    at_least = (
        f"At least {odd} of the {len(scores)} images ({100 * odd / len(scores):.2g} %) are odd, with "
        f"{100 * CONFIDENCE:.0f} % confidence."
        if odd
        else f"Whether any of them is odd can't be told with {100 * CONFIDENCE:.0f} % confidence."
    )
    if not flags.any():
        least, finest = float(p.min()), 1 / (1 + len(calibration))
        more = (
            f" {len(calibration)} calibration images cannot give a p-value under {finest:.2g}: with "
            f"more of them, fewer images have to be odd at once."
            if least <= finest * 1.001
            else f" The oddest image has a p-value of {least:.2g}; {rate / len(p):.2g} would do."
        )
        promise = f"No image can be flagged at this rate.{more} {at_least}"
        return Threshold(None, 0, promise, assumption)
    return Threshold(
        float(scores[flags].min()),
        int(flags.sum()),
        f"Of the {int(flags.sum())} flagged images, at most {100 * rate:g} % are false alarms on "
        "average over such sets, those counted in which nothing is flagged. "
        + (
            at_least
            if odd
            else f"{at_least} With few odd images, the flags of one set may all be false."
        ),
        assumption,
    )


def gap(scores: Array, raw_score: Array, seed: int = 0) -> Threshold:
    """Flag the odder of two groups that the images fall apart into, if nearly all resamples show two.

    The density of the log raw score (a kernel estimate, Silverman's bandwidth) has to have a valley above
    its highest hill that is at most half as high as the hill beyond it.

    Args:
        raw_score: of which the scores are made, [N], positive; ``scores`` rise with it.
    """
    assumption = (
        "Anomalies are a group of their own, apart from the normal images. One that lies among the "
        "normal ones is missed; a group of normal images that lies apart is flagged."
    )
    if len(raw_score) < FEWEST:
        promise = f"Can't tell: {len(raw_score)} images are too few to look for two groups."
        return Threshold(None, 0, promise, assumption)
    x = np.log(np.maximum(raw_score, 1e-12))
    rng = np.random.default_rng(seed)
    whole = _valley(x)
    found = [_valley(x[rng.integers(0, len(x), len(x))]) for _ in range(RESAMPLES)]
    valleys = np.array([valley for valley in found if valley is not None])
    if whole is None or len(valleys) < CONVINCED * RESAMPLES:
        return Threshold(
            None, 0,
            "Can't tell: the scores do not fall apart into two groups (in "
            f"{100 * len(valleys) / RESAMPLES:.0f} % of the resamples, where {100 * CONVINCED:.0f} % "
            "would be needed). Give a budget, a share that you expect, or a false discovery rate.",
            assumption,
        )  # fmt: skip
    few, many = ((x >= valley).sum() for valley in np.quantile(valleys, [0.975, 0.025]))
    limit = float(scores[x >= whole].min())
    flagged = int((scores >= limit).sum())
    return Threshold(
        limit,
        flagged,
        f"The images fall apart into two groups, of which the odder one has {flagged} "
        f"(95 % of the resamples: {int(few)} to {int(many)}).",
        assumption,
    )


def _valley(x: Array) -> float | None:
    """Return the place of the deepest valley above the highest mode of a density; None: not deep enough."""
    quarter, three = np.quantile(x, [0.25, 0.75])
    spread = min(float(x.std()), (three - quarter) / 1.34)
    if spread <= 0:
        return None
    width = 0.9 * spread * len(x) ** -0.2
    places = np.linspace(x.min() - 2 * width, x.max() + 2 * width, _PLACES)
    # A histogram on a fine grid, smoothed: as good as the sum over all images, and quick.
    step = places[1] - places[0]
    counts, _ = np.histogram(x, np.append(places - step / 2, places[-1] + step / 2))
    reach = min(_PLACES // 2 - 1, math.ceil(4 * width / step))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / width) ** 2)
    density = np.convolve(counts, kernel, "same")
    top = int(density.argmax())
    # Of each place above the top: how high the highest hill beyond it is.
    beyond = np.maximum.accumulate(density[::-1])[::-1]
    # A hill of a few images is chance.
    hill = np.where(beyond >= _least_hill(kernel), beyond, np.nan)
    ratios = density[top:] / hill[top:]
    if np.isnan(ratios).all():
        return None
    lowest = int(np.nanargmin(ratios))
    return float(places[top + lowest]) if ratios[lowest] <= DEEPEST else None


def _least_hill(kernel: Array) -> float:
    """Return the height of five images in one place."""
    return 5.0 * float(kernel.max())
