"""Arrays in mapped files: a file that is cut short is an error, not the end of the process."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from anowild import api
from anowild.arrays import MappedArray
from anowild.data import open_all
from anowild.data.readers import Record
from anowild.errors import UserError


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (20, 64, 64), np.uint8))
    return path


def test_mapped_array_gives_what_the_file_holds(stored: Path) -> None:
    mapped, plain = np.load(stored, mmap_mode="r").view(MappedArray), np.load(stored)
    for part in (3, slice(2, 5), [1, 7], (slice(None), 0), plain > 3):
        assert np.array_equal(mapped[part], plain[part])
    assert all(np.array_equal(a, b) for a, b in zip(mapped[4:], plain[4:], strict=True))
    assert isinstance(mapped[2:5], np.memmap)
    # Copies and results are arrays like any other.
    for result in (mapped[[1, 7]], mapped + 1, mapped.astype(float) / 2):
        assert type(result) is not np.memmap
        assert getattr(result, "_mmap", None) is None
    assert float(mapped.mean()) == plain.mean()


def test_mapped_array_of_a_file_that_was_cut_or_removed(stored: Path) -> None:
    mapped, plain = np.load(stored, mmap_mode="r").view(MappedArray), np.load(stored)
    rows = iter(mapped[5:])
    next(rows)
    os.truncate(stored, 4096)
    for access in (lambda: mapped[0], lambda: mapped[[19]], lambda: next(rows)):
        with pytest.raises(UserError, match=r"x\.npy: was cut short while it was read"):
            access()
    np.save(stored, plain)
    mapped = np.load(stored, mmap_mode="r").view(MappedArray)
    stored.unlink()
    assert np.array_equal(mapped[19], plain[19])


@pytest.mark.parametrize("packed", [False, True])
def test_a_source_that_is_cut_while_it_is_read(stored: Path, packed: bool) -> None:
    source, file = stored, stored
    if packed:
        source = stored.parent / "set"
        api.prepare(str(stored), source)
        file = source / "images" / "train.npy"
    records = iter(open_all(str(source))[0])
    first = next(records)
    assert isinstance(first, Record)
    before = first.pixels.copy()
    os.truncate(file, 200)
    assert np.array_equal(first.pixels, before)
    with pytest.raises(UserError, match=r"\.npy: was cut short while it was read"):
        next(records)
