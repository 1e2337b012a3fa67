"""Reader of tar files of images: WebDataset shards, or plain ones."""

from __future__ import annotations

import io
import json
import re
import tarfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from anowild.data.readers import encoded
from anowild.data.readers.base import (
    MAX_IMAGE_BYTES,
    ImageSource,
    PassedOver,
    PassedOverTally,
    Provenance,
    Reader,
    Record,
    Shape,
    SkippedImage,
    drain,
    open_tar,
    split_key,
)
from anowild.data.readers.folder import (
    is_image,
    is_tiff,
    read_pages,
    shards,
    split_of,
    split_of_shard,
)
from anowild.data.readers.listing import HIDDEN, REPLACED, is_set_aside, of_ending
from anowild.errors import UserError
from anowild.files import is_file, is_folder

SUFFIXES = (".tar", ".tar.gz", ".tgz")


_LABELS, _MAX_LABEL_BYTES = ("cls", "json"), 1 << 20
_PEEK = 64  # members that are examined to see what a tar file holds
#: A sample of more images than this is none: a plain tar may have the same key for all.
_MAX_IMAGES = 8
#: Of the images of a sample, the first of these is read, then the first by name; masks come last.
_USUAL = ("png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp")
_USUAL_NAMES = ("image", "img", "input", "rgb", "picture", "photo")
_MASK_NAMES = ("mask", "seg", "label", "gt", "depth", "annotation", "target")


