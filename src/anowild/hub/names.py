"""Names of models on the Hub: ``hf://owner/name``, or ``hf://owner/name@revision``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from anowild.errors import UserError

#: How a name begins that can be no folder.
SCHEME = "hf://"
#: An owner and a name, as the Hub allows them.
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """A repository, and a revision of it: a branch, a tag or a commit; None: the newest."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def is_hub_name(text: str) -> bool:
    """Whether a text names a model on the Hub by its scheme."""
    return text.startswith(SCHEME)


def parse_name(text: str, revision: str | None = None) -> HubName:
    """Return the repository that a text names, with or without ``hf://``.

    Args:
        text: ``owner/name``, with ``@revision`` if wanted.
        revision: in the place of ``@revision``.

    Raises:
        UserError: it is no such name, or names another revision.
    """
    repository, at, named = text.removeprefix(SCHEME).partition("@")
    if (
        not _REPOSITORY.fullmatch(repository)
        or ".." in repository
        or "--" in repository
        or (at and not named)
    ):
        raise UserError(
            f"{text}: is no name of a model on the Hub; give owner/name or owner/name@revision"
        )
    if at and revision is not None and revision != named:
        raise UserError(f"{text}: names another revision than '{revision}'; give one of them")
    return HubName(repository, named or revision)


def snapshot_name(folder: Path) -> HubName | None:
    """Return what a folder of the Hub's cache holds; None for any other folder.

    Such a folder is ``models--OWNER--NAME/snapshots/COMMIT``, and its files may be shared by revisions.
    """
    parts = folder.absolute().parts[-3:]
    if len(parts) < 3 or parts[1] != "snapshots" or not parts[0].startswith("models--"):
        return None
    owner, _, name = parts[0].removeprefix("models--").partition("--")
    return HubName(f"{owner}/{name}", parts[2])


def is_hub_copy(folder: Path) -> bool:
    """Whether a model's folder is of the Hub's cache, which stays as it was downloaded."""
    return snapshot_name(folder) is not None
