"""What the page of a review asks for: some images, in some order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Name of the order that is learned from the marks.
RERANKED = "marks"
#: Name of a selection of all images that the checks found something about.
ANY_FINDING = "any"


@dataclass(frozen=True)
class Query:
    """Which images are asked for, and in which order; an empty value does not restrict."""

    sort: str = "score"
    reverse: bool = False
    mark: str = ""  # unmarked, marked, or a verdict
    reviewer: str = ""  # whose marks count; empty: the consensus of all
    disagree: bool = False
    above: float | None = None
    below: float | None = None
    folder: str = ""
    finding: str = ""
    view: str = ""  # images for which this view speaks loudest
    tag: str = ""
    text: str = ""  # part of the name
    like: int | None = None  # ordered by likeness to this image
    group: bool = False  # one image of each group of alike ones

    @property
    def asks_marks(self) -> bool:
        """Whether the answer depends on marks."""
        return bool(self.mark or self.disagree or self.tag or self.sort == RERANKED)


def query_of(parameters: Mapping[str, Any]) -> Query:
    """Parse the parameters of a request.

    Raises:
        ValueError: a value is malformed.
    """

    def number(name: str) -> float | None:
        text = parameters.get(name, "")
        return float(text) if text else None

    like = parameters.get("like", "")
    return Query(
        sort=parameters.get("sort") or "score",
        reverse=parameters.get("reverse") == "1",
        mark=parameters.get("mark", ""),
        reviewer=parameters.get("reviewer", ""),
        disagree=parameters.get("disagree") == "1",
        above=number("above"),
        below=number("below"),
        folder=parameters.get("folder", ""),
        finding=parameters.get("finding", ""),
        view=parameters.get("view", ""),
        tag=parameters.get("tag", ""),
        text=parameters.get("q", ""),
        like=int(like) if like else None,
        group=parameters.get("group") == "1",
    )
