"""Reader of CIFAR-10 and CIFAR-100 in the version for Python, as an archive or a folder."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from anowild.data.readers import restricted_pickle
from anowild.data.readers.base import (
    PassedOver,
    PassedOverTally,
    Provenance,
    Reader,
    Record,
    Shape,
    SkippedImage,
    drain,
    open_tar,
)
from anowild.data.readers.folder import beside, holds_images
from anowild.errors import UserError
from anowild.files import is_file, is_folder

_SIDE = 32
_ARCHIVES = (".tar", ".tar.gz", ".tgz")
_DAMAGE = (tarfile.TarError, EOFError, zlib.error)
# Members, and bytes, of an archive that are examined to recognize it.
_MEMBERS, _BYTES = 4, 64 << 20


@dataclass(frozen=True)
class _Layout:
    """File names and keys of one of the two sets."""

    folder: str
    batches: tuple[str, ...]  # in the order in which they are read
    meta: str
    label_names: str  # a key of the meta file
    labels: str  # a key of a batch


_TEN = _Layout(
    "cifar-10-batches-py",
    (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"),
    "batches.meta",
    "label_names",
    "labels",
)
_HUNDRED = _Layout("cifar-100-python", ("train", "test"), "meta", "fine_label_names", "fine_labels")
_BATCH_OF_TEN = re.compile(r"data_batch_[1-5]|test_batch")


class CifarReader(Reader):
    """Reader of the ``.tar.gz`` of CIFAR-10 or CIFAR-100, or of its unpacked folder.

    The training batches come first, in order. Labels of CIFAR-100 are the fine ones. A folder with image
    files in or below it is no such folder.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        path = Path(source)
        self.store: _Folder | _Archive = _Folder(path) if is_folder(path) else _Archive(path)
        self.layout = self.store.layout
        names = self.store.names
        self.batches = [name for name in self.layout.batches if name in names]
        if not self.batches:
            raise UserError(f"{source}: holds no batches of CIFAR; download it again")
        self.label_names = self._label_names() if self.layout.meta in names else []
        self._passed_over = PassedOverTally()
        if isinstance(self.store, _Folder):
            root = self.store.root
            beside(root, [*self.files()], self._passed_over)
            if root != path:
                beside(path, [root], self._passed_over)
        self.rows: dict[str, int] = {}  # number of images in the batches read so far

    @staticmethod
    def takes(source: str) -> bool:
        path = Path(source)
        try:
            if is_folder(path):
                return _folder_of(path) is not None and not holds_images(path)
            if not is_file(path) or not path.name.lower().endswith(_ARCHIVES):
                return False
            return _looks_like_cifar(path)
        except Exception:  # tarfile tries every compression, and each has its own errors
            return False

    def files(self) -> Iterable[Path]:
        return self.store.files()

    def passed_over(self) -> list[PassedOver]:
        return self._passed_over.entries()

    def shapes(self, most: int) -> Iterator[Shape]:
        return repeat((_SIDE, _SIDE, 3), most)

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        for batch in self.batches:
            rows = self.rows.get(batch)
            if rows is None or start < rows:
                yield from self._read(batch, start)
                rows = self.rows[batch]
            start = max(0, start - rows)

    def _read(self, batch: str, start: int) -> Iterator[Record]:
        content = self._load(batch)
        pixels, labels = content.get("data"), content.get(self.layout.labels)
        if (
            not isinstance(pixels, np.ndarray)
            or pixels.dtype != np.uint8
            or pixels.shape[1:] != (3 * _SIDE**2,)
        ):
            raise self._damaged(batch, "its pixels are not bytes of 32x32 RGB images")
        if not isinstance(labels, list) or len(labels) != len(pixels):
            raise self._damaged(batch, "it does not have one label for each image")
        self.rows[batch] = len(pixels)
        images = pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
        split = "test" if batch.startswith("test") else "train"
        for row in range(start, len(images)):
            origin = Provenance(
                source=str(self.store.path_of(batch)),
                frame=row,
                split=split,
                label=self._label(labels[row]),
            )
            yield Record(f"{self.source}/{batch}[{row}]", images[row], origin)

    def _label(self, number: Any) -> str:
        if isinstance(number, int) and 0 <= number < len(self.label_names):
            return self.label_names[number]
        return _text(number)

    def _label_names(self) -> list[str]:
        names = self._load(self.layout.meta).get(self.layout.label_names)
        if not isinstance(names, list):
            raise self._damaged(self.layout.meta, "it does not name the classes")
        return [_text(name) for name in names]

    def _load(self, name: str) -> dict[str, Any]:
        try:
            content = restricted_pickle.loads(self.store.read(name))
        except ValueError as error:
            raise self._damaged(name, str(error)) from error
        return {_text(key): value for key, value in content.items()}

    def _damaged(self, name: str, why: str) -> UserError:
        return UserError(f"{self.source}/{name}: is damaged ({why}); download it again")


