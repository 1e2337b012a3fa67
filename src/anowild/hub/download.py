"""Models from the Hub, by way of its cache on this machine."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from anowild.errors import LaterVersion, UserError
from anowild.hub.failures import library, sentences, unreachable
from anowild.hub.names import HubName, is_hub_name, parse_name, snapshot_name
from anowild.scoring import Detector
from anowild.scoring.model_file import DESCRIPTION, WEIGHTS
from anowild.scoring.reference_images import REFERENCE_IMAGES
from anowild.scoring.saved_limit import LIMIT
from anowild.scoring.trained_on import TRAINED_ON
from anowild.version import VERSION
from anowild.views.base import Precision

log = logging.getLogger("anowild")

#: The files of a model; no other is ever downloaded.
FILES = (DESCRIPTION, WEIGHTS, LIMIT, REFERENCE_IMAGES, TRAINED_ON)


def from_pretrained(
    model: str | Path,
    revision: str | None = None,
    device: torch.device | str = "auto",
    precision: Precision = "float32",
) -> Detector:
    """Load a detector from the Hub, or from a folder.

    The commit that was loaded is logged (give it as ``revision`` to have the same model again) and is the name
    of ``folder`` of the result. What is in the cache already is not downloaded again; with HF_HUB_OFFLINE=1, or
    if the Hub cannot be reached, the cache is all that counts. Files are checked as by :meth:`Detector.load`.

    Args:
        model: ``hf://owner/name[@revision]``; or a folder; or, where there is no such folder, ``owner/name``.
        revision: a branch, a tag or a commit; the newest unless given.
        device: as for :meth:`Detector.load`.
        precision: as for :meth:`Detector.load`.

    Raises:
        UserError: the model or revision does not exist, or you have no access; it is no AnoWild model; the Hub
            cannot be reached; the disk is full; a file is damaged.
    """
    text = str(model)
    if not is_hub_name(text) and (isinstance(model, Path) or Path(text).is_dir()):
        if revision is not None:
            raise UserError(f"{model}: is a folder, which has no revision '{revision}'")
        return load_model(Path(model), device, precision)
    return load_model(download(parse_name(text, revision)), device, precision)


def model_folder(model: str) -> Path:
    """Return the folder of a model: downloaded if it is ``hf://...``, else as it is named.

    Raises:
        UserError: as for :func:`from_pretrained`.
    """
    return download(parse_name(model)) if is_hub_name(model) else Path(model)


def load_model(folder: Path, device: torch.device | str, precision: Precision) -> Detector:
    """Load a detector from a folder, which may be one of the Hub's cache.

    Raises:
        UserError: as for :meth:`Detector.load`; of a damaged copy in the cache it says which folder to delete.
    """
    try:
        return Detector.load(folder, device, precision)
    except LaterVersion:
        raise
    except UserError as error:
        name = snapshot_name(folder)
        if name is None:
            raise
        cached = folder.absolute().parents[1]
        raise UserError(
            f"{name}: {error} (this is the copy in the Hub's cache: delete {cached} to download it again)"
        ) from error


def download(name: HubName) -> Path:
    """Download the files of a model that are not in the cache yet; return their folder, named by the commit.

    Raises:
        UserError: as for :func:`from_pretrained`.
    """
    hub = library()
    with sentences(name, "downloaded"):
        offline = not _has_model(hub, name)
        folder = Path(
            hub.snapshot_download(
                name.repository, revision=name.revision, allow_patterns=[*FILES],
                local_files_only=offline, library_name="anowild", library_version=VERSION,
            )
        )  # fmt: skip
    log.info("%s: commit %s, in %s", name, folder.name, folder)
    return folder


def _has_model(hub: Any, name: HubName) -> bool:
    """Ask the Hub whether a repository holds a model; False where it cannot be reached.

    Raises:
        UserError: the repository holds something else.
    """
    try:
        found = hub.HfApi().model_info(name.repository, revision=name.revision)
    except Exception as error:
        if not unreachable(error):
            raise
        if not library(".constants").HF_HUB_OFFLINE:
            log.warning(
                "%s: the Hub cannot be reached; a copy in the cache is used if there is one", name
            )
        return False
    files = {each.rfilename for each in found.siblings or ()}
    missing = [file for file in (DESCRIPTION, WEIGHTS) if file not in files]
    if missing:
        raise UserError(f"{name}: is no AnoWild model ({missing[0]} is missing); look at the name")
    return True
