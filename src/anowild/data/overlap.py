"""Check that no image is read twice because the sources of one command overlap."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from anowild.data.readers import FolderReader, ImageSource
from anowild.errors import UserError
from anowild.files import exists


def check_overlap(sources: Sequence[object], readers: Sequence[ImageSource]) -> None:
    """Check that no source is another one, and no folder or image is read with another folder.

    Sources that are no paths, or name a part of a file (``file.npz:key``), are not checked.

    Args:
        sources: as they were given.
        readers: of the sources, in their order.

    Raises:
        UserError: two overlap; the message names them.
    """
    seen: dict[str, str] = {}
    folders: dict[str, FolderReader] = {}
    for source, reader in zip(sources, readers, strict=True):
        if not isinstance(source, str | Path) or not exists(source):
            continue
        real = os.path.realpath(source)
        if real in seen:
            other = f", as {seen[real]}" if seen[real] != str(source) else ""
            raise UserError(f"{source}: is given twice{other}; leave one out")
        seen[real] = str(source)
        if isinstance(reader, FolderReader):
            folders[real] = reader
    for inner, reader in folders.items():
        for above in map(str, Path(inner).parents):
            outer = folders.get(above)
            # What the outer folder passes over, as the result of another command, is not read twice.
            if outer is not None and _reads(outer, reader.paths[0]):
                raise UserError(
                    f"{seen[inner]}: is in {seen[above]}, which is given, too; leave one of them out"
                )


def _reads(reader: FolderReader, path: Path) -> bool:
    wanted = os.path.realpath(path)
    return any(
        found.name == Path(path).name and os.path.realpath(found) == wanted
        for found in reader.paths
    )
