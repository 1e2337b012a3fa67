"""The scores of the images of a review, and their features, kept in a file."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.checked import Count, checked
from anowild.data import ImageStream, PackedSet
from anowild.data.dataset.format import PackedReader
from anowild.data.image_stream import Batch
from anowild.data.sources import Source
from anowild.errors import UserError
from anowild.files import atomic_write, exists, printable, read_json, write_json
from anowild.reviewing.alike import compacted
from anowild.reviewing.folder import FACTS, IMAGES, SCORES
from anowild.reviewing.images import SPLIT, ReviewImages, prepare_images
from anowild.reviewing.rerank import rerank, reranking_features
from anowild.reviewing.store import ODD, Mark
from anowild.scoring import Detector, Scores
from anowild.scoring.stream import score_pass

log = logging.getLogger("anowild")

FORMAT = 2
#: Files of format 1.
EARLIER = ("names.json", "pictures.npy")


@dataclass
class ReviewSession:
    """The scored images of a review, N of them."""

    images: ReviewImages
    scores: Scores  # of N images
    features: (
        Array  # float32 [N, D]; alike images are near to each other; D is 0 if none are offered
    )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> list[str]:
        """Names of the images."""
        return self.images.names

    @property
    def base_dir(self) -> Path:
        """The folder that relative names refer to."""
        return self.images.base_dir

    def deciding(self, numbers: Array) -> Array:
        """Return the squares that decide the scores of some images, [n, C, R, R]."""
        return self.images.deciding(self.scores, numbers)

    def tile(self, number: int) -> int | None:
        """Return the number of the oddest tile of an image; None where it is seen whole."""
        return None if self.scores.tile is None else int(self.scores.tile[number])

    @property
    def score(self) -> Array:
        """Scores of all views together, [N]."""
        return self.scores.score

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Index of each image by name; of several with one name, the first."""
        return {name: i for i, name in reversed(list(enumerate(self.names)))}

    def said_of(self, names: Iterable[str]) -> dict[str, tuple[float, str]]:
        """Return the score of those images that there are, by name, and what the checks found."""
        found = {}
        for name in names:
            number = self.numbers.get(name)
            if number is not None:
                words = self.images.finding_words.get(number, "")
                found[name] = (float(self.score[number]), words)
        return found

    @cached_property
    def _reranking_features(self) -> Array:
        return reranking_features(self.scores.cues, self.features)

    def reranked_scores(self, verdicts: Mapping[str, str]) -> Array:
        """Return scores [N] that are learned from marks; the detector's scores if there are too few marks.

        Args:
            verdicts: by image name; unknown names and ``unsure`` are ignored.
        """
        told = {
            self.numbers[name]: verdict in ODD
            for name, verdict in verdicts.items()
            if verdict != "unsure" and name in self.numbers
        }
        marked, odd = np.array(list(told), int), np.array(list(told.values()), bool)
        found = rerank(self.score, self._reranking_features, marked, odd)
        return self.score if found is None else found

    @staticmethod
    def make(
        folder: Path,
        detector: Detector,
        sources: Source | Sequence[Source],
        again: bool = False,
    ) -> ReviewSession:
        """Read and score a source, unless ``folder`` has exactly that, and write the files of a review.

        Args:
            folder: of the review.
            again: score in any case.

        Raises:
            UserError: the source cannot be read, or the folder cannot be written.
            Interrupted: by Ctrl-C or SIGTERM while images are read; the same call goes on.
        """
        packed = prepare_images(sources, folder / IMAGES, detector.preprocess)
        scored = identity(detector, packed)
        if not again and _facts(folder).get("scored") == scored:
            return ReviewSession.load(folder)
        sink = _Collector(detector)
        reader = PackedReader(str(packed.path), [SPLIT])
        score_pass(detector, ImageStream([reader], packed.preprocess), sink)
        scores, features = Scores.concatenate(sink.scores), np.concatenate(sink.features)
        return ReviewSession.write(folder, packed, scored, scores, features)

    @staticmethod
    def write(
        folder: Path,
        packed: PackedSet,
        scored: str,
        scores: Scores,
        features: Array,
        origin: str | None = None,
    ) -> ReviewSession:
        """Write scores and features of the images of a packed data set into ``folder``.

        Args:
            scored: as :func:`identity` tells it.
            scores: of the N images of the set.
            features: [N, D].
            origin: what the features were computed from; the review keeps it for who asks.

        Raises:
            UserError: the folder cannot be written.
        """
        # Without this file there is no review: the scores may belong to other images meanwhile.
        (folder / FACTS).unlink(missing_ok=True)
        with atomic_write(folder / SCORES) as temporary, temporary.open("wb") as file:
            arrays = scores.to_arrays() | {"features": compacted(features)}
            np.savez(file, **arrays)  # type: ignore[arg-type]
        facts = {
            "format": FORMAT, "scored": scored, "images": len(scores.score),
            "set": str(packed.path.absolute()), "from": str(Path.cwd()), "features": origin,
            "folder": str(folder.absolute()), "of": packed.id,
        }  # fmt: skip
        write_json(folder / FACTS, facts)
        for name in EARLIER:
            (folder / name).unlink(missing_ok=True)
        return ReviewSession.load(folder)

    @staticmethod
    def load(folder: Path) -> ReviewSession:
        """Open the files of a review.

        Raises:
            UserError: they are missing or damaged, or the images are others by now.
        """
        value = read_json(folder / FACTS)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise UserError(
                f"{folder / FACTS}: is of an earlier version; give the command that made it again, the "
                "marks are kept"
            )
        try:
            place, base = (Path(checked(str, value[name], name)) for name in ("set", "from"))
            before = Path(checked(str, value.get("folder", str(folder.absolute())), "folder"))
            count = checked(Count, value["images"], "images")
            with np.load(folder / SCORES, allow_pickle=False) as arrays:
                scores = Scores.from_arrays(arrays)
                features = arrays["features"]
            packed = _set_of(place, before, folder)
            if value.get("of", packed.id) != packed.id:
                raise UserError(
                    f"{folder}: the images have changed since they were scored; give the command that made it "
                    "again, the marks are kept"
                )
            whole = (
                len(scores.score) == len(features) == packed.counts.get(SPLIT) == count
                and features.ndim == 2
                and features.dtype.kind == "f"
            )  # fmt: skip
            images = ReviewImages(packed, _base_of(base, before, folder, packed))
        except UserError:
            raise
        except Exception as error:  # damaged archives raise errors of many kinds
            raise UserError(
                f"{folder}: damaged review ({error}); score again with --again, the marks are kept"
            ) from error
        if not whole:
            raise UserError(
                f"{folder}: damaged review (its files do not belong together); score again with "
                "--again, the marks are kept"
            )
        return ReviewSession(images, scores, features)


