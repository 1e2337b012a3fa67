"""The job of `anowild share`: a table of scores and its images become a folder that another tool reads."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from anowild.data.sources import Source
from anowild.errors import UserError
from anowild.exchange.formats import format_of
from anowild.exchange.formats.base import Format, How, Options, SharedImage
from anowild.exchange.marks import read_marks
from anowild.exchange.pictures import Pictures
from anowild.exchange.places import Places
from anowild.exchange.tables import ScoredImages
from anowild.files import check_new, new_folder, printable
from anowild.scoring.thresholds import check_score

log = logging.getLogger("anowild")


def share(
    table: Path,
    sources: Sequence[Source],
    to: str,
    out: Path,
    *,
    marks: Path | None = None,
    how: How | None = None,
    threshold: float | None = None,
    options: Options | None = None,
) -> Counter[str]:
    """Write scored images in the format of another tool; see `anowild.share`."""
    options = options or Options()
    target = format_of(to)
    if threshold is not None:
        check_score(threshold, "--threshold")
    how = _checked(target, how, options)
    check_new(out)
    scored = ScoredImages(table, threshold)
    if marks is not None:
        _take_marks(scored, marks)
    places = Places(sources, scored)
    places.check_outside(out)
    with new_folder(out) as part:
        pictures = Pictures(part, out, how, places.roots)
        if target.needs == "box":
            found = places.with_boxes()
        else:
            found = places.with_files(target, options, pictures)
        images = [found[number] for number in sorted(found)]
        _check_found(scored, images, places.others)
        shared = [image for image in images if image.file is not None or image.box is not None]
        target.write(shared, part, options)
    return +Counter(  # without those that are 0
        {
            "shared": len(shared),
            "flagged": sum(image.flagged for image in shared),
            "marked": sum(image.verdict is not None for image in shared),
            "written as PNG": pictures.drawn,
            "not decided, and left out": len(images) - len(shared),
            "missing": len(scored.images) - len(images),
        }
    )


def _checked(target: Format, how: How | None, options: Options) -> How:
    """Return how to come to the images.

    Raises:
        UserError: the format does not have that way, or an option.
    """
    default: Any = Options()
    for field in fields(Options):
        given = getattr(options, field.name) != getattr(default, field.name)
        if given and field.name not in target.options:
            raise UserError(f"--{field.name.replace('_', '-')} is not for --to {target.name}")
    if how is not None and how not in target.ways:
        ways = (
            f"takes --how {', '.join(target.ways)}" if target.ways else "has no images, so no --how"
        )
        raise UserError(f"--to {target.name} {ways}")
    return how or (target.ways[0] if target.ways else "reference")


def _take_marks(scored: ScoredImages, source: Path) -> None:
    """Note what people decided.

    Raises:
        UserError: none of the marked images is in the table.
    """
    unknown = []
    marks = read_marks(source)
    for name, (verdict, tags) in marks.items():
        number = scored.find(name)
        if number is None:
            unknown.append(printable(name))
        else:
            told = replace(scored.images[number], verdict=verdict, tags=tuple(map(printable, tags)))
            scored.images[number] = told
    if len(unknown) == len(marks):
        raise UserError(
            f"{source}: none of its {len(marks)} marked images is in {scored.path} (first: {unknown[0]}); give "
            "the marks of the same images"
        )
    if unknown:
        log.warning(
            "%s: %d marked images are not in the table, and their marks are left out (first: %s)",
            source, len(unknown), unknown[0],
        )  # fmt: skip


def _check_found(scored: ScoredImages, found: Sequence[SharedImage], others: int) -> None:
    """Warn of images that were not found, or that the table does not know.

    Raises:
        UserError: none was found.
    """
    names = {image.name for image in found}
    missing = [image.name for image in scored.images if image.name not in names]
    if not found:
        raise UserError(
            f"{scored.path}: none of its {len(missing)} images is in the sources (first: {missing[0]}); give the "
            "sources that were scored, spelled the same and in the same folder"
        )
    if missing:
        log.warning(
            "%d images of the table are left out: they are not in the sources any more, or cannot be read "
            "(first: %s)",
            len(missing), missing[0],
        )  # fmt: skip
    if others:
        log.warning("%d images of the sources are not in the table, and are left out", others)
