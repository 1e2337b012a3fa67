"""Download of well-known data sets."""

from __future__ import annotations

import errno
import hashlib
import http.client
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anowild.errors import UserError
from anowild.files import unwritable
from anowild.progress import bar

_CHUNK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte
_MB = 1e6
#: Suffix of the name of an incomplete file; the next try resumes at its end.
DOWNLOAD = ".download"


@dataclass(frozen=True)
class Item:
    """One file to download."""

    url: str
    name: str
    size: int | None  # bytes, where known
    md5: str


def _mnist(base: str, *sums: str) -> tuple[Item, ...]:
    names = (
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    )
    return tuple(Item(base + n, n, None, md5) for n, md5 in zip(names, sums, strict=True))


_CIFAR = "https://www.cs.toronto.edu/~kriz/"

DATASETS: dict[str, tuple[Item, ...]] = {
    "cifar10": (
        Item(
            _CIFAR + "cifar-10-python.tar.gz",
            "cifar-10-python.tar.gz",
            170498071,
            "c58f30108f718f92721af3b95e74349a",
        ),
    ),
    "cifar100": (
        Item(
            _CIFAR + "cifar-100-python.tar.gz",
            "cifar-100-python.tar.gz",
            None,
            "eb9058c3a382ffc7106e4002c42a8d85",
        ),
    ),
    "mnist": _mnist(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion-mnist": _mnist(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
}


def fetch(name: str, folder: str | Path) -> list[Path]:
    """Download one of :data:`DATASETS` into a folder; files that are complete are not loaded again.

    Args:
        name: a key of :data:`DATASETS`.
        folder: created if it does not exist.

    Returns:
        The paths of the files.

    Raises:
        UserError: no such set, no connection, a full disk, or a wrong checksum.
    """
    if name not in DATASETS:
        raise UserError(f"{name}: no such data set; choose one of {', '.join(DATASETS)}")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be created ({error.strerror or error})") from error
    return [_fetch_item(item, folder) for item in DATASETS[name]]


def _fetch_item(item: Item, folder: Path) -> Path:
    path = folder / item.name
    part = folder / (item.name + DOWNLOAD)
    try:
        if path.is_file() and _md5(path) == item.md5:
            return path
        if not (part.is_file() and _md5(part) == item.md5):
            _download(item, part)
            found = _md5(part)
            if found != item.md5:
                part.unlink()
                raise UserError(
                    f"{item.url}: the downloaded file had the wrong checksum ({found} instead of "
                    f"{item.md5}) and was removed; give the same command again, or download it "
                    f"by hand into {folder}"
                )
        part.replace(path)
    # HTTPError and URLError, timeouts and lost connections are all OSErrors.
    except (OSError, http.client.HTTPException) as error:
        raise _explained(error, item, path) from error
    return path


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(item: Item, part: Path) -> None:
    """Download the rest of a file, and append it to ``part``."""
    have = part.stat().st_size if part.is_file() else 0
    if item.size is not None and have >= item.size:  # longer than it should be, or damaged
        have = 0
    try:
        response = _request(item.url, have)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # The server has nothing beyond the end of `part`, whose checksum is wrong: start again.
        have = 0
        response = _request(item.url, have)
    with response:
        if have and not _continues(response, have):
            have = 0
        _store(response, item, part, have)


def _request(url: str, start: int) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "anowild"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    return urllib.request.urlopen(request, timeout=_TIMEOUT)


def _continues(response: Any, start: int) -> bool:
    """Whether a server sends the range asked for; some ignore the start and send everything."""
    sent = str(response.headers.get("Content-Range", ""))
    return response.status == 206 and sent.startswith(f"bytes {start}-")


def _store(response: Any, item: Item, part: Path, have: int) -> None:
    left = response.headers.get("Content-Length", "")
    total = have + int(left) if left.isdigit() else item.size
    with (
        part.open("ab" if have else "wb") as file,
        bar(f"{item.name}, MB", total and round(total / _MB, 1), round(have / _MB, 1)) as shown,
    ):
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            have += len(chunk)
            shown.update(round(have / _MB, 1))
    if total is not None and have < total:
        raise ConnectionError("the connection was closed early")


def _explained(error: Exception, item: Item, path: Path) -> UserError:
    number = getattr(error, "errno", None)
    folder = path.parent
    if number in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{path}: the disk is full; free some space and give the same command again "
            "(it goes on where it stopped)"
        )
    by_hand = f"or download {item.url} by hand into {folder}"
    if isinstance(error, urllib.error.HTTPError):
        with suppress(OSError):
            error.close()
        return UserError(
            f"{item.url}: the server refuses ({error.code} {error.reason}); try again later, "
            f"{by_hand}"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return unwritable(error.filename, error)
    cause = getattr(error, "reason", error)
    reason = getattr(cause, "strerror", None) or cause or type(error).__name__
    return UserError(
        f"{item.url}: cannot be downloaded ({reason}); give the same command again, which goes on "
        f"where this one stopped, {by_hand}"
    )
