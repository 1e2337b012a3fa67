"""Atomic writes, JSON files and locks.

A file is written under a temporary name and then moved into place, so it is either whole or absent.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import lzma
import math
import os
import re
import shutil
import socket
import stat
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal
from unicodedata import category

from anowild.errors import UserError

#: Suffix of files being written. A killed process may leave them behind; they are never read.
PART = ".part"
#: Ending of a temporary name: machine and process that write it.
_PART_OF = re.compile(r"\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)\.part$")
#: Seconds after which a folder is looked through for leftovers again.
SWEEP_EVERY = 10.0
#: Categories of characters that control a terminal, and characters that turn the direction of writing.
_CONTROL = ("Cc", "Cs", "Zl", "Zp")
_DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
#: Bytes of a JSON file that is read, at most.
LARGEST_JSON = 256 << 20

#: What a damaged zip file raises, besides OSError and ValueError.
DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)

_swept: dict[Path, float] = {}


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Replace a file atomically; what killed processes left of earlier attempts is removed.

    Yields:
        A temporary path of an empty file, to be written. On success it is moved over ``path``, otherwise
        removed.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    temporary = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode & 0o777  # as the umask wants it
        yield temporary
        temporary.chmod(mode)  # some libraries choose another one
        sync(temporary)
        temporary.replace(path)
    except Exception as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise as_user_error(error, path) from error
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def as_user_error(error: Exception, path: Path) -> Exception:
    """Convert an I/O error to a UserError for ``path``; return any other error unchanged."""
    # safetensors raises its own exception for an I/O error, with the system's text in it.
    text = str(error)
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "StorageFull" in text:
        return UserError(
            f"{path}: the disk is full; free some space and give the same command again "
            "(the file is as it was before)"
        )
    if isinstance(error, OSError):
        return unwritable(path, error)
    return error


def unwritable(path: object, error: OSError) -> UserError:
    """Return the error for a file or folder that the system does not let be written."""
    reason = error.strerror or error
    return UserError(
        f"{path}: cannot be written ({reason}); check the path and who may write there"
    )


def unreadable(path: object, error: OSError) -> UserError:
    """Return the error for a file or folder that the system does not let be read."""
    reason = error.strerror or error
    return UserError(f"{path}: cannot be read ({reason}); check the path and who may read it")


def check_place(path: Path) -> None:
    """Check before long work that a file can be written at its end.

    Raises:
        UserError: the path is a folder, or its parent folder does not exist.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"{path}: cannot be written there; name a file in an existing folder")


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading; a pipe, a socket or a device is refused instead of waited for.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    return open(path, "rb", opener=_open_regular)


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file, but a pipe, device or folder", path)
    return descriptor


def check_regular(path: str | Path) -> None:
    """Check that a library can open a file without waiting; errors as for :func:`open_regular`."""
    open_regular(path).close()


def exists(path: str | Path) -> bool:
    """Whether there is a file or folder; False where that cannot be looked up."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists() raises PermissionError


def is_file(path: str | Path) -> bool:
    """Whether there is a regular file; False where that cannot be looked up."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file() raises PermissionError


def is_folder(path: str | Path) -> bool:
    """Whether there is a folder; False where that cannot be looked up."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir() raises PermissionError


def absolute(path: str | Path) -> Path:
    """Return an absolute path without ``..``; links are not followed."""
    return Path(os.path.normpath(Path(path).absolute()))


def remade(path: Path) -> str:
    """Return how a damaged file or folder is mended that a command has made, for a message."""
    return f"delete {path} and give the command that made it again"


def printable(name: str) -> str:
    """Return a file name or other text with what UTF-8 cannot encode written as escapes."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return name.encode("utf-8", "backslashreplace").decode()


def for_terminal(text: str) -> str:
    """Return a line of text as a terminal may get it: :func:`printable`, and nothing that controls it.

    A file's name could otherwise move the cursor, change colors, or look like a line of its own.
    """
    return "".join(
        char.encode("unicode_escape").decode() if is_control(char) else char
        for char in printable(text)
    )


def is_control(char: str) -> bool:
    """Whether a character controls a terminal, ends a line, or turns the direction of writing."""
    return char in _DIRECTIONS or category(char) in _CONTROL


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; see :func:`atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; see :func:`atomic_write`."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        UserError: the file cannot be read, or is not JSON.
    """
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > LARGEST_JSON:
                raise UserError(f"{path}: is damaged, larger than any such file can be")
            return json.loads(file.read().decode("utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: is damaged, not valid JSON ({error}); copy it again, or make anew what it belongs to"
        ) from error


def read_tensors(
    path: Path, framework: Literal["pt", "np"]
) -> tuple[dict[str, str], dict[str, Any]]:
    """Read the metadata and all tensors of a safetensors file.

    Raises:
        ValueError: the file cannot be read, or is damaged; the message is a clause that says why.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(path)
        with safe_open(path, framework=framework) as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (
        SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, MemoryError
    ) as error:  # fmt: skip
        raise ValueError(str(error) or type(error).__name__) from error


@contextmanager
def exclusive_lock(folder: Path, otherwise: str, patience: float = 0.0) -> Iterator[None]:
    """Create a folder and lock it against other processes; remove what a killed one left behind.

    Args:
        folder: to be locked.
        otherwise: the problem to report if another process holds the lock.
        patience: seconds to wait for the other process. A process that starts others needs a few: a child that
            has not become another program yet holds the lock of a parent that was killed.

    Raises:
        UserError: the folder cannot be created, or another process holds the lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise unwritable(folder, error) from error
    with lock:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= end:
                    raise UserError(f"{folder}: {otherwise}") from None
                time.sleep(0.1)
        remove_leftovers(folder)
        yield


def part_of(path: Path) -> Path:
    """Return the temporary name under which this process writes a file or folder.

    What killed processes left in the same folder is removed, if that was not looked for just now.
    """
    folder = path.parent.absolute()
    now = time.monotonic()
    if now - _swept.get(folder, -math.inf) > SWEEP_EVERY:
        _swept[folder] = now
        remove_leftovers(folder)
    return path.with_name(f"{path.name}.{_machine()}-{os.getpid()}{PART}")


def new_part_of(out: Path) -> Path:
    """Make the folder in which a folder ``out`` is written before it is moved into place; see :func:`part_of`.

    It is a new one each time, so that files of another run or a person are never touched.

    Raises:
        UserError: it cannot be made.
    """
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        part = part_of(out.absolute())
        part.mkdir()
    except OSError as error:
        raise as_user_error(error, out) from error
    return part


def check_new(out: Path) -> None:
    """Raise UserError if there is something in the place of a new folder."""
    if exists(out) or out.is_symlink():
        raise UserError(f"{out}: exists already; name a new folder")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a folder to write into; it becomes ``out`` at the end, and is removed if anything fails.

    Raises:
        UserError: ``out`` exists already, the disk is full, or it cannot be written.
    """
    part = new_part_of(out)
    try:
        yield part
        check_new(out)
        part.rename(out)
    except OSError as error:
        check_new(out)
        raise as_user_error(error, out) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove files and folders that killed processes of this machine were writing in ``folder``."""
    with suppress(OSError):
        for path in folder.glob(f"*{PART}"):
            found = _PART_OF.search(path.name)
            if (
                found is None
                or found["machine"] != _machine()
                or _is_running(int(found["process"]))
            ):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _machine() -> str:
    """Return a digest of this machine's name: numbers of processes say nothing on another one."""
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # of another user
    return True
