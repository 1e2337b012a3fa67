"""Robust training: images that the model itself finds odd, look after look, are not drawn.

Nobody says how many there are. At every look each training image's oddness is averaged with what
it was before, because what is odd by chance is not odd for long. A gamma distribution is fitted to
the middle of the averages, where anomalies are few; what the upper tail holds beyond it is taken
for the rate of anomalies, and as many of the oddest images are left out until the next look,
within a bound. (docs/results.md shows how little that estimate can be trusted: a clean set has a
heavy tail as well. The bound is what protects.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anowild.arrays import Array
from anowild.training.step import Networks

#: What a look asks: networks and level of detail -> oddness of every training image, float64 [N],
#: 0 or more, the larger the odder; sums of about as many surprises as there are cues.
Judge = Callable[[Networks, float], Array]

#: Looks in the second part of a run, at most; and the least number of training images, as a share
#: of all, that are trained on between two of them.
LOOKS, LEAST_BETWEEN = 10, 0.5
#: Weight of what was before in the average of a look with all that precede it, at most.
MEMORY = 0.8
#: The part of the averages that the gamma distribution is fitted to, between these quantiles.
MIDDLE = (0.2, 0.6)


@dataclass
class Suspects:
    """What robust training has seen of each image; saved with the training state."""

    oddness: Array  # float64 [N], the average over looks
    dropped: Array  # bool [N], not drawn at present
    times_dropped: Array  # int64 [N], looks after which it was left out
    looks: int = 0
    look_nimg: int = -1  # images at the last look
    rate: float = 0.0  # estimated share of anomalies at the last look

    @staticmethod
    def none(count: int) -> Suspects:
        return Suspects(np.zeros(count), np.zeros(count, bool), np.zeros(count, np.int64))

    def look(self, oddness: Array, nimg: int, most: float) -> None:
        """Take in a look's verdicts, and decide anew what to leave out, ``most`` of all at most."""
        memory = min(MEMORY, self.looks / (self.looks + 1))
        self.oddness = self.oddness * memory + oddness * (1 - memory)
        self.looks += 1
        self.look_nimg = nimg
        self.rate = excess(self.oddness)
        count = int(min(self.rate, most) * len(self.oddness))
        self.dropped = np.zeros(len(self.oddness), bool)
        self.dropped[np.argsort(-self.oddness, kind="stable")[:count]] = True
        self.times_dropped = self.times_dropped + self.dropped

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be saved."""
        arrays = ("oddness", "dropped", "times_dropped")
        numbers = torch.tensor([self.looks, self.look_nimg, self.rate], dtype=torch.float64)
        return {name: torch.from_numpy(getattr(self, name)) for name in arrays} | {
            "numbers": numbers
        }

    @staticmethod
    def of(tensors: dict[str, Tensor]) -> Suspects:
        """What :meth:`tensors` gave. Raises KeyError where something is missing."""
        looks, look_nimg, rate = tensors["numbers"].tolist()
        return Suspects(
            tensors["oddness"].numpy(),
            tensors["dropped"].numpy(),
            tensors["times_dropped"].numpy(),
            int(looks),
            int(look_nimg),
            rate,
        )


def excess(oddness: Array) -> float:
    """What the upper tail holds beyond a gamma distribution fitted to the middle, as a share of all.

    The difference of the two tails where it is largest. A sum of surprises, each exponential where
    nothing is odd, is gamma distributed, the more so the less the cues depend on each other.
    """
    from scipy.optimize import brentq
    from scipy.stats import gamma

    x = np.sort(np.asarray(oddness, np.float64))
    low, high = np.quantile(x, MIDDLE)
    if not 0 < low < high:
        return 0.0

    def misfit(log_shape: float) -> float:
        fitted = gamma.ppf(MIDDLE, np.exp(log_shape))
        return float(np.log(fitted[1] / fitted[0]) - np.log(high / low))

    bounds = (-3.0, 8.0)
    if misfit(bounds[0]) < 0 or misfit(bounds[1]) > 0:
        return 0.0
    shape = float(np.exp(brentq(misfit, *bounds)))
    scale = high / gamma.ppf(MIDDLE[1], shape)
    above = 1 - np.arange(len(x)) / len(x)
    upper = x > np.median(x)
    surplus = (above - gamma.sf(x, shape, scale=scale))[upper]
    return max(0.0, float(surplus.max(initial=0.0)))


def due(nimg: int, total: int, images: int, start: float, last: int) -> bool:
    """Whether to look, at a log line: from a share ``start`` of the run on, every so many images."""
    if nimg == 0 or nimg < start * total or nimg >= total:
        return False
    interval = max(LEAST_BETWEEN * images, (1 - start) * total / LOOKS)
    return last < 0 or nimg >= last + interval