class _Collector:
    """Sink of a scoring pass that keeps scores and features."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.scores: list[Scores] = []
        self.features: list[Array] = []

    def begin(self, count: int | None) -> None:
        """Do nothing; part of the protocol of a sink."""

    def take(self, batch: Batch, scores: Scores) -> None:
        """Keep the scores, and compute the features."""
        self.scores.append(scores)
        features = self.detector.features(batch.images[scores.deciding_squares(batch.owners)])
        self.features.append(features.astype(np.float32))

    def end(self, left_out: int) -> None:
        """Do nothing; part of the protocol of a sink."""


def identity(detector: Detector, packed: PackedSet) -> str:
    """Return what tells a model and its images from any others."""
    return f"{detector.identity} {packed.id}"


def _facts(folder: Path) -> dict[str, Any]:
    """Return what a review says of itself; nothing where there is none, or it cannot be read."""
    try:
        facts = read_json(folder / FACTS)
    except UserError:
        return {}
    return facts if isinstance(facts, dict) and facts.get("format") == FORMAT else {}


def _set_of(place: Path, before: Path, folder: Path) -> PackedSet:
    """Open the data set of a review, also if both were moved or copied together.

    Args:
        place: of the data set when the review was written.
        before: the review's folder at that time.
        folder: the review's folder.
    """
    beside = [path for path in (folder / IMAGES, folder.parent / IMAGES) if not place.exists()]
    found = (path for path in (_moved_along(place, before, folder), *beside) if path.exists())
    return PackedSet(next(found, place))


def _base_of(base: Path, before: Path, folder: Path, packed: PackedSet) -> Path:
    """Return the folder that names are relative to, also if it was moved or copied with the review."""
    moved = _moved_along(base, before, folder)
    sources = packed.description["recipe"]["how"]["sources"]
    there = all(exists(moved / source) for source in sources if exists(base / source))
    return moved if there and any(exists(moved / source) for source in sources) else base


def _moved_along(path: Path, before: Path, folder: Path) -> Path:
    """Return where a path is now if the folder above it and the review was moved or copied."""
    old, new = before, folder.absolute()
    while old.name == new.name and old != old.parent and new != new.parent:
        old, new = old.parent, new.parent
    return new / path.relative_to(old) if path.is_relative_to(old) else path


def warn_unmatched_marks(session: ReviewSession, marks: Iterable[Mark]) -> None:
    """Log a warning if there are marks of images that are not in the session."""
    names = set(session.names)
    unmatched = sorted({mark.image for mark in marks} - names)
    if unmatched:
        log.warning(
            "%d marked images are not in this review (first: %s); their marks are kept but ignored; "
            "spell the paths of the images as before if these are the same images",
            len(unmatched), printable(unmatched[0]),
        )  # fmt: skip
