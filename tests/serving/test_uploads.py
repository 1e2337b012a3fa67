"""Bodies that somebody made to do harm: each gets one sentence, and takes no memory."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anowild.serving.limits import Refusal, ServiceLimits
from anowild.serving.uploads import open_body
from tests.serving.conftest import PNG, Make, entries, post, sentence

ZIP = {"content-type": "application/zip"}
MULTIPART = {"content-type": "multipart/form-data; boundary=b"}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG that claims a size, and has a few bytes of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def tiff_of_size(side: int) -> bytes:
    """Return a TIFF of zeros whose second page is large; it is small as a file."""
    data = io.BytesIO()
    pages = [Image.new("L", (16, 16)), Image.new("L", (side, side))]
    pages[0].save(data, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate")  # fmt: skip
    return data.getvalue()


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def part(disposition: str, data: str = "x") -> str:
    return f"--b\r\nContent-Disposition: {disposition}\r\n\r\n{data}\r\n"


PART = part('form-data; name="images"; filename="a.png"')
FIELD = part('form-data; name="images"')
BOMB = zip_of({"bomb.png": bytes(20 << 20)})

HOSTILE: dict[str, tuple[int, bytes, dict[str, str], str]] = {
    "empty": (400, b"", PNG, "The body is empty"),
    "no type": (415, b"x", {}, "Send images as"),
    "text": (415, b"x", {"content-type": "text/plain"}, "Send images as"),
    "no image": (422, b"x" * 1000, PNG, "image: cannot identify"),
    "cut off": (422, png_of_size(16, 16)[:50], PNG, "image: "),
    "huge header": (422, png_of_size(50_000, 50_000), PNG, "image: it claims more pixels than"),
    "large header": (422, png_of_size(10_000, 10_000), PNG, "image: it claims 10000x10000 pixels"),
    "program": (422, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", PNG, "image: cannot"),
    "zip bomb": (413, BOMB, ZIP, "The zip unpacks to 20 MiB, more than 8"),
    "zip in an image type": (413, BOMB, PNG, "The zip unpacks to 20 MiB"),
    "damaged zip": (422, b"PK\3\4" + bytes(100), ZIP, "image: is not a readable zip file"),
    "empty zip": (422, zip_of({}), ZIP, "image: it is a zip file without images"),
    "zip in a zip": (422, zip_of({"a.zip": zip_of({"b": b""})}), ZIP, "a.zip: cannot identify"),
    "zip of many files": (413, zip_of(dict.fromkeys(map(str, range(41)), b"")), ZIP, "There are more"),
    "zip of lzma": (422, zip_of({"a.png": b"x"}, zipfile.ZIP_LZMA), ZIP, "a.png: it is compressed"),
    "no boundary": (400, b"--b--", {"content-type": "multipart/form-data"}, "The Content-Type"),
    "long boundary": (400, b"x", {"content-type": f"multipart/form-data; boundary={'b' * 300}"}, "The body is no"),
    "truncated form": (400, PART.encode(), MULTIPART, "The body breaks off"),
    "malformed form": (400, b"hello", MULTIPART, "The body is no multipart/form-data"),
    "form without parts": (400, b"--b--\r\n", MULTIPART, "The "),
    "form with a field": (400, (FIELD + "--b--\r\n").encode(), MULTIPART, "A part of the form is no file"),
    "form without headers": (400, b"--b\r\n\r\nx\r\n--b--\r\n", MULTIPART, "A part of the form"),
    "thousands of parts": (413, (PART * 5000 + "--b--\r\n").encode(), MULTIPART, "There are more than 10"),
    "charset": (422, (PART + "--b--\r\n").encode(),
                {"content-type": "multipart/form-data; boundary=b; charset=idna"}, "a.png: "),
    "long body": (413, bytes(3 << 20), PNG, "The body is longer than 2 MiB"),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/score", "/heatmap"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_body_gets_one_sentence(make: Make, name: str, path: str) -> None:
    service = make(images=10, body=2 << 20, unpacked=8 << 20)
    status, body, headers, said = HOSTILE[name]
    answer = post(service, path, content=body, headers=headers)
    assert (answer.status_code, sentence(answer)[: len(said)]) == (status, said)
    assert service.admission.images == service.admission.bytes == 0


def test_body_is_refused_while_it_streams_in(make: Make) -> None:
    service, sent = make(body=1 << 20), []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(1)
            yield bytes(1 << 16)

    assert post(service, content=endless(), headers=PNG).status_code == 413
    assert len(sent) == 17


def test_bodies_of_all_requests_share_a_limit(make: Make, pngs: list[bytes]) -> None:
    service = make(body=2000, bodies=2500)
    with service.admission.accepted() as other:
        other.hold(1500)
        answer = post(service, content=bytes(2000), headers=PNG)
    assert (answer.status_code, "retry-after" in answer.headers) == (429, True)
    assert "Other requests" in sentence(answer)
    assert entries(post(service, content=pngs[0], headers=PNG))


def test_large_page_is_not_decoded(make: Make) -> None:
    service = make(pixels=1_000_000)
    first, second = entries(post(service, files={"images": ("a.tif", tiff_of_size(2000))}))
    assert first["name"] == "a.tif[0]"
    assert second["error"] == "it claims 2000x2000 pixels, more than the limit of 1,000,000"


def test_pages_count_as_images(make: Make) -> None:
    data = io.BytesIO()
    first, *others = [Image.new("L", (16, 16), i) for i in range(12)]
    first.save(data, "TIFF", save_all=True, append_images=others)
    answer = post(make(images=10), content=data.getvalue(), headers=PNG)
    assert (answer.status_code, sentence(answer)[:22]) == (413, "There are more than 10")


@pytest.mark.parametrize("name", ["zip bomb", "huge header", "zip of many files"])
def test_refusing_takes_no_memory(name: str) -> None:
    _, body, headers, _ = HOSTILE[name]
    limits = ServiceLimits(images=10, unpacked=8 << 20)
    tracemalloc.start()
    try:
        for file in open_body(body, headers["content-type"], "image", limits):
            file.read()
    except Refusal:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 1 << 20


def test_zip_that_claims_less_than_it_holds_is_damaged(make: Make, pngs: list[bytes]) -> None:
    bomb = bytearray(zip_of({"bomb.png": bytes(20 << 20), "a.png": pngs[0]}))
    for start, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        place = bomb.index(start) + at
        bomb[place : place + 4] = struct.pack("<I", 1000)
    first, second = entries(post(make(unpacked=8 << 20), content=bytes(bomb), headers=ZIP))
    assert (first["name"], "error" in first) == ("bomb.png", True)
    assert "score" in second


def test_entries_beyond_what_the_directory_counts_are_refused_before_it_is_read() -> None:
    crowded = zip_of(dict.fromkeys(map(str, range(1000)), b""))
    with pytest.raises(Refusal, match="more than 10 images"):
        open_body(crowded, "application/zip", "image", ServiceLimits(images=10))


@pytest.mark.parametrize("seed", range(15))
def test_random_damage_is_never_an_error_of_the_service(
    make: Make, pngs: list[bytes], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    request: Any = post_body(pngs, seed % 3)
    body = bytearray(request[0])
    for place in rng.integers(0, len(body), rng.integers(1, 12)):
        body[place] = rng.integers(0, 256)
    answer = post(make(), content=bytes(body[: rng.integers(1, len(body) + 1)]), headers=request[1])
    assert answer.status_code < 500
    if answer.status_code != 200:
        assert sentence(answer)


def post_body(pngs: list[bytes], kind: int) -> tuple[bytes, dict[str, str]]:
    if kind == 0:
        return pngs[0], PNG
    if kind == 1:
        return zip_of({"a.png": pngs[0], "b.png": pngs[1]}), ZIP
    parts = [(PART.replace("x\r\n", "").encode() + data + b"\r\n") for data in pngs[:2]]
    return b"".join([*parts, b"--b--\r\n"]), MULTIPART


def test_names_that_are_no_text_are_shown(make: Make, pngs: list[bytes]) -> None:
    body = (
        PART.encode()
        .replace(b"a.png", b"\xff\xfe\xed\xa0\x80")
        .replace(b"x\r\n", pngs[0] + b"\r\n")
    )
    (image,) = entries(post(make(), content=body + b"--b--\r\n", headers=MULTIPART))
    assert "\ufffd" in image["name"]
    (image,) = entries(post(make(), "/score?name=%ED%A0%80", content=pngs[0], headers=PNG))
    assert "score" in image
