"""Whether the images that come in are still like the training images, from their scores alone.

Of images like the training images, one in 10^s reaches a score of s: 10^-score is spread evenly from 0 to 1.
The statistic is the largest distance of the last images' distribution from that (Kolmogorov-Smirnov).
"""

from __future__ import annotations

import math
import threading
from collections import deque

import numpy as np

from anowild.arrays import Array
from anowild.scoring.scores import FLAGGED_SHARE, USUAL_LIMIT

#: Images that are looked back on, and the fewest of which anything is said.
WINDOW, FEWEST = 500, 50
#: Smallest distance that is called drift, as new images never spread exactly as training images; and the
#: chance that the window of images like the training images exceeds it (Dvoretzky, Kiefer, Wolfowitz, Massart).
LEAST_DISTANCE, CHANCE = 0.15, 1e-6
#: Drift is over when the distance is below this share of the limit: near the limit it would begin and end all the time.
OVER = 0.8


class Drift:
    """Follows the scores of images one after the other; safe to share between threads.

    Args:
        training_images: how many images the scores compare with; None: not known.
        window: images that are looked back on.
    """

    def __init__(self, training_images: int | None = None, window: int = WINDOW) -> None:
        self._training = training_images
        self._scores: deque[float] = deque(maxlen=window)
        self._lock = threading.RLock()
        self.drifted = False  # as far as was told by :meth:`follow`

    def add(self, scores: Array) -> None:
        """Take the scores of the next images, [N]."""
        with self._lock:
            self._scores.extend(np.asarray(scores, np.float64).tolist())

    @property
    def scores(self) -> Array:
        """The scores that are looked back on, the oldest first; to be kept over a restart."""
        with self._lock:
            return np.array(self._scores, np.float64)

    def distance(self) -> float:
        """Return the distance from the training images' distribution, from 0 to 1; 0 for fewer than ``FEWEST``."""
        shares = np.sort(10.0**-self.scores)
        count = len(shares)
        if count < FEWEST:
            return 0.0
        above = np.arange(1, count + 1) / count - shares
        below = shares - np.arange(count) / count
        return float(max(above.max(), below.max()))

    def limit(self) -> float:
        """Return the distance from which drift is called."""
        count: float = max(len(self._scores), 1)
        if self._training:  # two samples are compared
            count = count * self._training / (count + self._training)
        return max(LEAST_DISTANCE, math.sqrt(math.log(2 / CHANCE) / (2 * count)))

    def follow(self, scores: Array) -> str | None:
        """Take the scores of the next images, [N]; return a sentence when drift begins, and when it is over."""
        with self._lock:
            self.add(scores)
            if not self.drifted:
                warning = self.warning()
                self.drifted = warning is not None
                return warning
            if self.distance() >= OVER * self.limit():
                return None
            self.drifted = False
            return f"the last {len(self.scores)} images are like the training images again"

    def warning(self) -> str | None:
        """Return a sentence if the images have drifted away from the training images; None if not."""
        distance = self.distance()
        if distance <= self.limit():
            return None
        scores = self.scores
        share = float((scores >= USUAL_LIMIT).mean())
        return (
            f"the last {len(scores)} images are not like the training images any more: {100 * share:.0f} % are as "
            f"odd as the oddest {100 * FLAGGED_SHARE:g} % of those (distance {distance:.2f}); another camera, "
            "light or product? Look at them, and train again on images as they are now"
        )
