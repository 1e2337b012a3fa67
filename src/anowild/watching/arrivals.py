"""Files that arrive below a folder, and are whole.

A file counts as whole if two looks find the same size and time of change. One that cannot be decoded may still be
written by somebody slow: it is tried once more after ``PATIENCE`` intervals, if it has not changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from anowild.data.readers.base import PassedOver, PassedOverTally
from anowild.data.readers.folder import is_image
from anowild.data.readers.listing import FolderListing

#: Intervals after which a file that could not be decoded, and has not changed, is tried again.
PATIENCE = 10
#: Seconds between full looks, and the share of the time that looks of a kind take at most.
FULL_EVERY, SHARE_OF_LOOKS = 60.0, 0.2


class State(NamedTuple):
    """Size of a file in bytes, and its time of change in nanoseconds; -1 where they cannot be looked up."""

    size: int
    mtime: int

    @staticmethod
    def of(path: Path) -> tuple[State, int]:
        """Return the present state and the inode of a file."""
        try:
            found = path.stat()
        except OSError:
            return State(-1, -1), 0  # reading it tells why
        # Some file systems know times that a database does not: beyond the year 2262.
        mtime = min(max(found.st_mtime_ns, -(2**63)), 2**63 - 1)
        return State(found.st_size, mtime), found.st_ino


class Arrival(NamedTuple):
    """A file that is whole, as far as looks can tell."""

    path: Path
    state: State
    inode: int
    tried: bool = False  # whether it could not be decoded before


@dataclass
class _Waiting:
    """A file that is new or has changed."""

    state: State
    due: float  # when it may be taken, on the monotonic clock
    tried: bool = False


class Arrivals:
    """Finds the files of a folder that are whole and were not recorded yet.

    Most looks only list the folder, and ask for nothing about names that are recorded: that finds new files, and
    those that were moved into the place of others. Files that were written over in place are found by a full look,
    which asks for the state of each file, every ``FULL_EVERY`` seconds or, in large folders, less often. Memory and
    time grow with the files that lie in the folder now, not with those that ever did.

    Args:
        root: the folder.
        known: whether a file in this state was recorded by an earlier run.
        patience: seconds until a damaged file is tried again.
    """

    def __init__(self, root: Path, known: Callable[[Path, State], bool], patience: float) -> None:
        self.root, self._known, self._patience = root, known, patience
        self._settled: dict[str, tuple[State, int | None]] = {}  # recorded: state and inode
        self._waiting: dict[str, _Waiting] = {}
        self._full_due = 0.0
        self.passed_over: list[PassedOver] = []  # by the last look at the folder
        self.pause = 0.0  # seconds from one look to the next, at least

    @property
    def waiting(self) -> int:
        """How many files are not recorded yet."""
        return len(self._waiting)

    def look(self) -> list[Arrival]:
        """List the folder, and return the files that are whole, the oldest first.

        Raises:
            UserError: the folder cannot be read.
        """
        begun, tally = time.monotonic(), PassedOverTally()
        full = begun >= self._full_due
        listing = FolderListing(self.root, is_image, tally, None if full else self._is_settled)
        paths = {str(path): path for path in listing.paths}
        self.passed_over = tally.entries()
        self._waiting = {key: self._waiting[key] for key in paths.keys() & self._waiting.keys()}
        if full:
            there = paths.keys() & self._settled.keys()
            self._settled = {key: self._settled[key] for key in there}
        found = self._look_at(paths)
        rest = (time.monotonic() - begun) / SHARE_OF_LOOKS
        if full:
            self._full_due = begun + max(FULL_EVERY, rest)
        else:
            self.pause = rest
        return found

    def look_again(self) -> list[Arrival]:
        """Return the files that are whole among those that the last look found new: much quicker."""
        self._waiting = {key: kept for key, kept in self._waiting.items() if os.path.lexists(key)}
        return self._look_at({key: Path(key) for key in self._waiting})

    def settle(self, arrival: Arrival, listed: bool = True) -> None:
        """Note that a file is recorded.

        Args:
            arrival: the file.
            listed: whether it is enough for most looks that it is listed.
        """
        key = str(arrival.path)
        self._settled[key] = arrival.state, arrival.inode if listed else None
        self._waiting.pop(key, None)

    def try_later(self, arrival: Arrival) -> None:
        """Note that a file could not be decoded."""
        waiting = self._waiting[str(arrival.path)]
        waiting.tried, waiting.due = True, time.monotonic() + self._patience

    def _is_settled(self, entry: os.DirEntry[str]) -> bool:
        # As a Path writes it: in the current folder, entries begin with "./".
        settled = self._settled.get(entry.path.removeprefix("./"))
        return settled is not None and settled[1] == entry.inode()

    def _look_at(self, paths: dict[str, Path]) -> list[Arrival]:
        now, found = time.monotonic(), []
        for key, path in paths.items():
            state, inode = State.of(path)
            settled, before = self._settled.get(key), self._waiting.get(key)
            if settled is not None and settled[0] == state:
                if settled[1] is not None:
                    self._settled[key] = settled[0], inode
            elif before is not None and before.state == state:
                if before.due <= now:
                    found.append(Arrival(path, state, inode, before.tried))
            elif self._known(path, state):
                self.settle(Arrival(path, state, inode))
            else:
                self._waiting[key] = _Waiting(state, now)
                self._settled.pop(key, None)
        return sorted(found, key=lambda arrival: (arrival.state.mtime, arrival.path))
