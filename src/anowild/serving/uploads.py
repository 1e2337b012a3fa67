"""The images in the body of a request: one, several as multipart/form-data, or a zip of them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from anowild.data.readers.base import PassedOverTally, Provenance, Record, SkippedImage
from anowild.data.readers.encoded import failure_reason
from anowild.data.readers.folder import read_pages
from anowild.data.readers.listing import is_set_aside
from anowild.data.readers.zipped import member_content
from anowild.files import DAMAGED_ZIP, printable
from anowild.serving.limits import MIB, Refusal, ServiceLimits, Ticket

MULTIPART = "multipart/form-data"
ZIPS = ("application/zip", "application/x-zip-compressed")
#: Types of a body that is one file; what it is, its bytes say.
RAW = ("image/*", *ZIPS, "application/octet-stream")
_ZIP_STARTS = (b"PK\3\4", b"PK\5\6")
_ZIP_ENTRY = b"PK\1\2"
#: Name of an image that came without one.
NAMELESS = "image"


class ImageFile(NamedTuple):
    """An encoded image, and what reads its bytes; that may raise anything on a damaged file."""

    name: str
    read: Callable[[], bytes]


async def read_body(request: Request, limits: ServiceLimits, ticket: Ticket) -> bytes:
    """Read the body of a request, no further than it is allowed to be long.

    Raises:
        Refusal: too long, of a type that holds no images, or broken off.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != MULTIPART and kind not in RAW and not kind.startswith("image/"):
        raise Refusal(
            415, "type",
            f"Send images as {MULTIPART}, or one image or zip with its own Content-Type, such as image/png.",
        )  # fmt: skip
    too_long = Refusal(
        413, "body", f"The body is longer than {limits.body / MIB:.4g} MiB; send fewer images at a time."
    )  # fmt: skip
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limits.body:
        raise too_long
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limits.body:
                raise too_long
            ticket.hold(len(part))
            parts.append(part)
    except ClientDisconnect:
        raise Refusal(400, "broken", "The body broke off.") from None
    if not size:
        raise Refusal(400, "empty", "The body is empty; send an image.")
    ticket.complete = True
    return b"".join(parts)


def open_body(body: bytes, content_type: str, name: str, limits: ServiceLimits) -> list[ImageFile]:
    """List the images of a body, at least one, without decoding them.

    Args:
        body: of the request.
        content_type: its header.
        name: of the image, where the body is one.
        limits: on the number of images, and on what zips unpack to.

    Raises:
        Refusal: too many images, zips that unpack to too much, or no well-formed body.
    """
    kind, options = parse_options_header(content_type)
    if kind.decode("latin-1").strip() == MULTIPART:
        uploads = _Parts(limits).parse(body, options.get(b"boundary", b""))
    else:
        uploads = [(name, body)]
    found: list[ImageFile] = []
    unpacked = 0
    for title, data in uploads:
        if data[:4] in _ZIP_STARTS:
            files, size = _open_zip(title, data, limits)
            unpacked += size
            found += files
        else:
            found.append(ImageFile(title, partial(bytes, data)))
        if len(found) > limits.images:
            raise _too_many(limits)
    if unpacked > limits.unpacked:
        raise Refusal(
            413, "zip",
            f"The zip unpacks to {unpacked / MIB:.4g} MiB, more than {limits.unpacked / MIB:.4g}; send it in parts.",
        )  # fmt: skip
    return found


def records(files: Sequence[ImageFile], limits: ServiceLimits) -> Iterator[Record | SkippedImage]:
    """Decode images one after the other; what cannot be decoded has a clause that says why.

    Raises:
        Refusal: their pages are too many images.
    """
    count = 0
    for file in files:
        for record in _pages(file, limits.pixels):
            count += 1
            if count > limits.images:
                raise _too_many(limits)
            yield record


