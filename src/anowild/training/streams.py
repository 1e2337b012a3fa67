"""Random streams of trainings, so that none repeats the numbers of another, and a resumed run draws what it would have.

A stream is a function of its key: the run's seed, the number of the network, what is drawn (:class:`Draw`), and as a
rule how many images were shown before.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Draw(IntEnum):
    """What is drawn; the numbers are part of what a seed means, and never change."""

    EPOCH = 1  # order of the training images
    FLIP = 2
    NOISE = 3  # latents and augmentation of an iteration
    GRID = 4  # images and latents of grids
    QUARTER_TURN = 5
    SUBSTITUTE = 6  # images in the place of unwanted ones
    SHIFT = 7  # shifts, and the first parameters of R


def torch_seed(*key: int) -> int:
    """Return the seed of a generator of PyTorch for the stream with this key."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
