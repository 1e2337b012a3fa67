"""What the page of a review asks for: some images, in some order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anowild.reviewing.store import Mark, consensus, tags_of

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
    unmarked: bool = False  # and among these, those that nobody has marked
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
        return bool(
            self.mark or self.unmarked or self.disagree or self.tag or self.sort == RERANKED
        )

    def by_marks(self, marks: Sequence[Mark]) -> tuple[set[str] | None, set[str]]:
        """Return the names of the images that the marks leave, None: all; and those that they take away."""
        asked = [m for m in marks if not self.reviewer or m.reviewer == self.reviewer]
        agreed = consensus(asked)
        among: list[set[str]] = []
        if self.mark == "marked":
            among.append(set(agreed))
        elif self.mark and self.mark != "unmarked":
            among.append({name for name, verdict in agreed.items() if verdict == self.mark})
        if self.disagree:
            given: dict[str, set[str]] = {}
            for mark in marks:
                if mark.verdict is not None:
                    given.setdefault(mark.image, set()).add(mark.verdict)
            among.append({name for name, verdicts in given.items() if len(verdicts) > 1})
        if self.tag:
            among.append({name for name, tags in tags_of(asked).items() if self.tag in tags})
        without = set(agreed) if self.mark == "unmarked" else set()
        if self.unmarked:
            without |= set(consensus(marks))
        return (set.intersection(*among) if among else None), without


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
        unmarked=parameters.get("unmarked") == "1",
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
