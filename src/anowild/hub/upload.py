"""Models for the Hub: a folder of what others need, and its upload."""

from __future__ import annotations

import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anowild.checked import checked
from anowild.errors import UserError
from anowild.evaluation.evaluate import Evaluation
from anowild.files import as_user_error, part_of, read_json, write_text
from anowild.hub.card import CARD, check_license, model_card
from anowild.hub.failures import library, sentences
from anowild.hub.names import parse_name
from anowild.scoring import Detector
from anowild.scoring.reference_images import REFERENCE_IMAGES, ReferenceImages
from anowild.scoring.saved_limit import LIMIT, SavedLimit, load_limit
from anowild.scoring.trained_on import TRAINED_ON
from anowild.version import VERSION
from anowild.views.features import VECTORS

log = logging.getLogger("anowild")

#: Files that hold training images, or hashes of them.
_IMAGES = (REFERENCE_IMAGES, TRAINED_ON)


@dataclass(frozen=True)
class Uploaded:
    """A model that was uploaded, and where it is."""

    url: str
    commit: str
    files: tuple[str, ...]  # names
    private: bool


def save_pretrained(
    detector: Detector,
    folder: str | Path,
    *,
    license: str | None = None,  # noqa: A002 - as the Hub calls it
    evaluation: Evaluation | None = None,
    with_images: bool = False,
) -> None:
    """Write the files of a model that others need, with a model card, into a new folder.

    These are ``model.json``, ``model.safetensors``, ``README.md``, and ``limit.json`` where a limit is kept with
    the model. Messages about views that could not be used, and folders of files in settings, are left out: they
    may name your files.

    Args:
        detector: trained or loaded.
        folder: new or empty.
        license: an identifier of the Hub, such as ``apache-2.0``, of the model that you give away; left out
            unless given.
        evaluation: what `anowild.evaluate` has measured; the card shows it.
        with_images: write ordinary training images, which pages show, and hashes of all training images as well.

    Raises:
        UserError: the folder holds something; the license is no identifier; the model needs its images and
            may not have them; the disk is full.
    """
    out = Path(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: holds something already; give a new folder")
    check_license(license)
    _check_images(detector, with_images)
    limit = None if detector.folder is None else load_limit(detector.folder)
    if limit is not None and limit.model != detector.checksum:
        limit = None  # it was chosen for another model
    temporary = part_of(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(detector, temporary, limit, license, evaluation, with_images)
        temporary.replace(out)
    except OSError as error:
        raise as_user_error(error, out) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def push_to_hub(
    detector: Detector,
    repository: str,
    *,
    public: bool = False,
    license: str | None = None,  # noqa: A002 - as the Hub calls it
    evaluation: Evaluation | None = None,
    with_images: bool = False,
) -> Uploaded:
    """Upload a model to the Hub, as :func:`save_pretrained` writes it.

    All files come in one commit, so a repository never holds half of a model. An upload that was stopped is
    repeated by the same call, and large files that have arrived are not sent again. Other files of the
    repository stay, but for those of a former model there.

    Args:
        repository: ``owner/name``; made if there is none.
        public: whether everybody can see a repository that is made now; the visibility of one that exists
            stays as it is.

    Raises:
        UserError: as for :func:`save_pretrained`; you have no access; the Hub cannot be reached.
    """
    name = parse_name(repository)
    if name.revision is not None:
        raise UserError(f"{repository}: a model is uploaded to owner/name, without a revision")
    hub = library()
    with tempfile.TemporaryDirectory(prefix="anowild-") as working:
        folder = Path(working) / "model"
        save_pretrained(
            detector, folder, license=license, evaluation=evaluation, with_images=with_images
        )
        with sentences(name, "uploaded"):
            return _upload(hub, name.repository, folder, public)


def _upload(hub: Any, repository: str, folder: Path, public: bool) -> Uploaded:
    api = hub.HfApi(library_name="anowild", library_version=VERSION)
    api.create_repo(repository, private=not public, exist_ok=True)
    before = api.model_info(repository)
    there = {each.rfilename for each in before.siblings or ()}
    files = sorted(path.name for path in folder.iterdir())
    gone = sorted(there.intersection((LIMIT, *_IMAGES)).difference(files))
    done = api.create_commit(
        repository,
        [hub.CommitOperationAdd(file, folder / file) for file in files]
        + [hub.CommitOperationDelete(file) for file in gone],
        commit_message=f"Model of AnoWild {VERSION}",
    )
    url = f"{api.endpoint}/{repository}"
    return Uploaded(url, str(done.oid), tuple(files), bool(before.private))


def read_evaluation(path: Path) -> Evaluation:
    """Read what ``anowild evaluate --json`` printed.

    Raises:
        UserError: it is something else.
    """
    value = read_json(path)
    try:
        return checked(Evaluation, value, "the evaluation")
    except ValueError as error:
        raise UserError(
            f"{path}: is not what `anowild evaluate ... --json` prints ({error}); make it again"
        ) from error


def _check_images(detector: Detector, with_images: bool) -> None:
    """Refuse a model that cannot work without hashes of its images, unless they may be given away."""
    kinds = {view.facts().get("features") for view in detector.views}
    if VECTORS in kinds and not with_images:
        raise UserError(
            "this model knows its images by vectors of your own, and its weights hold hashes of them; train with "
            "other --features, or allow training images and hashes to be given away (--with-images)"
        )


def _write(
    detector: Detector, folder: Path, limit: SavedLimit | None, license_name: str | None,
    evaluation: Evaluation | None, with_images: bool,
) -> None:  # fmt: skip
    images = detector.reference_images
    shared = Detector(
        detector.views,
        detector.preprocess,
        detector.calibration,
        shared_info(detector.training_info),
        images if with_images else ReferenceImages(images.images[:0]),
        detector.checksum,
        detector.trained_on if with_images else None,
    )
    shared.save(folder)
    if not with_images:
        (folder / REFERENCE_IMAGES).unlink()
    if limit is not None:
        shutil.copyfile(detector.folder / LIMIT, folder / LIMIT)  # type: ignore[operator]
    card = model_card(shared, license_name, evaluation, limit, with_images)
    write_text(folder / CARD, card)


def shared_info(info: dict[str, Any]) -> dict[str, Any]:
    """Return what a model says of its training, without paths of this machine."""
    settings = dict(info.get("settings") or {})
    features = settings.get("features")
    if isinstance(features, str) and not features.startswith("timm:"):
        settings["features"] = Path(features).name
    failed = dict.fromkeys(info.get("failed") or {}, "could not be used in this training")
    return {**info, "settings": settings, "failed": failed}
