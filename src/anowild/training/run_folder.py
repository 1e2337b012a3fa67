"""The folder of a training run: it belongs to one set of images and settings, and to one process at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path

from anowild.data import ImageSet
from anowild.errors import UserError
from anowild.files import exclusive_lock, read_json, write_json
from anowild.settings import Settings

#: Seconds in which a process whose parent was killed saves its state and ends.
PATIENCE = 5.0


def training_lock(folder: Path) -> AbstractContextManager[None]:
    """Lock a folder against other processes that train there; raises UserError if one does."""
    return exclusive_lock(
        folder, "another process is training there; wait for it, or give another output", PATIENCE
    )


@contextmanager
def run_folder(
    folder: Path, images: ImageSet, settings: Settings, fixed: Collection[str]
) -> Iterator[None]:
    """Lock a folder, and save the settings and a digest of the images there, or compare them.

    Args:
        fixed: names of the settings that have to be as they were when the run began.

    Raises:
        UserError: another process trains there, or the folder holds another run.
    """
    with training_lock(folder):
        _check_or_save(folder, images, settings, fixed)
        yield


def _check_or_save(
    folder: Path, images: ImageSet, settings: Settings, fixed: Collection[str]
) -> None:
    path = folder / "settings.json"
    now = {
        "settings": settings.to_json(),
        "preprocess": asdict(images.preprocess),
        "images": {"count": len(images), "blake2b": images.digest},
    }
    if path.exists():
        before = read_json(path)
        try:
            saved = Settings.from_json(before["settings"])
            differing = [
                f"{name} ({value!r}, now {getattr(settings, name)!r})"
                for name, value in vars(saved).items()
                if value != getattr(settings, name) and name in fixed
            ]
            other_images = before["images"] != now["images"]
        except (KeyError, TypeError, AttributeError, UserError) as error:
            raise UserError(
                f"{path}: is damaged ({error}); delete {folder} to start again"
            ) from error
        remedy = f"give the same as before, or another output, or delete {folder}"
        if differing:
            raise UserError(
                f"{folder}: holds a run with other settings: {', '.join(differing)}; {remedy}"
            )
        if other_images:
            raise UserError(f"{folder}: holds a run on other images; {remedy}")
    write_json(path, now)
