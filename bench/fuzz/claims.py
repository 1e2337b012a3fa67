"""Edits that know a format: claims that the contents do not hold, loops, bombs, odd names and types.

Each edit changes a source, a file or a folder, in its place.
"""

# Long lists of values are easier to read in full lines.
# fmt: off

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bench.fuzz import samples, zeros
from bench.fuzz.edits import edit_bytes
from bench.fuzz.models import edit_json

Edit = Callable[[Path, random.Random], None]

#: Sizes and counts that a header may claim.
COUNTS = (0, 1, 2, 7, 8, 9, 100, 255, 256, 4097, 32767, 65535, 65536, 10**6, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
NAMES = (
    "../../x.png", "/x.png", "C:\\x.png", "a/../../b.png", "x\0y.png", "n\nl.png", "\x1b[31mred.png", "=cmd.png",
    "", ".", "..", "a" * 255 + ".png", "/".join("a" * 300) + ".png", "\udcff.png", "ü.png", "u\u0308.png", " .png",
    "x.png/", "__MACOSX/x.png", "._x.png", "x.PNG", "a//b.png", "\u202egnp.exe.png", ".png", "train", "x.cls",
    "x.json",
)
#: Blocks of 8 MB of zeros in a bomb.
BOMBS = (8, 40, 128, 8, 40, 8, 300)


def inner_file(path: Path, rng: random.Random) -> Path:
    """Return the source itself, or a file in its folder."""
    if path.is_file():
        return path
    return rng.choice(_plain_files(path))


def _plain_files(folder: Path) -> list[Path]:
    """List what may be read and written: no links out of the folder, and no files of terabytes."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink())
    return [p for p in found if p.stat().st_size < 1 << 28]


def any_bytes(path: Path, rng: random.Random) -> None:
    """Change bytes of a file."""
    file = inner_file(path, rng)
    file.write_bytes(edit_bytes(file.read_bytes(), rng))


def numbers(path: Path, rng: random.Random) -> None:
    """Write a large or odd number over some bytes, where the headers mostly are."""
    file = inner_file(path, rng)
    data = bytearray(file.read_bytes())
    for _ in range(rng.choice((1, 1, 2))):
        most = len(data) if rng.random() < 0.4 else min(len(data), 300)
        at, kind = rng.randrange(most + 1), rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
        value = rng.choice((*COUNTS, 2**40, 2**63, 2**64 - 1)) % 256 ** struct.calcsize(kind)
        data[at : at + struct.calcsize(kind)] = struct.pack(kind, value)
    file.write_bytes(data)


def inside_gzip(edit: Edit) -> Edit:
    """Return an edit of what a gzip file holds."""

    def edited(path: Path, rng: random.Random) -> None:
        file = inner_file(path, rng)
        data = file.read_bytes()
        if not data.startswith(b"\x1f\x8b"):
            edit(file, rng)
            return
        file.write_bytes(gzip.decompress(data))
        edit(file, rng)
        file.write_bytes(gzip.compress(file.read_bytes(), 1))

    return edited


# Pictures


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    at, found = 8, []
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        found.append((kind, data[at + 8 : at + 8 + size]))
        at += size + 12
    return found


def png_chunks(path: Path, rng: random.Random) -> None:
    """Change the chunks of a PNG: sizes, text and profiles that unpack to much, order; checksums fit."""
    chunks = _png_chunks(path.read_bytes())
    for _ in range(rng.choice((1, 1, 2))):
        kind, at = rng.randrange(7), rng.randrange(len(chunks))
        bomb = zeros.zlibbed(rng.choice(BOMBS))
        if kind == 0 and chunks[0][0] == b"IHDR":
            facts = list(struct.unpack(">IIBBBBB", chunks[0][1][:13].ljust(13, b"\0")))
            facts[rng.randrange(2)] = rng.choice(COUNTS)
            if rng.random() < 0.4:
                facts[2:4] = rng.choice((1, 2, 4, 8, 16)), rng.choice((0, 2, 3, 4, 6))
            chunks[0] = b"IHDR", struct.pack(">IIBBBBB", *facts)
        elif kind == 1:
            name = rng.choice((b"zTXt", b"iCCP", b"iTXt"))
            head = b"a\0\1\0\0\0" if name == b"iTXt" else b"a\0\0"
            chunks.insert(min(at, 1), (name, head + bomb))
        elif kind == 2:
            side = rng.choice(((16, 4), (9400, 9400), (80_000_000, 1), (3, 20_000_000)))
            depth, color = rng.choice(((8, 0), (8, 2), (1, 0), (16, 0), (16, 2), (16, 6)))
            chunks[0] = b"IHDR", struct.pack(">IIBBBBB", *side, depth, color, 0, 0, 0)
            chunks = [c for c in chunks if c[0] != b"IDAT"]
            chunks.insert(len(chunks) - 1, (b"IDAT", bomb))
        elif kind == 3:
            chunks[at] = chunks[at][0], edit_bytes(chunks[at][1], rng)[:100_000]
        elif kind == 4:
            name = rng.choice((b"acTL", b"fcTL", b"fdAT", b"tRNS", b"PLTE", b"gAMA", b"sBIT", b"IDAT"))
            fields = [rng.choice(COUNTS) for _ in range(rng.randrange(8))]
            chunks.insert(rng.randrange(len(chunks)), (name, struct.pack(f">{len(fields)}I", *fields)))
        elif kind == 5:
            chunks.insert(1, (b"eXIf", odd_exif(rng)))
        else:
            shuffle_parts(chunks, rng)
        if not chunks:
            break
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks))


def shuffle_parts(parts: list[Any], rng: random.Random) -> None:
    """Drop, repeat or move parts of a file."""
    kind = rng.randrange(3)
    if kind == 0:
        parts.pop(rng.randrange(len(parts)))
    elif kind == 1:
        parts.extend(parts * 2)
    else:
        rng.shuffle(parts)


def odd_exif(rng: random.Random) -> bytes:
    """Return EXIF with random entries, whose pointers may form loops."""
    order = rng.choice("<>")
    count = rng.choice((1, 3, 3, 60))
    tags = (0x112, 0x8769, 0x8825, 0x927C, 0xA005, 0x111, 0x201, 0x202, 0x100, 0x101, 0x14A)
    body = struct.pack(order + "H", rng.choice((count,) * 5 + (65535,)))
    for _ in range(count):
        value = rng.choice((8, 8, 0, 1, 6, 30, 2**31, 2**32 - 1))
        entry = rng.choice(tags), rng.choice((1, 2, 3, 4, 5, 7, 10, 13, 99)), rng.choice((1, 1, 2, *COUNTS)), value
        body += struct.pack(order + "HHII", *entry)
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "I", 8) + body + struct.pack(order + "I", rng.choice((0, 8, 2**31)))


def jpeg_segments(path: Path, rng: random.Random) -> None:
    """Change the segments of a JPEG: sizes, EXIF, profiles, tables, order."""
    data, at = path.read_bytes(), 2
    parts: list[bytes] = []
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        size = struct.unpack(">H", data[at + 2 : at + 4])[0] + 2
        parts.append(data[at : at + size])
        at += size
    rest = data[at:]
    for _ in range(rng.choice((1, 1, 2))):
        kind, place = rng.randrange(6), rng.randrange(len(parts))
        frames = [i for i, p in enumerate(parts) if p[1:2] in (b"\xc0", b"\xc2") and len(p) > 9]
        if kind == 0 and frames:
            frame = bytearray(parts[frames[0]])
            side = rng.choice((1, 8, 3000, 9000, 20_000, 65_500, 65_535))
            offset = rng.choice((5, 7))
            frame[offset : offset + 2] = struct.pack(">H", side)
            if rng.random() < 0.3:
                frame[rng.choice((4, 9, *range(10, len(frame))))] = rng.randrange(256)
            parts[frames[0]] = bytes(frame)
        elif kind == 1:
            exif = b"Exif\0\0" + odd_exif(rng)
            parts.insert(0, b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif)
        elif kind == 2:
            icc = b"ICC_PROFILE\0" + bytes([rng.randrange(256), rng.randrange(256)]) + bytes(9000)
            parts[:0] = [b"\xff\xe2" + struct.pack(">H", len(icc) + 2) + icc] * rng.choice((1, 3, 300))
        elif kind == 3:
            parts[place] = edit_bytes(parts[place], rng)[:70_000]
        elif kind == 4:
            mpf = b"MPF\0" + odd_exif(rng)
            parts.insert(0, b"\xff\xe2" + struct.pack(">H", len(mpf) + 2) + mpf)
        else:
            shuffle_parts(parts, rng)
        if not parts:
            break
    path.write_bytes(b"\xff\xd8" + b"".join(parts) + rest)


def gif_claims(path: Path, rng: random.Random) -> None:
    """Change the sizes that a GIF claims, or add blocks."""
    data = bytearray(path.read_bytes())
    starts = [6, *(m.start() + 5 for m in re.finditer(b"\x2c", bytes(data)))]
    at = rng.choice(starts) + rng.choice((0, 2))
    data[at : at + 2] = struct.pack("<H", rng.choice((0, 1, 7, 9, 4000, 13_000, 65_535)))
    if rng.random() < 0.3:
        frame = bytes(data[data.find(b"\x2c") : -1])
        data = data[:-1] + frame * rng.choice((1, 50, 300)) + b"\x3b"
    path.write_bytes(data)


def tiff_tags(path: Path, rng: random.Random) -> None:
    """Change entries of a TIFF's directory: tags, types, counts and values."""
    data = bytearray(path.read_bytes())
    order = "<" if data[:2] == b"II" else ">"
    large = b"+" in data[2:4]
    head, entry, value = ("Q", 20, "Q") if large else ("I", 12, "I")
    try:
        start = struct.unpack_from(order + head, data, 8 if large else 4)[0]
        count = struct.unpack_from(order + ("Q" if large else "H"), data, start)[0]
    except struct.error:
        return
    first, width = start + (8 if large else 2), struct.calcsize(value)
    after = first + count * entry
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, kind = first + rng.randrange(count) * entry, rng.randrange(7)
        number = rng.choice((*COUNTS, start, 8)) & (2 ** (8 * width) - 1)
        if kind == 0:
            struct.pack_into(order + "H", data, at, rng.choice((254, 258, 259, 262, 266, 277, 284, 317, 320, 322, 325,
                330, 338, 339, 347, 530)))
        elif kind == 1:
            struct.pack_into(order + "H", data, at + 2, rng.choice((*range(1, 19), 99, 65535)))
        elif kind == 2:
            struct.pack_into(order + value, data, at + 4, number)
        elif kind == 3:  # a directory that leads to itself, or elsewhere
            struct.pack_into(order + head, data, after, rng.choice((start, start, 8, number)))
        elif kind == 4:
            small = rng.choice((0, 1, 2, 3, 5, 6, 7, 8, 16, 17, 32, 64, 32773, 32845, 34712, 34925, 50000, 50001,
                65535))
            struct.pack_into(order + "H", data, at + 4 + width, small)
        else:
            struct.pack_into(order + value, data, at + 4 + width, number)
    path.write_bytes(data)


def tiff_made(path: Path, rng: random.Random) -> None:
    """Write a TIFF of large claims, strips that unpack to much, many pages or layers."""
    wide = rng.random() < 0.5  # of 16 bits in three samples, which tifffile reads
    side = rng.choice((8, 8, 3000, 9000, 20_000, 60_000, 2**31))
    height = rng.choice((side, side, 8))
    strips = rng.choice((1, 1, 4, 1000))
    packed = zeros.zlibbed(rng.choice((1, *BOMBS[:3])))
    body, pages = bytearray(b"II*\0\0\0\0\0" + packed), rng.choice((1, 1, 1, 3, 200 if side == 8 else 3))
    offsets = len(body)
    body += struct.pack(f"<{strips}I", *[8] * strips)
    sizes = len(body)
    body += struct.pack(f"<{strips}I", *[len(packed)] * strips) + struct.pack("<4H", 16, 16, 16, 0)
    text = rng.choice((
        b"", b"ImageJ=1.54\nimages=1000000000\nslices=1000000000\n", b'{"shape": [100000, 9000, 9000]}',
        b'<?xml version="1.0"?><OME><Image ID="a"><Pixels SizeX="8" SizeY="8" SizeZ="99999" SizeT="99999" SizeC="1" '
        b'DimensionOrder="XYZCT" Type="uint8"><TiffData/></Pixels></Image></OME>',
            b"<!DOCTYPE a [<!ENTITY b \"c\">]>",
    ))
    place = len(body)
    body += text + b"\0" * (8 - len(text) % 8)
    directory = [
        (256, 4, 1, side), (257, 4, 1, height), (258, 3, 3 if wide else 1, sizes + 4 * strips if wide else 8),
        (259, 3, 1, rng.choice((8, 8, 8, 1, 5, 32773, 50000, 7, 34925))), (262, 3, 1, 2 if wide else 1),
        (270, 2, len(text) + 1, place), (273, 4, strips, offsets if strips > 1 else 8), (277, 3, 1, 3 if wide else 1),
        (278, 4, 1, max(1, height // strips)), (279, 4, strips, sizes if strips > 1 else len(packed)),
        *([(32997, 4, 1, rng.choice((2, 1000, 2**31)))] if rng.random() < 0.1 else []),
    ]
    size = 2 + 12 * len(directory) + 4
    start = len(body)
    struct.pack_into("<I", body, 4, start)
    for page in range(pages):
        last = rng.choice((0, start, start + size)) if page == pages - 1 else start + (page + 1) * size
        entries = b"".join(struct.pack("<HHII", *entry) for entry in directory)
        body += struct.pack("<H", len(directory)) + entries + struct.pack("<I", last)
    path.write_bytes(body)


def long_texts(path: Path, rng: random.Random) -> None:
    """Give a picture under any ending the content of another kind, or of a program."""
    path.write_bytes(rng.choice((
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(RAN) (w) file closefile showpage\n%%EOF\n",
        b"P6 100000 100000 255\n", b"P7\nWIDTH 8\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"#define x_width 9999\n#define x_height 9999\nstatic char x[] = {\n0x00",
        b"/* XPM */\nstatic char *x[] = {\n\"99999 99999 99999 9\",\n", b"SIMPLE  =                    T",
        b"version https://git-lfs.github.com/spec/v1\n", samples.PAYLOAD,
        b"P3 8 8 255 " + b"9" * 100_000,
    )))


# Arrays


def npy_header(path: Path, rng: random.Random) -> None:
    """Write an array whose header claims another shape, type or order, or is none."""
    path.write_bytes(odd_npy(rng))


def odd_npy(rng: random.Random) -> bytes:
    """Return a .npy file with an odd header."""
    kinds = ("|u1", "<u2", ">f4", "<f8", "<f2", "|O", "<c8", "<U999999999", "|S0", "|V0", "<M8[s]", "|b1", "<i8",
             "<f16", [("a", "|u1")], "|u1,<f8", ["x"], None, 5, "<U1", [("a", "|O")], "|i1")
    sides = (0, 1, 3, 5, 8, 8, 8, 100, 10**6, 10**9, 2**31, 2**62, -1, 1.5, None, 10**30)
    shape: Any = tuple(rng.choice(sides) for _ in range(rng.choice((0, 1, 2, 3, 3, 3, 4, 4, 9, 70))))
    if rng.random() < 0.4:
        shape = (rng.choice((5, 10**9)), 8, 8)
    header: Any = {"descr": rng.choice(kinds) if rng.random() < 0.7 else "|u1", "fortran_order": rng.random() < 0.4,
        "shape": shape}
    text = rng.choice((repr(header),) * 8 + ("{" * 5000, "(" * 200, repr(header)[:-5],
        "__import__('os').system('touch RAN')", "{'descr': '|u1', " * 9, repr(header) + "\0")).encode()
    version = rng.choice((1, 1, 2, 2, 3, 4, 0, 255))
    claimed = rng.choice((len(text),) * 8 + (0, 10**6, 2**31, 2**32 - 1))
    size = struct.pack("<H", claimed & 0xFFFF) if version == 1 else struct.pack("<I", claimed)
    content = samples.PAYLOAD if rng.random() < 0.2 else samples.DIGITS[:5].tobytes() * rng.choice((1, 1, 8))
    if rng.random() < 0.1:
        content = np.full((5, 8, 8), rng.choice((np.nan, np.inf, -1e300, 1e38, 7)), "<f8").tobytes()
    return b"\x93NUMPY" + bytes([version, rng.choice((0, 0, 0, 1))]) + size + text + content


def zip_of(members: list[tuple[str, bytes]], method: int) -> bytes:
    """Pack members into a zip file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            with suppress(UnicodeError):
                archive.writestr(name or "x", content)
    return file.getvalue()


def npz_made(path: Path, rng: random.Random) -> None:
    """Write an .npz file of odd arrays, or one that unpacks to much."""
    if rng.random() < 0.4:
        # Of zeros, 16 images are 64 MB.
        shape = (rng.choice((5, 10**9, 16, 80, 256)), 2048, 2048)
        head = io.BytesIO()
        header: Any = {"descr": "|u1", "fortran_order": rng.random() < 0.5, "shape": shape}
        np.lib.format.write_array_header_1_0(head, header)
        path.write_bytes(zip_bomb(rng, "x.npy", head.getvalue()))
        return
    members = [(rng.choice(("images.npy", "x.npy", "x", "a/b.npy", *NAMES)),
        odd_npy(rng)) for _ in range(rng.choice((1, 1, 2, 5)))]
    path.write_bytes(zip_of(members, rng.choice((0, 8, 8, 12, 14))))


def zip_bomb(rng: random.Random, name: str, start: bytes = b"") -> bytes:
    """Return a zip file of one member that unpacks to much, and may claim to be small."""
    blocks = rng.choice(BOMBS)
    method = rng.choice((8, 8, 12, 14)) if not start else 8
    if method == 8:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH) + zeros.deflate(blocks)
    else:
        blocks = BOMBS[1]
        packed = zeros.bzipped(blocks) if method == 12 else zeros.lzma_of_zip(blocks)
    true = blocks * zeros.BLOCK + len(start)
    size = rng.choice((true & 0xFFFFFFFF, 5000, 5000, 0, 2**32 - 2, 64 << 20))
    facts = struct.pack("<HHHHHIIIHH", 20, 2 * (method == 14), method, 0, 33, 0, len(packed), size, len(name), 0)
    local = b"PK\3\4" + facts + name.encode() + packed
    central = b"PK\1\2\x14\0" + facts + bytes(14)[:10] + struct.pack("<I", 0) + name.encode()
    times = rng.choice((1, 1, 9))
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, times, times, len(central) * times, len(local), 0)
    return local + central * times + end


# Archives


def zip_made(path: Path, rng: random.Random) -> None:
    """Write a zip file of odd names and flags, or one that unpacks to much."""
    kind = rng.randrange(5)
    if kind == 0:
        path.write_bytes(zip_bomb(rng, rng.choice(("x.png", "x.tif", "x.jpg"))))
        return
    picture = samples.encoded(pixels=samples.DIGITS[rng.randrange(9)])
    names = ["ok.png", *rng.choices(NAMES, k=rng.choice((1, 3, 8)))]
    if kind == 1:
        names += [f"{i}.txt" for i in range(3000)]
    with zipfile.ZipFile(path, "w", rng.choice((0, 8, 12, 14))) as archive:
        for name in names:
            info = zipfile.ZipInfo(name or "a")
            info.filename = name
            info.date_time = rng.choice(((1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)))
            info.external_attr = rng.choice((0, 0xA1FF0000, 0x10, 2**32 - 1))  # a link, a folder
            with suppress(ValueError, UnicodeError, OSError):
                archive.writestr(info, picture)
    if kind > 2:
        zip_headers(path, rng)


def zip_headers(path: Path, rng: random.Random) -> None:
    """Change fields of the headers of a zip file: flags, method, sizes, offsets, ZIP64."""
    data = bytearray(path.read_bytes())
    kinds = {b"PK\3\4": (4, 6, 8, 14, 18, 22, 26, 28), b"PK\1\2": (6, 8, 10, 16, 20, 24, 28, 30, 32, 38, 42),
        b"PK\5\6": (4, 8, 10, 12, 16, 20)}
    for _ in range(rng.choice((1, 1, 2, 4))):
        mark = rng.choice(sorted(kinds))
        found = [m.start() for m in re.finditer(re.escape(mark), bytes(data))]
        if found:
            at = rng.choice(found) + rng.choice(kinds[mark])
            if at + 4 <= len(data):
                struct.pack_into(*rng.choice((("<H", data, at, rng.choice(COUNTS) & 0xFFFF),
                    ("<I", data, at, rng.choice(COUNTS)))))
    path.write_bytes(data)


def tar_made(path: Path, rng: random.Random) -> None:
    """Write a tar file of odd members: links, devices, long names, headers that claim or unpack to much."""
    out = io.BytesIO()
    picture = samples.encoded(pixels=samples.DIGITS[0])
    kinds = (tarfile.REGTYPE,) * 4 + (
        tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE,
        tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.CONTTYPE, b"Z",
    )
    for number in range(rng.choice((2, 5, 20, 300))):
        info = tarfile.TarInfo(rng.choice((f"{number}.png",) * 3 + NAMES) or "a")
        info.type = rng.choice(kinds) if rng.random() < 0.5 else tarfile.REGTYPE
        content = rng.choice((picture, picture, b"9 path=" + b"x" * 5000, b"[" * 50_000,
            b"30 GNU.sparse.map=1,2,3,4,x\n", b"20 size=99999999999\n", b"12 mtime=nan\n", b"99999999999999 a=b\n"))
        info.size = rng.choice((len(content),) * 6 + (2**33 - 1, 10**6, 0, 2**62))
        info.linkname = rng.choice(("/etc/passwd", "0.png", "../x", f"{number}.png"))
        info.mtime = rng.choice((0, 2**33, -1))
        with suppress(ValueError, UnicodeError):
            out.write(info.tobuf(tarfile.GNU_FORMAT))
            out.write(content + bytes(-len(content) % 512))
    data, ending = out.getvalue() + bytes(1024), path.name.endswith("gz")
    if ending and rng.random() < 0.5:
        large = tarfile.TarInfo(rng.choice(("x.png", "x.cls", "x")))
        large.type = rng.choice((tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE))
        blocks = rng.choice(BOMBS)
        large.size = rng.choice((blocks * zeros.BLOCK, 6 * 10**9, 900_000_000))
        path.write_bytes(zeros.gzipped(blocks, data[:-1024] + large.tobuf(tarfile.GNU_FORMAT)))
    else:
        path.write_bytes(gzip.compress(data, 1) if ending else data)


def idx_made(path: Path, rng: random.Random) -> None:
    """Write idx files of large claims, or that unpack to much."""
    folder = path
    name = rng.choice(("train-images-idx3-ubyte", "t10k-images.idx3-ubyte"))
    count, height, width = (rng.choice((1, 5, 8, 8, 28, 13_000, 2**31, 2**32 - 1)) for _ in range(3))
    head = struct.pack(">4I", rng.choice((0x803,) * 5 + (0x801, 0xD03, 0)), count, height, width)
    if rng.random() < 0.6:
        (folder / f"{name}.gz").write_bytes(zeros.gzipped(rng.choice(BOMBS), head))
    else:
        (folder / name).write_bytes(head + bytes(rng.choice((0, 5, 320, 28 * 28 * 28))))


def pickle_made(path: Path, rng: random.Random) -> None:
    """Write a batch of CIFAR whose pickle would run code, take much, or hold odd values."""
    file = path / "data_batch_1" if path.is_dir() else path
    name = rng.choice((b"os\nsystem", b"builtins\neval", b"numpy\nfromfile", b"numpy.core.multiarray\n_reconstruct",
        b"subprocess\nPopen"))
    many = b"(lp0\n" + b"g0\na" * rng.choice((3, 3000))
    file.write_bytes(rng.choice((
        samples.PAYLOAD, b"c" + name + b"\n(S'touch RAN'\ntR.", many + b".", b"\x80\x04\x95" + b"\xff" * 8 + b".",
        b"\x80\x02]" + b"2" * 5000 + b".",
        b"\x80\x02}q\0(U\x04dataX" + struct.pack("<I", 2**31 - 1) + b"x", b"\x80\x04\x8e" + struct.pack("<Q", 2**62),
        b"\x80\x05\x96" + struct.pack("<Q", 2**40),
        b"(" * 100_000 + b".", b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", b"\x80\x02r\xff\xff\xff\x7f.",
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",
    )))


# Stores


def hdf5_made(path: Path, rng: random.Random) -> None:
    """Write an HDF5 file of odd datasets and links."""
    import h5py

    kinds: tuple[Any, ...] = (
        "u1", "u1", "u1", "<f4", ">u2", "f2", "i8", "S8", h5py.string_dtype(), h5py.vlen_dtype(np.uint8),
        np.dtype([("r", "u1"), ("g", "u1")]), h5py.enum_dtype({"a": 1}), h5py.ref_dtype, "c8", "V9", "b1",
    )
    with h5py.File(path, "w", libver=rng.choice(("earliest", "latest"))) as file:
        for number in range(rng.choice((1, 1, 2, 3))):
            name = rng.choice(("images", f"g/{number}", "label", "labels", f"x{number}", "ü\n\x1b"))
            count = rng.choice((0, 1, 5, 40, 4000, 10**6, 10**9, 10**10))
            shape = rng.choice(((count, 8, 8), (count,), (count, 8, 8, 3), (8, 8, count), (), (count, 1, 1),
                (5, 8, 8), None))
            chunk = None if not shape or rng.random() < 0.2 else tuple(min(max(1, n),
                rng.choice((1, 8, 1000))) for n in shape)
            more: dict[str, Any] = rng.choice(({}, {"compression": "gzip"}, {"fletcher32": True}, {"scaleoffset": 3},
                {"compression": "lzf", "shuffle": True}))
            with suppress(ValueError, TypeError, OverflowError, OSError, RuntimeError, KeyError, AttributeError):
                made = file.create_dataset(name, shape, rng.choice(kinds), chunks=chunk,
                    fillvalue=rng.choice((None, 1)), **(more if chunk else {}))
                if shape and np.prod(shape, dtype=object) < 10**5 and made.dtype.kind in "uif":
                    made[...] = 7
        kind = rng.randrange(8)
        with suppress(ValueError, TypeError, OSError, RuntimeError):
            if kind == 0:
                file["out"] = h5py.ExternalLink(rng.choice(("/etc/passwd", path.name, "/dev/zero")), "/")
                file.create_dataset("more", (10, 8, 8), "u1", external=[("/etc/passwd", 0, 640)])
            elif kind == 1:
                file["soft"] = h5py.SoftLink(rng.choice(("/soft", "/images", "/g", "/none")))
                file["again"] = file["/"]  # a loop
            elif kind == 2:
                layout = h5py.VirtualLayout((5, 8, 8), "u1")
                layout[:] = h5py.VirtualSource("/etc/passwd", "x", (5, 8, 8))
                file.create_virtual_dataset("virtual", layout)
            elif kind in (3, 4, 5):
                rows = rng.choice((1000, 5000))
                made = file.create_dataset("bomb", (rows, 8, 8), "u1", chunks=(rng.choice((1, 500, rows)), 8, 8),
                    compression="gzip")
                made.id.write_direct_chunk((0, 0, 0), zeros.zlibbed(rng.choice(BOMBS)))
            elif kind == 6:
                inner: Any = file
                for _ in range(rng.choice((10, 300))):
                    inner = inner.create_group("a")
                inner["images"] = samples.DIGITS[:3]


def zarr_json(path: Path, rng: random.Random) -> None:
    """Change the metadata of a Zarr store."""
    if path.is_file():
        any_bytes(path, rng)
        return
    found = sorted(p for p in path.rglob("*") if p.name in (".zarray", ".zgroup", ".zattrs", "zarr.json",
        ".zmetadata"))
    edit_json(rng.choice(found), rng)


def zarr_made(path: Path, rng: random.Random) -> None:
    """Write a Zarr array of odd codecs, chunks and claims."""
    if path.is_file():
        zip_made(path, rng)
        return
    for old in sorted(path.rglob("*"), reverse=True):
        old.rmdir() if old.is_dir() else old.unlink()
    rows = rng.choice((5, 1000, 10**6, 10**9, 10**12))
    chunk = [rng.choice((1, 5, 1000, min(rows, 4 * 10**6), 10**9)), 8, 8]
    blocks, codec = rng.choice(BOMBS), rng.choice(("gzip", "zlib", "bz2", "pickle", "blosc", "zstd", "none", "json2",
        "vlen-bytes", "object", "x", "lz4", "crc32"))
    if rng.random() < 0.7:
        value: dict[str, Any] = {
            "zarr_format": 2, "shape": [rows, 8, 8], "chunks": chunk,
                "dtype": rng.choice(("|u1", "|u1", "<f4", "|O", "<U9", "|V5", [["a", "|u1"]])),
            "compressor": None if codec == "none" else {"id": codec},
            "fill_value": rng.choice((0, None, "NaN", 300, "x")), "order": rng.choice("CF"),
            "filters": rng.choice((None, None, [{"id": "pickle", "protocol": 5}], [{"id": "delta", "dtype": "|u1"}],
            [{"id": "fixedscaleoffset", "offset": 0, "scale": 9, "dtype": "|u1"}])),
            "dimension_separator": rng.choice((".", "/")),
        }
        (path / ".zarray").write_text(json.dumps(value))
    else:
        more: list[Any] = rng.choice(([], [{"name": codec, "configuration": {}}],
            [{"name": "gzip", "configuration": {"level": 1}}],
            [{"name": "transpose", "configuration": {"order": [2, 1, 0]}}],
            [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 8, 8], "codecs": [{"name": "bytes"}],
            "index_codecs": [{"name": "bytes"}]}}]))
        (path / "zarr.json").write_text(json.dumps({
            "zarr_format": 3, "node_type": "array", "shape": [rows, 8, 8],
                "data_type": rng.choice(("uint8", "uint8", "float16", "string", "r8", "complex64")),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "chunk_key_encoding": {"name": rng.choice(("default", "v2"))},
            "fill_value": 0, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, *more],
            "attributes": {},
        }))
    content = rng.choice((zeros.gzipped(blocks), zeros.zlibbed(blocks), zeros.bzipped(BOMBS[1]), samples.PAYLOAD,
        bytes(320), b"\2\1\x21\1" + struct.pack("<III", 2**31 - 1, 2**31 - 1, 99) + bytes(99)))
    for name in ("0.0.0", "c/0/0/0", "0/0/0", "1.0.0"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            (path / name).write_bytes(content)
    if rng.random() < 0.05:
        os.mkfifo(path / "2.0.0")


def parquet_made(path: Path, rng: random.Random) -> None:
    """Write a Parquet file of odd columns and cells."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    picture = samples.encoded(pixels=samples.DIGITS[0])
    cells: list[Any] = [rng.choice((picture, picture, b"", None, b"x" * 99, picture[:50],
        bytes(3_000_000))) for _ in range(rng.choice((0, 1, 5, 60)))]
    count = len(cells)
    kind = rng.randrange(7)
    if kind == 0:
        column = pa.array([None if c is None else {"bytes": c, "path": None} for c in cells],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    elif kind == 1:
        column = pa.array(cells, pa.large_binary())
    elif kind == 2:
        column = pa.array([[c] for c in cells], pa.list_(pa.binary()))
    elif kind == 3:
        column = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([picture], pa.binary()))
    elif kind == 4:
        column = pa.array([bytes(20_000_000)] * rng.choice((1, 4)), pa.binary())
        count = len(column)
    else:
        column = pa.array(cells, pa.binary())
    label = rng.choice((list(range(count)), [None] * count, ["ü\n"] * count, [[1]] * count, [{"a": 1}] * count,
        [1.5] * count, [10**18] * count, [b"\xff"] * count))
    names = rng.choice(("image", "label", "", "a.b", "bytes", "ü\x1b"))
    table = pa.table({names: column, rng.choice(("label", "labels",
        "image2")): label}) if names != "label" else pa.table({names: column})
    facts = rng.choice((None, {"huggingface": "[" * 50_000},
        {"huggingface": '{"info": {"features": {"label": {"names": "ab"}}}}'}, {"huggingface": "5"},
        {"huggingface": b"\xff"}))
    with suppress(pa.ArrowException, ValueError):
        pq.write_table(table.replace_schema_metadata(facts), path,
            compression=rng.choice(("none", "zstd", "gzip", "brotli", "lz4", "snappy")),
                row_group_size=rng.choice((1, 7, 1000)), use_dictionary=rng.random() < 0.5)


def tfrecord_made(path: Path, rng: random.Random) -> None:
    """Write TFRecords whose checksums fit, with odd shapes, lengths and messages."""
    out = b""
    for digit in samples.DIGITS[: rng.choice((1, 3))]:
        shape = rng.choice((None, (2**62, 8, 8), (0, 8, 8), (8, 8), (1, 64, 1), (1,) * 50, (2**32, 2**32, 1),
            (3, 8, 8), (64, 1, 1)))
        content = samples.example(digit, shape)
        if rng.random() < 0.5:
            content = edit_bytes(content, rng)
        out += samples.record(content, rng.choice((None, None, None, 2**63, 2**28 - 1, 0, 5)))
    path.joinpath("digits-r03.tfrecords").write_bytes(out)
    if rng.random() < 0.3:
        path.joinpath("digits-rxx.labels").write_bytes(odd_npy(rng))


# Folders and tables


def folder_made(path: Path, rng: random.Random) -> None:
    """Put odd things into a folder: links, pipes, sockets, names, deep folders, files of other kinds."""
    folders = [path, *sorted(p for p in path.rglob("*") if p.is_dir())]
    for number in range(rng.choice((1, 2, 5))):
        folder, kind = rng.choice(folders), rng.randrange(12)
        name = rng.choice((f"{number}x.png", f"{number}x.tif", "a.tar", "a.parquet", "dataset.json", "x.zarr",
            "data_batch_1", "x-images-idx3-ubyte", "model.json", "a.tfrecords", "train", "test", "good"))
        place = folder / name
        if os.path.lexists(place):  # never through a link, nor into a pipe
            continue
        with suppress(OSError, ValueError):
            if kind == 0:
                place.symlink_to(rng.choice(("/dev/zero", "/dev/null", "..", ".", "nothing", place.name,
                    "/etc/passwd", "/proc/self/mem", "/dev/stdin")))
            elif kind == 1:
                os.mkfifo(place)
            elif kind == 2:
                with socket.socket(socket.AF_UNIX) as server:
                    here = os.open(folder, os.O_RDONLY)
                    server.bind(f"/proc/self/fd/{here}/{name}")
                    os.close(here)
            elif kind == 3:
                odd = os.fsencode(folder) + b"/" + rng.choice((b"\xff\xfe.png", b"n\nl.png", b"\x1b[31m.png",
                    b"=x.png", b"<b>.png", b"a" * 251 + b".png", b" .png", b"-o.png", b"x:y.png"))
                Path(os.fsdecode(odd)).write_bytes(samples.encoded(pixels=samples.DIGITS[0]))
            elif kind == 4:
                place.mkdir()
            elif kind == 5:
                inner = folder
                for _ in range(rng.choice((3, 100))):
                    inner = inner / "deep"
                inner.mkdir(parents=True)
                (inner / "x.png").write_bytes(samples.encoded(pixels=samples.DIGITS[0]))
            elif kind == 6:
                place.write_bytes(rng.choice((b"", b"{}", b"[" * 50_000,
                    b'{"format": 1, "preprocess": {}, "recipe": {}, "calibration": {}}', bytes(100),
                        samples.PAYLOAD)))
            elif kind == 7:
                place.write_bytes(b"")
                place.chmod(0)
            elif kind == 8:
                place.hardlink_to(inner_file(path, rng))
            elif kind == 9:
                any_bytes(path, rng)
            elif kind == 10:
                with place.open("wb") as file:
                    file.truncate(rng.choice((1 << 40, 1 << 31)))
            else:
                (folder / f"{number}.txt").write_text("x")


CELLS = (
    "", '"', '"x', "'", "=1+1", "nan", "inf", "-1", "1e999", "1,5", "0x1", "ü", "\0", "\x1b[31m", "a" * 200_000, "\r",
    "\n", "\ufeff",
    "digits.npy[0]", "digits.npy", "[0]", "/", "\\", "../digits.npy[1]", "C:\\digits.npy[2]", "true", "ODD", " 1 ",
    "1.0", "٣", "digits.npy[99999999999999999999]",
)


def table_cells(path: Path, rng: random.Random) -> None:
    """Change cells, lines, headers, separators and encodings of a text table."""
    data = path.read_bytes()
    if path.suffix not in (".csv", ".tsv"):
        any_bytes(path, rng)
        return
    text = data.decode("utf-16" if data.startswith(b"\xff\xfe") else "utf-8")
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 3, 9))):
        at, kind = rng.randrange(len(lines)), rng.randrange(8)
        cells = re.split("[,;\t]", lines[at])
        if kind < 3:
            cells[rng.randrange(len(cells))] = rng.choice(CELLS)
            lines[at] = rng.choice((",", ",", ";", "\t")).join(cells)
        elif kind == 3:
            lines[at] = rng.choice((lines[at] + ",x", lines[at] + ",", lines[rng.randrange(len(lines))], "",
                lines[at].upper(), f'"{lines[at]}"', lines[at] * 5000))
        elif kind == 4:
            lines.insert(at, rng.choice(("sep=;", "sep=,", "# a comment", "path,label", "", "path,score,odd", ",,,,",
                '"""')))
        elif kind == 5:
            lines[0] = rng.choice(("path,label,path", "Path;Label", "path", "", "label,path", "path\tscore\todd",
                "path,score", "a,b,c", "path,label" + ",x" * 5000))
        elif kind == 6:
            rng.shuffle(lines)
        elif len(lines) > 1:
            lines.pop(at)
    changed = rng.choice(("\n", "\n", "\r\n", "\r")).join(lines)
    encoding = rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "utf-32"))
    path.write_bytes(changed.encode(encoding, "replace"))


