"""The command `anowild clean`: lists, links or copies the images that stay, and says why.

The original images are never changed.
"""

from __future__ import annotations

import csv
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anowild.errors import UserError
from anowild.files import as_user_error, printable
from anowild.reviewing.session import ReviewSession, warn_unmatched_marks
from anowild.reviewing.store import MARKS, Store, consensus

#: Kinds of output: only a list of the images that stay, or links or copies of them as well.
HOW = ("list", "links", "copies")
#: Names of the output files and of the folder of images.
LIST, LOG, IMAGES = "kept.txt", "clean.csv", "images"


@dataclass(frozen=True)
class Decision:
    """Whether an image stays, and why."""

    path: str
    stays: bool
    why: str


def decide(source: Path, above: float | None) -> tuple[list[Decision], Path]:
    """Decide about all images of a review, or of a table of scores with a column ``odd``.

    Args:
        source: folder of a review, or a .csv or .parquet file.
        above: unmarked images of a review are removed if they have at least this score.

    Returns:
        The decisions, and the folder that relative names refer to: where the review was made, or the
        current one for a table.

    Raises:
        UserError: the source is neither a review nor such a table, or is damaged.
    """
    if source.is_dir():
        session = ReviewSession.load(source)
        return _of_review(session, source, above), session.base_dir
    if above is not None:
        raise UserError("--above belongs to a review; a table of scores has its own threshold")
    return _of_table(source), Path.cwd()


def clean(source: Path, out: Path, how: str = "links", above: float | None = None) -> Counter[str]:
    """Write the images that stay into a new folder, and why each image stays or goes.

    The folder gets kept.txt, clean.csv and, unless ``how`` is ``list``, images/.

    Returns:
        The number of images by decision and reason.

    Raises:
        UserError: as for :func:`decide`; ``out`` exists already; an image is no file, or cannot be
            copied; no image would stay.
    """
    if above is not None and not math.isfinite(above):
        raise UserError(f"--above {above}: has to be a number")
    if how not in HOW:
        raise UserError(f"--how takes {', '.join(HOW)}, not '{how}'")
    if out.exists():
        raise UserError(f"{out}: exists already; name a new folder")
    found, base_dir = decide(source, above)
    kept = list(dict.fromkeys(decision.path for decision in found if decision.stays))
    if not kept:
        raise UserError(f"{source}: nothing would stay of {len(found)} images")
    sources = [] if how == "list" else _files(kept, base_dir)
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        # A new folder each time, so that files of another run or a person are never touched.
        part = Path(
            tempfile.mkdtemp(prefix=f"{out.name}.", suffix=".part", dir=out.absolute().parent)
        )
    except OSError as error:
        raise as_user_error(error, out) from error
    try:
        part.chmod(0o755)
        _write_lists(part, found)
        if how != "list":
            _place(sources, part / IMAGES, _link if how == "links" else shutil.copy2)
        part.rename(out)
    except OSError as error:
        if out.exists():
            raise UserError(f"{out}: exists already; name a new folder") from error
        raise as_user_error(error, out) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Counter(f"{'stays' if d.stays else 'goes'}: {d.why.partition(' (')[0]}" for d in found)


def _of_review(session: ReviewSession, folder: Path, above: float | None) -> list[Decision]:
    agreed: dict[str, str] = {}
    if (folder / MARKS).exists():
        store = Store(folder / MARKS)
        warn_unmatched_marks(session, store)
        agreed = consensus(store.marks())
        store.close()
        if agreed and not agreed.keys() & set(session.names):
            raise UserError(
                f"{folder}: none of its {len(agreed)} marked images is among those that were scored last; "
                "run `anowild review` again with the paths that the marks have"
            )
    found = []
    for name, score in zip(session.names, session.score.tolist(), strict=True):
        verdict = agreed.get(name)
        if verdict is not None and not (verdict == "unsure" and above is not None):
            found.append(Decision(name, verdict != "odd", f"marked {verdict}"))
        elif above is not None and score >= above:
            found.append(
                Decision(name, False, f"not decided, and scores {above:g} or more ({score:.3f})")
            )
        else:
            found.append(Decision(name, True, f"not decided ({score:.3f})"))
    return found


def _of_table(path: Path) -> list[Decision]:
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            rows = pq.read_table(path).to_pylist()
        else:
            with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                rows = list(csv.DictReader(file))
        return [
            Decision(str(row["path"]), int(row["odd"]) == 0, f"{'below' if int(row['odd']) == 0 else 'above'} "
                     f"the line ({float(row['score']):.3f})")
            for row in rows
        ]  # fmt: skip
    except KeyError as error:
        raise UserError(
            f"{path}: has no column {error}; make the table with `anowild score --budget` or "
            "another threshold"
        ) from error
    except Exception as error:  # files of other kinds raise many different exceptions
        raise UserError(f"{path}: cannot be read as a table of scores ({error})") from error


def _write_lists(folder: Path, found: list[Decision]) -> None:
    kept = (decision.path for decision in found if decision.stays)
    (folder / LIST).write_bytes(b"".join(_bytes(path) + b"\n" for path in kept))
    with (folder / LOG).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "stays", "why"))
        table.writerows((printable(d.path), int(d.stays), d.why) for d in found)


def _files(paths: list[str], base_dir: Path) -> list[Path]:
    """Return the file of each image.

    Raises:
        UserError: an image is no file.
    """
    sources = [Path(os.path.normpath(base_dir / path)) for path in paths]
    for source, path in zip(sources, paths, strict=True):
        if not source.is_file():
            raise UserError(
                f"{printable(path)}: there is no such file in {base_dir}; run this command in the folder "
                "where the images were scored, or with --how list if images are not single files"
            )
    return sources


def _place(sources: list[Path], folder: Path, place: Callable[[Path, Path], object]) -> None:
    """Place each image at its path relative to the common folder of all."""
    common = Path(os.path.commonpath([source.parent for source in sources]))
    for source in sources:
        target = folder / source.relative_to(common)
        target.parent.mkdir(parents=True, exist_ok=True)
        place(source, target)


def _link(source: Path, target: Path) -> None:
    target.symlink_to(source)


def _bytes(path: str) -> bytes:
    """Encode a path as the file system does; line breaks and lone surrogates are escaped, as in clean.csv."""
    path = path.replace("\n", "\\n")
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        return printable(path).encode()
