"""The images of a review: scored once, and kept in memory-mapped files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np

from anowild.arrays import Array
from anowild.data.image_set import Batch, ImageStream, Source
from anowild.errors import UserError
from anowild.files import atomic_write, printable, read_json, write_json
from anowild.reviewing.rerank import rerank, reranking_features
from anowild.reviewing.store import Store
from anowild.scoring import Detector, Scores
from anowild.scoring.scores import oddest_first
from anowild.scoring.stream import open_stream, score_pass

log = logging.getLogger("anowild")

FACTS, NAMES, NUMBERS, PICTURES = "review.json", "names.json", "scores.npz", "pictures.npy"
FORMAT = 1


@dataclass
class ReviewSession:
    """The scored images of a review, N of them."""

    names: list[str]
    score: Array  # [N]
    cues: dict[str, Array]  # each [N]
    features: Array  # float32 [N, D], of the detector; D is 0 if it offers none
    pictures: Array  # [N, C, R, R], preprocessed images, mapped from disk
    base_dir: Path = field(default_factory=Path.cwd)  # folder that relative names refer to

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Index of each image, by name."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def _reranking_features(self) -> Array:
        return reranking_features(self.cues, self.features)

    def reranked_scores(self, verdicts: Mapping[str, str]) -> Array:
        """Return scores [N] that are learned from marks; the detector's scores if there are too few marks.

        Args:
            verdicts: by image name; unknown names and ``unsure`` are ignored.
        """
        told = {
            self.numbers[name]: verdict == "odd"
            for name, verdict in verdicts.items()
            if verdict != "unsure" and name in self.numbers
        }
        marked, odd = np.array(list(told), int), np.array(list(told.values()), bool)
        found = rerank(self.score, self._reranking_features, marked, odd)
        return self.score if found is None else found

    @staticmethod
    def make(folder: Path, detector: Detector, sources: Source | Sequence[Source]) -> ReviewSession:
        """Score a source and write the files of a review into ``folder``.

        Raises:
            UserError: the source cannot be read, or the folder cannot be written.
        """
        stream = open_stream(detector, sources)
        # Without this file there is no review: other files may belong to other images meanwhile.
        (folder / FACTS).unlink(missing_ok=True)
        with atomic_write(folder / PICTURES) as temporary, temporary.open("wb") as file:
            writer = _ReviewWriter(detector, file)
            score_pass(detector, stream, writer)
        scores = Scores.concatenate(writer.scores)
        with atomic_write(folder / NUMBERS) as temporary, temporary.open("wb") as file:
            arrays = {f"cue_{name}": values for name, values in scores.cues.items()}
            arrays |= {"score": scores.score, "latents": np.concatenate(writer.features)}
            np.savez(file, **arrays)  # type: ignore[arg-type]
        write_json(folder / NAMES, list(writer.names))
        # Written last: it says that the other files are complete.
        write_json(
            folder / FACTS,
            {"format": FORMAT, "scored": identity(detector, stream), "images": len(writer.names),
             "left_out": len(stream.left_out), "from": str(Path.cwd())},
        )  # fmt: skip
        return ReviewSession.load(folder)

    @staticmethod
    def load(folder: Path) -> ReviewSession:
        """Open the files of a review.

        Raises:
            UserError: they are missing or damaged.
        """
        facts = read_json(folder / FACTS)
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise UserError(
                f"{folder / FACTS}: is not of format {FORMAT}; score the images again with --again"
            )
        try:
            names = [str(name) for name in read_json(folder / NAMES)]
            with np.load(folder / NUMBERS, allow_pickle=False) as arrays:
                score, features = arrays["score"], arrays["latents"]
                cues = {
                    key.removeprefix("cue_"): arrays[key]
                    for key in arrays.files
                    if key.startswith("cue_")
                }
            pictures = np.load(folder / PICTURES, mmap_mode="r", allow_pickle=False)
            whole = len(names) == len(score) == len(pictures) == len(features) == facts["images"]
            base_dir = Path(facts["from"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise UserError(
                f"{folder}: damaged review ({error}); score again with --again, the marks are kept"
            ) from error
        if not whole:
            raise UserError(
                f"{folder}: damaged review (its files do not belong together); score again with "
                "--again, the marks are kept"
            )
        return ReviewSession(names, score, cues, features, pictures, base_dir)

    @staticmethod
    def matches(folder: Path, detector: Detector, sources: Source | Sequence[Source]) -> bool:
        """Return whether ``folder`` holds exactly these images, scored by this model.

        Raises:
            UserError: a source cannot be read.
        """
        if not (folder / FACTS).exists():
            return False
        stream = open_stream(detector, sources)
        facts = read_json(folder / FACTS)
        known = facts.get("scored") if isinstance(facts, dict) else None
        return bool(known == identity(detector, stream))

    def values(self, name: str) -> Array:
        """Return the score (``score``) or a cue, [N].

        Raises:
            KeyError: there is no such cue.
        """
        return self.score if name == "score" else self.cues[name]

    def order(self, name: str) -> Array:
        """Return the indices of the images by descending score or cue: int32 [N]."""
        return oddest_first(self.values(name)).astype(np.int32)


class _ReviewWriter:
    """Sink of a scoring pass that writes the images, and keeps names, scores and features.

    Marks belong to names, so only the first of several images with the same name is kept.

    Args:
        file: receives the images as .npy.
    """

    def __init__(self, detector: Detector, file: BinaryIO) -> None:
        self.detector, self.file = detector, file
        self.names: dict[str, None] = {}  # in order
        self.scores: list[Scores] = []
        self.features: list[Array] = []

    def begin(self, count: int | None) -> None:
        """Leave room for the header of fixed length, which needs the final count."""
        self.file.write(bytes(_HEADER))

    def take(self, batch: Batch, scores: Scores) -> None:
        """Write the images whose names are new."""
        first = {name: i for i, name in reversed(list(enumerate(batch.names)))}
        new = sorted(i for name, i in first.items() if name not in self.names)
        if not new:
            return
        self.names.update(dict.fromkeys(batch.names[i] for i in new))
        images = np.ascontiguousarray(batch.images[new])
        self.scores.append(scores.select(np.array(new)))
        self.features.append(self.detector.features(images).astype(np.float32))
        self.file.write(images.tobytes())

    def end(self, left_out: int) -> None:
        """Write the header."""
        p = self.detector.preprocess
        self.file.seek(0)
        shape = (len(self.names), p.channels, p.resolution, p.resolution)
        self.file.write(_header(shape, np.dtype(p.dtype)))


def identity(detector: Detector, stream: ImageStream) -> str:
    """Return a digest of the model, and of the paths, sizes and times of the source's files."""
    digest = hashlib.blake2b(detector.checksum.encode(), digest_size=16)
    for reader in stream.readers:
        for path in reader.files():
            stat = path.stat()
            digest.update(repr((str(path), stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()


def warn_unmatched_marks(session: ReviewSession, store: Store) -> None:
    """Log a warning if there are marks of images that are not in the session."""
    names = set(session.names)
    unmatched = sorted({mark.image for mark in store.marks()} - names)
    if unmatched:
        log.warning(
            "%d marked images are not in this review (first: %s); their marks are kept but ignored; "
            "spell the paths of the images as before if these are the same images",
            len(unmatched), printable(unmatched[0]),
        )  # fmt: skip


#: Bytes of the .npy header; a multiple of 64, with room for any shape.
_HEADER = 192


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return a .npy header (version 1.0) of a fixed length."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape!r}, }}"
    room = _HEADER - 10
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + f"{text:<{room - 1}}\n".encode()
