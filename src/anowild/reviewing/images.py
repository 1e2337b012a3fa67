"""The images of a review: preprocessed for the views, as thumbnails and as originals for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.data import ImageStream, PackedSet, Preprocess, open_all
from anowild.data.checks import MEASURES, Facts, Finding, find_findings
from anowild.data.dataset.build import build_set
from anowild.data.dataset.writer import Part
from anowild.data.originals import Originals
from anowild.data.readers.base import PassedOver
from anowild.data.sources import Source, listed_sources, source_name
from anowild.data.value_range import warnings_of
from anowild.errors import UserError
from anowild.files import printable
from anowild.scoring.scores import Scores

#: The split of all images that are looked at.
SPLIT = "train"


class ReviewImages:
    """The images of a packed data set with thumbnails, N of them, and where they are from.

    Args:
        packed: made by :func:`prepare_images`.
        base_dir: folder that relative paths refer to.

    Raises:
        UserError: the data set is damaged.
    """

    def __init__(self, packed: PackedSet, base_dir: Path) -> None:
        self.packed, self.base_dir = packed, base_dir
        #: What the views see, [M, C, R, R], mapped; and the image that each tile is of, or None.
        self.squares, self._owners = packed.squares(SPLIT)
        self.thumbnails = packed.thumbnails(SPLIT)
        table = packed.manifest()
        parts = table["part"].to_numpy()
        rows = np.flatnonzero(table["index"].is_valid().to_numpy(zero_copy_only=False))
        # Number of each row among those of its source.
        starts = np.searchsorted(parts, parts, "left")
        self._parts, self._positions = parts[rows], (np.arange(len(parts)) - starts)[rows]
        # Images of the set by the rows of the manifest, which also lists what was left out.
        self._number = np.full(len(parts), -1)
        self._number[rows] = np.arange(len(rows))
        self._table = table.take(rows)
        self._left_out = table.filter(table["left_out"].is_valid())
        self.names: list[str] = _names(self._table)
        self.originals = Originals(packed.description["recipe"]["how"]["sources"], base_dir)

    def __len__(self) -> int:
        return len(self.names)

    def squares_of(self, i: int) -> Array:
        """Return what the views see of an image, [n, C, R, R]: all of it, or its tiles."""
        if self._owners is None:
            return np.ascontiguousarray(self.squares[i : i + 1])
        start, stop = np.searchsorted(self._owners, [i, i + 1])
        return np.ascontiguousarray(self.squares[start:stop])

    def deciding(self, scores: Scores, numbers: Array) -> Array:
        """Return the squares that decide the scores of some images, [n, C, R, R].

        Args:
            scores: of all N images.
            numbers: of the images, int [n].
        """
        return np.ascontiguousarray(self.squares[scores.deciding_squares(self._owners)[numbers]])

    @property
    def title(self) -> str:
        """Names of the sources, for a title."""
        return ", ".join(
            "an array" if source.startswith("array ") else printable(source)
            for source in self.originals.sources
        )

    def _column(self, name: str) -> list[Any]:
        values: list[Any] = self._table[name].to_pylist()
        return values

    @cached_property
    def sizes(self) -> Array:
        """Width and height of the originals, int [N, 2]."""
        columns = [self._table[name].to_numpy() for name in ("width", "height")]
        return np.stack(columns, axis=1).astype(int)

    @cached_property
    def measures(self) -> dict[str, Array]:
        """What was measured of the originals, float64 [N] each."""
        return {name: self._table[name].to_numpy().astype(np.float64) for name in MEASURES}

    @cached_property
    def dtypes(self) -> list[str]:
        """Types of the originals' pixels."""
        return self._column("dtype")

    @cached_property
    def _sources(self) -> list[tuple[str | None, int | None]]:
        """File and page of each image."""
        found = []
        columns = (self.names, *map(self._column, ("name", "source", "frame", "top")))
        for name, shown, source, frame, top in zip(*columns, strict=True):
            if top is not None:  # a crop is no file of its own
                source = None
            # Of a name that is no valid text, the manifest has the file only as it is shown.
            if name != shown and source is not None:
                source = name if frame is None else name.removesuffix(f"[{frame}]")
            found.append((source, frame))
        return found

    @cached_property
    def duplicates(self) -> tuple[Array, Array]:
        """The first image that each one equals, and one that it nearly equals, or -1: int [N] each."""
        found = []
        for name in ("duplicate_of", "near_duplicate_of"):
            rows = self._table[name].fill_null(-1).to_numpy()
            found.append(np.where(rows >= 0, self._number[rows], -1))
        return found[0], found[1]

    @cached_property
    def findings(self) -> list[Finding]:
        """What cheap checks of the originals found."""
        equal, near = self.duplicates
        return find_findings(
            Facts(
                names=self.names,
                width=self.sizes[:, 0],
                height=self.sizes[:, 1],
                measures=self.measures,
                duplicate_of=equal,
                near_duplicate_of=near,
            )
        )

    @cached_property
    def finding_words(self) -> dict[int, str]:
        """The kinds of findings of an image, as "blurred; duplicate of a.png", by its number."""
        of = dict(zip(("duplicate", "near duplicate"), self.duplicates, strict=True))
        found: dict[int, list[str]] = {}
        for finding in self.findings:
            for i in finding.numbers:
                other = f" of {self.names[of[finding.kind][i]]}" if finding.kind in of else ""
                found.setdefault(i, []).append(finding.kind + other)
        return {i: "; ".join(words) for i, words in found.items()}

    @property
    def brightness(self) -> Array:
        """Mean of each original, from black, 0, to white, 255: float [N]."""
        return 255 * np.array(self._column("brightness"), np.float64)

    @property
    def warnings(self) -> list[str]:
        """What makes little sense of the values that the images had, in sentences without a period."""
        return warnings_of(self.packed.description.get("values"), self.packed.preprocess)

    @property
    def unread(self) -> list[tuple[str, str]]:
        """Name of each image that could not be used, and why."""
        return [*zip(_names(self._left_out), self._left_out["left_out"].to_pylist(), strict=True)]

    @cached_property
    def left_out(self) -> list[PassedOver]:
        """What could not be used, by reason, the most frequent first; then what was passed over."""
        reasons = [reason.partition(" (")[0] for reason in self._left_out["left_out"].to_pylist()]
        found = [
            PassedOver(reason, count, self._left_out["name"][reasons.index(reason)].as_py())
            for reason, count in Counter(reasons).most_common()
        ]
        shown = (replace(one, first=printable(one.first)) for one in self.packed.passed_over)
        return [*found, *shown]

    def path(self, i: int) -> Path | None:
        """Return the file of an image; None where it is not a file of its own."""
        return self.originals.path(self._sources[i][0])

    def pages(self, i: int) -> int:
        """Return how many pages the file of an image has."""
        return self.originals.pages(self._sources[i][0])

    def page(self, i: int) -> int:
        """Return the page of its file that an image is, from 0."""
        return self._sources[i][1] or 0

    def original(self, i: int, page: int | None = None) -> Array:
        """Read the original of an image, or another page of its file, [H, W, C].

        Raises:
            UserError: it is not there any more, or cannot be read.
        """
        source, frame = self._sources[i]
        return self.originals.read(
            source, frame, int(self._parts[i]), int(self._positions[i]), page
        )


def _names(table: Any) -> list[str]:
    """Return the names in rows of a manifest, as the file system has them."""
    names, raw = (table[column].to_pylist() for column in ("name", "raw_name"))
    return [
        name if data is None else data.decode("utf-8", "surrogateescape")
        for name, data in zip(names, raw, strict=True)
    ]


def prepare_images(
    sources: Source | Sequence[Source], folder: Path, preprocess: Preprocess
) -> PackedSet:
    """Read all images of sources once, for the views and for people, or go on with that.

    A data set that other sources or another preprocessing made gives way.

    Args:
        sources: as for `anowild.train`.
        folder: of the data set.
        preprocess: applied to every image for the views.

    Raises:
        UserError: no image could be read; a packed data set has another preprocessing; a full disk.
        Interrupted: by Ctrl-C or SIGTERM; the same call goes on.
    """
    given = listed_sources(sources)
    names = [source_name(source) for source in given]
    if len(set(names)) < len(names):
        raise UserError(f"{max(names, key=names.count)}: is given twice; leave one out")
    readers = ImageStream(open_all(given), preprocess).readers
    how = {"sources": names}
    return build_set([Part(readers, SPLIT)], folder, preprocess, how, pictures=True, replace=True)