def _pages(file: ImageFile, most_pixels: int) -> Iterator[Record | SkippedImage]:
    try:
        data = file.read()
    except Exception as error:  # noqa: BLE001 - of many kinds, on damaged members
        yield SkippedImage(file.name, failure_reason(error))
        return
    found = False
    origin, tally = Provenance(), PassedOverTally()
    for record in read_pages(io.BytesIO(data), file.name, origin, tally, most_pixels):
        found = True
        yield record
    if not found:
        yield SkippedImage(file.name, "it holds no image")


def _too_many(limits: ServiceLimits) -> Refusal:
    return Refusal(
        413, "images", f"There are more than {limits.images} images; send fewer at a time."
    )


def _open_zip(name: str, data: bytes, limits: ServiceLimits) -> tuple[list[ImageFile], int]:
    """List the files in a zip, and the bytes that they claim to unpack to."""
    # Each entry takes hundreds of bytes of memory; some are folders or what systems add.
    if data.count(_ZIP_ENTRY) > 4 * limits.images:
        raise _too_many(limits)
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (OSError, ValueError, *DAMAGED_ZIP) as error:
        return [ImageFile(name, partial(_fail, f"is not a readable zip file ({error})"))], 0
    members = [
        info for info in archive.infolist()
        if not info.is_dir() and not any(map(is_set_aside, PurePosixPath(info.filename).parts))
    ]  # fmt: skip
    if not members:
        return [ImageFile(name, partial(_fail, "it is a zip file without images"))], 0
    files = [
        ImageFile(printable(info.filename), partial(_unpack, archive, info)) for info in members
    ]
    return files, sum(info.file_size for info in members)


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & 1:
        raise ValueError("it is encrypted; send it unpacked")
    # Others may take more memory than they unpack to.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is compressed otherwise than by deflate; pack it again")
    return member_content(archive, info)


def _fail(reason: str) -> bytes:
    raise ValueError(reason)


class _Parts:
    """Callbacks of a parser of multipart/form-data: collect the files, which stay in memory."""

    def __init__(self, limits: ServiceLimits) -> None:
        self._limits = limits
        self._files: list[tuple[str, bytes]] = []
        self._ended = False
        self._begin()

    def parse(self, body: bytes, boundary: bytes) -> list[tuple[str, bytes]]:
        """Return names and contents of the files in a body, at least one.

        Raises:
            Refusal: it is malformed, breaks off, has too many parts, or parts that are no files.
        """
        if not boundary:
            raise Refusal(400, "multipart", "The Content-Type of the form names no boundary.")
        try:
            parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin, "on_part_data": self._take, "on_part_end": self._finish,
                    "on_header_field": self._take_field, "on_header_value": self._take_value,
                    "on_header_end": self._finish_header, "on_headers_finished": self._name,
                    "on_end": self._end,
                },
            )  # fmt: skip
            parser.write(body)
        except FormParserError as error:
            raise Refusal(400, "multipart", f"The body is no {MULTIPART} ({error}).") from error
        if not self._ended:
            raise Refusal(400, "multipart", "The body breaks off before its last boundary.")
        if not self._files:
            raise Refusal(400, "empty", "The form has no file; send at least one image.")
        return self._files

    def _begin(self) -> None:
        self._data, self._field, self._value = bytearray(), bytearray(), bytearray()
        self._disposition = b""
        self._title = ""

    def _take_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _finish_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def _name(self) -> None:
        if len(self._files) >= self._limits.images:
            raise _too_many(self._limits)
        _, options = parse_options_header(self._disposition)
        if b"filename" not in options:
            raise Refusal(400, "multipart", "A part of the form is no file; send files alone.")
        title = options[b"filename"].decode("utf-8", "replace")
        self._title = title or f"{NAMELESS} {len(self._files) + 1}"

    def _take(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _finish(self) -> None:
        self._files.append((self._title, bytes(self._data)))

    def _end(self) -> None:
        self._ended = True
