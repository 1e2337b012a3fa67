"""What a few marks teach: a second ranking that starts from the unsupervised one.

The log odds of an image are its score, in nats, plus a linear function of its cues and of E's
latents. That function is fitted to the marks by regularised logistic regression: without marks it is
zero, and with few it stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import minimize

from anowild.scoring.calibration import log_cue

Array = np.ndarray[Any, Any]

#: Weight of the squared coefficients, in marks.
PENALTY = 3.0
#: Fewest marks of either kind.
FEWEST = 2


def features(cues: Mapping[str, Array], latents: Array) -> Array:
    """Standardised log cues, and latents that weigh as much together as a cue: float64 [N, D]."""
    logs = np.stack([log_cue(values) for values in cues.values()], axis=1)
    columns = [_standardised(logs), _standardised(latents) / np.sqrt(latents.shape[1])]
    return np.concatenate(columns, axis=1)


def rerank(score: Array, features: Array, marked: Array, odd: Array) -> Array | None:
    """New scores [N], higher is odder; None where there are too few marks of either kind.

    Args:
        score: [N], log10 of how rare an image is.
        features: [N, D].
        marked: numbers of marked images, int [M].
        odd: bool [M], which of them are odd.
    """
    if min(odd.sum(), (~odd).sum()) < FEWEST:
        return None
    prior = score * np.log(10.0)
    x, offset = features[marked], prior[marked]
    sign = np.where(odd, 1.0, -1.0)

    def loss(weights: Array) -> tuple[float, Array]:
        margin = sign * (offset + weights[0] + x @ weights[1:])
        slope = -sign / (1.0 + np.exp(np.clip(margin, -500, 500)))
        value = np.logaddexp(0.0, -margin).sum() + 0.5 * PENALTY * np.square(weights[1:]).sum()
        gradient = np.concatenate([[slope.sum()], x.T @ slope + PENALTY * weights[1:]])
        return float(value), gradient

    # The constant term is free: how many images are odd is not known, and does not change a ranking.
    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B")
    return np.asarray(prior + found.x[0] + features @ found.x[1:])


def _standardised(x: Array) -> Array:
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1.0)
