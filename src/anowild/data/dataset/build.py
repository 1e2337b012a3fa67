"""Building of a packed data set: streaming, resumable, and complete or absent."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from anowild.data.dataset.contact_sheet import SheetCollector
from anowild.data.dataset.finalize import Leaks, finalize, tidy_up
from anowild.data.dataset.format import DESCRIPTION, FORMAT, RECIPE, PackedSet, is_packed_set
from anowild.data.dataset.writer import PackedSetWriter, Part
from anowild.data.label_file import LabelFile
from anowild.data.preprocessing import Preprocess
from anowild.data.readers import FolderReader, ImageSource
from anowild.data.readers.folder import REDUCED
from anowild.data.value_range import little_used
from anowild.errors import UserError
from anowild.files import atomic_write, exclusive_lock, printable, read_json, write_json
from anowild.libraries import require

log = logging.getLogger("anowild")

CONTACT_SHEET = "contact_sheet.png"
_BUSY = "another process is preparing this data set now"


def check_libraries() -> None:
    """Check that packed data sets can be written; commands call it before their work begins.

    Raises:
        UserError: a library is missing; the message says how to install it.
    """
    require("packed data sets", "pyarrow")


def build_set(
    parts: Sequence[Part],
    out: Path,
    preprocess: Preprocess,
    how: Mapping[str, Any],
    labels: LabelFile | None = None,
    leaks: Leaks = "refuse",
    sheet: SheetCollector | None = None,
    pictures: bool = False,
    replace: bool = False,
) -> PackedSet:
    """Pack the images of sources into a data set, or resume a build that was stopped.

    The unfinished data set lies beside ``out``, as ``OUT.part``, and becomes ``out`` at the end.

    Args:
        parts: the sources, and the splits that their images belong to.
        out: folder of the data set.
        preprocess: applied to every image.
        how: the request, for the record. Only a build with the same request is resumed.
        labels: labels of the images, where the sources do not know them.
        leaks: treatment of test images that equal a training image, or nearly: 'refuse', 'drop' them
            from the test split, or 'keep' them.
        sheet: collector that the sources fill; it becomes contact_sheet.png.
        pictures: whether to keep thumbnails, and measures of the originals, for people who look.
        replace: whether another data set in ``out``, complete or not, gives way.

    Raises:
        UserError: nothing to pack; leaks; another data set in ``out``; a full disk; the sources have
            changed since the build began.
        Interrupted: by Ctrl-C or SIGTERM; the same call resumes the build.
    """
    check_libraries()
    if preprocess.tiles and not pictures:
        raise UserError(
            "a packed data set holds whole images, and no tiles; give --tiles to `anowild find` or "
            "`anowild train`, with the images themselves"
        )
    readers = [reader for part in parts for reader in part.readers]
    for packed in (reader.packed for reader in readers if reader.packed is not None):
        if packed.preprocess.tiles:
            raise UserError(f"{packed.path}: holds tiles of images; give the images themselves")
    if pictures:
        how = {**how, "pictures": True}
    recipe = {
        "format": FORMAT,
        "how": json.loads(json.dumps(dict(how))),
        "preprocess": preprocess.to_json(),
        "labels": None if labels is None else labels.digest,
        "sources": fingerprint(readers),
    }
    out = _resolve(out)
    folder = out.with_name(f"{out.name}.part")
    if replace and (
        _is_of_another(out / DESCRIPTION, recipe) or _is_of_another(folder / RECIPE, recipe)
    ):
        with exclusive_lock(folder, _BUSY):
            _remove_others(out, folder, recipe)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        packed = _open_existing(out, recipe, leaks)
        _update_passed_over(packed, readers)
        return packed
    with exclusive_lock(folder, _BUSY):
        if (folder / DESCRIPTION).exists():  # only the tidying up is left
            _open_existing(folder, recipe, leaks)
        else:
            _check_recipe(folder, recipe)
            writer = PackedSetWriter(folder, preprocess, labels, pictures)
            writer.run(parts)
            if warning := little_used(writer.values, preprocess):
                log.warning("%s", warning)
            if sheet is not None:
                with atomic_write(folder / CONTACT_SHEET) as temporary:
                    sheet.sheet().save(temporary, format="PNG")
            passed_over = [one for part in parts for r in part.readers for one in r.passed_over()]
            finalize(folder, recipe, leaks, writer.values, passed_over)
        tidy_up(folder)
        try:
            (folder / "lock").unlink()
            if out.exists():
                out.rmdir()  # it is empty
            folder.replace(out)
        except OSError as error:
            raise UserError(
                f"{out}: cannot be replaced ({error.strerror}); the complete data set lies in {folder}"
            ) from error
    return PackedSet(out)


def _resolve(out: Path) -> Path:
    """Resolve links in the path of a data set.

    Raises:
        UserError: no data set can be written there.
    """
    if printable(str(out)) != str(out):
        raise UserError(f"{printable(str(out))}: the name is not valid text; name another output")
    out = Path(os.path.realpath(out))
    if not out.name or os.path.ismount(out):
        raise UserError(f"{out}: cannot be replaced by a data set; name a new folder in it")
    return out


def fingerprint(readers: Sequence[ImageSource]) -> str:
    """Hash names, sizes and times of all files that will be read."""
    digest = hashlib.blake2b(digest_size=16)
    for path in chain.from_iterable(reader.files() for reader in readers):
        try:
            facts = path.stat()
            state = f"{facts.st_size} {facts.st_mtime_ns}"
        except OSError:
            state = "unreadable"  # its reader leaves it out and says why
        digest.update(os.fsencode(path) + f"\0{state}\0".encode())
    return digest.hexdigest()


def _open_existing(out: Path, recipe: Mapping[str, Any], leaks: Leaks) -> PackedSet:
    if not is_packed_set(out):
        raise UserError(f"{out}: exists and is no data set; name another output")
    packed = PackedSet(out)
    if _in_current_spelling(packed.description.get("recipe")) != recipe:
        raise UserError(
            f"{out}: is another data set, or its sources have changed since; name another output, or "
            "delete it"
        )
    found = packed.description["findings"]["leaks"]
    if (found["equal"] or found["near"]) and found["done"] != leaks:
        raise UserError(
            f"{out}: exists, prepared with --leaks {found['done']}; name another output, or delete it"
        )
    return packed


def _update_passed_over(packed: PackedSet, readers: Sequence[ImageSource]) -> None:
    """Note what folders hold beside their images now; the images are the same as before."""
    if not all(isinstance(reader, FolderReader) for reader in readers):
        return
    found = [one for reader in readers for one in reader.passed_over()]
    found += [one for one in packed.passed_over if one.reason == REDUCED]  # known by reading alone
    if found == packed.passed_over:
        return
    packed.passed_over = found
    packed.description["passed_over"] = [asdict(one) for one in found]
    with suppress(UserError):  # a data set that may not be written is as good
        write_json(packed.path / DESCRIPTION, packed.description)


def _is_of_another(made: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether there is a data set that another request made, or a damaged one.

    Args:
        made: its description if it is complete, its recipe if it is not.
    """
    if not made.is_file():
        return False
    value: Any = None
    with suppress(UserError):
        value = read_json(made)
    described = made.name == DESCRIPTION and isinstance(value, dict)
    return bool(_in_current_spelling(value.get("recipe") if described else value) != recipe)


def _remove_others(out: Path, folder: Path, recipe: Mapping[str, Any]) -> None:
    """Remove a data set, and what is in the folder of an unfinished one but its lock, if another request made them."""
    if _is_of_another(out / DESCRIPTION, recipe):
        shutil.rmtree(out, ignore_errors=True)
    if _is_of_another(folder / RECIPE, recipe):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != "lock":
                path.unlink()


def _check_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    path = folder / RECIPE
    if path.exists():
        before = _in_current_spelling(read_json(path))
        if before != recipe:
            only_files = (
                isinstance(before, dict) and before | {"sources": recipe["sources"]} == recipe
            )
            what = "whose source files have changed since" if only_files else "with other options"
            raise UserError(
                f"{folder}: is an unfinished data set {what}; give its command again, or delete the "
                "folder to start again"
            )
    write_json(path, recipe)


def _in_current_spelling(recipe: Any) -> Any:
    """Convert a recipe that an earlier version wrote to the spelling of this version."""
    try:
        return recipe | {"preprocess": Preprocess(**recipe["preprocess"]).to_json()}
    except (KeyError, TypeError, ValueError):
        return recipe  # damaged, and so it agrees with no other
