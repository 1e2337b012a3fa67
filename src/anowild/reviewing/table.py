"""The images of a table in parts, for the page of a review: DuckDB looks through the columns on disk.

A page of the order by score is read by rank, without looking through anything. Other orders and filters ask DuckDB for
the ranks of one page, so that Python never holds those of all images. The number of an image is its rank less one.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.data.display import display, encoded_picture, window_facts
from anowild.errors import UserError
from anowild.files import printable
from anowild.libraries import require
from anowild.reviewing.catalog import NotOffered, Offer
from anowild.reviewing.on_demand import OnDemand
from anowild.reviewing.query import Query
from anowild.reviewing.store import Mark
from anowild.scoring.explain import of_line
from anowild.scoring.partitions import PARTS, PartitionedTable
from anowild.scoring.scores import USUAL_LIMIT
from anowild.scoring.unlike_training import unlike_training
from anowild.shown import shown_score

#: Images of an order that are sent to the page at a time.
WINDOW = 10_000
#: Memory of DuckDB; beyond it, it sorts on disk.
MEMORY = "512MB"
#: Names that are asked for at a time, and names that are remembered.
_NAMES, _REMEMBERED = 50_000, 200_000


class TableCatalog:
    """Scored images of a table in parts; see `Catalog`.

    Args:
        table: of N images.

    Raises:
        UserError: DuckDB is not installed, or the table is damaged.
    """

    offers: frozenset[Offer] = frozenset()
    window: int | None = WINDOW

    def __init__(self, table: PartitionedTable) -> None:
        self.table = table
        facts = table.facts
        self.originals = OnDemand(Path(facts.base), facts.preprocess)
        chosen = None if table.threshold is None else table.threshold.score
        self._limit = USUAL_LIMIT if chosen is None else chosen
        self._queries = Queries(table)
        self._remembering = threading.Lock()  # of these two, which are read without it
        self._numbers: dict[str, int] = {}  # of names that were asked for; -1: there is none
        self._names: dict[int, str] = {}  # of images that were shown
        self._count = lru_cache(maxsize=64)(self._queries.count)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def limit(self) -> float:
        """The table's limit; unless it has one, the score that 5 % of the training images reach."""
        return self._limit

    @property
    def ranked_scores(self) -> Array:
        """All scores, falling: float64 [N], mapped."""
        return self.table.scores

    def about(self) -> dict[str, Any]:
        """Return what the page has to know of all images, as JSON values."""
        side = self.table.facts.preprocess.resolution
        sorts = [("score", "oddest first", "verdict")]
        sorts += [(f"view_{name}", name, "view") for name in self.table.facts.views]
        sorts.append(("name", "by name", "file"))
        return {
            "sorts": [
                {"name": name, "title": title, "group": group} for name, title, group in sorts
            ],
            "folders": [],
            "findings": [],
            "views": [],
            "least_marks": 0,
            "seen": f"The views see {side}x{side} pixels of each image.",
            "left_out": [
                asdict(replace(one, first=printable(one.first))) for one in self.table.left_out
            ],
            "warning": unlike_training(self.ranked_scores, self.table.facts.training_images),
        }

    def window_of(self, query: Query, marks: list[Mark], start: int = 0) -> tuple[Array, int]:
        """Return the numbers of some images that a query asks for, and how many there are; see `Catalog`.

        Raises:
            KeyError: it asks for an order or a filter that a table does not have.
        """
        if query.like is not None or query.group or query.finding or query.view or query.folder:
            raise NotOffered
        first, last = 1, len(self)  # ranks
        if query.above is not None:
            last = min(last, self.table.reached(query.above))
        if query.below is not None:
            first = max(first, self.table.reached(query.below) + 1)
        chosen = _Chosen(first, last, query.text.lower())
        if query.asks_marks:
            chosen = self._marked(chosen, query, marks)
        if query.sort == "score" and not chosen.looks_through:
            return _between(chosen, query.reverse, start), chosen.most
        total = self._count(chosen) if chosen.looks_through else chosen.most
        order = self._order(query)
        return self._queries.ranks(chosen, order, start, WINDOW) - 1, total

    def _order(self, query: Query) -> str:
        """Return what DuckDB orders by; ties are ordered by rank, as in memory."""
        columns = {"score": "rank", "name": "path"}
        columns |= {
            f"view_{name}": f"{_quoted(f'view_{name}')} DESC" for name in self.table.facts.views
        }
        order = columns[query.sort]
        order = order if order == "rank" else f"{order}, rank"
        if not query.reverse:
            return order
        turned = (
            part.removesuffix(" DESC") if part.endswith(" DESC") else f"{part} DESC"
            for part in order.split(", ")
        )
        return ", ".join(turned)

    def _marked(self, chosen: _Chosen, query: Query, marks: list[Mark]) -> _Chosen:
        """Restrict a choice to images with some marks."""
        if query.sort == "marks":
            raise KeyError(query.sort)
        among, without = query.by_marks(marks)
        return replace(
            chosen,
            among=None if among is None else self._ranks_of(among),
            without=self._ranks_of(without),
        )

    def _ranks_of(self, names: Iterable[str]) -> tuple[int, ...]:
        return tuple(sorted(number + 1 for number in self.numbers_of(names).values()))

    def rows(self, numbers: Sequence[int], grouped: bool) -> dict[str, list[Any]]:
        """Return what tiles show of images; see `Catalog`. The sizes of originals are not known."""
        if grouped:
            raise NotOffered
        rows = self.table.rows([number + 1 for number in numbers], brief=True)
        self._remember(
            {row.rank - 1: row.path for row in rows}, {row.path: row.rank - 1 for row in rows}
        )
        nothing: list[Any] = [None] * len(rows)
        return {
            "names": [row.path for row in rows],
            "scores": [row.score for row in rows],
            "shown": [self._shown(row.score) for row in rows],
            "why": [row.why for row in rows],
            "findings": [[] for _ in rows],
            "sizes": nothing,
            "seen": nothing,
            "group": [1] * len(rows),
        }

    def _remember(self, names: dict[int, str], numbers: dict[str, int]) -> None:
        with self._remembering:
            if max(len(self._names), len(self._numbers)) > _REMEMBERED:
                self._names, self._numbers = {}, {}
            self._names |= names
            self._numbers |= numbers

    def _shown(self, score: float) -> str:
        return shown_score(score, self.table.facts.training_images)

    def names_of(self, numbers: Sequence[int]) -> list[str]:
        """Return the names of images."""
        known = self._names
        if any(number not in known for number in numbers):
            return self.rows(numbers, False)["names"]
        return [known[number] for number in numbers]

    def numbers_of(self, names: Iterable[str]) -> dict[str, int]:
        """Return the numbers of those images that there are, by name; unknown names are looked for on disk."""
        wanted = list(dict.fromkeys(names))
        known = self._numbers
        unknown = [name for name in wanted if name not in known]
        found = dict.fromkeys(unknown, -1)
        for start in range(0, len(unknown), _NAMES):
            some = unknown[start : start + _NAMES]
            found |= {name: rank - 1 for name, rank in self._queries.ranks_of(some)}
        self._remember({}, found)
        numbers = {name: found[name] if name in found else known[name] for name in wanted}
        return {name: number for name, number in numbers.items() if number >= 0}

    def knows(self, name: str) -> bool:
        """Whether a mark counts: all of a review do, since they were made on this table."""
        return True

    def said_of(self, names: Iterable[str]) -> dict[str, tuple[float, str]]:
        """Return the score of images by name; nothing was checked."""
        found = self.numbers_of(names)
        return {name: (float(self.table.scores[number]), "") for name, number in found.items()}

    def facts(self, number: int) -> dict[str, Any]:
        """Return what is known about an image; see `Catalog`."""
        (row,) = self.table.rows([number + 1])
        facts, path = self.table.facts, self.originals.path(row.path)
        found: dict[str, Any] = {
            "size": [1, 1], "depth": "not read", "window": None, "missing": None, "pages": 1, "page": 0,
        }  # fmt: skip
        try:
            pixels = self.originals.pixels(row.path)
        except UserError as error:
            found["missing"] = printable(str(error))
        else:
            height, width, _ = pixels.shape
            found |= {"size": [width, height], "depth": str(pixels.dtype)}
            found |= {"window": window_facts(pixels), "pages": self.originals.pages(row.path)}
            found["page"] = self.originals.page(row.path)
        side = facts.preprocess.resolution
        return found | {
            "name": row.path,
            "path": row.path if path is None else printable(str(path)),
            "why": [{"text": text, "meaning": "", "view": ""} for text in of_line(row.why)],
            "findings": [],
            "score": row.score,
            "shown": self._shown(row.score),
            "seen": f"{side}x{side} pixels",
            "box": [0.0, 0.0, 1.0, 1.0],
            "tiled": False,
            "views": [
                {"name": view, "title": view, "score": score, "shown": self._shown(score)}
                for view, score in row.views.items()
            ],
            "cues": [
                {"title": cue.name.replace("_", " "), "value": row.cues[cue.name], "share": None,
                 "odd": False, "meaning": cue.meaning}
                for cue in facts.cues
            ],
            "duplicates": [],
        }  # fmt: skip

    def thumbnail(self, number: int) -> bytes | None:
        """Return a thumbnail as WebP; None: the original is missing or damaged."""
        try:
            return self.originals.thumbnail(self._name(number))
        except UserError:
            return None

    def original(
        self, number: int, page: int | None, levels: tuple[float, float] | None
    ) -> tuple[bytes, str]:
        """Return an original at full size as a file, and its media type; see `Catalog`."""
        return encoded_picture(display(self.originals.pixels(self._name(number), page), levels))

    def path(self, number: int) -> Path | None:
        """Return the file of an image; None where it is not a local file of its own."""
        return self.originals.path(self._name(number))

    def _name(self, number: int) -> str:
        return self.names_of([number])[0]

    def explanation(self, number: int) -> dict[str, Any]:
        """Return no pictures: they need the model and the pixels."""
        return {"pictures": [], "heat": None, "near": []}

    def layout(self) -> Array | None:
        """Raise NotOffered."""
        raise NotOffered

    def members(self, numbers: Sequence[int]) -> Array:
        """Raise NotOffered."""
        raise NotOffered