class WebDatasetReader(Reader):
    """Reader of images ``KEY.NAME`` in tar files, in the order of the members; one shard or a folder.

    Consecutive members with the same key are a sample, with one image: ``KEY.png`` rather than
    ``KEY.left.png``, ``KEY.image.png`` rather than ``KEY.mask.png``; further images are passed over.
    ``file.tar:left.png``, or ``file.tar:left``, names the one to be read. Digits belong to the key
    (``frame.0001.png``). Of images with the same path, the last one is read, as in unpacking. ``KEY.cls``, or
    ``label`` in ``KEY.json``, is the label. The first folder of the member, or the name of
    the shard, gives the split.
    """

    def __init__(self, source: str) -> None:
        self.root, self._wanted = split_key(source, SUFFIXES)
        self._beside = PassedOverTally()
        self._inside: PassedOverTally | None = None
        self._replaced: dict[Path, frozenset[int]] = {}
        self.paths = [self.root]
        if is_folder(self.root):
            self.paths = shards(self.root, SUFFIXES, self._beside)
        reasons, names = [], set[str]()
        for path in self.paths:
            try:
                found = _peek(path)
            except Exception as error:  # of many kinds, on damaged files
                reasons.append(f"{path.name} cannot be read: {encoded.failure_reason(error)}")
                continue
            # Images of one sample, or of none, each.
            self._plain = max(found.values(), key=len, default=[])[_MAX_IMAGES:] != []
            names |= {_parts(name)[1] for group in found.values() for name in group}
            if any(_is_named(name, self._wanted) for name in names):
                return
        if names:
            raise UserError(
                f"{self.root}: has no images '{self._wanted}' in its first members; name one of "
                f"{', '.join(sorted(names)[:_MAX_IMAGES])}"
            )
        reason = reasons[0] if reasons else f"there is none in the first {_PEEK} members"
        raise UserError(
            f"{self.root}: holds no images ({reason}); give files that end in "
            f"{', '.join(sorted(encoded.SUFFIXES))}"
        )

    @staticmethod
    def takes(source: str) -> bool:
        path, _ = split_key(source, SUFFIXES)
        if is_folder(path):
            return any(map(_may_hold_images, shards(path, SUFFIXES)[:1]))
        return path.name.lower().endswith(SUFFIXES) and is_file(path) and _may_hold_images(path)

    def files(self) -> Iterable[Path]:
        return self.paths

    def pieces(self, size: int) -> list[ImageSource]:
        """Return a source for each shard."""
        found = [copy(self) for _ in self.paths]
        for piece, path in zip(found, self.paths, strict=True):
            piece.paths, piece._inside = [path], None
        for piece in found[1:]:
            piece._beside = PassedOverTally()
        return list(found)

    def passed_over(self) -> list[PassedOver]:
        if self._inside is None:
            self._inside = PassedOverTally()
            for path in self.paths:
                replaced = self._replaced_in(path)
                for _ in self._items(path, lambda name: False, self._inside, replaced):
                    pass
        return [*self._inside.entries(), *self._beside.entries()]

    def shapes(self, most: int) -> Iterator[Shape]:
        each = -(-most // len(self.paths))
        found = (shape for path in self.paths for shape in islice(self._shapes(path), each))
        return islice(found, most)

    def _shapes(self, path: Path) -> Iterator[Shape]:
        for item in self._items(path, lambda name: True, PassedOverTally(), frozenset()):
            try:
                if isinstance(item.data, bytes):
                    yield encoded.shape(io.BytesIO(item.data))
            except Exception:
                continue

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        left, exact, passed_over = start, True, PassedOverTally()

        def wanted(name: str) -> bool:
            """Whether a member has to be read; any but a TIFF is one image."""
            nonlocal exact
            exact = exact and not is_tiff(name)
            return not (left and exact)

        for path in self.paths:
            for item in self._items(path, wanted, passed_over, self._replaced_in(path)):
                if item.data is None:
                    left -= 1
                    continue
                for record in _read(path, item, passed_over):
                    if left:
                        left -= 1
                    else:
                        yield record
        self._inside = passed_over

    def _replaced_in(self, path: Path) -> frozenset[int]:
        if path not in self._replaced:
            self._replaced[path] = _replaced(path)
        return self._replaced[path]

    def _items(
        self, path: Path, wanted: Callable[[str], bool], passed_over: PassedOverTally,
        replaced: frozenset[int],
    ) -> Iterator[_Item]:  # fmt: skip
        """Yield the images of a shard, and at the end the exception that stopped the reading, if any.

        Args:
            path: of the shard.
            wanted: whether the data of a member are wanted.
            passed_over: counts the members that are not read, if not for their kind.
            replaced: places of members that others replace.
        """
        key: tuple[str, str] | None = None
        label: str | None = None
        image: tuple[str, bytes | Exception | None] | None = None
        damage: Exception | None = None
        try:
            with open_tar(path) as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
                    if not _is_read(member, path, passed_over):
                        continue
                    if member.offset in replaced:
                        passed_over.add(REPLACED, f"{path}/{member.name}")
                        continue
                    own, name = _parts(member.name)
                    if key != own or (self._plain and is_image(member.name)):
                        if image is not None:
                            yield _Item(*image, label)
                        if key != own:
                            label = None
                        key, image = own, None
                    if is_image(member.name):
                        worse = _parts(image[0])[1] if image else None
                        if not _is_named(name, self._wanted) or (
                            worse is not None and _order(worse) <= _order(name)
                        ):
                            passed_over.add(_further(name), f"{path}/{member.name}")
                            continue
                        if image is not None and worse is not None:
                            passed_over.add(_further(worse), f"{path}/{image[0]}")
                        data = (
                            _content(tar, member, MAX_IMAGE_BYTES) if wanted(member.name) else None
                        )
                        image = (member.name, data)
                    elif name.lower() in _LABELS:
                        content = _content(tar, member, _MAX_LABEL_BYTES)
                        label = _label(name.lower(), content) or label
                drain(tar)
        except Exception as error:  # of many kinds, on damaged files
            damage = error
        if image is not None:
            yield _Item(*image, label)
        if damage is not None:
            yield _Item(None, damage)


class _Item(NamedTuple):
    """Image in a tar file."""

    name: str | None  # of the member; None: the tar file itself is damaged
    data: bytes | Exception | None  # None: not wanted
    label: str | None = None


def _parts(member: str) -> tuple[tuple[str, str], str]:
    """Divide the path of a member into its key, with its folder, and its name in the sample."""
    path = PurePosixPath(member)
    stem, _, name = path.name.partition(".")
    while (found := re.match(r"([\d_-]+)\.(.+)", name)) is not None:
        stem, name = f"{stem}.{found[1]}", found[2]
    return (str(path.parent), stem), name


def _is_named(name: str, wanted: str | None) -> bool:
    """Whether an image has the name in its sample that was asked for, with or without its ending."""
    return wanted is None or wanted in (name, name.rpartition(".")[0])


def _order(name: str) -> tuple[int, int, str]:
    """Return a key by which the image to be read is the first of its sample."""
    name = name.lower()
    first, _, _ = name.partition(".")
    if name in _USUAL:
        return 0, _USUAL.index(name), name
    if first in _USUAL_NAMES:
        return 1, _USUAL_NAMES.index(first), name
    return (3 if any(word in first for word in _MASK_NAMES) else 2), 0, name


def _further(name: str) -> str:
    return f"further images of samples, which FILE.tar:{name} reads instead"


def _is_read(member: tarfile.TarInfo, path: Path, passed_over: PassedOverTally) -> bool:
    """Whether a member may be an image or a label; what is not, nor a folder, is counted."""
    if member.isdir():
        return False
    reason = None
    if _is_hidden(member.name):
        reason = HIDDEN
    elif not member.isfile():
        reason = "links and devices in the archive"
    elif not is_image(member.name) and _parts(member.name)[1].lower() not in _LABELS:
        reason = of_ending(member.name)
    if reason is not None:
        passed_over.add(reason, f"{path}/{member.name}")
    return reason is None


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


def _read(path: Path, item: _Item, passed_over: PassedOverTally) -> Iterator[Record | SkippedImage]:
    if item.name is None:
        assert isinstance(item.data, Exception)
        reason = f"it breaks off: {encoded.failure_reason(item.data)}"
        yield SkippedImage(str(path), reason, Provenance(source=str(path)))
        return
    name = f"{path}/{item.name}"
    split = split_of(PurePosixPath(item.name).parts) or split_of_shard(path)
    origin = Provenance(source=str(path), split=split, label=item.label)
    if isinstance(item.data, bytes):
        yield from read_pages(io.BytesIO(item.data), name, origin, passed_over)
    elif item.data is not None:
        yield SkippedImage(name, encoded.failure_reason(item.data), origin)


def _is_hidden(member: str) -> bool:
    parts = [part for part in PurePosixPath(member).parts if part not in (".", "..")]
    return any(map(is_set_aside, parts))


def _peek(path: Path) -> dict[tuple[str, str], list[str]]:
    """Return the names of the images among the first members, by their keys.

    Raises:
        Exception: of many kinds, if no member can be read.
    """
    found: dict[tuple[str, str], list[str]] = {}
    seen = False
    with open_tar(path) as tar:
        for _ in range(_PEEK):
            try:
                member = tar.next()
            except Exception:
                if not seen:
                    raise
                break
            if member is None:
                break
            seen = True
            if member.isfile() and is_image(member.name) and not _is_hidden(member.name):
                found.setdefault(_parts(member.name)[0], []).append(member.name)
    return found


def _replaced(path: Path) -> frozenset[int]:
    """Return the places in a shard of the images that a later one of the same path replaces in unpacking.

    Headers are read once before the images. Of each, 16 bytes are kept: the place, and a hash of the path (two of a
    million paths have the same one of 64 bits once in 10^7 shards).
    """
    hashes, places = array("q"), array("q")
    try:
        with open_tar(path) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # as in `_items`
                if member.isfile() and is_image(member.name):
                    hashes.append(hash(PurePosixPath(member.name.lstrip("/"))))
                    places.append(member.offset)
    except Exception:
        pass  # reading the images says why it breaks off
    found = np.array(hashes, np.int64)
    order = np.argsort(found, kind="stable")
    before = order[:-1][found[order[:-1]] == found[order[1:]]]
    return frozenset(np.array(places, np.int64)[before].tolist())


def _may_hold_images(path: Path) -> bool:
    try:
        return bool(_peek(path))
    except Exception:
        return True  # opening it reports the error
