"""Reader of tar files of images: WebDataset shards, or plain ones."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from anowild.data.readers import encoded
from anowild.data.readers.base import (
    MAX_IMAGE_BYTES,
    Provenance,
    Reader,
    Record,
    Shape,
    SkippedImage,
    drain,
)
from anowild.data.readers.folder import (
    is_image,
    is_tiff,
    read_pages,
    shards,
    split_of,
    split_of_shard,
)
from anowild.errors import UserError

SUFFIXES = (".tar", ".tar.gz", ".tgz")


_MAX_LABEL_BYTES = 1 << 20
_PEEK = 64  # members that are examined to see what a tar file holds
_MAX_GROUP = (
    16  # images of one key that are held together: in a plain tar all may have the same key
)


class WebDatasetReader(Reader):
    """Reader of images ``KEY.EXT`` in tar files, in the order of the members; one shard or a folder.

    Consecutive members with the same key belong together: ``KEY.cls``, or ``label`` in ``KEY.json``, is
    the label. The first folder of the member, or the name of the shard, gives the split.
    """

    def __init__(self, source: str) -> None:
        self.root = Path(source)
        self.paths = shards(self.root, SUFFIXES) if self.root.is_dir() else [self.root]
        reasons = []
        for path in self.paths:
            try:
                if _holds_images(path):
                    return
            except Exception as error:  # of many kinds, on damaged files
                reasons.append(f"{path.name} cannot be read: {encoded.failure_reason(error)}")
        reason = reasons[0] if reasons else f"there is none in the first {_PEEK} members"
        raise UserError(
            f"{self.root}: holds no images ({reason}); give files that end in "
            f"{', '.join(sorted(encoded.SUFFIXES))}"
        )

    @staticmethod
    def takes(source: str) -> bool:
        path = Path(source)
        if path.is_dir():
            return any(map(_may_hold_images, shards(path, SUFFIXES)[:1]))
        return path.name.lower().endswith(SUFFIXES) and path.is_file() and _may_hold_images(path)

    def files(self) -> Iterable[Path]:
        return self.paths

    def shapes(self, most: int) -> Iterator[Shape]:
        each = -(-most // len(self.paths))
        found = (shape for path in self.paths for shape in islice(self._shapes(path), each))
        return islice(found, most)

    def _shapes(self, path: Path) -> Iterator[Shape]:
        for item in _items(path, lambda name: True):
            try:
                if isinstance(item.data, bytes):
                    yield encoded.shape(io.BytesIO(item.data))
            except Exception:
                continue

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        left, exact = start, True

        def wanted(name: str) -> bool:
            """Return whether a member has to be read; any but a TIFF is one image."""
            nonlocal left, exact
            exact = exact and not is_tiff(name)
            if left and exact:
                left -= 1
                return False
            return True

        for path in self.paths:
            for item in _items(path, wanted):
                if item.data is None:
                    continue
                for record in _read(path, item):
                    if left:
                        left -= 1
                    else:
                        yield record


class _Item(NamedTuple):
    """Image in a tar file."""

    name: str | None  # of the member; None: the tar file itself is damaged
    data: bytes | Exception | None  # None: not wanted
    label: str | None = None


def _items(path: Path, wanted: Callable[[str], bool]) -> Iterator[_Item]:
    """Yield all images of a shard, and at the end the exception that stopped the reading, if any."""
    group: list[tuple[str, bytes | Exception | None]] = []
    key, label = None, None
    damage: Exception | None = None
    try:
        with tarfile.open(path) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
                if not member.isfile() or _is_hidden(member.name):
                    continue
                folder, name = PurePosixPath(member.name).parent, PurePosixPath(member.name).name
                stem, _, ending = name.partition(".")
                if key != (folder, stem) or len(group) == _MAX_GROUP:
                    yield from (_Item(*image, label) for image in group)
                    if key != (folder, stem):
                        label = None
                    key, group = (folder, stem), []
                if is_image(member.name):
                    data = _content(tar, member, MAX_IMAGE_BYTES) if wanted(member.name) else None
                    group.append((member.name, data))
                elif ending.lower() in ("cls", "json"):
                    label = _label(ending.lower(), _content(tar, member, _MAX_LABEL_BYTES)) or label
            drain(tar)
    except Exception as error:  # of many kinds, on damaged files
        damage = error
    yield from (_Item(*image, label) for image in group)
    if damage is not None:
        yield _Item(None, damage)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes | Exception:
    if member.size > most:
        return ValueError(f"it claims to hold {member.size} bytes")
    try:
        file = tar.extractfile(member)
        assert file is not None  # it is a file
        return file.read()
    except Exception as error:
        return error


def _label(ending: str, content: bytes | Exception) -> str | None:
    if isinstance(content, Exception):
        return None
    text = content.decode("utf-8", "replace").strip()
    if ending == "json":
        try:
            label = json.loads(text)["label"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return str(label) if isinstance(label, str | int | float) else None
    return text or None


def _read(path: Path, item: _Item) -> Iterator[Record | SkippedImage]:
    if item.name is None:
        assert isinstance(item.data, Exception)
        reason = f"it breaks off: {encoded.failure_reason(item.data)}"
        yield SkippedImage(str(path), reason, Provenance(source=str(path)))
        return
    name = f"{path}/{item.name}"
    split = split_of(PurePosixPath(item.name).parts) or split_of_shard(path)
    origin = Provenance(source=str(path), split=split, label=item.label)
    if isinstance(item.data, bytes):
        yield from read_pages(io.BytesIO(item.data), name, origin)
    elif item.data is not None:
        yield SkippedImage(name, encoded.failure_reason(item.data), origin)


def _is_hidden(member: str) -> bool:
    parts = [part for part in PurePosixPath(member).parts if part not in (".", "..")]
    return any(part.startswith(".") for part in parts)


def _holds_images(path: Path) -> bool:
    """Return whether one of the first members is an image.

    Raises:
        Exception: of many kinds, if no member can be read.
    """
    seen = False
    with tarfile.open(path) as tar:
        for _ in range(_PEEK):
            try:
                member = tar.next()
            except Exception:
                if not seen:
                    raise
                return False
            if member is None:
                return False
            seen = True
            if member.isfile() and is_image(member.name) and not _is_hidden(member.name):
                return True
    return False


def _may_hold_images(path: Path) -> bool:
    try:
        return _holds_images(path)
    except Exception:
        return True  # opening it reports the error
