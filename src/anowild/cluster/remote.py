"""Sources behind URLs, by fsspec: whole files are fetched into a temporary folder, and read there.

`anowild.data.stores` says which protocols there are, and where credentials come from.
"""

from __future__ import annotations

import errno
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from anowild.cluster.pieces import Piece, Pieces
from anowild.data.readers import FolderReader, ImageSource, Record, SkippedImage
from anowild.data.readers.base import PassedOver, PassedOverTally, Provenance, Shape
from anowild.data.readers.folder import is_image
from anowild.data.readers.listing import HIDDEN, is_set_aside, of_ending
from anowild.data.readers.parquet import SUFFIXES as PARQUET
from anowild.data.readers.webdataset import SUFFIXES as TAR
from anowild.data.sources import open_all
from anowild.data.stores import file_system
from anowild.errors import UserError
from anowild.files import as_user_error

#: Files that are fetched at a time: small ones cost a round trip each.
AT_A_TIME = 8
#: The reason for passing over keys such as ``a//b.png``.
NO_PATH = "names that are no paths of files"


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server.

    Args:
        name: its path below the source; empty: the source itself.
        path: as the file system takes it.
        version: size and time, or the server's tag.
    """

    name: str
    path: str
    version: str


@dataclass(frozen=True)
class RemotePiece(Piece):
    """Files of a source behind a URL: images of a folder, or one file that holds several.

    Args:
        url: of the source.
        files: that are fetched.
        key: what is wanted of the file, as ``left`` in ``shards/a.tar:left``; empty: what its reader takes.
        beside: what the listing passed over.
    """

    url: str
    files: tuple[RemoteFile, ...]
    key: str = ""
    beside: tuple[PassedOver, ...] = ()

    def __post_init__(self) -> None:
        if all(is_image(file.path) for file in self.files):
            object.__setattr__(self, "count", len(self.files))

    @contextmanager
    def opened(self) -> Iterator[ImageSource]:
        with tempfile.TemporaryDirectory(prefix="anowild-") as folder:
            # A name that does not end like an archive's, whatever the source is called.
            root = Path(folder, "source")
            paths = [root / (file.name or PurePosixPath(file.path).name) for file in self.files]
            _fetch(self.url, self.files, paths)
            if self.files[0].name:
                url, local = self.url.rstrip("/"), root
            else:
                url, local = self.url, paths[0]
            try:
                if all(is_image(file.path) for file in self.files):
                    reader: ImageSource = FolderReader(str(local), paths)
                else:
                    key = f":{self.key}" if self.key else ""
                    reader = open_all([f"{paths[0]}{key}"])[0]
            except UserError as error:
                name = "/".join(filter(None, (url, self.files[0].name)))
                reader = _Unreadable(name, str(error).replace(str(local), url))
            yield _Renamed(reader, str(local), url, self.beside)


class _Unreadable(ImageSource):
    """A file of which nothing can be read."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        if not start:
            yield SkippedImage(self.name, self.reason, Provenance(source=self.name))

    def shapes(self, most: int) -> Iterator[Shape]:
        return iter(())

    def files(self) -> Iterable[Path]:
        return []


class _Renamed(ImageSource):
    """A source whose names are those of the server, not of the copy that is read."""

    def __init__(
        self, source: ImageSource, local: str, url: str, beside: Sequence[PassedOver]
    ) -> None:
        self.source, self.local, self.url, self.beside = source, local, url, beside

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for record in self.source.records(start):
            origin = record.origin
            origin = replace(
                origin, source=self._named(origin.source), mask=self._named(origin.mask)
            )
            yield replace(record, name=self._named(record.name), origin=origin)

    def _named(self, name: Any) -> Any:
        if name is None or not name.startswith(self.local):
            return name
        return self.url + name[len(self.local) :]

    def shapes(self, most: int) -> Iterator[Shape]:
        return self.source.shapes(most)

    def files(self) -> Iterable[Path]:
        return self.source.files()

    def passed_over(self) -> list[PassedOver]:
        found = [replace(one, first=self._named(one.first)) for one in self.source.passed_over()]
        return [*self.beside, *found]


def is_remote(source: str) -> bool:
    """Whether a source is a URL."""
    return "://" in source