class _Folder:
    """Files of an unpacked set, in a folder or in the folder that it contains."""

    def __init__(self, path: Path) -> None:
        found = _folder_of(path)
        if found is None:
            raise UserError(f"{path}: holds no batches of CIFAR; download it again")
        self.root, self.layout = found
        wanted = (*self.layout.batches, self.layout.meta)
        self.names = {name for name in wanted if is_file(self.root / name)}

    def path_of(self, name: str) -> Path:
        return self.root / name

    def files(self) -> Iterable[Path]:
        return [self.root / name for name in sorted(self.names)]

    def read(self, name: str) -> bytes:
        try:
            with (self.root / name).open("rb") as file:
                # `restricted_pickle` refuses a file with more bytes.
                return file.read(restricted_pickle.MAX_BYTES + 1)
        except OSError as error:
            raise UserError(
                f"{self.root / name}: cannot be read ({error.strerror or error}); check the file"
            ) from error


class _Archive:
    """Members of a tar file, compressed or not; they are never written to the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.layout = _TEN
        try:
            with open_tar(path) as archive:
                members = [m for m in archive if m.isreg() and not m.issparse()]
                drain(archive)
        except OSError as error:
            raise self._failed(error) from error
        except _DAMAGE as error:
            raise self._cut_off() from error
        for layout in (_TEN, _HUNDRED):
            wanted = {*layout.batches, layout.meta}
            self.names = {PurePosixPath(m.name).name: m for m in members if _is(m, wanted)}
            self.layout = layout
            if self.names.keys() & {*layout.batches}:
                break

    def path_of(self, name: str) -> Path:
        return self.path

    def files(self) -> Iterable[Path]:
        return [self.path]

    def read(self, name: str) -> bytes:
        member = self.names[name]
        if member.size > restricted_pickle.MAX_BYTES:
            raise UserError(
                f"{self.path}/{name}: is too large to be a file of CIFAR; download it again"
            )
        try:
            with open_tar(self.path) as archive:
                file = archive.extractfile(member)
                data = file.read() if file else b""
        except OSError as error:
            raise self._failed(error) from error
        except _DAMAGE as error:
            raise self._cut_off() from error
        if len(data) != member.size:
            raise self._cut_off()
        return data

    def _failed(self, error: OSError) -> UserError:
        # The errors of a damaged .gz file have no error number.
        if error.errno is None:
            return self._cut_off()
        return UserError(f"{self.path}: cannot be read ({error.strerror or error}); check the file")

    def _cut_off(self) -> UserError:
        return UserError(f"{self.path}: is cut off or damaged; download it again")


def _is(member: tarfile.TarInfo, wanted: Iterable[str]) -> bool:
    path = PurePosixPath(member.name)
    return path.name in wanted and len(path.parts) <= 3


def _looks_like_cifar(path: Path) -> bool:
    """Whether one of the first members of an archive belongs to CIFAR."""
    passed = 0
    with open_tar(path) as archive:
        for number, member in enumerate(archive, 1):
            parts = PurePosixPath(member.name).parts
            if {_TEN.folder, _HUNDRED.folder} & {*parts[:2]}:
                return True
            if member.isfile() and parts and _BATCH_OF_TEN.fullmatch(parts[-1]):
                return True
            passed += member.size
            if number >= _MEMBERS or passed > _BYTES:
                return False
    return False


def _folder_of(path: Path) -> tuple[Path, _Layout] | None:
    """Find the folder of the batches in or below a folder, and the set that they belong to."""
    for layout in (_TEN, _HUNDRED):
        for root in (path, path / layout.folder):
            batches = any(is_file(root / name) for name in layout.batches)
            # Files named "train" and "test" are too common to recognize CIFAR-100.
            if batches and (layout is _TEN or is_file(root / layout.meta)):
                return root, layout
    return None


def _text(value: Any) -> str:
    """Convert keys and labels to text: Python 2 wrote them as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
