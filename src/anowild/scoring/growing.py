"""Tables of growing sources: only what is new is scored, and joined to what was scored before.

An image is known where the table lists it and its file has the size and the time of change that it had when
it was scored. The file is the image itself or, of other sources, all files that are read: an archive, array or
video that has changed is scored again as a whole. Beside the table ``scores.csv``, the file
``scores.csv.scored.json`` says which model made it, and from which files.

Rows of images that are not in the source any more stay; those of files that have changed are replaced.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anowild.checked import checked
from anowild.data import ImageStream, open_all
from anowild.data.readers import FolderReader, ImageSource, Record, SkippedImage
from anowild.data.readers.base import PassedOver, Shape
from anowild.data.sources import Source, listed_sources
from anowild.errors import NoUsableImages, UserError
from anowild.files import absolute, printable, read_json, write_text
from anowild.scoring.detector import Detector
from anowild.scoring.stream import ThresholdRule, score_pass
from anowild.scoring.table import Row, Table, check_output, columns_of
from anowild.scoring.written_table import TEXTS, open_table

FORMAT = 1

#: Path, size and time of change of files.
State = list[list[Any]]


@dataclass
class _Unit:
    """Files that are scored together, and the names of their images."""

    state: State
    images: list[str] = field(default_factory=list)

    def note(self, record: Record) -> None:
        """Note that an image is read."""
        self.images.append(record.name)


def score_new(
    model: Detector | str | Path,
    sources: Source | Sequence[Source],
    out: str | Path,
    rule: ThresholdRule | None = None,
) -> Table:
    """Score what is new in a source, and write the table of all; see `anowild.score`.

    ``Table.new`` of the result says how many images are new; they come first, and the limit is that of
    all images.

    Raises:
        UserError: as for `anowild.score`; the table was made by another model, or otherwise.
    """
    out = Path(out)
    check_output(out)
    detector = Detector.of(model)
    before = _Before(out, detector)
    readers = before.only_new(sources)
    find = None if rule is None else rule.fit(detector)
    table = Table(detector.cue_names, out, detector.view_names, detector.reasons)
    if readers:
        stream = ImageStream(readers, detector.preprocess)
        try:
            score_pass(detector, stream, table)
        except NoUsableImages:
            # Damaged files alone, each named by a warning: nothing is new.
            if not stream.left_out or not before.units:
                raise
            table.left_out = len(stream.left_out)
    new = {table.name(i) for i in range(len(table))}
    table.append_rows(before.rows(new))
    if find is not None:
        table.threshold = find(table)
    table.write(out)
    before.save(new)
    return table


class _Before:
    """What was scored before, and what is scored now.

    Args:
        out: the table.

    Raises:
        UserError: it cannot be read, or was made by another model, or without this record.
    """

    def __init__(self, out: Path, detector: Detector) -> None:
        self.out, self.detector = out, detector
        self.side = out.with_name(f"{out.name}.scored.json")
        self.units: dict[str, _Unit] = {}  # as they were
        self.now: dict[str, _Unit] = {}  # those that are scored now
        self._listed: set[str] = set()  # names in the table
        if out.exists():
            self.units = self._load()
            self._listed = self._names()

    def _names(self) -> set[str]:
        """Return the names in the table.

        Raises:
            UserError: it cannot be read; a name is there twice; or names are others than were written.
        """
        counts = Counter(row.path for row in self._read())
        written = Counter(self._spelled(n) for unit in self.units.values() for n in unit.images)
        # An archive may hold a name twice.
        for name, count in counts.items():
            if count > max(1, written[name]):
                raise UserError(
                    f"{self.out}: lists {printable(name)} twice; remove one of the rows"
                )
        # Rows may be deleted, to be scored again.
        if (others := counts.keys() - written.keys()) and written.keys() - counts.keys():
            raise UserError(
                f"{self.out}: another program has changed the names of images, as {printable(min(others))}; "
                "save the table as UTF-8 with the paths as they were, or name a new table"
            )
        return set(counts)

    def only_new(self, sources: Source | Sequence[Source]) -> list[ImageSource]:
        """Open sources, without the files that are known."""
        listed = listed_sources(sources)
        found: list[ImageSource] = []
        for source, reader in zip(listed, open_all(listed), strict=True):
            if isinstance(reader, FolderReader):
                reader.paths = [path for path in reader.paths if self._is_new(str(path), [path])]
                if reader.paths:
                    found.append(_Noted(reader, self._note_file))
                continue
            files = list(reader.files())
            if not files:
                raise UserError(
                    "an array in memory is no file, so nobody can tell what is new in it; save it as "
                    ".npy, or score it as a whole"
                )
            if self._is_new(str(source), files):
                found.append(_Noted(reader, self.now[_key(str(source))].note))
        return found

    def rows(self, new: set[str]) -> Iterator[Row]:
        """Yield the rows that stay, given the names of images that were scored now."""
        if not self.out.exists():
            return
        # The rows of a file that has changed and cannot be read now stay.
        replaced = {
            name
            for key, unit in self.now.items()
            if unit.images and key in self.units
            for name in self.units[key].images
        }
        gone = set(map(self._spelled, replaced | new))
        yield from (row for row in self._read() if row.path not in gone)

    def save(self, new: set[str]) -> None:
        """Write which model made the table from which files, given the names of images that are new."""
        units = {
            key: unit
            for key, unit in self.units.items()
            if key not in self.now or not self.now[key].images
        }
        for key, unit in self.now.items():
            images = [name for name in unit.images if name in new]
            if images:
                units[key] = _Unit(unit.state, images)
        value = {
            "format": FORMAT,
            "model": self.detector.identity,
            "files": {key: [unit.state, unit.images] for key, unit in units.items()},
        }
        write_text(self.side, json.dumps(value, separators=(",", ":")))

    def _is_new(self, source: str, files: Sequence[Path]) -> bool:
        """Whether something has to be scored; its files are noted as they are before they are read."""
        key = _key(source)
        state = [_state(path) for path in files]
        known = self.units.get(key)
        if (
            known is not None
            and known.state == state
            and self._listed.issuperset(map(self._spelled, known.images))
        ):
            return False
        self.now[key] = _Unit(state)
        return True

    def _note_file(self, record: Record) -> None:
        assert record.origin.source is not None
        self.now[_key(record.origin.source)].note(record)

    def _spelled(self, name: str) -> str:
        """Return a name as the table has it."""
        return printable(name) if self.out.suffix.lower() == ".parquet" else name

    def _load(self) -> dict[str, _Unit]:
        if not self.side.exists():
            raise UserError(
                f"{self.out}: exists, but was not made with --new-only, so nobody knows which model made it; "
                "name a new table, or delete this one"
            )
        value = read_json(self.side)
        try:
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']}")
            model = value["model"]
            units = {}
            for key, (state, images) in checked(
                dict[str, list[Any]], value["files"], "files"
            ).items():
                found = checked(list[list[Any]], state, f"files.{key}")
                units[key] = _Unit(found, checked(list[str], images, f"files.{key}"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{self.side}: is damaged ({error!r}); delete it and the table, and score all images again"
            ) from error
        if model != self.detector.identity:
            raise UserError(
                f"{self.out}: was made by another model, or an earlier version of AnoWild, and the scores do not compare; name a new table"
            )
        return units

    def _read(self) -> Iterator[Row]:
        """Yield the rows of the table.

        Raises:
            UserError: it cannot be read, or has other columns.
        """
        views, cues = self.detector.view_names, self.detector.cue_names
        columns = columns_of(cues, views)
        with open_table(self.out) as table:
            if [name for name in table.columns if name != "odd"] != columns:
                raise UserError(
                    f"{self.out}: has other columns than this model and version write; name a new table"
                )
            for row in table.rows([name for name in columns if name not in TEXTS]):
                if math.isnan(row["score"]):
                    raise table.wrong("has no score")
                yield Row(
                    row["path"],
                    row["score"],
                    0,
                    {cue: row[cue] for cue in cues},
                    {view: row[f"view_{view}"] for view in views},
                    row["why"],
                )


class _Noted(ImageSource):
    """A source that reports each image that is read from it."""

    def __init__(self, reader: ImageSource, note: Callable[[Record], None]) -> None:
        self.reader, self.note = reader, note
        self.packed = reader.packed

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for record in self.reader.records(start):
            if isinstance(record, Record):
                self.note(record)
            yield record

    def shapes(self, most: int) -> Iterator[Shape]:
        return self.reader.shapes(most)

    def files(self) -> Iterable[Path]:
        return self.reader.files()

    def count(self) -> int | None:
        return self.reader.count()

    def passed_over(self) -> list[PassedOver]:
        return self.reader.passed_over()


def _key(source: str) -> str:
    return str(absolute(source))


def _state(path: Path) -> list[Any]:
    try:
        found = path.stat()
    except OSError:
        return [_key(str(path)), -1, -1]  # reading it reports the error
    return [_key(str(path)), found.st_size, found.st_mtime_ns]