def remote_pieces(source: str, size: int) -> Pieces:
    """List what lies behind a URL.

    A folder is read as a local one: shards of WebDataset, Parquet files, or the images below it. A file may be of
    any kind that is read of a local one; ``s3://bucket/file.parquet:column`` selects a column.

    Args:
        source: URL of a folder or file.
        size: images of a piece, of a folder of images; else a piece is a file.

    Raises:
        UserError: there is nothing, or the server cannot be reached.
    """
    url, key = _split_key(source)
    passed_over = PassedOverTally()
    files = _listed(url, passed_over)
    images = [file for file in files if is_image(file.path)]
    shards = _shards(files)
    if files and not files[0].name:
        chosen, groups = files, [files]
    elif shards:
        chosen, groups = shards, [[file] for file in shards]
    else:
        chosen, groups = images, [images[i : i + size] for i in range(0, len(images), size)]
    for file in files:
        if file not in chosen:
            passed_over.add(of_ending(file.name), f"{url.rstrip('/')}/{file.name}")
    if not chosen:
        raise UserError(
            f"{source}: holds no images; give a folder of images, of shards (.tar) or of Parquet files, or a file"
        )
    beside = tuple(passed_over.entries())
    pieces = [
        RemotePiece(url, tuple(group), key, () if number else beside)
        for number, group in enumerate(groups)
    ]
    versions = json.dumps([[file.name, file.version] for file in chosen])
    digest = hashlib.blake2b(versions.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return Pieces(source, pieces, digest)


def _split_key(source: str) -> tuple[str, str]:
    head, _, key = source.rpartition(":")
    return (head, key) if "://" in head and "/" not in key else (source, "")


def _shards(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Return the shards of a folder that holds no images and no folders beside them."""
    if any("/" in file.name or is_image(file.name) for file in files):
        return []
    found = [[f for f in files if f.name.lower().endswith(kind)] for kind in (TAR, PARQUET)]
    return found[0] or found[1]


def _listed(url: str, passed_over: PassedOverTally) -> list[RemoteFile]:
    """Return the files behind a URL, in the order in which local ones are read."""
    try:
        system, root = file_system(url)
        found = system.find(root, detail=True)
    except FileNotFoundError:
        raise UserError(f"{url}: no such file or folder; check the address") from None
    # Each file system raises errors of its own.
    except Exception as error:
        raise _unreachable(url, error) from error
    if not found:
        raise UserError(f"{url}: no such file or folder, or it is empty; check the address")
    files = []
    for path, facts in found.items():
        name = "" if path.strip("/") == root.strip("/") else path[len(root.rstrip("/")) + 1 :]
        plain = PurePosixPath(name)
        reason = HIDDEN if any(map(is_set_aside, plain.parts)) else None  # ".." is hidden too
        if name and (plain.is_absolute() or str(plain) != name):
            reason = NO_PATH
        if reason is not None:
            passed_over.add(reason, f"{url.rstrip('/')}/{name}")
            continue
        tags = ("size", "ETag", "etag", "LastModified", "mtime", "last_modified", "created")
        version = " ".join(str(facts[tag]) for tag in tags if tag in facts)
        files.append(RemoteFile(name, path, version))
    return sorted(files, key=lambda file: PurePosixPath(file.name).parts)


def _fetch(url: str, files: Sequence[RemoteFile], paths: Sequence[Path]) -> None:
    """Copy files to local paths; one that is gone is missing there too.

    Raises:
        UserError: the server cannot be reached, or the disk is full.
    """
    try:
        system, _ = file_system(url)
        for folder in {path.parent for path in paths}:
            folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(min(AT_A_TIME, len(files))) as pool:
            list(pool.map(partial(_fetch_one, system), files, paths))
    except Exception as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise as_user_error(error, paths[0].parent) from error
        raise _unreachable(url, error) from error


def _fetch_one(system: Any, file: RemoteFile, path: Path) -> None:
    try:
        system.get_file(file.path, str(path))
    except FileNotFoundError:
        path.unlink(missing_ok=True)


def _unreachable(url: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(
        f"{url}: cannot be read ({reason}); check address, credentials and endpoint, and give the same command again"
    )
