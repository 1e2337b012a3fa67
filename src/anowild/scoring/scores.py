"""Scores of some images, and the cues that they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anowild.arrays import Array


@dataclass
class Scores:
    """Scores and cues of some images, each float64 [N]; higher scores are odder."""

    score: Array
    cues: dict[str, Array]

    @staticmethod
    def concatenate(parts: Sequence[Scores]) -> Scores:
        """Join the scores of several batches, at least one."""
        cues = {cue: np.concatenate([part.cues[cue] for part in parts]) for cue in parts[0].cues}
        return Scores(np.concatenate([part.score for part in parts]), cues)

    def select(self, chosen: Array) -> Scores:
        """Return the scores of some images, by their numbers or a mask."""
        return Scores(self.score[chosen], {cue: v[chosen] for cue, v in self.cues.items()})

    def ranks(self) -> Array:
        """Rank the images, 1 for the oddest; equal scores are ranked in the order they came in."""
        order = oddest_first(self.score)
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(1, len(order) + 1)
        return ranks

    def columns(self) -> dict[str, Array]:
        """Return ``score`` and the cues by name."""
        return {"score": self.score, **self.cues}


def oddest_first(score: Array) -> Array:
    """Return the numbers of images by falling score; equal scores stay in the order they came in."""
    return np.argsort(-score, kind="stable")
