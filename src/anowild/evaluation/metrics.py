"""Metrics of a ranking against labels, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from anowild.arrays import Array

#: Standard deviations of a normal distribution on either side of its mean that hold 95 %.
_Z = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A value on the whole sample, and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def auroc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve: the chance that an anomaly scores above a normal image."""
    from scipy.stats import rankdata  # a second

    # As scikit-learn's, without its checks: a bootstrap asks for it thousands of times.
    odd = np.asarray(labels) == 1
    count = int(odd.sum())
    above = rankdata(scores)[odd].sum() - count * (count + 1) / 2
    return float(above / (count * (len(odd) - count)))


def auroc_interval(labels: Array, scores: Array) -> Estimate:
    """Compute the AUROC and its 95 % score interval (Newcombe 2006, method 5).

    The interval holds the values from which the one found is at most 1.96 standard deviations away, by Hanley and
    McNeil's (1982) variance for groups of the mean size. Where ranking is perfect it still has a width.
    """
    from scipy.optimize import brentq

    value = auroc(labels, scores)
    odd = int((np.asarray(labels) == 1).sum())
    normal = len(labels) - odd
    mean = (odd + normal) / 2 - 1

    def too_far(truth: float) -> float:
        spread = 1 + mean * (1 - truth) / (2 - truth) + mean * truth / (1 + truth)
        return (value - truth) ** 2 - _Z**2 * truth * (1 - truth) * spread / (odd * normal)

    near = 1e-9  # of the ends, where the variance is 0
    low = 0.0 if value <= near else brentq(too_far, 0.0, min(value, 1 - near))
    high = 1.0 if value >= 1 - near else brentq(too_far, max(value, near), 1.0)
    return Estimate(value, float(low), float(high))


def average_precision(labels: Array, scores: Array) -> float:
    """Area under the precision-recall curve, as a step-wise sum."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    odd, ranked = np.asarray(labels)[order] == 1, np.asarray(scores)[order]
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, True))  # of each group of equal scores
    found = np.cumsum(odd)[last]
    return float((found / (last + 1) * np.diff(found, prepend=0)).sum() / found[-1])


def f1_at(threshold: float) -> Callable[[Array, Array], float]:
    """Return the metric F1 of flagging scores of at least ``threshold``."""

    def f1(labels: Array, scores: Array) -> float:
        flagged, odd = scores >= threshold, labels == 1
        found = 2.0 * (flagged & odd).sum()
        return float(found / (flagged.sum() + odd.sum()))

    return f1


def estimate(
    metric: Callable[[Array, Array], float],
    labels: Array,
    scores: Array,
    resamples: int = 500,
    seed: int = 0,
) -> Estimate:
    """Compute a metric and its 95 % percentile bootstrap interval.

    Args:
        labels: [N], 1 for anomalies and 0 for normal images; both must occur.
        scores: [N], higher is odder.
        resamples: number of resamples; normal images and anomalies are resampled apart.
    """
    # Not scipy.stats.bootstrap: it draws in another order, which changes intervals in the third digit,
    # and calls the metric as often.
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(labels == label) for label in (0, 1)]
    values = []
    for _ in range(resamples):
        drawn = np.concatenate([rng.choice(group, len(group)) for group in groups])
        values.append(metric(labels[drawn], scores[drawn]))
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(metric(labels, scores), float(low), float(high))


@dataclass(frozen=True)
class Quality:
    """How well one column ranks anomalies above normal images."""

    auroc: Estimate
    average_precision: Estimate
    f1: Estimate | None  # at the threshold; for the combined score only


def qualities(
    columns: Mapping[str, Array], truth: Array, threshold: float | None = None
) -> dict[str, Quality]:
    """Measure how well columns of scores rank anomalies (1) above normal images (0); both must occur.

    Args:
        columns: by name, [N] each; F1 is computed of the one called ``score``.
        threshold: score from which an image is flagged; None: no F1.
    """
    found = {}
    for name, values in columns.items():
        flag = f1_at(threshold) if name == "score" and threshold is not None else None
        found[name] = Quality(
            auroc=auroc_interval(truth, values),
            average_precision=estimate(average_precision, truth, values),
            f1=None if flag is None else estimate(flag, truth, values),
        )
    return found
