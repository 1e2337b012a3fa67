"""The files that a result refers to, or holds: links to image files, copies of them, or pixels as PNG."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from anowild.arrays import Array
from anowild.data.display import display
from anowild.errors import UserError
from anowild.exchange.formats.base import How
from anowild.files import absolute, as_user_error, printable

#: Bytes of a name in a folder, at most, with room for a number and an ending.
_LONGEST = 200


class Pictures:
    """Gives each image a file, and a name of its own if that lies in the result.

    Args:
        folder: where the result is written.
        out: where it will be.
        how: what is done with images that are files of their own.
        roots: folders of the sources; names are relative to what they have in common.
    """

    def __init__(self, folder: Path, out: Path, how: How, roots: Sequence[Path]) -> None:
        self.folder, self.out, self.how = folder, absolute(out), how
        self.drawn = 0  # images that were written out as PNG
        self._root = Path(os.path.commonpath(roots)) if roots else None
        self._taken: set[str] = set()

    def put(self, name: str, content: Path | Array, below: str) -> Path:
        """Return the file of an image, absolute.

        An image file is named, linked or copied. Pixels [H, W, C] are written as PNG, as they are shown.

        Args:
            name: of the image.
            content: its file, or its pixels.
            below: folder in the result that it is put into, if it is.

        Raises:
            UserError: it cannot be linked, copied or written; the disk is full.
        """
        if not isinstance(content, Path):
            self.drawn += 1
            png = name if name.lower().endswith(".png") else f"{name}.png"
            return self._put(png, below, None, partial(_draw, content))
        source = absolute(content)
        if self.how == "reference":
            return source
        return self._put(name, below, source, partial(_PLACED[self.how], source))

    def inside(self, file: Path) -> Path | None:
        """Return the path of a file relative to the result; None: it does not lie there."""
        return file.relative_to(self.out) if file.is_relative_to(self.out) else None

    def _put(
        self, name: str, below: str, source: Path | None, place: Callable[[Path], object]
    ) -> Path:
        relative = self._free(Path(below, *self._parts(name)))
        target = self.folder / relative
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            place(target)
        except OSError as error:
            raise _explained(error, source, self.out / relative) from error
        return self.out / relative

    def _parts(self, name: str) -> list[str]:
        """Return the parts of a name in the result, relative and short enough."""
        path: PurePath = absolute(name)
        if self._root is not None and path.is_relative_to(self._root):
            path = path.relative_to(self._root)
        else:
            path = PurePath(name)
        return [_short(part) for part in path.parts if part not in (path.anchor, "..")]

    def _free(self, path: Path) -> Path:
        """Return a path that no other image has, also where case does not count."""
        found, number = path, 2
        while str(found).casefold() in self._taken:
            found = path.with_stem(f"{path.stem}-{number}")
            number += 1
        self._taken.add(str(found).casefold())
        return found


def _short(part: str) -> str:
    part = printable(part).replace("\0", "_")
    data = part.encode()
    if len(data) <= _LONGEST:
        return part
    digest = hashlib.blake2b(data, digest_size=4).hexdigest()
    return data[:_LONGEST].decode(errors="ignore") + digest + PurePath(part).suffix[:8]


def _explained(error: OSError, source: Path | None, target: Path) -> Exception:
    if source is None or error.errno in (errno.ENOSPC, errno.EDQUOT):
        return as_user_error(error, target)
    return UserError(
        f"{printable(str(source))}: cannot be put at {printable(str(target))} ({error.strerror or error}); "
        "give another --how"
    )


def _draw(pixels: Array, target: Path) -> None:
    image = Image.fromarray(np.ascontiguousarray(display(pixels)))
    image.save(target, "PNG", compress_level=1)


_PLACED: dict[How, Callable[[Path, Path], object]] = {
    "links": lambda source, target: target.symlink_to(source),
    "hardlinks": lambda source, target: os.link(source.resolve(), target),
    "copies": shutil.copy2,
}
