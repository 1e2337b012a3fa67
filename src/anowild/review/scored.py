"""The images of a review: scored once, with small pictures of them, in files that are mapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anowild.api import for_each_batch
from anowild.data.images import Batch, ImageStream, Source, open_all
from anowild.errors import UserError
from anowild.files import read_json, write_json, written_whole
from anowild.scoring import CUES, Detector, Scores
from anowild.scoring.detector import oddest_first

Array = np.ndarray[Any, Any]

FACTS, NAMES, NUMBERS, PICTURES = "review.json", "names.json", "scores.npz", "pictures.npy"
FORMAT = 1


@dataclass
class Scored:
    """What a review looks at; ``pictures`` are preprocessed images, mapped from disk."""

    names: list[str]
    score: Array  # [N]
    cues: dict[str, Array]  # each [N]
    latents: Array  # float32 [N, latent], in units of their spread over generated images
    pictures: Array  # [N, C, R, R]

    def __len__(self) -> int:
        return len(self.names)

    @staticmethod
    def make(folder: Path, detector: Detector, sources: Source | Sequence[Source]) -> Scored:
        """Score a source and keep what a review needs in ``folder``.

        Raises:
            UserError: the source cannot be read, or the folder cannot be written.
        """
        stream = ImageStream(open_all(sources), detector.preprocess)
        names: list[str] = []
        scores: list[Scores] = []
        latents: list[Array] = []
        p = detector.preprocess
        with written_whole(folder / PICTURES) as temporary, temporary.open("wb") as file:

            def take(batch: Batch, found: Scores) -> None:
                names.extend(batch.names)
                scores.append(found)
                latents.append(detector.whitened_latents(batch.images).astype(np.float32))
                file.write(np.ascontiguousarray(batch.images).tobytes())

            # The header has a fixed length, so that the count can be filled in afterwards.
            file.write(bytes(_HEADER))
            for_each_batch(detector, stream, take)
            file.seek(0)
            shape = (len(names), p.channels, p.resolution, p.resolution)
            file.write(_header(shape, np.dtype(p.dtype)))
        all_scores = Scores.concatenate(scores)
        with written_whole(folder / NUMBERS) as temporary, temporary.open("wb") as file:
            arrays = {f"cue_{name}": values for name, values in all_scores.cues.items()}
            arrays |= {"score": all_scores.score, "latents": np.concatenate(latents)}
            np.savez(file, **arrays)  # type: ignore[arg-type]
        write_json(folder / NAMES, names)
        # Last: by this file the others are whole.
        write_json(
            folder / FACTS,
            {"format": FORMAT, "weights_id": detector.weights_id, "images": len(names),
             "left_out": len(stream.left_out)},
        )  # fmt: skip
        return Scored.load(folder)

    @staticmethod
    def load(folder: Path) -> Scored:
        """Raises UserError if it is not there, or damaged."""
        facts = read_json(folder / FACTS)
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise UserError(f"{folder / FACTS}: is not of format {FORMAT}; score the images again")
        try:
            names = [str(name) for name in read_json(folder / NAMES)]
            with np.load(folder / NUMBERS, allow_pickle=False) as arrays:
                score, latents = arrays["score"], arrays["latents"]
                cues = {name: arrays[f"cue_{name}"] for name in CUES}
            pictures = np.load(folder / PICTURES, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise UserError(f"{folder}: is a damaged review ({error})") from error
        if not len(names) == len(score) == len(pictures) == len(latents) == facts["images"]:
            raise UserError(f"{folder}: is a damaged review (its files do not belong together)")
        return Scored(names, score, cues, latents, pictures)

    @staticmethod
    def weights_id(folder: Path) -> str | None:
        """By which model the images in ``folder`` were scored; None where none were."""
        if not (folder / FACTS).exists():
            return None
        facts = read_json(folder / FACTS)
        found = facts.get("weights_id") if isinstance(facts, dict) else None
        return found if isinstance(found, str) else None

    def values(self, name: str) -> Array:
        """``score``, or a cue: [N]. Raises KeyError for another name."""
        return self.score if name == "score" else self.cues[name]

    def order(self, name: str) -> Array:
        """Numbers of the images by falling value of ``score`` or a cue: int32 [N]."""
        return oddest_first(self.values(name)).astype(np.int32)


#: Bytes of the .npy header; a multiple of 64, with room for any shape.
_HEADER = 192


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """A .npy header (version 1.0) of a fixed length."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape!r}, }}"
    room = _HEADER - 10
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + f"{text:<{room - 1}}\n".encode()
