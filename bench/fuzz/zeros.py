"""Compressed zeros: streams of kilobytes that unpack to gigabytes, made in no time."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from functools import cache

#: Bytes of zeros that are repeated.
BLOCK = 8 << 20


@cache
def _deflated_block() -> bytes:
    # After a full flush, the next block refers to nothing before it.
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)


@cache
def crc32(blocks: int) -> int:
    """Return the CRC-32 of so many blocks of zeros."""
    value = 0
    for _ in range(blocks):
        value = zlib.crc32(bytes(BLOCK), value)
    return value


def deflate(blocks: int) -> bytes:
    """Return blocks of zeros in deflate."""
    return _deflated_block() * blocks + b"\x03\0"


def zlibbed(blocks: int) -> bytes:
    """Return blocks of zeros in the format of zlib."""
    return b"\x78\xda" + deflate(blocks) + struct.pack(">HH", blocks * BLOCK % 65521, 1)


def gzipped(blocks: int, start: bytes = b"") -> bytes:
    """Return some bytes and then blocks of zeros in the format of gzip, as two members."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(start) + packer.flush()
    size = struct.pack("<II", crc32(blocks), blocks * BLOCK & 0xFFFFFFFF)
    return head + b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + deflate(blocks) + size


@cache
def bzipped(blocks: int) -> bytes:
    """Return blocks of zeros in the format of bzip2."""
    packer = bz2.BZ2Compressor()
    return b"".join(packer.compress(bytes(BLOCK)) for _ in range(blocks)) + packer.flush()


@cache
def lzma_of_zip(blocks: int) -> bytes:
    """Return blocks of zeros in LZMA as a zip file holds it."""
    kind = {"id": lzma.FILTER_LZMA1, "preset": 0}
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=[kind])
    properties = lzma._encode_filter_properties(kind)  # type: ignore[attr-defined]
    packed = b"".join(packer.compress(bytes(BLOCK)) for _ in range(blocks)) + packer.flush()
    return struct.pack("<BBH", 9, 4, len(properties)) + properties + packed
