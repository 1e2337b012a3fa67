"""Rules that fuse cues of the view `gan` into one score without labels, for comparison with its own.

A rule takes the cues of the (contaminated) training set and of other images, by name, and returns scores
of the other images, higher is odder. No rule sees a label or a rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from anowild.arrays import Array
from anowild.scoring.calibration import CueCalibration, log_cue, lower_side, skewness
from anowild.views.gan import CUES

Cues = Mapping[str, Array]
Rule = Callable[[Cues, Cues], Array]

#: Title of the own rule of the view `gan`.
DEFAULT_RULE = "combined score"
#: The cues of the paper.
PAPER = ("residual", "feature_distance", "latent_norm")
#: The cues that count in the score of the view; of all of them more is odder.
COMBINED = tuple(name for name, cue in CUES.items() if cue.counts and not cue.retired)
#: Cues of an earlier rule, whose odd side the skewness of the first decided.
EARLIER = ("squared_residual", "structure", "latent_distance", "hidden_distance")


def evidence(training: Cues, images: Cues) -> Array:
    """Add up the evidence of the cues that count: the rule of the view."""
    fitted = {name: CueCalibration.fit(training[name], CUES[name].odd_side) for name in COMBINED}
    return np.sum([cue.evidence(images[name]) for name, cue in fitted.items()], axis=0)


def largest(training: Cues, images: Cues) -> Array:
    """Compute the largest surprise among the cues that count, as in models of format 6."""
    return np.max(_surprises(COMBINED, training, images), axis=0)


def summed(
    names: Sequence[str] = COMBINED,
    lower: float | Callable[[Cues, str], float] | None = None,
    halved: Sequence[str] = (),
) -> Rule:
    """Return the rule of the sum of surprises over cues.

    Args:
        lower: probability that the lower side of each cue is odd; or a function of the training cues and
            the name; None: as the cue has it.
        halved: cues whose surprise counts half.
    """
    weights = np.array([0.5 if name in halved else 1.0 for name in names])
    return lambda training, images: weights @ _surprises(names, training, images, lower)


def _surprises(
    names: Sequence[str],
    training: Cues,
    images: Cues,
    lower: float | Callable[[Cues, str], float] | None = None,
) -> Array:
    """Return the surprises of some cues, in nats: [names, N]."""
    found = []
    for name in names:
        likely = lower(training, name) if callable(lower) else lower
        side = CUES[name].odd_side if name in COMBINED else "either"
        found.append(CueCalibration.fit(training[name], side, lower=likely).surprise(images[name]))
    return np.stack(found)


def by_skewness(leading: str | None = None) -> Callable[[Cues, str], float]:
    """Return a function that decides the odd side by the skewness of one cue, or of each."""
    return lambda training, name: lower_side(skewness(log_cue(training[leading or name])))


def ranks(training: Cues, images: Cues) -> Array:
    """Compute the mean of the ranks among the training images, upper side."""
    found = [np.searchsorted(np.sort(training[n]), images[n]) / len(training[n]) for n in COMBINED]
    return np.mean(found, axis=0)


def robust_z(training: Cues, images: Cues) -> Array:
    """Compute the mean of the robust z-scores of the log cues, upper side."""
    total = np.zeros(len(images[COMBINED[0]]))
    for name in COMBINED:
        usual = log_cue(training[name])
        middle = np.median(usual)
        total += (log_cue(images[name]) - middle) / (np.median(np.abs(usual - middle)) + 1e-12)
    return total / len(COMBINED)


def conformal(training: Cues, images: Cues) -> Array:
    """Compute Fisher's sum of log conformal p-values, upper side."""
    total = np.zeros(len(images[COMBINED[0]]))
    for name in COMBINED:
        usual = np.sort(training[name])
        above = len(usual) - np.searchsorted(usual, images[name])
        total -= np.log((above + 1) / (len(usual) + 1))
    return total


def ecod(training: Cues, images: Cues) -> Array:
    """Compute ECOD over the cues (Li et al. 2022): the largest of three sums of log tail probabilities."""
    upper, lower, skewed = (np.zeros(len(images[COMBINED[0]])) for _ in range(3))
    for name in COMBINED:
        usual = np.sort(log_cue(training[name]))
        x, count = log_cue(images[name]), len(usual)
        above = -np.log((count - np.searchsorted(usual, x) + 1) / (count + 1))
        below = -np.log((np.searchsorted(usual, x, "right") + 1) / (count + 1))
        upper, lower = upper + above, lower + below
        skewed = skewed + (below if skewness(usual) < 0 else above)
    return np.maximum(np.maximum(upper, lower), skewed)


#: Rules by the title of their row.
RULES: dict[str, Rule] = {
    DEFAULT_RULE: evidence,
    "largest surprise": largest,
    "sum": summed(),
    "sum, each cue by its own skewness": summed(lower=by_skewness()),
    "sum, both sides": summed(lower=0.5),
    "sum, the two distances counted once": summed(halved=("latent_distance", "hidden_distance")),
    "sum with the latent norm": summed((*COMBINED, "latent_norm")),
    "sum of earlier cues, the side by the squared residual": summed(
        EARLIER, by_skewness(EARLIER[0])
    ),
    "sum of the paper's three cues, each by its own skewness": summed(PAPER, by_skewness()),
    "mean of ranks": ranks,
    "mean of robust z": robust_z,
    "conformal p-values": conformal,
    "ECOD over the cues": ecod,
}