def table_arrays(path: Path, rng: random.Random) -> None:
    """Write an odd array, where labels are one, or a table of odd columns."""
    if path.suffix == ".npy":
        path.write_bytes(odd_npy(rng))
    elif path.suffix == ".npz":
        npz_made(path, rng)
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, Any] = {}
        for name in rng.sample(("path", "score", "odd", "x", "label"), 4):
            columns[name] = rng.choice((["a"] * 3, [0, 1, 0], [None] * 3, [0.5, float("nan"), 1e300], [b"\xff"] * 3,
                [[1]] * 3, [{"a": 1}] * 3, [True] * 3))
        pq.write_table(pa.table(columns), path)
    else:
        table_cells(path, rng)


def packed_fields(path: Path, rng: random.Random) -> None:
    """Change the description of a packed data set, its table or its arrays."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = rng.randrange(5)
    if kind < 2:
        edit_json(path / "dataset.json", rng)
    elif kind == 2:
        (path / "images" / "train.npy").write_bytes(odd_npy(rng))
    elif kind == 3:
        table = pq.read_table(path / "manifest.parquet")
        for _ in range(rng.choice((1, 1, 3))):
            name = rng.choice(table.column_names)
            at = table.column_names.index(name)
            values = table.column(name).to_pylist()
            changed = rng.choice((
                [None] * len(values), values[::-1], values[:1] * len(values), ["x"] * len(values),
                *([odd] * len(values) for odd in (-1, 2**62, 1.5, [1])),
            ))
            kind = rng.randrange(5)
            with suppress(pa.ArrowException):
                if kind == 0:
                    table = table.drop_columns([name])
                elif kind == 1:
                    table = rng.choice((table.slice(1), pa.concat_tables([table, table])))
                else:
                    table = table.set_column(at, name, pa.array(changed))
        pq.write_table(table, path / "manifest.parquet")
    else:
        any_bytes(path, rng)