@dataclass(frozen=True)
class _Chosen:
    """Images by rank, perhaps fewer: by part of the name, or by ranks that marks have named."""

    first: int
    last: int
    text: str = ""
    among: tuple[int, ...] | None = None  # None: all
    without: tuple[int, ...] = ()

    @property
    def looks_through(self) -> bool:
        """Whether it takes a query to know how many there are."""
        return bool(self.text or self.among is not None or self.without)

    @property
    def most(self) -> int:
        """How many images are between the ranks."""
        return max(0, self.last - self.first + 1)


def _between(chosen: _Chosen, reverse: bool, start: int) -> Array:
    """Return the numbers of images in the order of ranks, without a query."""
    count = max(0, min(WINDOW, chosen.most - start))
    if reverse:
        return np.arange(chosen.last - start, chosen.last - start - count, -1) - 1
    return np.arange(chosen.first + start, chosen.first + start + count) - 1


class Queries:
    """Queries of the columns of a table, one after the other, in bounded memory.

    Args:
        table: in parts.

    Raises:
        UserError: DuckDB is not installed.
    """

    def __init__(self, table: PartitionedTable) -> None:
        self._duckdb = require("reviews of tables in parts", "duckdb")
        self._files = [str(path) for path in table.paths]
        self._folder = table.folder
        self._lock = threading.Lock()
        # For sorting on disk; it is removed with this object.
        self._scratch = tempfile.TemporaryDirectory(prefix="anowild-")
        folder = str((table.folder / PARTS).absolute())
        self._connection = self._duckdb.connect(
            config={
                "memory_limit": MEMORY, "threads": str(os.cpu_count() or 1),
                "temp_directory": self._scratch.name, "preserve_insertion_order": "false",
            }
        )  # fmt: skip
        # Only the parts can be read from now on, whatever a query says.
        for setting in (
            f"SET allowed_directories = [{_text(folder)}]",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            self._connection.execute(setting)

    def count(self, chosen: _Chosen) -> int:
        """Return how many images a choice has."""
        condition, values = _condition(chosen)
        rows = self._run(f"SELECT count(*) AS n FROM {{parts}} WHERE {condition}", values)
        return int(rows["n"][0])

    def ranks(self, chosen: _Chosen, order: str, start: int, count: int) -> Array:
        """Return the ranks of some images of a choice, int64 [at most ``count``].

        Args:
            order: of columns, as SQL has it.
            start: how many images come before them.
        """
        condition, values = _condition(chosen)
        query = f"SELECT rank FROM {{parts}} WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?"
        return np.asarray(self._run(query, [*values, count, start])["rank"], np.int64)

    def ranks_of(self, names: Sequence[str]) -> list[tuple[str, int]]:
        """Return name and rank of those images that there are; of several of one name, the oddest."""
        query = "SELECT path, min(rank) AS rank FROM {parts} WHERE path IN (SELECT unnest(?)) GROUP BY path"
        found = self._run(query, [list(names)])
        return list(zip(found["path"].tolist(), found["rank"].tolist(), strict=True))

    def _run(self, query: str, values: Sequence[object]) -> dict[str, Array]:
        parts = f"read_parquet([{', '.join(map(_text, self._files))}])"
        with self._lock:
            try:
                found: dict[str, Array] = self._connection.execute(
                    query.format(parts=parts), values
                ).fetchnumpy()
            except self._duckdb.Error as error:
                reason = str(error).partition("\n")[0]
                raise UserError(f"{self._folder}: cannot be looked through ({reason})") from error
        return found


def _condition(chosen: _Chosen) -> tuple[str, list[object]]:
    """Return a choice as a condition in SQL, and the values of its question marks."""
    conditions, values = ["rank BETWEEN ? AND ?"], [chosen.first, chosen.last]
    found: list[object] = [*values]
    if chosen.text:
        conditions.append("contains(lower(path), ?)")
        found.append(chosen.text)
    if chosen.among is not None:
        conditions.append("rank IN (SELECT unnest(?::BIGINT[]))")
        found.append(list(chosen.among))
    if chosen.without:
        conditions.append("rank NOT IN (SELECT unnest(?::BIGINT[]))")
        found.append(list(chosen.without))
    return " AND ".join(conditions), found


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
