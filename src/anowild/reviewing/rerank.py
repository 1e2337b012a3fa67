"""Semi-supervised reranking: a few marks correct the unsupervised ranking.

The model is a logistic regression with an offset. The log odds that an image is odd are its score in
nats (the offset) plus a linear function of its cues and of the detector's features. The function is
fitted with an L2 penalty to the marked images, and to the unmarked ones, which count as normal with a
small weight: most of them are normal, and people mark the oddest images first, so that the marked
images alone would not show what normal images look like. Without marks the function is zero, and with
few marks it stays small. docs/review.md says on which sets the weights were chosen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize

from anowild.arrays import Array
from anowild.scoring.calibration import log_cue

#: Weight of the L2 penalty, and the total weight of all unmarked images; one mark has weight 1.
PENALTY, UNMARKED_WEIGHT = 5.0, 25.0
#: Root of the sum of the variances of all features, where each cue has variance 1; and the power of its own deviation
#: by which a feature is divided before, from above 0 (nearly as it is) to 1 (all count alike).
FEATURES_DEVIATION, EVENED = 6.0, 0.5
#: With fewer marks than this, both weights are increased in inverse proportion to the marks.
MARKS_FULL_WEIGHT = 80
#: Maximum number of unmarked images that enter the fit; they represent all others.
MAX_UNMARKED = 5000
#: Minimum number of odd and of normal marks.
MIN_MARKS = 2


def reranking_features(cues: Mapping[str, Array], features: Array) -> Array:
    """Return standardized log cues, and features: float64 [N, cues + D], of mean 0.

    Args:
        cues: [N] each.
        features: [N, D], uncorrelated, as principal components are; scaled as FEATURES_DEVIATION and EVENED say.
    """
    logs = np.stack([log_cue(values) for values in cues.values()], axis=1)
    x = _divided(features.astype(np.float64), EVENED)
    total = np.sqrt(x.var(axis=0).sum())
    return np.concatenate([_divided(logs, 1.0), x * (FEATURES_DEVIATION / (total or 1.0))], axis=1)


def rerank(score: Array, features: Array, marked: Array, odd: Array) -> Array | None:
    """Fit the model to marks, and score all images with it.

    Args:
        score: the detector's scores, [N]: -log10 of the share of training images as odd or odder.
        features: [N, D], of :func:`reranking_features`.
        marked: indices of the marked images, int [M].
        odd: whether each of them is odd, bool [M].

    Returns:
        Log odds [N], higher is odder; None if there are too few odd or normal marks.
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

    # The intercept is not penalized: the share of odd images is unknown, and does not change a ranking.
    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B")
    return np.asarray(prior + found.x[0] + features @ found.x[1:])


def _divided(x: Array, power: float) -> Array:
    """Shift columns to mean 0, and divide them by a power, above 0, of their deviation; constant ones become 0."""
    deviation = x.std(axis=0)
    scale = np.where(deviation > 1e-9, deviation, np.inf) ** -power
    return np.asarray((x - x.mean(axis=0)) * scale)
