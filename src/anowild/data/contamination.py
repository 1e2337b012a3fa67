"""Known anomalies mixed into a training set, for experiments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Contamination:
    """What was injected: the share of the result, the seed of the draw, the rows in the result."""

    rate: float
    seed: int
    indices: list[int]


def contaminate(
    normal: Array, anomalous: Array, rate: float, seed: int
) -> tuple[Array, Contamination]:
    """Append anomalies so that they make up ``rate`` of the result (paper: n = p N / (1 - p)).

    Args:
        normal, anomalous: images, the first axis counts them.
        rate: from 0 to below 1.
        seed: of the draw, without replacement.

    Raises:
        ValueError: an impossible rate, or too few anomalies for it.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"a contamination rate lies from 0 to below 1, not {rate}")
    count = round(rate * len(normal) / (1 - rate))
    if count > len(anomalous):
        raise ValueError(f"a rate of {rate} takes {count} anomalies, there are {len(anomalous)}")
    drawn = np.random.default_rng(seed).permutation(len(anomalous))[:count]
    images = np.concatenate([normal, anomalous[drawn]])
    return images, Contamination(rate, seed, list(range(len(normal), len(images))))
