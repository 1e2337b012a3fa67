"""Sources -> a packed data set, streaming, resumable, whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from anowild.data.contact_sheet import SheetCollector
from anowild.data.finish import Leaks, finish
from anowild.data.labels import LabelFile
from anowild.data.packed import FORMAT, PackedSet
from anowild.data.packing import Packing, Part
from anowild.data.preprocess import Preprocess
from anowild.data.readers import Reader
from anowild.errors import UserError
from anowild.files import locked, read_json, write_json, written_whole

CONTACT_SHEET = "contact_sheet.png"


def prepare(
    parts: Sequence[Part],
    out: Path,
    preprocess: Preprocess,
    how: Mapping[str, Any],
    labels: LabelFile | None = None,
    leaks: Leaks = "refuse",
    sheet: SheetCollector | None = None,
) -> PackedSet:
    """Pack the images of readers into a data set, or go on with a packing that was stopped.

    The unfinished data set lies beside ``out``, as ``OUT.part``, and becomes ``out`` at the end.

    Args:
        how: what was asked for, for the record; a packing that is taken up must have the same.
        labels: classes of the images, where the sources do not know them.
        leaks: what to do with test images that are in training too, or nearly: refuse, drop
            them from the test split, or keep them.
        sheet: has been shown to the readers, and becomes contact_sheet.png.

    Raises:
        UserError: nothing to pack; leaks; another data set in ``out``; a full disk; the sources
            have changed since the packing was begun.
        Interrupted: by Ctrl-C or SIGTERM; the same call goes on.
    """
    recipe = {
        "format": FORMAT,
        "how": json.loads(json.dumps(dict(how))),
        "preprocess": preprocess.to_json(),
        "sources": _fingerprint([reader for part in parts for reader in part.readers]),
    }
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        return _there_already(out, recipe)
    folder = out.with_name(f"{out.name}.part")
    with locked(folder, "another process is preparing this data set now"):
        _agree_on_recipe(folder, recipe)
        Packing(folder, preprocess, labels).run(parts)
        if sheet is not None:
            with written_whole(folder / CONTACT_SHEET) as temporary:
                sheet.sheet().save(temporary, format="PNG")
        finish(folder, recipe, leaks)
        (folder / "lock").unlink()
        if out.exists():
            out.rmdir()  # it is empty
        folder.replace(out)
    return PackedSet(out)


def _fingerprint(readers: Sequence[Reader]) -> str:
    """Of names, sizes and times of all files that will be read."""
    digest = hashlib.blake2b(digest_size=16)
    for path in chain.from_iterable(reader.files() for reader in readers):
        try:
            facts = path.stat()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        digest.update(os.fsencode(path) + f"\0{facts.st_size} {facts.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _there_already(out: Path, recipe: Mapping[str, Any]) -> PackedSet:
    if not PackedSet.is_one(out):
        raise UserError(f"{out}: there is something else there; name another output")
    packed = PackedSet(out)
    if packed.description.get("recipe") != recipe:
        raise UserError(
            f"{out}: there is another data set there, or its sources have changed since; "
            "name another output, or delete it"
        )
    return packed


def _agree_on_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    path = folder / "recipe.json"
    if path.exists():
        before = read_json(path)
        if before != recipe:
            only_files = (
                isinstance(before, dict) and before | {"sources": recipe["sources"]} == recipe
            )
            what = "the source files have changed since" if only_files else "with other options"
            raise UserError(
                f"{folder}: holds an unfinished data set, {what}; give the command of then, or "
                f"delete {folder} to start again"
            )
    write_json(path, recipe)
