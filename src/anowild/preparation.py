"""From whatever a user has to a packed data set; needs no PyTorch, and so starts at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anowild.data import PackedSet, Preprocess, choose_preprocess, open_all
from anowild.data.contamination import contaminate_set
from anowild.data.crops import CropReader, CropSettings
from anowild.data.dataset.build import build_set
from anowild.data.dataset.contact_sheet import SheetCollector
from anowild.data.dataset.finalize import Leaks
from anowild.data.dataset.writer import Part
from anowild.data.image_set import Source
from anowild.data.label_file import LabelFile
from anowild.data.readers import ImageSource, open_source
from anowild.errors import UserError
from anowild.files import read_json
from anowild.settings import Settings

#: What images are prepared with, unless told otherwise.
PREPARED = Settings().replace(max_resolution=64)


def prepare(
    sources: Source | Sequence[Source],
    out: str | Path,
    settings: Settings | None = None,
    *,
    test: Source | Sequence[Source] = (),
    labels: str | None = None,
    crops: CropSettings | None = None,
    masks: Sequence[str] = (),
    like: str | Path | None = None,
    leaks: Leaks = "refuse",
) -> PackedSet:
    """Turn sources into a packed data set, or go on with a preparation that was stopped.

    Args:
        sources: whatever can be read; see ``anowild.data.readers``.
        settings: of them those under "Images" count. Unless given, images are at most 64x64.
        test: sources of the test split.
        labels: file of labels, for sources that do not know their classes.
        crops: cut objects out of the sources' images, which are frames then.
        masks: instance masks instead of the detection of objects, a source for each of
            ``sources`` and ``test``.
        like: folder of a model whose preprocessing is to be used, so that it can score them.
        leaks: what to do with test images that are in training as well, or nearly.

    Raises:
        UserError: nothing to prepare; leaks; another data set in ``out``; a full disk.
        anowild.signals.Interrupted: by Ctrl-C or SIGTERM; the same call goes on.
    """
    listed, tested = (
        [given] if isinstance(given, str | Path | np.ndarray) else list(given)
        for given in (sources, test)
    )
    names = [_name(source) for source in (*listed, *tested)]
    if len(set(names)) < len(names):
        raise UserError(f"{max(names, key=names.count)}: is given twice")
    readers = open_all([*listed, *tested])
    sheet = None
    if masks and (crops is None or len(masks) != len(readers)):
        raise UserError(
            "give one source of masks for each source, and cut objects (--crop-objects)"
        )
    if crops is not None:
        sheet = SheetCollector()
        mask_readers: list[ImageSource | None] = [open_source(mask) for mask in masks]
        mask_readers = mask_readers or [None] * len(readers)
        readers = [
            CropReader(reader, crops, mask, sheet)
            for reader, mask in zip(readers, mask_readers, strict=True)
        ]
    if like is not None:
        if settings is not None and settings != PREPARED:
            raise UserError(
                f"the model {like} says how images are prepared: leave the settings away"
            )
        preprocess = _preprocess_of(Path(like))
    else:
        preprocess = choose_preprocess(readers, settings or PREPARED)
    how = {
        "sources": names[: len(listed)],
        "test": names[len(listed) :],
        "labels": labels,
        "crops": None if crops is None else crops.to_json(),
        "masks": list(masks),
    }
    if any(reader.packed is not None for reader in readers):
        raise UserError("a packed data set is prepared already; give what it was made of")
    parts = [Part(readers[: len(listed)]), Part(readers[len(listed) :], "test")]
    named = None if labels is None else LabelFile(labels)
    return build_set(parts, Path(out), preprocess, how, named, leaks, sheet)


def contaminate(
    dataset: str | Path,
    out: str | Path,
    rate: float,
    seed: int = 0,
    normal: Sequence[str] = (),
    protocol: str | None = None,
) -> PackedSet:
    """A data set like another, whose training split holds a known share of anomalies.

    See :func:`anowild.data.contamination.contaminate_set`.
    """
    return contaminate_set(PackedSet(dataset), Path(out), rate, seed, normal, protocol)


def _name(source: Source) -> str:
    if not isinstance(source, np.ndarray):
        return str(source)
    digest = hashlib.blake2b(np.ascontiguousarray(source).data, digest_size=16).hexdigest()
    return f"array {source.dtype} {list(source.shape)} {digest}"


def _preprocess_of(model: Path) -> Preprocess:
    path = model / "model.json"
    value = read_json(path)
    try:
        return Preprocess(**value["preprocess"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is no model's description ({error!r})") from error
