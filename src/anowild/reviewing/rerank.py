"""What a few marks teach: a second ranking that starts from the unsupervised one.

The log odds of an image are its score, in nats, plus a linear function of its cues and of E's
latents. That function is fitted by regularized logistic regression to the marks, and to the images
without a mark, which are taken to be normal but count little: most of them are, and the oddest images
alone, which is what people mark first, would not say what is usual. Without marks the function is
zero, and with few it stays small. The weights were chosen on sets of digits (docs/review.md).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize

from anowild.arrays import Array
from anowild.scoring.calibration import log_cue

#: Weight of the squared coefficients, and of all images without a mark together, in marks.
PENALTY, UNMARKED_WEIGHT = 5.0, 25.0
#: With fewer marks than this both weigh more, in proportion.
MARKS_FULL_WEIGHT = 80
#: So many images without a mark stand for all.
MAX_UNMARKED = 5000
#: Fewest marks of either kind.
MIN_MARKS = 2


def reranking_features(cues: Mapping[str, Array], features: Array) -> Array:
    """Standardized log cues, and latents that weigh as much together as a cue: float64 [N, D]."""
    logs = np.stack([log_cue(values) for values in cues.values()], axis=1)
    weight = np.sqrt(max(1, features.shape[1]))
    columns = [_standardized(logs), _standardized(features) / weight]
    return np.concatenate(columns, axis=1)


def rerank(score: Array, features: Array, marked: Array, odd: Array) -> Array | None:
    """New scores [N], higher is odder; None where there are too few marks of either kind.

    Args:
        score: [N], log10 of how rare an image is.
        features: [N, D].
        marked: numbers of marked images, int [M].
        odd: bool [M], which of them are odd.
    """
    if min(odd.sum(), (~odd).sum()) < MIN_MARKS:
        return None
    prior = score * np.log(10.0)
    others = np.setdiff1d(np.arange(len(score)), marked)
    if len(others) > MAX_UNMARKED:
        others = others[np.linspace(0, len(others) - 1, MAX_UNMARKED).astype(int)]
    fitted = np.concatenate([marked, others])
    x, offset = features[fitted], prior[fitted]
    sign = np.concatenate([np.where(odd, 1.0, -1.0), np.full(len(others), -1.0)])
    caution = max(1.0, MARKS_FULL_WEIGHT / len(marked))
    penalty, unmarked = PENALTY * caution, UNMARKED_WEIGHT * caution / max(1, len(others))
    weight = np.concatenate([np.ones(len(marked)), np.full(len(others), unmarked)])

    def loss(weights: Array) -> tuple[float, Array]:
        margin = sign * (offset + weights[0] + x @ weights[1:])
        slope = -sign * weight / (1.0 + np.exp(np.clip(margin, -500, 500)))
        value = weight @ np.logaddexp(0.0, -margin) + 0.5 * penalty * np.square(weights[1:]).sum()
        gradient = np.concatenate([[slope.sum()], x.T @ slope + penalty * weights[1:]])
        return float(value), gradient

    # The constant term is free: how many images are odd is not known, and does not change a ranking.
    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B")
    return np.asarray(prior + found.x[0] + features @ found.x[1:])


def _standardized(x: Array) -> Array:
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1.0)
