"""Sources -> a packed data set, streaming, resumable, whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from anowild.data.dataset.contact_sheet import SheetCollector
from anowild.data.dataset.finalize import Leaks, finalize, tidy_up
from anowild.data.dataset.format import DESCRIPTION, FORMAT, PackedSet, is_packed_set
from anowild.data.dataset.writer import Packing, Part
from anowild.data.label_file import LabelFile
from anowild.data.preprocessing import Preprocess
from anowild.data.readers import ImageSource
from anowild.errors import UserError
from anowild.files import atomic_write, exclusive_lock, printable, read_json, write_json

CONTACT_SHEET = "contact_sheet.png"


def build_set(
    parts: Sequence[Part],
    out: Path,
    preprocess: Preprocess,
    how: Mapping[str, Any],
    labels: LabelFile | None = None,
    leaks: Leaks = "refuse",
    sheet: SheetCollector | None = None,
) -> PackedSet:
    """Pack the images of readers into a data set, or go on with a writer that was stopped.

    The unfinished data set lies beside ``out``, as ``OUT.part``, and becomes ``out`` at the end.

    Args:
        how: what was asked for, for the record; a writer that is taken up must have the same.
        labels: classes of the images, where the sources do not know them.
        leaks: what to do with test images that are in training too, or nearly: refuse, drop
            them from the test split, or keep them.
        sheet: has been shown to the readers, and becomes contact_sheet.png.

    Raises:
        UserError: nothing to pack; leaks; another data set in ``out``; a full disk; the sources
            have changed since the writer was begun.
        Interrupted: by Ctrl-C or SIGTERM; the same call goes on.
    """
    recipe = {
        "format": FORMAT,
        "how": json.loads(json.dumps(dict(how))),
        "preprocess": preprocess.to_json(),
        "labels": None if labels is None else labels.digest,
        "sources": _fingerprint([reader for part in parts for reader in part.readers]),
    }
    out = _usable(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        return _there_already(out, recipe, leaks)
    folder = out.with_name(f"{out.name}.part")
    with exclusive_lock(folder, "another process is preparing this data set now"):
        if (folder / DESCRIPTION).exists():  # all is done but the tidying up
            _there_already(folder, recipe, leaks)
        else:
            _agree_on_recipe(folder, recipe)
            Packing(folder, preprocess, labels).run(parts)
            if sheet is not None:
                with atomic_write(folder / CONTACT_SHEET) as temporary:
                    sheet.sheet().save(temporary, format="PNG")
            finalize(folder, recipe, leaks)
        tidy_up(folder)
        try:
            (folder / "lock").unlink()
            if out.exists():
                out.rmdir()  # it is empty
            folder.replace(out)
        except OSError as error:
            raise UserError(
                f"{out}: cannot be put there ({error.strerror}); the whole data set lies in {folder}"
            ) from error
    return PackedSet(out)


def _usable(out: Path) -> Path:
    """Where ``out`` really is; a folder of that name has to fit beside it.

    Raises:
        UserError: it cannot be a data set's place.
    """
    if printable(str(out)) != str(out):
        raise UserError(f"{printable(str(out))}: the name of a data set has to be plain text")
    out = Path(os.path.realpath(out))
    if not out.name or os.path.ismount(out):
        raise UserError(f"{out}: is no folder to replace; name a new folder in it")
    return out


def _fingerprint(readers: Sequence[ImageSource]) -> str:
    """Of names, sizes and times of all files that will be read."""
    digest = hashlib.blake2b(digest_size=16)
    for path in chain.from_iterable(reader.files() for reader in readers):
        try:
            facts = path.stat()
            state = f"{facts.st_size} {facts.st_mtime_ns}"
        except OSError:
            state = "unreadable"  # its reader leaves it out and says why
        digest.update(os.fsencode(path) + f"\0{state}\0".encode())
    return digest.hexdigest()


def _there_already(out: Path, recipe: Mapping[str, Any], leaks: Leaks) -> PackedSet:
    if not is_packed_set(out):
        raise UserError(f"{out}: there is something else there; name another output")
    packed = PackedSet(out)
    if _in_current_words(packed.description.get("recipe")) != recipe:
        raise UserError(
            f"{out}: there is another data set there, or its sources have changed since; "
            "name another output, or delete it"
        )
    found = packed.description["findings"]["leaks"]
    if (found["equal"] or found["near"]) and found["done"] != leaks:
        raise UserError(
            f"{out}: is there already, made with --leaks {found['done']}; name another output, or "
            "delete it"
        )
    return packed


def _agree_on_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    path = folder / "recipe.json"
    if path.exists():
        before = _in_current_words(read_json(path))
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


def _in_current_words(recipe: Any) -> Any:
    """Spell the preprocessing of a recipe that an earlier version wrote as this version does."""
    try:
        return recipe | {"preprocess": Preprocess(**recipe["preprocess"]).to_json()}
    except (KeyError, TypeError, ValueError):
        return recipe  # damaged, and so it agrees with no other
