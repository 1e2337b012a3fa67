"""Scores of some images, and the cues that they come from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from anowild.arrays import Array
from anowild.shown import floor_hundredths

#: Share of training images as odd or odder at which an image is flagged unless told otherwise.
FLAGGED_SHARE = 0.05


@dataclass
class Scores:
    """Scores and cues of some images, each float64 [N]; higher scores are odder.

    A score of s says that about one in 10^s training images is as odd, or odder: for all views
    together, and for each view alone. Of an image that is scored by tiles, cues and views are those of
    its oddest tile.
    """

    score: Array
    cues: dict[str, Array]
    views: dict[str, Array] = field(default_factory=dict)
    #: Number of the oddest tile among those of its image, int [N]; None: images are not cut into tiles.
    tile: Array | None = None

    def _check(self) -> None:
        """Raise ValueError if these are not finite numbers for the same images."""
        count = len(self.score) if self.score.ndim == 1 else -1
        for name, values in self.columns().items():
            if values.shape != (count,) or values.dtype != np.float64:
                raise ValueError(f"{name} is {values.dtype} {list(values.shape)}")
            if not np.isfinite(values).all():
                raise ValueError(f"{name} has values that are not finite")
        tile = self.tile
        if tile is not None and (
            tile.shape != (count,) or tile.dtype.kind != "i" or min(tile, default=0) < 0
        ):
            raise ValueError(f"tile is {tile.dtype} {list(tile.shape)}, or negative")

    def to_arrays(self) -> dict[str, Array]:
        """Return all that there is to keep in a file, by names that :meth:`from_arrays` knows."""
        arrays = {f"cue_{name}": values for name, values in self.cues.items()}
        arrays |= {f"view_{name}": values for name, values in self.views.items()}
        return arrays | {"score": self.score} | ({} if self.tile is None else {"tile": self.tile})

    @staticmethod
    def from_arrays(arrays: Mapping[str, Array]) -> Scores:
        """Return the scores that arrays of a file are of; others among the arrays are passed over.

        Raises:
            KeyError: the scores are missing.
            ValueError: the arrays are no finite numbers of the same images.
        """
        groups: dict[str, dict[str, Array]] = {"cue": {}, "view": {}}
        for key in arrays:
            kind, *name = re.split("[_/]", key, maxsplit=1)  # a slash in earlier files
            if kind in groups and name:
                groups[kind][name[0]] = arrays[key]
        scores = Scores(arrays["score"], groups["cue"], groups["view"], arrays.get("tile"))
        scores._check()
        return scores

    @staticmethod
    def concatenate(parts: Sequence[Scores]) -> Scores:
        """Join the scores of several batches, at least one."""
        cues = {cue: np.concatenate([part.cues[cue] for part in parts]) for cue in parts[0].cues}
        views = {v: np.concatenate([part.views[v] for part in parts]) for v in parts[0].views}
        tiles = [part.tile for part in parts if part.tile is not None]
        tile = np.concatenate(tiles) if tiles else None
        return Scores(np.concatenate([part.score for part in parts]), cues, views, tile)

    def select(self, chosen: Array) -> Scores:
        """Return the scores of some images, by their numbers or a mask."""
        cues, views = (
            {name: values[chosen] for name, values in group.items()}
            for group in (self.cues, self.views)
        )
        tile = None if self.tile is None else self.tile[chosen]
        return Scores(self.score[chosen], cues, views, tile)

    def deciding_squares(self, owners: Array | None) -> Array:
        """Return the numbers of the squares that decide the scores, int [N]: the oddest tiles, or the images.

        Args:
            owners: number of the image that each square is of, int [M], ascending; None: each is one.
        """
        numbers = np.arange(len(self.score))
        if owners is None or self.tile is None:
            return numbers
        return np.searchsorted(owners, numbers) + self.tile

    def ranks(self) -> Array:
        """Rank the images, 1 for the oddest; equal scores are ranked in the order they came in."""
        order = oddest_first(self.score)
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(1, len(order) + 1)
        return ranks

    def columns(self) -> dict[str, Array]:
        """Return ``score``, the scores of the views, as ``view_pixels``, and the cues by name."""
        views = {f"view_{name}": values for name, values in self.views.items()}
        return {"score": self.score, **views, **self.cues}


def reached(ranked_scores: Array, limit: float) -> int:
    """Return how many of falling scores [N] are at least ``limit``."""
    return len(ranked_scores) - int(np.searchsorted(ranked_scores[::-1], limit, "left"))


def limit_of_share(share: float) -> float:
    """Return the score that about ``share`` of the training images reach, as scores are shown.

    An image that is shown with this score or more has it: 5 % is 1.30, which 10^-1.30 = 5.01 % reach.
    """
    return floor_hundredths(-math.log10(share))


def p_value(score: Array | float) -> Array:
    """Return the share of the training images that are as odd, or odder, from 0 to 1, of each score."""
    return np.minimum(1.0, 10.0 ** -np.asarray(score, np.float64))


#: The limit unless another is chosen.
USUAL_LIMIT = limit_of_share(FLAGGED_SHARE)


def oddest_first(score: Array) -> Array:
    """Return the numbers of images by falling score; equal scores stay in the order they came in."""
    return np.argsort(-score, kind="stable")
