"""Listing of the image files below a folder, and of what is passed over there."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Collection
from itertools import filterfalse
from pathlib import Path

from anowild.data.readers.base import OTHERS, PassedOverTally
from anowild.data.readers.encoded import NEEDED
from anowild.files import open_regular, unreadable

#: Folders in which systems and NAS devices keep thumbnails, deleted files and the like.
SYSTEM_FOLDERS = frozenset(
    {
        "@eadir", "@recycle", "#recycle", "$recycle.bin", "system volume information", "__macosx",
        "lost+found",
    }
)  # fmt: skip
#: Reasons for passing over, as `PassedOver.reason`.
HIDDEN = "hidden or system files and folders"
REPLACED = "members that another of the same name replaces"
DANGLING = "links to nothing"
SPECIAL = "pipes, sockets or devices"
KNOWN_FOLDER = "links to folders that are read already or hold the source"
OWN = "folders that anowild wrote"

#: Keys of the JSON files by which a folder that this package wrote is known: a model, the state of its
#: training, a packed data set, complete or not, a review, the result of `anowild find`, and copies of what
#: is flagged.
_MARKS = {
    "model.json": {"format", "preprocess", "calibration"},
    "settings.json": {"settings", "preprocess", "images"},
    "dataset.json": {"format", "preprocess", "recipe"},
    "recipe.json": {"format", "preprocess", "how"},
    "review.json": {"format", "scored"},
    "find.json": {"sources"},
    "flagged.json": {"flagged_of"},
}
#: Files of the folders of `anowild clean`.
_CLEANED = {"clean.csv", "kept.txt", "removed.txt"}
#: More bytes than this are no mark.
_MAX_MARK = 64 << 20


class FolderListing:
    """The files of a folder, in no certain order; nested folders are read, however deep they are.

    Passed over are hidden and system files and folders, folders that this package wrote (not ``root``
    itself), what is no file, and files that are not wanted. Linked folders are followed, but no
    folder is read twice, and none that holds ``root``. A wanted file that is a link to nothing is listed:
    reading it tells the reason.

    Args:
        root: the folder.
        wanted: whether a file is wanted, by its name.
        passed_over: counts what is passed over.
        known: whether an image is left out at once, for a caller who lists the same folder often.

    Raises:
        UserError: ``root`` cannot be read.
    """

    def __init__(
        self,
        root: Path,
        wanted: Callable[[str], bool],
        passed_over: PassedOverTally,
        known: Callable[[os.DirEntry[str]], bool] | None = None,
    ) -> None:
        self.paths: list[Path] = []
        self._root, self._wanted, self._passed_over = str(root), wanted, passed_over
        self._known = known
        real = Path(os.path.realpath(root))
        self._seen = {_identity(folder) for folder in real.parents}
        self._links: list[str] = []
        self._walk(self._root)
        while self._links:  # after all real folders, which keep their own names
            links, self._links = sorted(self._links), []
            for link in links:
                self._walk(link)

    def _walk(self, top: str) -> None:
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                identity = _identity(folder)
                with os.scandir(folder) as found:
                    new = found if self._known is None else filterfalse(self._known, found)
                    entries = sorted(new, key=lambda entry: entry.name)
            except OSError as error:
                if folder == self._root:
                    raise unreadable(folder, error) from error
                self._passed_over.add(f"folders that cannot be read ({error.strerror})", folder)
                continue
            if identity in self._seen:
                self._passed_over.add(KNOWN_FOLDER, folder)
                continue
            self._seen.add(identity)
            if folder != self._root and is_own(folder, {entry.name for entry in entries}):
                self._passed_over.add(OWN, folder)
                continue
            below = [entry.path for entry in entries if self._take(entry)]
            waiting.extend(reversed(below))

    def _take(self, entry: os.DirEntry[str]) -> bool:
        """Sort an entry in; return whether it is a folder to be read next."""
        if is_set_aside(entry.name):
            self._passed_over.add(HIDDEN, entry.path)
        elif entry.is_dir(follow_symlinks=False):
            return True
        else:
            reason = self._reason(entry)
            if reason is not None:
                self._passed_over.add(reason, entry.path)
        return False

    def _reason(self, entry: os.DirEntry[str]) -> str | None:
        """Note a file or a linked folder, or return why the entry is passed over."""
        wanted = self._wanted(entry.name)
        try:
            kind = entry.stat().st_mode if entry.is_symlink() else None
        except OSError:
            if not wanted:
                return DANGLING
        else:
            if kind is not None and stat.S_ISDIR(kind):
                self._links.append(entry.path)
                return None
            if not (entry.is_file() if kind is None else stat.S_ISREG(kind)):
                return SPECIAL
        if not wanted:
            return of_ending(entry.name)
        self.paths.append(Path(entry.path))
        return None


def is_set_aside(name: str) -> bool:
    """Whether a file or folder is hidden, or belongs to a system or NAS, by its name."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def of_ending(name: str) -> str:
    """Return the reason for passing over a file of another kind."""
    ending = Path(name).suffix.lower()
    if not ending:
        return "files without an ending"
    if re.fullmatch(r"\.[\w~+-]{1,12}", ending, re.ASCII) is None:
        return OTHERS
    needed = f", which need {NEEDED[ending]}" if ending in NEEDED else ""
    return f"files that end in {ending}{needed}"


def is_own(folder: str, names: Collection[str]) -> bool:
    """Whether this package wrote a folder as its output.

    Args:
        folder: its path.
        names: of the files in it.
    """
    if set(names) >= _CLEANED:
        return True
    return any(
        name in names and _has_keys(os.path.join(folder, name), keys)  # noqa: PTH118 - may be long
        for name, keys in _MARKS.items()
    )


def _has_keys(path: str, keys: set[str]) -> bool:
    """Whether a file is a JSON object with these keys."""
    try:
        with open_regular(path) as file:
            value = json.loads(file.read(_MAX_MARK))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and keys <= value.keys()


def _identity(folder: str | Path) -> tuple[int, int]:
    facts = os.stat(folder)  # noqa: PTH116 - of a string, as most are
    return facts.st_dev, facts.st_ino
