"""What goes wrong between here and the Hub, as sentences."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anowild.errors import UserError
from anowild.hub.names import HubName
from anowild.libraries import require

#: How to be known to the Hub.
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


def library(module: str = "") -> Any:
    """Return ``huggingface_hub``, or a module of it, such as ``.errors``.

    Raises:
        UserError: it is not installed; the message says how to install it.
    """
    return require("models on the Hub", f"huggingface_hub{module}")


@contextmanager
def sentences(name: HubName, doing: str) -> Iterator[None]:
    """Turn errors of the Hub's library into sentences.

    Args:
        doing: what is tried, as a clause: "downloaded".

    Raises:
        UserError: in the place of an error of the library, of the network or of the disk.
    """
    errors = library(".errors")
    try:
        yield
    # The library raises its own errors, those of its HTTP library (all of them HTTPError there, or OSError),
    # OSError of files, ValueError for what a server says no to, and RuntimeError around what went wrong in a
    # thread.
    except (errors.HTTPError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: {_problem(error, errors, doing)}") from error


def unreachable(error: BaseException) -> bool:
    """Whether an error says that the Hub cannot be reached, or may not be, or is out of order."""
    errors = library(".errors")
    if isinstance(error, errors.HfHubHTTPError):
        return _status(error) >= 500
    return isinstance(
        error, errors.OfflineModeIsEnabled | errors.HTTPError | ConnectionError | TimeoutError
    )


def _problem(error: BaseException, errors: Any, doing: str) -> str:
    chain = [*_causes(error)]
    if any(getattr(e, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for e in chain):
        return "the disk is full; free some space and give the same command again"
    for e in chain:
        known = _known(e, errors)
        if known is not None:
            return known
    text = " ".join(str(chain[-1]).split())[:300] or type(chain[-1]).__name__
    return f"could not be {doing} ({text}); give the same command again"


def _known(error: BaseException, errors: Any) -> str | None:
    """Say what one error means; None where it is none of those that are known."""
    if isinstance(error, errors.GatedRepoError):
        return f"its owner gives access on request; ask for it on the model's page, then {LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no such model, or you have no access to it; look at the name, or {LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "there is no such revision; give a branch, a tag or a commit of the model"
    if isinstance(error, errors.HfHubHTTPError):
        return _of_status(_status(error))
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "the network is switched off (HF_HUB_OFFLINE), and what is needed is not in the cache; unset it"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "the Hub cannot be reached, and the model is not whole in the cache; look at the network"
    if isinstance(error, errors.HTTPError | ConnectionError | TimeoutError):
        return "the Hub cannot be reached; look at the network, then give the same command again"
    return None


def _of_status(status: int) -> str | None:
    if status in (401, 403):
        return f"the Hub refuses that to you; {LOG_IN}, with a token that may do it"
    if status == 429:
        return "the Hub has had too many requests from here; wait some minutes and try again"
    if status >= 500:
        return f"the Hub is out of order (status {status}); give the same command again later"
    return None


def _status(error: Any) -> int:
    return int(getattr(error.response, "status_code", 0))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it came from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
