"""Random edits of bytes, as any file may suffer them."""

from __future__ import annotations

import random
from pathlib import Path


def edit_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change some bytes, cut, insert or repeat."""
    kind = rng.randrange(8)
    place = rng.randrange(len(content) + 1)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + rng.randbytes(rng.choice((1, 8, 300))) + content[place:]
    if kind == 2:
        return rng.choice(
            (b"", b"\0" * len(content), b"\xff\xfe" + content, b"[" * 50_000, rng.randbytes(99))
        )
    if kind == 3:
        return content[:place] + content[place + rng.randrange(1, 100) :]
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20)) if changed else 0):
        # The beginning has what the rest is read by.
        most = len(changed) if kind > 5 else min(len(changed), 2000)
        changed[rng.randrange(most)] = rng.randrange(256)
    return bytes(changed)


def edit_file(path: Path, rng: random.Random) -> None:
    """Change bytes of a file."""
    path.write_bytes(edit_bytes(path.read_bytes(), rng))
