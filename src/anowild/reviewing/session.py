"""The images of a review: scored once, with small pictures of them, in files that are mapped."""

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
    """What a review looks at; ``pictures`` are preprocessed images, mapped from disk."""

    names: list[str]
    score: Array  # [N]
    cues: dict[str, Array]  # each [N]
    features: Array  # float32 [N, latent], in units of their spread over generated images
    pictures: Array  # [N, C, R, R]
    base_dir: Path = field(default_factory=Path.cwd)  # from where relative names are meant

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The images' numbers by name."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def _reranking_features(self) -> Array:
        return reranking_features(self.cues, self.features)

    def reranked_scores(self, verdicts: Mapping[str, str]) -> Array:
        """Scores [N] by what verdicts by name teach; the unsupervised ones where they teach nothing."""
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
        """Score a source and keep what a review needs in ``folder``.

        Raises:
            UserError: the source cannot be read, or the folder cannot be written.
        """
        stream = open_stream(detector, sources)
        # Until all files are those of these images, there is no review.
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
        # Last: by this file the others are whole.
        write_json(
            folder / FACTS,
            {"format": FORMAT, "scored": identity(detector, stream), "images": len(writer.names),
             "left_out": len(stream.left_out), "from": str(Path.cwd())},
        )  # fmt: skip
        return ReviewSession.load(folder)

    @staticmethod
    def load(folder: Path) -> ReviewSession:
        """Raises UserError if it is not there, or damaged."""
        facts = read_json(folder / FACTS)
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise UserError(f"{folder / FACTS}: is not of format {FORMAT}; score the images again")
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
                f"{folder}: is a damaged review ({error}); score again with --again, the marks stay"
            ) from error
        if not whole:
            raise UserError(
                f"{folder}: is a damaged review (its files do not belong together); score again "
                "with --again, the marks stay"
            )
        return ReviewSession(names, score, cues, features, pictures, base_dir)

    @staticmethod
    def matches(folder: Path, detector: Detector, sources: Source | Sequence[Source]) -> bool:
        """Whether the images in ``folder`` are these, scored by this model.

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
        """``score``, or a cue: [N]. Raises KeyError for another name."""
        return self.score if name == "score" else self.cues[name]

    def order(self, name: str) -> Array:
        """Numbers of the images by falling value of ``score`` or a cue: int32 [N]."""
        return oddest_first(self.values(name)).astype(np.int32)


class _ReviewWriter:
    """A sink of the scoring pass that writes the images, and keeps names, scores and features.

    Marks belong to names: of images with the same name the first is taken.

    Args:
        file: receives the images as .npy.
    """

    def __init__(self, detector: Detector, file: BinaryIO) -> None:
        self.detector, self.file = detector, file
        self.names: dict[str, None] = {}  # in order
        self.scores: list[Scores] = []
        self.features: list[Array] = []

    def begin(self, count: int | None) -> None:
        """Leave room for the header, whose length is fixed: the count is filled in afterwards."""
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
    """Tells a model and the files of a source, by their sizes and times, from any others."""
    digest = hashlib.blake2b(detector.checksum.encode(), digest_size=16)
    for reader in stream.readers:
        for path in reader.files():
            stat = path.stat()
            digest.update(repr((str(path), stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()


def warn_unmatched_marks(session: ReviewSession, store: Store) -> None:
    """Say how many marks belong to images that are not there, by another spelling perhaps."""
    names = set(session.names)
    strays = sorted({mark.image for mark in store.marks()} - names)
    if strays:
        log.warning(
            "%d marked images are not in this review (first: %s): their marks are kept, and do not "
            "count; a path has to be spelled as before",
            len(strays), printable(strays[0]),
        )  # fmt: skip


#: Bytes of the .npy header; a multiple of 64, with room for any shape.
_HEADER = 192


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """A .npy header (version 1.0) of a fixed length."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape!r}, }}"
    room = _HEADER - 10
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + f"{text:<{room - 1}}\n".encode()
