"""Robust training: training images that the model itself finds anomalous are not drawn.

The rate of anomalies is unknown. At each reassessment the anomaly score of every training image is
averaged with its earlier ones, because chance makes an image look anomalous once, not repeatedly. A
gamma distribution is fitted to the middle of the averages, where anomalies are few. The excess of the
upper tail over it is the estimated rate, and that share of the images with the highest scores is left
out until the next reassessment, up to a limit. (The estimate is unreliable, as a clean set has a heavy
tail as well: see docs/gan_study.md. The limit is what protects a clean set.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anowild.arrays import Array
from anowild.training.networks import Networks
from anowild.views.loading import check_tensors

#: Networks and level of detail -> anomaly score of every training image: float64 [N], 0 or more, the
#: higher the more anomalous; a sum of surprisals in nats, about one for each cue.
AnomalyScorer = Callable[[Networks, float], Array]

#: Limit on reassessments in a run, and least number of images trained on between two of them, as a share
#: of the training set.
MAX_REASSESSMENTS, MIN_INTERVAL = 10, 0.5
#: Largest weight of the earlier average when a new score is averaged in.
MEMORY = 0.8
#: Quantiles of the averages between which the gamma distribution is fitted.
MIDDLE = (0.2, 0.6)


@dataclass
class Suspects:
    """The state of robust training, one value for each training image; saved in checkpoints."""

    oddness: Array  # float64 [N], anomaly score averaged over reassessments
    dropped: Array  # bool [N], left out at present
    times_dropped: Array  # int64 [N], number of reassessments that left the image out
    reassessments: int = 0
    reassessed_nimg: int = -1  # images trained on before the last reassessment
    rate: float = 0.0  # rate of anomalies as last estimated

    @staticmethod
    def empty(count: int) -> Suspects:
        """Return the state before the first reassessment, with no image left out."""
        return Suspects(np.zeros(count), np.zeros(count, bool), np.zeros(count, np.int64))

    def reassess(self, oddness: Array, nimg: int, max_dropped: float) -> None:
        """Average new scores in, and choose anew which images to leave out.

        Args:
            oddness: what an :data:`AnomalyScorer` returned.
            nimg: images trained on so far.
            max_dropped: limit on the share of images to leave out.
        """
        memory = min(MEMORY, self.reassessments / (self.reassessments + 1))
        self.oddness = self.oddness * memory + oddness * (1 - memory)
        self.reassessments += 1
        self.reassessed_nimg = nimg
        self.rate = estimate_anomaly_rate(self.oddness)
        count = int(min(self.rate, max_dropped) * len(self.oddness))
        self.dropped = np.zeros(len(self.oddness), bool)
        self.dropped[np.argsort(-self.oddness, kind="stable")[:count]] = True
        self.times_dropped = self.times_dropped + self.dropped

    def tensors(self) -> dict[str, Tensor]:
        """Return the whole state as tensors, to be saved."""
        arrays = ("oddness", "dropped", "times_dropped")
        numbers = [self.reassessments, self.reassessed_nimg, self.rate]
        return {name: torch.from_numpy(getattr(self, name)) for name in arrays} | {
            "numbers": torch.tensor(numbers, dtype=torch.float64)
        }

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], count: int) -> Suspects:
        """Restore the state from :meth:`tensors`.

        Args:
            tensors: of the state.
            count: of training images.

        Raises:
            ValueError: a tensor is missing or unknown, or does not fit ``count``.
        """
        check_tensors(
            tensors,
            {
                "oddness": ((count,), torch.float64),
                "dropped": ((count,), torch.bool),
                "times_dropped": ((count,), torch.int64),
                "numbers": ((3,), torch.float64),
            },
        )
        if not all(tensors[name].isfinite().all() for name in ("oddness", "numbers")):
            raise ValueError("oddness or numbers are not finite")
        reassessments, reassessed_nimg, rate = tensors["numbers"].tolist()
        return Suspects(
            tensors["oddness"].numpy(),
            tensors["dropped"].numpy(),
            tensors["times_dropped"].numpy(),
            int(reassessments),
            int(reassessed_nimg),
            rate,
        )


def estimate_anomaly_rate(oddness: Array) -> float:
    """Estimate the share of anomalies from the upper tail of the scores.

    It is the largest difference between the empirical tail and that of a gamma distribution fitted to
    the middle. Without anomalies a score is a sum of exponentially distributed surprisals, which is
    gamma distributed if the cues are independent.

    Returns:
        A share of all images, 0 or more; 0 where no gamma distribution fits.
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


def is_reassessment_due(nimg: int, total: int, images: int, start: float, last: int) -> bool:
    """Whether to reassess the training images now; asked at every log line.

    Args:
        nimg: images trained on so far.
        total: images that the run will train on.
        images: size of the training set.
        start: share of the run before the first reassessment.
        last: ``nimg`` at the last reassessment; negative before the first.
    """
    if nimg == 0 or nimg < start * total or nimg >= total:
        return False
    interval = max(MIN_INTERVAL * images, (1 - start) * total / MAX_REASSESSMENTS)
    return last < 0 or nimg >= last + interval
