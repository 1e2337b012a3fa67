"""Reader of zip files of encoded images."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from anowild.data.readers import encoded
from anowild.data.readers.base import (
    MAX_IMAGE_BYTES,
    PassedOver,
    PassedOverTally,
    Provenance,
    Reader,
    Record,
    Shape,
    SkippedImage,
    spread,
)
from anowild.data.readers.folder import (
    SPLITS,
    is_image,
    is_tiff,
    read_pages,
    records_from,
    split_of,
)
from anowild.data.readers.listing import HIDDEN, REPLACED, is_set_aside, of_ending
from anowild.errors import UserError
from anowild.files import DAMAGED_ZIP, is_file


class ZipReader(Reader):
    """Reader of PNG, JPEG, TIFF, BMP and WebP files in a zip file, in the order of their names.

    Each page of a TIFF is an image. Hidden and system files and folders are passed over. Of
    members with the same name, the last one is read, as in unpacking. Images in a folder ``train`` or
    ``test`` belong to that split; the folder may be in a folder that holds everything.
    """

    def __init__(self, source: str) -> None:
        self.path = Path(source)
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = archive.namelist()
        except (OSError, ValueError, *DAMAGED_ZIP) as error:
            raise UserError(
                f"{self.path}: is not a readable zip file ({error}); copy or download it again"
            ) from error
        self._passed_over = PassedOverTally()
        self._pages = PassedOverTally()
        self.members = []
        for name, number in sorted(Counter(names).items()):
            if number > 1:
                self._passed_over.add(REPLACED, f"{self.path}/{name}", number - 1)
        for name in sorted(set(names)):
            if _is_wanted(name):
                self.members.append(name)
            elif not name.endswith("/"):
                hidden = any(map(is_set_aside, PurePosixPath(name).parts))
                self._passed_over.add(HIDDEN if hidden else of_ending(name), f"{self.path}/{name}")
        if not self.members:
            raise UserError(
                f"{self.path}: holds no images; give files that end in "
                f"{', '.join(sorted(encoded.SUFFIXES))}"
            )
        tops = {PurePosixPath(name).parts[0] for name in self.members}
        self._depth = 1 if len(tops) == 1 and tops.pop().lower() not in SPLITS else 0

    @staticmethod
    def takes(source: str) -> bool:
        path = Path(source)
        if path.suffix.lower() != ".zip" or not is_file(path):
            return False
        try:
            with zipfile.ZipFile(path) as archive:
                return any(map(_is_wanted, archive.namelist()))
        except Exception:
            return True  # opening it reports the error

    def count(self) -> int | None:
        return None if any(map(is_tiff, self.members)) else len(self.members)

    def passed_over(self) -> list[PassedOver]:
        return [*self._passed_over.entries(), *self._pages.entries()]

    def files(self) -> Iterable[Path]:
        return [self.path]

    def shapes(self, most: int) -> Iterator[Shape]:
        with zipfile.ZipFile(self.path) as archive:
            for i in spread(len(self.members), most):
                try:
                    with archive.open(self.members[i]) as file:
                        yield encoded.shape(cast(BinaryIO, file))
                except Exception:
                    continue

    def records(self, start: int = 0) -> Iterator[Record | SkippedImage]:
        self._pages = PassedOverTally()
        with zipfile.ZipFile(self.path) as archive:
            entries = ((name, partial(self._read, archive, name)) for name in self.members)
            yield from records_from(start, entries)

    def _read(self, archive: zipfile.ZipFile, member: str) -> Iterator[Record | SkippedImage]:
        name = f"{self.path}/{member}"
        parts = PurePosixPath(member).parts[self._depth :]
        origin = Provenance(source=str(self.path), split=split_of(parts))
        info = archive.getinfo(member)
        if info.flag_bits & 1:
            yield SkippedImage(name, "it is encrypted; unpack the zip file first", origin)
        elif info.file_size > MAX_IMAGE_BYTES:
            yield SkippedImage(name, f"it claims to hold {info.file_size} bytes", origin)
        else:
            try:
                data = member_content(archive, info)
            except Exception as error:
                yield SkippedImage(name, encoded.failure_reason(error), origin)
            else:
                yield from read_pages(io.BytesIO(data), name, origin, self._pages)


def member_content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Read a member, without unpacking much more than it claims to hold."""
    # An unlimited read() would unpack everything and then cut it off. Only deflate obeys a limit, so
    # other methods get few compressed bytes at a time.
    exact = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    step = max(1, info.file_size) if exact else 4096
    with archive.open(info) as file:
        return b"".join(iter(lambda: file.read(step), b""))


def _is_wanted(member: str) -> bool:
    hidden = any(map(is_set_aside, PurePosixPath(member).parts))
    return is_image(member) and not hidden and not member.endswith("/")
