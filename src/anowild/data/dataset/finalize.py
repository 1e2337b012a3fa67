"""Last step of building a data set, when all images are known: duplicates, manifest, description."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from anowild.arrays import Array
from anowild.data.dataset import quality
from anowild.data.dataset.format import (
    DESCRIPTION,
    FORMAT,
    IMAGES,
    MANIFEST,
    RECIPE,
    SPLITS,
    schema,
)
from anowild.data.dataset.writer import DEFERRED_COLUMNS, ImageFile, segments
from anowild.data.preprocessing import Preprocess
from anowild.data.readers.base import PassedOver
from anowild.data.value_range import ValueRange
from anowild.errors import UserError
from anowild.files import atomic_write, read_json, write_json
from anowild.libraries import library
from anowild.version import VERSION

Leaks = Literal["refuse", "drop", "keep"]

#: Number of images that are compared pixel by pixel, or copied, at a time.
_AT_A_TIME = 1024
#: Most modes, sizes and reasons for leaving images out that the description lists.
_LISTED = 20
#: Images of the test split without dropped leaks, until everything else is written.
_KEPT = "test-kept.npy"
_TRAIN, _TEST = range(len(SPLITS))


class _ManifestColumns:
    """Columns of the unfinished manifest as arrays, one entry for each row; -1 stands for null."""

    def __init__(self, folder: Path, paths: Sequence[Path]) -> None:
        pa, compute = library("pyarrow", folder), library("pyarrow.compute", folder)
        dataset = library("pyarrow.parquet", folder).ParquetDataset(paths)

        def column(name: str, null: float) -> Array:
            # One column at a time, so that only one is in memory twice. The copy can be changed.
            values = dataset.read([name])[name].fill_null(null).to_numpy().copy()
            pa.default_memory_pool().release_unused()
            return values

        splits = compute.index_in(dataset.read(["split"])["split"], pa.array(SPLITS))
        self.folder = folder
        self.split = splits.to_numpy().astype(np.int8)
        self.index = column("index", -1).astype(np.int32)
        self.hash = column("hash", 0)
        self.perceptual = column("perceptual", 0)
        self.deviation = column("deviation", 0)
        self.clipped = column("clipped", 0)

    def of(self, split: int) -> Array:
        """Return the numbers of the rows whose images are in a split, in order."""
        return np.flatnonzero((self.split == split) & (self.index >= 0))

    def duplicates(self, preprocess: Preprocess) -> tuple[Array, Array]:
        """Search for duplicates.

        A test image is compared with the training images before it is compared with other test images.

        Returns:
            For each row the row of an equal image, and that of a near-equal one, or -1: int32 [N] each.
        """
        equal = np.full(len(self.index), -1, np.int32)
        near = np.full(len(self.index), -1, np.int32)
        train, test = self.of(_TRAIN), self.of(_TEST)
        every = np.concatenate([train, test])
        first = quality.first_equal(self.hash[every])
        again = first >= 0
        equal[every[again]] = every[first[again]]

        has_content = self.deviation >= quality.NEARLY_CONSTANT * preprocess.full / 255
        train, test = (rows[(equal[rows] < 0) & has_content[rows]] for rows in (train, test))
        images = _open_images(self.folder, preprocess)
        some = max(images, key=len)
        few = np.arange(0, len(some), -(-len(some) // quality.MEAN_IMAGES))
        mean = some[few].mean(axis=0, dtype=np.float64)
        self._find_near(near, train, None, images, mean)
        self._find_near(near, test, train, images, mean)
        self._find_near(near, test[near[test] < 0], None, images, mean)
        # A copy of a test image has the same near-equal image.
        copies = np.flatnonzero((equal >= 0) & (self.split == _TEST))
        copies = copies[self.split[equal[copies]] == _TEST]
        near[copies] = near[equal[copies]]
        return equal, near

    def _find_near(
        self,
        near: Array,
        rows: Array,
        pool: Array | None,
        images: list[_ImageFileReader],
        mean: Array,
    ) -> None:
        others = rows if pool is None else pool

        def same(queries: Array, found: Array) -> Array:
            parts = [np.empty(0, bool)]
            for start in range(0, len(queries), _AT_A_TIME):
                part = slice(start, start + _AT_A_TIME)
                pair = (rows[queries[part]], others[found[part]])
                first, second = (self._pixels(side, images) for side in pair)
                parts.append(quality.nearly_equal(first, second, mean))
            return np.concatenate(parts)

        pool_hashes = None if pool is None else self.perceptual[pool]
        found = quality.near_pairs(self.perceptual[rows], pool_hashes, same)
        near[rows[found >= 0]] = others[found[found >= 0]]

    def _pixels(self, rows: Array, images: list[_ImageFileReader]) -> Array:
        out = np.empty((len(rows), *images[_TRAIN].shape), images[_TRAIN].dtype)
        for split, stored in enumerate(images):
            chosen = self.split[rows] == split
            out[chosen] = stored[self.index[rows[chosen]]]
        return out


def finalize(
    folder: Path,
    recipe: Mapping[str, Any],
    leaks: Leaks,
    values: ValueRange,
    passed_over: Sequence[PassedOver] = (),
) -> None:
    """Complete an unfinished data set whose images are all written.

    Args:
        folder: of the unfinished data set.
        recipe: the request and the preprocessing.
        leaks: treatment of test images that equal a training image, or nearly.
        values: what the images held before they were preprocessed.
        passed_over: what the sources hold that was not read as images.

    Raises:
        UserError: no images; or leaks that are to be refused.
    """
    preprocess = Preprocess(**recipe["preprocess"])
    paths = segments(folder)
    if not paths:
        raise UserError(_no_images(recipe))
    rows = _ManifestColumns(folder, paths)
    if not (rows.index >= 0).any():
        raise UserError(_nothing_left(paths))
    equal, near = rows.duplicates(preprocess)
    test = rows.of(_TEST)
    leaked = {
        kind: test[(others[test] >= 0) & (rows.split[others[test]] == _TRAIN)]
        for kind, others in (("equal", equal), ("near", near))
    }
    every_leak = np.concatenate(list(leaked.values()))
    dropped: Array = np.sort(every_leak) if leaks == "drop" else np.empty(0, np.int64)
    (folder / IMAGES / _KEPT).unlink(missing_ok=True)  # left by a process that was killed
    if len(every_leak) and leaks == "refuse":
        raise UserError(_leak_message(paths, leaked, np.where(equal >= 0, equal, near)))
    if leaks == "drop":
        _drop_from_test(rows, preprocess, dropped)
    flags = _quality_flags(rows, preprocess)
    counters = _write_manifest(paths, rows, equal, near, flags, dropped)
    write_json(
        folder / DESCRIPTION,
        {
            "format": FORMAT,
            "anowild": VERSION,
            "id": _identity(rows, preprocess),
            "images": {
                split: len(rows.of(number))
                for number, split in enumerate(SPLITS)
                if len(rows.of(number))
            },
            "left_out": int((rows.index < 0).sum()),
            "passed_over": [asdict(one) for one in passed_over],
            "preprocess": preprocess.to_json(),
            "findings": _findings(counters, equal, near, leaked, flags, leaks),
            "values": values.to_json() if values else None,
            "contamination": recipe["how"].get("contamination"),
            "recipe": recipe,
        },
    )


def _write_manifest(
    paths: Sequence[Path],
    rows: _ManifestColumns,
    equal: Array,
    near: Array,
    flags: Array,
    dropped: Array,
) -> dict[str, Counter[Any]]:
    """Join the segments to the manifest, with the findings of each image; count modes, sizes and what was left out."""
    parquet = library("pyarrow.parquet", rows.folder)
    counters = {name: Counter[Any]() for name in ("modes", "sizes", "left_out")}
    start = 0
    with (
        atomic_write(rows.folder / MANIFEST) as temporary,
        parquet.ParquetWriter(temporary, schema()) as writer,
    ):
        for path in paths:
            table = parquet.read_table(path)
            part = slice(start, start + len(table))
            table = _with_quality_columns(table, part, rows, equal, near, flags, dropped)
            writer.write_table(table)
            _count(table, counters)
            start += len(table)
    return counters


def tidy_up(folder: Path) -> None:
    """Remove the temporary files of a data set that :func:`finalize` has described.

    The description marks a data set as complete. So if this is interrupted, it can be repeated.
    """
    shortened, test = folder / IMAGES / _KEPT, folder / IMAGES / "test.npy"
    if shortened.exists():
        shortened.replace(test)
    if "test" not in read_json(folder / DESCRIPTION)["images"]:
        test.unlink(missing_ok=True)
    for path in segments(folder):
        path.unlink()
    (folder / RECIPE).unlink(missing_ok=True)


class _ImageFileReader:
    """Reader of single images of a split.

    All touched pages of a mapped file would count as memory of this process.
    """

    def __init__(self, path: Path, preprocess: Preprocess) -> None:
        p = preprocess
        self.shape, self.dtype = (p.channels, p.resolution, p.resolution), p.dtype
        self._size = int(np.prod(self.shape)) * self.dtype.itemsize
        self._file = path.open("rb") if path.exists() else None
        self._count = 0
        if self._file is not None:
            np.lib.format.read_magic(self._file)
            (self._count, *_), _, _ = np.lib.format.read_array_header_1_0(self._file)
            self._start = self._file.tell()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: Array) -> Array:
        """Read images [n, C, R, R] by their rows [n]."""
        out = np.empty((len(rows), *self.shape), self.dtype)
        for image, row in zip(out, rows.tolist(), strict=True):
            assert self._file is not None
            self._file.seek(self._start + row * self._size)
            image[...] = np.frombuffer(self._file.read(self._size), self.dtype).reshape(self.shape)
        return out


def _open_images(folder: Path, preprocess: Preprocess) -> list[_ImageFileReader]:
    return [_ImageFileReader(folder / IMAGES / f"{split}.npy", preprocess) for split in SPLITS]


def _drop_from_test(rows: _ManifestColumns, preprocess: Preprocess, dropped: Array) -> None:
    """Remove rows from the test split; the other images move up, in a new file."""
    stored = _open_images(rows.folder, preprocess)[_TEST]
    test = rows.of(_TEST)
    kept = test[~np.isin(test, dropped)]
    file = ImageFile(rows.folder / IMAGES / _KEPT, preprocess)
    for start in range(0, len(kept), _AT_A_TIME):
        file.append(stored[rows.index[kept[start : start + _AT_A_TIME]]])
    file.close()
    rows.index[kept] = np.arange(len(kept))
    rows.index[dropped] = -1


def _quality_flags(rows: _ManifestColumns, preprocess: Preprocess) -> Array:
    """Return a finding on the content of each image, or None: objects [N]."""
    level = preprocess.full / 255
    flags = np.full(len(rows.index), None, object)
    used = rows.index >= 0
    flags[used & (rows.clipped >= quality.CLIPPED)] = "beyond black or white"
    flags[used & (rows.deviation < quality.NEARLY_CONSTANT * level)] = "nearly constant"
    flags[used & (rows.deviation == 0)] = "constant"
    return flags


def _with_quality_columns(
    table: Any,
    part: slice,
    rows: _ManifestColumns,
    equal: Array,
    near: Array,
    flags: Array,
    dropped: Array,
) -> Any:
    """Complete the columns of a segment of the manifest.

    Args:
        table: the segment.
        part: its rows in the whole manifest.
        rows: columns of the whole manifest.
        equal: row of an equal image or -1, [N].
        near: row of a near-equal image or -1, [N].
        flags: findings of :func:`_quality_flags`, [N].
        dropped: sorted rows that were removed from the test split.
    """
    pa = library("pyarrow", rows.folder)

    def nullable(values: Array) -> Any:
        return pa.array(values, pa.int64(), mask=values < 0)

    late = (nullable(equal[part]), nullable(near[part]), pa.array(flags[part], pa.string()))
    columns = dict(zip(table.column_names, table.columns, strict=True))
    columns |= dict(zip(DEFERRED_COLUMNS, late, strict=True))
    columns["index"] = nullable(rows.index[part])
    for field in schema():  # segments that an earlier version wrote have fewer columns
        columns.setdefault(field.name, pa.nulls(len(table), field.type))
    here = dropped[(dropped >= part.start) & (dropped < part.stop)] - part.start
    if len(here):
        reasons = columns["left_out"].to_pylist()
        for row in here:
            kind = "equal to" if equal[row + part.start] >= 0 else "hardly different from"
            reasons[row] = f"{kind} a training image"
        columns["left_out"] = pa.array(reasons, pa.string())
    return pa.table({name: columns[name] for name in schema().names}, schema=schema())


def _identity(rows: _ManifestColumns, preprocess: Preprocess) -> str:
    """Hash the preprocessing, and the images in order."""
    words = preprocess.to_json()
    if not preprocess.tiles:  # as when format 1 was fixed
        del words["tiles"]
    if preprocess.contrast == "normalize":
        words["contrast"] = "normalise"
    digest = hashlib.blake2b(json.dumps(words).encode(), digest_size=16)
    for split in range(len(SPLITS)):
        digest.update(np.ascontiguousarray(rows.hash[rows.of(split)]).data)
        digest.update(b"|")
    return digest.hexdigest()


def _count(table: Any, counters: Mapping[str, Counter[Any]]) -> None:
    """Add the rows of a segment to the counts of modes, sizes and reasons."""

    def add(counter: Counter[Any], *names: str) -> None:
        groups = table.group_by(list(names)).aggregate([([], "count_all")])
        for *values, count in zip(*(groups[n].to_pylist() for n in groups.column_names)):  # noqa: B905
            if values[0] is not None:
                counter[tuple(values)] += count

    add(counters["modes"], "dtype", "channels")
    add(counters["sizes"], "height", "width")
    reasons: Counter[Any] = Counter()
    add(reasons, "left_out")
    for (reason,), count in reasons.items():
        counters["left_out"][reason.partition(" (")[0]] += count  # without details in brackets


def _findings(
    counters: Mapping[str, Counter[Any]],
    equal: Array,
    near: Array,
    leaked: Mapping[str, Array],
    flags: Array,
    leaks: Leaks,
) -> dict[str, Any]:
    """Count the findings; the manifest lists the images."""

    def listed(counter: Counter[Any]) -> dict[str, int]:
        return {" x ".join(map(str, key)): n for key, n in counter.most_common(_LISTED)}

    reasons = dict(counters["left_out"].most_common(_LISTED))
    rest = counters["left_out"].total() - sum(reasons.values())
    return {
        "equal": int((equal >= 0).sum()),
        "near_equal": int((near >= 0).sum()),
        "leaks": {kind: len(found) for kind, found in leaked.items()} | {"done": leaks},
        "images": dict(Counter(flag for flag in flags if flag is not None)),
        "modes": listed(counters["modes"]),
        "sizes": listed(counters["sizes"]),
        "different_sizes": len(counters["sizes"]),
        "left_out": reasons | ({"other reasons": rest} if rest else {}),
    }


def _names(paths: Sequence[Path], rows: Sequence[int]) -> list[str]:
    """Look up the names of a few rows."""
    table = library("pyarrow.parquet", "").ParquetDataset(paths).read(["name"])
    return [str(table["name"][int(row)].as_py()) for row in rows]


def _leak_message(paths: Sequence[Path], leaked: Mapping[str, Array], others: Array) -> str:
    first = int(next(found[0] for found in leaked.values() if len(found)))
    test, training = _names(paths, [first, int(others[first])])
    return (
        f"{len(leaked['equal'])} test images are also in training, and {len(leaked['near'])} "
        f"hardly differ from a training image (the first: {test}, like {training}); give --leaks drop "
        "to leave them out of the test split, or --leaks keep (nothing is read again)"
    )


def _no_images(recipe: Mapping[str, Any]) -> str:
    if recipe["how"].get("crops"):
        return "no objects were found in the frames; check --object-size, or lower --contrast"
    return "the sources hold no images; give other sources"


def _nothing_left(paths: Sequence[Path]) -> str:
    """Return the error message for sources without a usable image."""
    table = library("pyarrow.parquet", "").ParquetDataset(paths).read(["name", "left_out"])
    reasons = Counter(reason.partition(" (")[0] for reason in table["left_out"].to_pylist())
    listed = "; ".join(f"{reason} ({count}x)" for reason, count in reasons.most_common(3))
    first = table["name"][0].as_py()
    return f"none of the {len(table)} images can be used, beginning with {first}: {listed}"
