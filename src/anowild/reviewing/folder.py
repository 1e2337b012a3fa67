"""The files of a review's folder, beside the marks; and which table in parts it is of, if it is of one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from anowild.checked import checked
from anowild.errors import UserError
from anowild.files import read_json, write_json
from anowild.reviewing.store import MARKS
from anowild.scoring.partitions import TABLE, PartitionedTable, is_table

#: Files of a review: which images and which scores; the scores; the images, unless they lie elsewhere.
FACTS, SCORES, IMAGES = "review.json", "scores.npz", "images"
#: Of a review of a table in parts, in the place of all these: which table it is of.
REVIEWED = "table.review.json"
#: Why a folder cannot be used: the lock is somebody else's.
ANOTHER_SERVER = "another server uses this folder; use or stop that server"


def review_in(folder: Path) -> Path:
    """Return the folder of a review: ``folder``, or ``review`` in it, as in what `anowild find` makes.

    Raises:
        UserError: neither is one.
    """
    for place in (folder, folder / "review"):
        if any((place / name).exists() for name in (FACTS, REVIEWED, MARKS)):
            return place
    raise UserError(f"{folder}: holds no review; start one with `anowild review`")


def write_reviewed(folder: Path, table: PartitionedTable) -> None:
    """Note of which table the review in a folder is, so that marks of another one are not mixed with it.

    Raises:
        UserError: the review is of another table.
    """
    facts = json.dumps(asdict(table.facts), sort_keys=True).encode()
    value = {
        "table": str(table.folder.absolute()),
        "facts": hashlib.blake2b(facts, digest_size=16).hexdigest(),
    }
    path = folder / REVIEWED
    if path.exists():
        before = read_json(path)
        if not isinstance(before, dict) or before.get("facts") != value["facts"]:
            raise UserError(
                f"{folder}: is the review of another table ({path} names it); name a new folder with -o"
            )
    write_json(path, value)


def table_of(folder: Path) -> PartitionedTable | None:
    """Return the table that the review in a folder is of; None: it is no review of a table.

    Raises:
        UserError: the table is not there any more, or damaged.
    """
    path = folder / REVIEWED
    if not path.exists():
        return None
    try:
        given = Path(checked(str, read_json(path)["table"], "table"))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is damaged ({error}); start the review again") from error
    # A review inside its table is moved with it.
    beside = folder.absolute().parent
    if not (given / TABLE).exists() and is_table(beside):
        given = beside
    return PartitionedTable(given)
