"""The quarantine of `anowild clean`: originals that go are moved there, and back; none is ever lost or half there."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from pathlib import Path

from anowild.errors import UserError
from anowild.files import part_of, read_json, sync

#: Name of the folder of originals that go, and of the file that says which are moved where; it is written before the
#: first is moved.
QUARANTINE, MOVED = "quarantine", "quarantine.json"


def move(out: Path) -> None:
    """Move the originals that go into the quarantine."""
    for original, moved in _pairs(out):
        if os.path.lexists(original) and not os.path.lexists(moved):
            _move_file(original, moved)


def undo(out: Path) -> int:
    """Move originals back from the quarantine of a folder that :func:`anowild.reviewing.clean.clean` made; return how many.

    Raises:
        UserError: there is no quarantine, another file has taken an original's place, or a file cannot be
            moved; the same call goes on. Or files are missing; the others were moved back.
    """
    pairs = _pairs(out)
    count, missing = 0, []
    for original, moved in pairs:
        if not os.path.lexists(moved):
            if not os.path.lexists(original):
                missing.append(moved)
            continue
        if os.path.lexists(original):
            # Whoever moved it was killed before the original was removed.
            if _is_copy(moved, original):
                moved.unlink()
                continue
            raise UserError(
                f"{original}: there is another file now; move one of the two away, and give the same "
                f"command again ({moved} is still in quarantine)"
            )
        _move_file(moved, original)
        count += 1
    if missing:
        raise UserError(
            f"{missing[0]}: is not there any more, nor at its old place ({len(missing)} of {len(pairs)} files "
            f"are missing; {count} were moved back)"
        )
    return count


def _pairs(out: Path) -> list[tuple[Path, Path]]:
    """Return each original that goes, and its place in quarantine."""
    path = out / MOVED
    if not path.exists():
        raise UserError(f"{out}: holds no quarantine; `anowild clean --how quarantine` makes one")
    try:
        return [(Path(original), out / moved) for original, moved in read_json(path)]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path}: is damaged ({error}); copy it back, or move the files of {out / QUARANTINE} by hand"
        ) from error


def _move_file(source: Path, target: Path) -> None:
    """Move a file, or a link as it is; to another disk, it is whole there before it goes here."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_whole(source, target)
            source.unlink()
    except OSError as error:
        raise UserError(
            f"{source}: cannot be moved to {target} ({error.strerror or error}); "
            "files that were moved can be brought back with --undo"
        ) from error


def _copy_whole(source: Path, target: Path) -> None:
    """Copy a file with its times and rights, or a link as it is; never to a part of it."""
    temporary = part_of(target)
    try:
        shutil.copy2(source, temporary, follow_symlinks=False)
        if not temporary.is_symlink():
            sync(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _is_copy(copy: Path, original: Path) -> bool:
    """Whether both are files of the same content, and not one file with two names."""
    both = (copy, original)
    if any(path.is_symlink() or not path.is_file() for path in both):
        return False
    return not copy.samefile(original) and filecmp.cmp(*both, shallow=False)
