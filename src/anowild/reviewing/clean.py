"""The command `anowild clean`: lists, links or copies the images that stay, and says why.

The original images are never changed. Only ``quarantine`` moves those that go
(:mod:`anowild.reviewing.quarantine`).
"""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

from anowild.data.label_file import windows_letters
from anowild.data.readers.folder import PAGE, is_tiff
from anowild.data.spreadsheet import write_spreadsheet
from anowild.errors import UserError
from anowild.files import check_new, new_folder, printable, unreadable, write_json
from anowild.reviewing import quarantine
from anowild.reviewing.folder import REVIEWED, review_in
from anowild.reviewing.session import ReviewSession, warn_unmatched_marks
from anowild.reviewing.store import consensus, marks_in
from anowild.scoring.thresholds import check_score
from anowild.scoring.written_table import WrittenTable, open_table
from anowild.shown import shown_limit, shown_score

#: Kinds of output: only lists, or also links to the images that stay, or copies of them; or the originals
#: that go are moved.
HOW = ("list", "links", "copies", "quarantine")
#: Names of the output files, and of the folder of images that stay.
LIST, REMOVED, LOG, IMAGES = "kept.txt", "removed.txt", "clean.csv", "images"
#: Why an image is in neither list: nothing is known of it.
UNREAD = "could not be read"


@dataclass(frozen=True)
class Decision:
    """Whether an image stays, and why; None: neither, as it could not be read."""

    path: str
    stays: bool | None
    why: str


def decide(source: Path, threshold: float | None) -> tuple[list[Decision], Path]:
    """Decide about all images of a review, or of a table of scores with a column ``odd``.

    Args:
        source: folder of a review, or one that holds its folder ``review``; or a .csv or .parquet file.
        threshold: unmarked images of a review go if they have at least this score.

    Returns:
        The decisions, and the folder that relative names refer to: where the review was made, or the
        current one for a table.

    Raises:
        UserError: the source is neither a review nor such a table, or is damaged.
    """
    if source.is_dir():
        folder = review_in(source)
        if (folder / REVIEWED).exists():
            raise UserError(
                f"{folder}: is the review of a table, which has no images to link; `anowild marks {folder} -o "
                "marks.csv` writes what was marked"
            )
        session = ReviewSession.load(folder)
        return _of_review(session, folder, threshold), session.base_dir
    if threshold is not None:
        raise UserError("--threshold belongs to a review; a table of scores has its own limit")
    return _of_table(source), Path.cwd()


def clean(
    source: Path, out: Path, how: str = "links", threshold: float | None = None
) -> Counter[str]:
    """Write which images stay and which go into a new folder, and why.

    The folder gets kept.txt, removed.txt and clean.csv; with ``links`` and ``copies`` images/, and with
    ``quarantine`` the originals that go, which are moved into quarantine/.

    Returns:
        The number of images by decision and reason.

    Raises:
        UserError: as for :func:`decide`; ``out`` exists already; an image is no file, or cannot be
            copied or moved; no image would stay.
    """
    if threshold is not None:
        check_score(threshold, "--threshold")
    if how not in HOW:
        raise UserError(f"--how takes {', '.join(HOW)}, not '{how}'")
    check_new(out)
    found, base_dir = decide(source, threshold)
    found = _agreed(found)
    kept = list(dict.fromkeys(decision.path for decision in found if decision.stays))
    gone = list(dict.fromkeys(decision.path for decision in found if decision.stays is False))
    if not kept:
        raise UserError(
            f"{source}: nothing would stay of {len(found)} images; choose a higher limit, or look at the marks"
        )
    sources = [] if how == "list" else _files(gone if how == "quarantine" else kept, base_dir)
    if how != "list":
        _check_pages(gone if how != "quarantine" else kept, sources, base_dir)
    if how == "quarantine":
        _check_links(kept, sources, base_dir)
    with new_folder(out) as part:
        _write_lists(part, found)
        if how in ("links", "copies"):
            place = _link if how == "links" else shutil.copy2
            for original, target in _targets(sources, part / IMAGES):
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    place(original, target)
                except OSError as error:
                    if how == "copies" and error.filename == str(original):
                        raise unreadable(original, error) from error
                    raise
        if how == "quarantine":
            pairs = [(str(a), str(b)) for a, b in _targets(sources, Path(quarantine.QUARANTINE))]
            write_json(part / quarantine.MOVED, pairs)
    if how == "quarantine":
        quarantine.move(out)
    words = {True: "stays", False: "goes", None: "in no list"}
    return Counter(f"{words[d.stays]}: {d.why.partition(' (')[0]}" for d in found)


def _agreed(found: list[Decision]) -> list[Decision]:
    """Let all images of one name go where one of them does, as of a member that an archive holds twice."""
    gone = {decision.path for decision in found if decision.stays is False}
    return [
        Decision(d.path, False, "another image of this name goes")
        if d.stays and d.path in gone
        else d
        for d in found
    ]


def _check_pages(others: list[str], files: list[Path], base_dir: Path) -> None:
    """Check that a file of several pages goes or stays as a whole.

    Args:
        others: images that are not linked, copied or moved.
        files: those that are.

    Raises:
        UserError: pages of one are among both.
    """
    pages = (path for path in others if PAGE.fullmatch(path))
    mixed = set(files) & {_found(path, base_dir) for path in pages}
    if mixed:
        raise UserError(
            f"{min(mixed)}: has pages that stay and pages that go, and a file can only stay or go as a whole "
            f"({len(mixed)} such files); mark all pages of a file alike, or give --how list"
        )


