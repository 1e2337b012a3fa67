"""How many images networks are trained on at the least, and at which size they see them."""

from __future__ import annotations

import math

from anowild.settings import Settings

#: Least number of images that a network is trained on.
MIN_IMAGES = 16


def network_halvings(side: int, settings: Settings) -> int:
    """Return how often stored images are halved for the networks that are trained."""
    if settings.resolution is not None:
        return 0
    return max(0, math.ceil(math.log2(side / settings.max_network_resolution)))
