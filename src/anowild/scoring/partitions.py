"""Tables of scores in parts, for sets whose names and reasons do not fit into memory.

A table is a folder. While it is made, ``begun.json`` says what is scored, and each part of the images becomes
a file, in any order and by any process::

    table/begun.json  parts/part-00000.parquet  parts/part-00001.parquet ...

:meth:`PartWriter.finish` ranks the images of all parts, chooses the limit, adds the columns ``rank`` and, with a
limit, ``odd`` to each part, and writes ``table.json`` last: a folder that has it is a whole table. The columns are
those of :func:`anowild.scoring.table.columns_of`, and whatever reads Parquet takes the folder of the parts. Beside
it, ``order.npy`` has the place of each image by rank, ``scores.npy`` its score, and ``left_out.csv`` names the
images that could not be read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anowild.arrays import Array, map_array
from anowild.checked import Count, checked
from anowild.data import Preprocess
from anowild.data.readers.base import PassedOver, PassedOverTally
from anowild.data.spreadsheet import write_spreadsheet
from anowild.errors import UserError
from anowild.files import (
    PART,
    atomic_write,
    check_regular,
    is_file,
    printable,
    read_json,
    write_json,
)
from anowild.libraries import parquet_library
from anowild.progress import bar
from anowild.scoring.scores import Scores, oddest_first, reached
from anowild.scoring.table import Row, Scored, columns_of, schema_of
from anowild.scoring.thresholds import Threshold
from anowild.scoring.written_table import TEXTS

if TYPE_CHECKING:
    from anowild.scoring.calibration import Calibration
    from anowild.scoring.detector import Detector

#: Version of the files of a table.
FORMAT = 1
#: What is scored, written first; the parts; and the table, written last.
BEGUN, PARTS, TABLE = "begun.json", "parts", "table.json"
#: Place of each image among all parts, and its score: int64 and float64 [N], by rank.
ORDER, SCORES = "order.npy", "scores.npy"
#: Names of the images that could not be read, and why.
LEFT_OUT = "left_out.csv"
#: Rows of a part that lie together in its file. The images of a page are scattered over all parts, and each costs
#: the reading of so many rows.
ROW_GROUP = 1 << 13

_PART = re.compile(r"part-(\d{5,})\.parquet")
#: Entry of a part's file that names its images that could not be read.
_LEFT_OUT = b"anowild_left_out"


@dataclass(frozen=True)
class CueFacts:
    """A cue, as pages name it."""

    name: str
    meaning: str
    noun: str
    odd_side: str


@dataclass(frozen=True)
class TableFacts:
    """What a table in parts says of the images and of the model; the same for all parts.

    Args:
        base: folder that relative paths of images refer to.
        sources: what was scored, in words.
        views: names of the views that have scores of their own.
        cues: in the order of the columns.
        model: what tells the model from any other, :attr:`Detector.identity`.
        model_folder: where the model lay.
        training_images: how many the model was trained on; None: not known.
        preprocess: of the model.
        how: whatever else decides which image is in which part, as JSON values.
    """

    base: str
    sources: tuple[str, ...]
    views: tuple[str, ...]
    cues: tuple[CueFacts, ...]
    model: str
    model_folder: str | None
    training_images: Count | None
    preprocess: Preprocess
    how: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(
        detector: Detector,
        sources: Sequence[str],
        base: Path | None = None,
        how: Mapping[str, Any] | None = None,
    ) -> TableFacts:
        """Return the facts of a table that a detector makes.

        Args:
            sources: what is scored.
            base: folder that relative paths refer to; the working directory unless given.
            how: whatever else decides which image is in which part, such as the images of a part.
        """
        folder = detector.folder
        return TableFacts(
            base=str((base or Path.cwd()).absolute()),
            sources=tuple(map(printable, sources)),
            views=detector.view_names,
            cues=tuple(
                CueFacts(cue.name, cue.meaning, cue.noun, cue.odd_side) for cue in detector.cues
            ),
            model=detector.identity,
            model_folder=None if folder is None else printable(str(folder.absolute())),
            training_images=detector.training_images,
            preprocess=detector.preprocess,
            how=json.loads(json.dumps(how or {})),
        )

    @property
    def cue_names(self) -> tuple[str, ...]:
        """Names of the cues."""
        return tuple(cue.name for cue in self.cues)


class PartWriter:
    """A table in parts that is being made; processes that score share it by making one each.

    Args:
        folder: of the table; made if there is none.
        facts: the same in every process.

    Raises:
        UserError: the folder holds another table, or cannot be written.
    """

    def __init__(self, folder: Path, facts: TableFacts) -> None:
        self.folder, self.facts = folder, facts
        self._columns = columns_of(facts.cue_names, facts.views)
        value = {"format": FORMAT, **asdict(facts)}
        begun = folder / BEGUN
        if begun.exists():
            if read_json(begun) != json.loads(json.dumps(value)):
                raise UserError(
                    f"{folder}: holds a table of other images, or of another model; give the command that "
                    "began it, or name a new folder"
                )
            return
        # Another process may be writing the same at this moment, under a temporary name.
        if folder.is_dir() and any(path.suffix != PART for path in folder.iterdir()):
            raise UserError(f"{folder}: is no table, but holds other files; name a new folder")
        write_json(begun, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return PartWriter, (self.folder, self.facts)

    def parts(self) -> list[int]:
        """Return the numbers of the parts that are written, ascending."""
        return sorted(part_files(self.folder))

    def write(
        self,
        number: int,
        names: Sequence[str],
        scores: Scores,
        why: Sequence[str],
        left_out: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Write a part; the same part may be written again, also by several processes at a time.

        Args:
            number: of the part, from 0. Of equal scores, that of the earlier part ranks first.
            names: of its images, [n]; n may be 0.
            scores: of the n images.
            why: what `explain.one_line` says of each.
            left_out: names of images that could not be read, and why.

        Raises:
            UserError: the file cannot be written.
        """
        pa, _ = parquet_library()
        columns = scores.columns() | {"path": [printable(name) for name in names], "why": list(why)}
        schema = schema_of([name for name in self._columns if name != "rank"])
        table = pa.table({name: columns[name] for name in schema.names}, schema)
        said = json.dumps([[printable(name), printable(reason)] for name, reason in left_out])
        _write(
            part_path(self.folder, number), [table],
            schema.with_metadata({_LEFT_OUT: said.encode()}),
        )  # fmt: skip

    def finish(
        self, parts: int, find: Callable[[Scored], Threshold] | None = None
    ) -> PartitionedTable:
        """Rank the images of all parts, and make the table whole; a call that was stopped may be repeated.

        Memory holds a few numbers for each image, but no names.

        Args:
            parts: how many there have to be.
            find: chooses the limit by all scores, as the ``fit`` of a rule returns it; None: there is none.

        Raises:
            UserError: a part is missing or damaged, there is no image, or a file cannot be written.
        """
        found = part_files(self.folder)
        absent = sorted(set(range(parts)) - found.keys())
        if absent or len(found) != parts:
            raise UserError(
                f"{self.folder}: has {len(found)} parts of {parts}"
                + (f" (part {absent[0]} is missing)" if absent else "")
                + "; give the command that makes them again"
            )
        (self.folder / TABLE).unlink(missing_ok=True)
        table = _Parts([found[number] for number in range(parts)], self.facts)
        score = table.score
        if not len(score):
            raise UserError(f"{self.folder}: none of the images could be read")
        order = oddest_first(score)
        for name, values in ((ORDER, order), (SCORES, score[order])):
            with atomic_write(self.folder / name) as temporary, temporary.open("wb") as file:
                np.save(file, values)
        ranks = np.empty_like(order)
        ranks[order] = np.arange(1, len(order) + 1)
        del order
        threshold = None if find is None else find(table)
        self._add_ranks(table, ranks, threshold)
        left_out = self._name_left_out(table)
        value = {
            "format": FORMAT, **asdict(self.facts), "counts": table.counts,
            "left_out": [asdict(one) for one in left_out],
            "threshold": None if threshold is None else asdict(threshold),
        }  # fmt: skip
        write_json(self.folder / TABLE, value)
        return PartitionedTable(self.folder)

    def _add_ranks(self, table: _Parts, ranks: Array, threshold: Threshold | None) -> None:
        """Give each part the columns ``rank`` and, with a limit, ``odd``, in the place of earlier ones."""
        pa, _ = parquet_library()
        columns = self._columns if threshold is None else [*self._columns, "odd"]
        start = 0
        with bar("ranking, images", len(ranks)) as shown:
            for path, file, count in zip(table.paths, table.files(), table.counts, strict=True):
                schema = schema_of(columns).with_metadata(file.schema_arrow.metadata)
                groups = _ranked(path, file, ranks[start : start + count], threshold)
                _write(
                    path,
                    (pa.table({name: group[name] for name in columns}, schema) for group in groups),
                    schema,
                )
                start += count
                shown.update(start)

    def _name_left_out(self, table: _Parts) -> list[PassedOver]:
        """Write the names of images that could not be read, and return their reasons, the most frequent first."""
        tally = PassedOverTally()

        def rows() -> Iterator[list[str]]:
            for path, file in zip(table.paths, table.files(), strict=True):
                with _reading(path):
                    found = json.loads(file.schema_arrow.metadata[_LEFT_OUT])
                for name, reason in found:
                    tally.add(reason.partition(" (")[0], name)
                    yield [name, reason]

        with (
            atomic_write(self.folder / LEFT_OUT) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            write_spreadsheet(file, ["path", "reason"], rows())
        return tally.entries()


class PartitionedTable:
    """A whole table in parts. Memory holds what is asked for; the number of images does not matter.

    Args:
        folder: that :meth:`PartWriter.finish` made.

    Raises:
        UserError: there is no whole table, or it is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = folder = Path(folder)
        if not is_table(folder):
            begun = "only the beginning of a table" if (folder / BEGUN).exists() else "no table"
            raise UserError(
                f"{folder}: holds {begun} in parts; give the folder of one, or the command that makes it"
            )
        value = read_json(folder / TABLE)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise UserError(f"{folder / TABLE}: is of another version; make the table again")
        try:
            said = checked(_Said, value, "the table")
            self.facts = TableFacts(**{name: getattr(said, name) for name in _FACTS})
            self.counts, self.threshold, self.left_out = said.counts, said.threshold, said.left_out
            #: Place of each image among all parts, by rank: int64 [N], mapped.
            self.order = map_array(folder / ORDER, "r")
            #: Scores by rank, falling: float64 [N], mapped.
            self.scores = map_array(folder / SCORES, "r")
            for array, kind in ((self.order, np.int64), (self.scores, np.float64)):
                if array.shape != (sum(self.counts),) or array.dtype != kind:
                    raise ValueError("its files do not belong together")
            _check_ranking(self.order, self.scores)
        except (ValueError, OSError) as error:
            raise UserError(
                f"{folder}: is a damaged table ({error}); copy it again, or make it again"
            ) from error
        self._parts = _Parts(
            [part_path(folder, number) for number in range(len(self.counts))], self.facts
        )
        self._starts = np.cumsum([0, *self.counts])

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def paths(self) -> list[Path]:
        """The files of the parts, in their order."""
        return self._parts.paths

    def reached(self, limit: float) -> int:
        """Return how many images score at least ``limit``; they are the first by rank."""
        return reached(self.scores, limit)

    def column(self, name: str) -> Array:
        """Return a column of numbers, float64 [N], in the order of the parts.

        Raises:
            UserError: a part is damaged.
        """
        return self._parts.column(name)

    def rows(self, ranks: Sequence[int], brief: bool = False) -> list[Row]:
        """Return the images of some ranks, from 1 to N, in that order.

        Args:
            brief: without cues and scores of views, which takes a third of the time.

        Raises:
            UserError: a part is damaged.
            IndexError: there is no such rank.
        """
        wanted = np.asarray(ranks, np.int64)
        if len(wanted) and not 1 <= wanted.min() <= wanted.max() <= len(self):
            raise IndexError(ranks)
        places = self.order[wanted - 1]
        parts = np.searchsorted(self._starts, places, "right") - 1
        found: dict[int, Row] = {}
        for part in np.unique(parts).tolist():
            inside = places[parts == part] - self._starts[part]
            rows = self._parts.rows(part, inside, brief)
            found |= {row.rank: row for row in rows}
        if not found.keys() >= set(wanted.tolist()):
            raise UserError(
                f"{self.folder}: is damaged (its ranks do not fit); make the table again"
            )
        return [found[rank] for rank in wanted.tolist()]


class _Parts:
    """The files of the parts of a table, before or after they have ranks.

    Args:
        paths: of the parts, in their order.
        facts: of the table.
    """

    def __init__(self, paths: list[Path], facts: TableFacts) -> None:
        self.paths, self.facts = paths, facts
        self._open = lru_cache(maxsize=_OPEN)(_open)

    @cached_property
    def score(self) -> Array:
        """The scores, float64 [N]."""
        return self.column("score")

    @cached_property
    def counts(self) -> list[int]:
        """How many images each part has."""
        return [file.metadata.num_rows for file in self.files()]

    def raw_score(self, calibration: Calibration) -> Array:
        """Return the raw scores, float64 [N]; see `Scored`."""
        names = self.facts.cue_names
        found = [
            calibration.raw_score(dict(zip(names, columns, strict=True)))
            for columns in self._columns(names)
        ]
        return np.concatenate(found)

    def column(self, name: str) -> Array:
        """Return a column of numbers, float64 [N]."""
        return np.concatenate([values for (values,) in self._columns([name])])

    def files(self) -> Iterator[Any]:
        """Open one part after the other."""
        return map(_open, self.paths)

    def _columns(self, names: Sequence[str]) -> Iterator[list[Array]]:
        """Yield columns of numbers, part by part."""
        for path, file in zip(self.paths, self.files(), strict=True):
            with _reading(path):
                table = file.read(list(names))
                found = [table[name].to_numpy() for name in names]
            for name, values in zip(names, found, strict=True):
                if values.dtype != np.float64 or not np.isfinite(values).all():
                    raise _damaged(path, f"{name} has values that are no numbers")
            yield found

    def rows(self, part: int, places: Array, brief: bool) -> list[Row]:
        """Return rows of a part that has ranks, by their places in it, in the order of the file."""
        path, found = self.paths[part], []
        cues, views = ((), ()) if brief else (self.facts.cue_names, self.facts.views)
        file = self._open(path)
        with _reading(path):
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            starts = np.cumsum([0, *sizes])
            groups = np.searchsorted(starts, places, "right") - 1
            for group in np.unique(groups).tolist():
                inside = np.sort(places[groups == group] - starts[group]).tolist()
                names = columns_of(cues, views)
                table = file.read_row_group(group, names)
                # Not `take`, which imports pandas where it is installed.
                picked = {name: [table[name][i].as_py() for i in inside] for name in names}
                for name, values in picked.items():
                    kind = str if name in TEXTS else int if name == "rank" else float
                    if not all(type(v) is kind for v in values) or (
                        kind is float and not np.isfinite(values).all()
                    ):
                        raise _damaged(path, f"{name} has values of another kind")
                found += [
                    Row(
                        path=picked["path"][i],
                        score=picked["score"][i],
                        rank=picked["rank"][i],
                        cues={cue: picked[cue][i] for cue in cues},
                        views={view: picked[f"view_{view}"][i] for view in views},
                        why=picked["why"][i],
                    )
                    for i in range(len(inside))
                ]
        return found


#: Images whose ranks are checked at a time.
_CHECKED = 1 << 20
#: Files of parts that are kept open for single rows, each with a few KB of its description.
_OPEN = 256

_FACTS = tuple(TableFacts.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True)
class _Said(TableFacts):
    """Everything in ``table.json``."""

    format: int
    counts: tuple[Count, ...]
    left_out: tuple[PassedOver, ...]
    threshold: Threshold | None


def _check_ranking(order: Array, scores: Array) -> None:
    """Raise ValueError unless scores are finite and fall, and the places are those of images; both are mapped."""
    last = math.inf
    for start in range(0, len(scores), _CHECKED):
        part, places = scores[start : start + _CHECKED], order[start : start + _CHECKED]
        if not np.isfinite(part).all() or part[0] > last or (np.diff(part) > 0).any():
            raise ValueError("its scores do not fall")
        if places.min() < 0 or places.max() >= len(scores):
            raise ValueError("its order names images that there are not")
        last = part[-1]


def is_table(folder: str | Path) -> bool:
    """Whether a folder holds a whole table in parts."""
    return is_file(Path(folder) / TABLE)


def part_path(folder: Path, number: int) -> Path:
    """Return the file of a part."""
    return folder / PARTS / f"part-{number:05d}.parquet"


def part_files(folder: Path) -> dict[int, Path]:
    """Return the files of the parts that are written, by number."""
    if not (folder / PARTS).is_dir():
        return {}
    found = ((_PART.fullmatch(path.name), path) for path in (folder / PARTS).iterdir())
    return {int(match[1]): path for match, path in found if match is not None}


def _write(path: Path, tables: Iterable[Any], schema: Any) -> None:
    _, parquet = parquet_library()
    with (
        atomic_write(path) as temporary,
        parquet.ParquetWriter(
            temporary, schema, compression="zstd", use_dictionary=["why"]
        ) as writer,
    ):
        for table in tables:
            writer.write_table(table, ROW_GROUP)


def _ranked(
    path: Path, file: Any, ranks: Array, threshold: Threshold | None
) -> Iterator[dict[str, Any]]:
    """Yield the columns of a part, a group of rows at a time, with the ranks and flags of its images."""
    start = 0
    for number in range(file.num_row_groups):
        with _reading(path):
            group = file.read_row_group(number)
        stop = start + len(group)
        columns = {name: group[name] for name in group.column_names} | {"rank": ranks[start:stop]}
        if threshold is not None:
            columns["odd"] = threshold.flags(group["score"].to_numpy())
        start = stop
        yield columns


def _open(path: Path) -> Any:
    _, parquet = parquet_library()
    with _reading(path):
        check_regular(path)
        return parquet.ParquetFile(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say of a file that it is damaged, if it is."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; copy the table again, or make it again") from None
    # ArrowInvalid is a ValueError, and ArrowIOError an OSError.
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error).partition("\n")[0]) from error


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path}: is damaged ({why}); copy the table again, or make it again")
