"""Orders and selections of the images of a review."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path, PurePath
from threading import Lock, Thread
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.data.checks import KINDS
from anowild.data.seen import seen_box, seen_in_all
from anowild.files import printable
from anowild.reviewing import alike, details
from anowild.reviewing.catalog import Offer
from anowild.reviewing.query import ANY_FINDING, RERANKED, Query
from anowild.reviewing.rerank import MIN_MARKS
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import Mark, consensus
from anowild.scoring import Detector
from anowild.scoring.explain import one_line
from anowild.scoring.scores import USUAL_LIMIT, oddest_first
from anowild.scoring.unlike_training import unlike_training
from anowild.shown import shown_score

#: Orders by what was measured of the originals: title, and whether low values come first.
CHECK_ORDERS = {
    "sharpness": ("blurred first", True),
    "dark": ("dark first", False),
    "bright": ("over-exposed first", False),
    "contrast_of_original": ("constant first", True),
}
#: Folders that a selection can name, at most.
MOST_FOLDERS = 200


class Ranking:
    """The images of a session in any order; what it computes, it keeps.

    Args:
        session: the scored images.
        detector: that scored them.
    """

    offers: frozenset[Offer] = frozenset({"like", "groups", "map", "marks", "explain"})
    window: int | None = None

    def __init__(self, session: ReviewSession, detector: Detector) -> None:
        self.session, self.detector = session, detector
        self._grouping, self._laying_out = Lock(), Lock()
        self._layout_thread: Thread | None = None
        self._layout: Array | None = None

    def __len__(self) -> int:
        return len(self.session)

    @property
    def limit(self) -> float:
        """Score that 5 % of the training images reach."""
        return USUAL_LIMIT

    @property
    def ranked_scores(self) -> Array:
        """All scores, falling: float64 [N]."""
        return -np.sort(-self.session.score)

    def about(self) -> dict[str, Any]:
        """Return what the page has to know of all images, as JSON values."""
        session = self.session
        found = [
            {"kind": f.kind, "title": KINDS[f.kind].title, "meaning": KINDS[f.kind].meaning,
             "count": len(f.numbers)}
            for f in session.images.findings
        ]  # fmt: skip
        if found:
            meaning, count = "The checks found anything.", len(self.kinds_of)
            found.insert(
                0, {"kind": ANY_FINDING, "title": "any finding", "meaning": meaning, "count": count}
            )
        return {
            "sorts": self.sorts(),
            "folders": self.folders,
            "findings": found,
            "views": [{"name": name, "title": name} for name in session.scores.views],
            "least_marks": MIN_MARKS,
            "seen": seen_in_all(self.detector.preprocess, session.images.sizes),
            "left_out": [asdict(found) for found in session.images.left_out],
            "warning": " ".join(self._warnings()) or None,
        }

    def _warnings(self) -> list[str]:
        """Say what makes little sense of the images, in whole sentences."""
        unlike = unlike_training(self.session.score, self.detector.training_images)
        said = (f"Warning: {text}." for text in self.session.images.warnings)
        return [*said, *filter(None, [unlike])]

    def window_of(self, query: Query, marks: list[Mark], start: int = 0) -> tuple[Array, int]:
        """Return the numbers of the images that a query asks for, and how many there are; see `Catalog`."""
        found = self.select(query, marks)
        return found, len(found)

    def rows(self, numbers: Sequence[int], grouped: bool) -> dict[str, list[Any]]:
        """Return what tiles show of images; see `Catalog`."""
        session, preprocess = self.session, self.detector.preprocess
        alike = self.group_sizes if grouped else None
        sizes = session.images.sizes[numbers].tolist()
        return {
            "names": self.names_of(numbers),
            "scores": [float(np.float32(session.score[i])) for i in numbers],
            "shown": [self.shown_score(float(session.score[i])) for i in numbers],
            "why": self._why(numbers),
            "findings": [list(self.kinds_of.get(i, ())) for i in numbers],
            "sizes": sizes,
            "seen": [
                seen_box(preprocess, width, height, session.tile(number))
                for number, (width, height) in zip(numbers, sizes, strict=True)
            ],
            "group": [1 if alike is None else int(alike[i]) for i in numbers],
        }

    def _why(self, numbers: Sequence[int]) -> list[str]:
        """Say in one line why each image ranks where it does: findings first, then the views."""
        reasons = self.detector.reasons(self.session.scores.select(np.array(numbers, int)))
        return [
            "; ".join([*self.kinds_of.get(i, {}).values(), one_line(why)])
            for i, why in zip(numbers, reasons, strict=True)
        ]

    def names_of(self, numbers: Sequence[int]) -> list[str]:
        """Return the names of images."""
        return [self.session.names[number] for number in numbers]

    def numbers_of(self, names: Iterable[str]) -> dict[str, int]:
        """Return the numbers of those images that there are, by name."""
        known = self.session.numbers
        return {name: known[name] for name in names if name in known}

    def knows(self, name: str) -> bool:
        """Whether there is an image of this name."""
        return name in self.session.numbers

    def said_of(self, names: Iterable[str]) -> dict[str, tuple[float, str]]:
        """Return the score of images by name, and what the checks found."""
        return self.session.said_of(names)

    def facts(self, number: int) -> dict[str, Any]:
        """Return what is known about an image; see `Catalog`."""
        return details.facts(self, number)

    def thumbnail(self, number: int) -> bytes | None:
        """Return a thumbnail as WebP."""
        return self.session.images.thumbnails[number]

    def original(
        self, number: int, page: int | None, levels: tuple[float, float] | None
    ) -> tuple[bytes, str]:
        """Return an original at full size as a file, and its media type; see `Catalog`."""
        return details.original(self.session.images, number, page, levels)

    def path(self, number: int) -> Path | None:
        """Return the file of an image; None where it is not a file of its own."""
        return self.session.images.path(number)

    def explanation(self, number: int) -> dict[str, Any]:
        """Return the pictures that the views make of an image."""
        return details.explanation(self, number)

    def shown_score(self, score: float) -> str:
        """Return a score as people are shown it, no higher than the training images support."""
        return shown_score(score, self.detector.training_images)

    def sorts(self) -> list[dict[str, str]]:
        """Return name, title and group of all orders; every one has the odd side first."""
        found = [
            ("score", "oddest first", "verdict"),
            (RERANKED, "what your marks teach", "verdict"),
        ]
        found += [(f"view_{name}", name, "view") for name in self.session.scores.views]
        found += [
            (f"cue_{cue.name}", cue.noun, "cue")
            for cue in self.detector.cues
            if cue.name in self.session.scores.cues
        ]
        found += [(f"check_{name}", title, "check") for name, (title, _) in CHECK_ORDERS.items()]
        found.append(("name", "by name", "file"))
        return [{"name": name, "title": title, "group": group} for name, title, group in found]

    def order(self, sort: str, marks: list[Mark]) -> Array:
        """Return the numbers of all images in an order: int [N].

        Raises:
            KeyError: there is no such order.
        """
        session = self.session
        kind, _, name = sort.partition("_")
        if sort == RERANKED:
            return oddest_first(session.reranked_scores(consensus(marks)))
        if sort == "score":
            return oddest_first(session.score)
        if sort == "name":
            return np.array(sorted(range(len(session)), key=session.names.__getitem__), int)
        if kind == "view":
            return oddest_first(session.scores.views[name])
        if kind == "cue":
            fitted = self.detector.calibration.cues[name]
            return oddest_first(fitted.surprise(session.scores.cues[name]))
        if kind == "check":
            low_first = CHECK_ORDERS[name][1]
            values = session.images.measures[name.removesuffix("_of_original")]
            return np.argsort(values if low_first else -values, kind="stable")
        raise KeyError(sort)

    def select(self, query: Query, marks: list[Mark]) -> Array:
        """Return the numbers of the images that a query asks for, in its order: int [K].

        Raises:
            KeyError, ValueError: it names an order, a finding or a view that there is not.
            IndexError: it names an image that there is not.
        """
        if query.like is not None:
            if not 0 <= query.like < len(self.session):
                raise IndexError(query.like)
            order = alike.nearest_first(self.session.features, query.like)
        else:
            order = self.order(query.sort, marks)
        if query.reverse:
            order = order[::-1]
        order = order[self._mask(query, marks)[order]]
        if query.group:
            # The first image of each group stands for it, wherever the order puts it.
            _, first = np.unique(self.groups[order], return_index=True)
            order = order[np.sort(first)]
        return order

    def _mask(self, query: Query, marks: list[Mark]) -> Array:
        session = self.session
        mask = np.ones(len(session), bool)
        if query.above is not None:
            mask &= session.score >= query.above
        if query.below is not None:
            mask &= session.score < query.below
        if query.folder:
            below = f"{query.folder.rstrip('/')}/"
            mask &= np.array([f"{folder}/".startswith(below) for folder in self.folder_of], bool)
        if query.finding == ANY_FINDING:
            mask &= np.isin(np.arange(len(mask)), list(self.kinds_of))
        elif query.finding:
            kinds = {finding.kind: finding.numbers for finding in session.images.findings}
            mask &= np.isin(np.arange(len(mask)), kinds[query.finding])
        if query.view:
            views = [*session.scores.views]
            mask &= self.loudest_view == views.index(query.view)
        if query.text:
            wanted = query.text.lower()
            mask &= np.array([wanted in name.lower() for name in session.names], bool)
        if query.asks_marks:
            among, without = query.by_marks(marks)
            if among is not None:
                mask &= np.array([name in among for name in session.names], bool)
            mask &= np.array([name not in without for name in session.names], bool)
        return mask

    @cached_property
    def loudest_view(self) -> Array:
        """Number of the view that speaks loudest of each image, weighed as in the score: int [N]."""
        views = self.detector.calibration.views
        rows = [views[name].weight * values for name, values in self.session.scores.views.items()]
        return np.argmax(rows, axis=0) if rows else np.zeros(len(self.session), int)

    @cached_property
    def folder_of(self) -> Array:
        """The folder of each image, as the page names it, [N]."""
        names = self.session.names
        return np.array([printable(str(PurePath(name).parent)) for name in names], object)

    @cached_property
    def folders(self) -> list[str]:
        """Folders with images in or below them, by name; at most ``MOST_FOLDERS``, and none that has them all."""
        found: Counter[str] = Counter()
        for folder, count in Counter(self.folder_of.tolist()).items():
            for above in (folder, *map(str, PurePath(folder).parents)):
                found[above] += count
        some = {name: count for name, count in found.items() if count < len(self.folder_of)}
        return sorted(name for name, _ in Counter(some).most_common(MOST_FOLDERS))

    @cached_property
    def kinds_of(self) -> dict[int, dict[str, str]]:
        """What cheap checks found about images: kind and text, by number."""
        found: dict[int, dict[str, str]] = {}
        for finding in self.session.images.findings:
            for number, text in zip(finding.numbers, finding.texts, strict=True):
                found.setdefault(number, {})[finding.kind] = text
        return found

    @property
    def groups(self) -> Array:
        """Number of the oddest image of the group of each image; see :func:`alike.groups`."""
        with self._grouping:
            return self._groups

    @cached_property
    def _groups(self) -> Array:
        session = self.session
        return alike.groups(session.features, session.score, session.images.brightness)

    @cached_property
    def group_sizes(self) -> Array:
        """Number of images in the group of each image: int [N]."""
        groups = self.groups
        return np.bincount(groups, minlength=len(groups))[groups]

    def members(self, numbers: Sequence[int]) -> Array:
        """Return the numbers of the images in the groups of some images, the oddest first."""
        found = np.flatnonzero(np.isin(self.groups, self.groups[list(numbers)]))
        return found[np.argsort(-self.session.score[found], kind="stable")]

    def layout(self) -> Array | None:
        """Return places of all images on a map: float32 [N, 2] from 0 to 1.

        It takes seconds the first time, of many images longer: a thread computes it, and until then the answer is None.
        """
        with self._laying_out:
            if self._layout_thread is None:
                self._layout_thread = Thread(target=self._lay_out, daemon=True)
                self._layout_thread.start()
        return self._layout

    def _lay_out(self) -> None:
        self._layout = alike.layout(self.session.features, self.session.score)
