"""Originals by their names in a table, decoded when somebody looks at them."""

from __future__ import annotations

import io
import os
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from anowild.arrays import Array
from anowild.data.display import thumbnail
from anowild.data.preprocessing import Preprocess
from anowild.data.readers import encoded
from anowild.data.readers.base import MAX_IMAGE_BYTES
from anowild.data.readers.folder import PAGE, is_image
from anowild.data.stores import file_system
from anowild.errors import UserError
from anowild.files import printable

#: Bytes of the thumbnails that are kept in memory; and originals that are decoded at the same time, as a large one
#: takes a gigabyte.
KEPT_BYTES, AT_ONCE = 64 << 20, min(4, os.cpu_count() or 1)
#: Object stores that originals are fetched from. Other addresses in a table are not followed.
STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://")
#: A name of an image in an archive, as its readers give it: archive.tar/folder/image.png.
_ARCHIVE = re.compile(r"\.(tar|tar\.\w+|tgz|zip)/", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """Where an image lies: a file or the address of one, and the page of it, from 0."""

    file: str
    page: int


class OnDemand:
    """Reader of originals; thread-safe, and its memory is bounded.

    Args:
        base: folder that relative names refer to.
        preprocess: its black and white are those of thumbnails too.
    """

    def __init__(self, base: Path, preprocess: Preprocess) -> None:
        self.base = base
        black, white = preprocess.black, preprocess.white
        #: Values that are shown as black and white; None: chosen by each image.
        self.levels = None if black is None or white is None else (black, white)
        self._decoding = threading.BoundedSemaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._thumbnails: OrderedDict[str, bytes] = OrderedDict()
        self._kept = 0

    def path(self, name: str) -> Path | None:
        """Return the local file of an image; None where it is not a file of its own."""
        place = place_of(name)
        return None if place is None or _URL.match(place.file) else self.base / place.file

    def pages(self, name: str) -> int:
        """Return how many pages the file of an image has; 1 where that cannot be told quickly."""
        path = self.path(name)
        return 1 if path is None else encoded.page_count(path)

    def page(self, name: str) -> int:
        """Return the page of its file that an image is, from 0."""
        place = place_of(name)
        return 0 if place is None else place.page

    def thumbnail(self, name: str) -> bytes:
        """Return a thumbnail as WebP, made now unless it was made a while ago.

        Raises:
            UserError: the original is missing or damaged.
        """
        with self._lock:
            if name in self._thumbnails:
                self._thumbnails.move_to_end(name)
                return self._thumbnails[name]
        made = thumbnail(self.pixels(name), self.levels)
        with self._lock:
            self._kept += len(made) - len(self._thumbnails.pop(name, b""))
            self._thumbnails[name] = made
            while self._kept > KEPT_BYTES and len(self._thumbnails) > 1:
                self._kept -= len(self._thumbnails.popitem(last=False)[1])
        return made

    def pixels(self, name: str, page: int | None = None) -> Array:
        """Read an original, or another page of its file, [H, W, C].

        Raises:
            UserError: it is missing, damaged, or not a file of its own; the message is a sentence.
        """
        place = place_of(name)
        if place is None:
            raise UserError(
                f"{printable(name)}: is no image file of its own (of an archive, array or video, a table has "
                "no pictures)"
            )
        wanted = place.page if page is None else page
        with self._decoding:
            file = self._file(place.file)
            try:
                for number, _, pixels in encoded.decode(file, animated=True):
                    if number == wanted:
                        return pixels
            except (FileNotFoundError, NotADirectoryError):
                raise UserError(
                    f"{printable(str(file))}: is not there any more; bring it back, or score again"
                ) from None
            # Decoders raise errors of many kinds on damaged files.
            except Exception as error:
                reason = encoded.failure_reason(error)
                raise UserError(f"{printable(name)}: cannot be read ({reason})") from error
        raise UserError(f"{printable(name)}: has no page {wanted} any more")

    def _file(self, file: str) -> encoded.File:
        url = _URL.match(file)
        if url is None:
            return self.base / file
        if url[1] not in STORES:
            raise UserError(
                f"{printable(file)}: is not fetched; originals come from files and from "
                f"{', '.join(f'{store}://' for store in STORES)}"
            )
        try:
            system, path = file_system(file)
            with system.open(path, "rb") as opened:
                data = opened.read(MAX_IMAGE_BYTES + 1)
        except UserError:
            raise
        except FileNotFoundError:
            raise UserError(
                f"{printable(file)}: is not there any more; bring it back, or score again"
            ) from None
        # Clients of object stores raise errors of their own.
        except Exception as error:
            raise UserError(f"{printable(file)}: cannot be fetched ({error})") from error
        if len(data) > MAX_IMAGE_BYTES:
            raise UserError(f"{printable(file)}: is too large for an image")
        return io.BytesIO(data)


def place_of(name: str) -> Place | None:
    """Return where an image lies, by its name in a table; None: it is no file of its own."""
    found = PAGE.fullmatch(name)
    file, page = (found[1], int(found[2])) if found and not is_image(name) else (name, 0)
    if not is_image(file) or _ARCHIVE.search(file):
        return None
    return Place(file, page)