def _check_links(kept: list[str], gone: list[Path], base_dir: Path) -> None:
    """Check that no image that stays is a link to one that goes.

    Raises:
        UserError: one is.
    """
    real = {os.path.realpath(file) for file in gone}
    for path in kept:
        file = _found(path, base_dir)
        if file is not None and file.is_symlink() and os.path.realpath(file) in real:
            raise UserError(
                f"{printable(path)}: stays, and is a link to {os.path.realpath(file)}, which goes; mark both "
                "alike"
            )


def _of_review(session: ReviewSession, folder: Path, threshold: float | None) -> list[Decision]:
    marks = marks_in(folder)
    warn_unmatched_marks(session, marks)
    agreed = consensus(marks)
    if agreed and not agreed.keys() & set(session.names):
        raise UserError(
            f"{folder}: none of its {len(agreed)} marked images is among those that were scored last; "
            "run `anowild review` again with the paths that the marks have"
        )
    found = []
    for name, score in zip(session.names, session.score.tolist(), strict=True):
        verdict = agreed.get(name)
        if verdict is not None and not (verdict == "unsure" and threshold is not None):
            found.append(Decision(name, verdict != "remove", f"marked {verdict}"))
        elif threshold is not None and score >= threshold:
            why = f"not decided, and scores {shown_limit(threshold)} or more ({shown_score(score, None)})"
            found.append(Decision(name, False, why))
        else:
            found.append(Decision(name, True, f"not decided ({shown_score(score, None)})"))
    unread = session.images.unread
    return found + [Decision(name, None, f"{UNREAD} ({why})") for name, why in unread]


def _of_table(path: Path) -> list[Decision]:
    with open_table(path) as table:
        if "odd" not in table.columns:
            raise UserError(
                f"{path}: has no column 'odd'; make the table with `anowild score --budget` or another limit"
            )
        return [_decision(row, table) for row in table.rows(["score", "odd"])]


def _decision(row: Mapping[str, Any], table: WrittenTable) -> Decision:
    """Return the decision of a row of a table of scores; an image without a score could not be read.

    Raises:
        UserError: ``odd`` is neither 0 nor 1.
    """
    if math.isnan(row["score"]):
        return Decision(row["path"], None, UNREAD)
    if row["odd"] not in (0, 1):
        raise table.wrong(f"odd is {row['odd']:g}, and has to be 0 or 1")
    side = "above" if row["odd"] else "below"
    return Decision(
        row["path"], row["odd"] == 0, f"{side} the limit ({shown_score(row['score'], None)})"
    )


def _write_lists(folder: Path, found: list[Decision]) -> None:
    for name, stays in ((LIST, True), (REMOVED, False)):
        paths = (decision.path for decision in found if decision.stays is stays)
        (folder / name).write_bytes(b"".join(_bytes(path) + b"\n" for path in paths))
    with (folder / LOG).open("w", newline="", encoding="utf-8") as file:
        rows = ((printable(d.path), "" if d.stays is None else int(d.stays), d.why) for d in found)
        write_spreadsheet(file, ("path", "stays", "why"), rows)


def _files(paths: list[str], base_dir: Path) -> list[Path]:
    """Return the file of each image, once for all of its pages.

    Raises:
        UserError: an image is no file.
    """
    return list(dict.fromkeys(_file(path, base_dir) for path in paths))


def _found(path: str, base_dir: Path) -> Path | None:
    """Return the file of an image; None where it has none, as in an archive."""
    try:
        return _file(path, base_dir)
    except UserError:
        return None


def _file(path: str, base_dir: Path) -> Path:
    """Return the file of an image, whose path may have got backslashes, or letters composed or encoded otherwise.

    Of ``FILE[3]``, a page, it is ``FILE``.
    """
    page = PAGE.fullmatch(path)
    for given in (path, *([page[1]] if page else [])):
        slashes = given.replace("\\", "/")
        letters = windows_letters(slashes)
        for spelling in (given, slashes, *(normalize(form, letters) for form in ("NFC", "NFD"))):
            file = _plain(base_dir / spelling)
            if file.is_file() and (given == path or is_tiff(file.name)):
                return file
    raise UserError(
        f"{printable(path)}: there is no such file in {base_dir}; run this command in the folder "
        "where the images were scored, or with --how list if images are not single files"
    )


def _plain(path: Path) -> Path:
    """Return a path without ``..``, which behind a linked folder leads to that of the folder itself."""
    return Path(os.path.realpath(path.parent)) / path.name if ".." in path.parts else path


def _targets(sources: list[Path], folder: Path) -> list[tuple[Path, Path]]:
    """Return each file, and its place in a folder by its path relative to the common folder of all."""
    if not sources:
        return []
    common = Path(os.path.commonpath([source.parent for source in sources]))
    return [(source, folder / source.relative_to(common)) for source in sources]


def _link(source: Path, target: Path) -> None:
    target.symlink_to(source)


def _bytes(path: str) -> bytes:
    r"""Encode a path as the file system does; backslashes and line breaks are ``\\`` and ``\n``.

    Lone surrogates that stand for no byte are escaped as in clean.csv.
    """
    path = path.replace("\\", r"\\").replace("\n", r"\n")
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        return printable(path).encode()
