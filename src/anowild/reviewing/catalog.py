"""What the page of a review asks of the images that it shows, wherever they and their scores are kept.

`ranking` has them packed, with their scores in memory; `table` has a table in parts on disk, and decodes originals
on demand. Images are numbers from 0 to N - 1, and the page learns from ``offers`` what there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.reviewing.query import Query
from anowild.reviewing.store import Mark

#: What not every catalog can do: likeness to an image, groups of alike ones, a map of all, an order that is learned
#: from marks, and pictures that the views make of an image.
Offer = Literal["like", "groups", "map", "marks", "explain"]
#: Bars of the histogram of scores, and most limits, in hundredths, of which is said how many images reach them.
BARS, MOST_LIMITS = 120, 1 << 16


class Catalog(Protocol):
    """Scored images of a review, N of them."""

    #: What can be asked for beside the images themselves.
    offers: frozenset[Offer]
    #: Images of an order that are sent at a time; None: all of them.
    window: int | None

    def __len__(self) -> int: ...

    @property
    def limit(self) -> float:
        """Score from which images count as odd, unless another limit is kept."""

    @property
    def ranked_scores(self) -> Array:
        """All scores, falling: float64 [N]."""

    def about(self) -> dict[str, Any]:
        """Return what the page has to know of all images, as JSON values."""

    def window_of(self, query: Query, marks: list[Mark], start: int = 0) -> tuple[Array, int]:
        """Return the numbers of the images that a query asks for, in its order, and how many there are.

        Args:
            start: place in the order from which on ``window`` of them are returned.

        Raises:
            KeyError: it names something that there is not.
            IndexError: it names an image that there is not.
        """

    def rows(self, numbers: Sequence[int], grouped: bool) -> dict[str, list[Any]]:
        """Return what tiles show of images, as JSON values; ``names`` are as the marks have them."""

    def names_of(self, numbers: Sequence[int]) -> list[str]:
        """Return the names of images."""

    def numbers_of(self, names: Iterable[str]) -> dict[str, int]:
        """Return the numbers of those images that there are, by name."""

    def knows(self, name: str) -> bool:
        """Whether a mark of this name counts; quick, so it may be true of images that there are not."""

    def said_of(self, names: Iterable[str]) -> dict[str, tuple[float, str]]:
        """Return the score of images by name, and what the checks found."""

    def facts(self, number: int) -> dict[str, Any]:
        """Return what is known about an image, as JSON values, within milliseconds."""

    def thumbnail(self, number: int) -> bytes | None:
        """Return a thumbnail as WebP; None: the original is missing or damaged."""

    def original(
        self, number: int, page: int | None, levels: tuple[float, float] | None
    ) -> tuple[bytes, str]:
        """Return an original at full size as a file, and its media type.

        Args:
            page: another page of its file, from 0.
            levels: values that are shown as black and white; None: chosen by the image.

        Raises:
            UserError: it is not there any more, or cannot be read.
        """

    def path(self, number: int) -> Path | None:
        """Return the file of an image; None where it is not a file of its own."""

    def explanation(self, number: int) -> dict[str, Any]:
        """Return the pictures that the views make of an image; none unless ``explain`` is offered."""

    def layout(self) -> Array | None:
        """Return the places of all images on a map, float32 [N, 2]; None: it is being computed.

        Raises:
            UserError: ``map`` is not offered.
        """

    def members(self, numbers: Sequence[int]) -> Array:
        """Return the numbers of the images in the groups of some images, the oddest first.

        Raises:
            UserError: ``groups`` is not offered.
        """


class NotOffered(UserError):
    """The page asks for what the catalog cannot do."""

    def __init__(self) -> None:
        super().__init__(
            "this needs the pixels of all images, which a table of scores does not have"
        )


def levels_of(ranked_scores: Array) -> dict[str, Any]:
    """Return a histogram of falling scores [N], and how many reach each limit, as JSON values.

    Returns:
        ``low`` and ``high``: the ends of the scores; ``bars``: counts between them; ``first``: the lowest limit,
        in hundredths; ``reached``: how many images reach it, and those above it.
    """
    if not len(ranked_scores):
        return {"low": 0.0, "high": 0.0, "bars": [0] * BARS, "first": 0, "reached": [0]}
    rising = ranked_scores[::-1]
    low, high = float(rising[0]), float(rising[-1])
    edges = np.searchsorted(rising, np.linspace(low, high, BARS + 1)[1:-1], "left")
    first = math.floor(100 * low)
    limits = np.arange(first, min(math.floor(100 * high) + 2, first + MOST_LIMITS)) / 100
    return {
        "low": low,
        "high": high,
        "bars": np.diff(edges, prepend=0, append=len(rising)).tolist(),
        "first": first,
        "reached": (len(rising) - np.searchsorted(rising, limits, "left")).tolist(),
    }
