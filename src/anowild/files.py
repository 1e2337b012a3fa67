"""Files that are whole or not there: written under a temporary name, then moved into place."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from anowild.errors import UserError

#: Ends the name of a file that is being written; what a killed process left behind is not read.
PART = ".part"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success move it over ``path``, else remove it.

    Raises:
        UserError: the disk is full, or the place cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.chmod(0o644)  # whatever the library that wrote it chose
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except Exception as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise as_user_error(error, path) from error
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def as_user_error(error: Exception, path: Path) -> Exception:
    """An I/O error as the sentence that a user should read; any other error as it is."""
    # safetensors reports an I/O error as an exception of its own, with the text of the system's.
    text = str(error)
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "StorageFull" in text:
        return UserError(
            f"{path}: the disk is full; free some space and give the same command again "
            "(what was there before is untouched)"
        )
    if isinstance(error, OSError):
        return UserError(f"{path}: cannot be written ({error.strerror or error})")
    return error


def check_place(path: Path) -> None:
    """Say before the work, not after it, that a file could not be written there. Raises UserError."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"{path}: cannot be written there; name a file in an existing folder")


def printable(name: str) -> str:
    """A file name, or other text, that cannot be written as UTF-8, made so."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character, which stands for no byte
        return name.encode("utf-8", "backslashreplace").decode()


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        UserError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is damaged, not valid JSON ({error})") from error


@contextmanager
def exclusive_lock(folder: Path, otherwise: str) -> Iterator[None]:
    """Make ``folder`` and keep a second process from working in it; leftovers are removed.

    Raises:
        UserError: it cannot be made, or there is another process: then it says ``otherwise``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{folder}: {otherwise}") from None
        remove_leftovers(folder)
        yield


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left half-written in ``folder``."""
    for path in folder.glob(f"*.[0-9]*{PART}"):  # named after a process, as `atomic_write` does
        with suppress(OSError):
            path.unlink()
