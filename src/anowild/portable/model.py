"""An exported model in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.data import open_all
from anowild.data.image_stream import Pass
from anowild.data.readers import SkippedImage
from anowild.data.readers.encoded import failure_reason
from anowild.data.sources import Source
from anowild.errors import UserError
from anowild.libraries import require
from anowild.portable.facts import METADATA, Facts

#: Outputs of a graph that are numbers of an image.
NUMBERS = ("score", "p_value", "views", "cues")


class PortableModel:
    """Scores raw images by the graph of an .onnx file.

    >>> model = PortableModel(Path("model.onnx"))                             # doctest: +SKIP
    >>> model.score(pixels)["score"]                                          # doctest: +SKIP

    Args:
        path: of the file that `anowild export` wrote.
        threads: of the CPU; None: as ONNX Runtime chooses.

    Raises:
        UserError: onnxruntime is missing, or the file is not such a graph.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        runtime = require("exported models", "onnxruntime")
        self.path = path
        if not path.is_file():
            raise UserError(f"{path}: there is no such file; make it with anowild export MODEL")
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # what is wrong is raised
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            text = self._session.get_modelmeta().custom_metadata_map[METADATA]
            self.facts = Facts.from_text(text)
            self._rule = self.facts.rule
            self._check_columns()
        except KeyError:
            raise UserError(
                f"{path}: is an ONNX file, but not of AnoWild; make it with anowild export MODEL"
            ) from None
        except Exception as error:  # ONNX Runtime has one class for each status
            raise UserError(
                f"{path}: cannot be read as an exported model ({_first_line(error)}); export it again"
            ) from error
        # Only what leads to the wanted outputs is computed.
        self._run_options = runtime.RunOptions()
        self._run_options.add_run_config_entry("only_execute_path_to_fetches", "1")

    def _check_columns(self) -> None:
        """Check that there is a name for each column of the outputs.

        Raises:
            ValueError: there is not.
        """
        shapes = {output.name: output.shape for output in self._session.get_outputs()}
        for name, columns in (("views", self.facts.views), ("cues", self.facts.cues)):
            if shapes[name][-1] != len(columns):
                raise ValueError(f"it names {len(columns)} {name}, and has {shapes[name][-1]}")

    def usable(self, pixels: Array) -> Array:
        """Return an image in the type that the graph takes.

        Args:
            pixels: [H, W, C], uint8, uint16, bool or float, as `anowild.data.Preprocess` takes them.

        Raises:
            ValueError: it cannot be scored; the message is a clause that says why.
        """
        pixels = self._rule.checked(pixels)
        kind, wanted = pixels.dtype, np.dtype(self.facts.pixels)
        if kind == wanted:
            return pixels
        if self._rule.black is not None and (wanted == np.float32 or np.can_cast(kind, wanted)):
            return pixels.astype(wanted)  # black and white are values of images of any type
        if wanted == np.float32:
            return (pixels / (1 if kind.kind in "bf" else np.iinfo(kind).max)).astype(wanted)
        if kind == np.bool_:
            return pixels.astype(wanted) * wanted.type(np.iinfo(wanted).max)
        if kind == np.uint8:
            return pixels.astype(wanted) * wanted.type(257)
        raise ValueError(
            f"its values are of type {kind}, and {self.path.name} takes {wanted}; export the model with "
            f"--pixels {'uint16' if kind == np.uint16 else 'float32'}"
        )

    def score(self, pixels: Array, heat: bool = False) -> dict[str, Array]:
        """Score one image; the same one always gets the same score.

        Args:
            pixels: as :meth:`usable` returns them.
            heat: whether a heat map is wanted.

        Returns:
            ``score`` and ``p_value``, scalars; ``views`` [V] and ``cues`` [K] in the order of the facts; and
            ``heat``, float32 [r, r] from 0 to 1.

        Raises:
            ValueError: a number is not finite.
        """
        return {name: values[0] for name, values in self.score_all(pixels[None], heat).items()}

    def score_all(self, images: Array, heat: bool = False) -> dict[str, Array]:
        """Score images of one size, [N, H, W, C], at a time; last digits depend on how many there are.

        Raises:
            ValueError: a number is not finite, or ONNX Runtime cannot compute it, as without memory.
        """
        names = [*NUMBERS, "heat"] if heat else list(NUMBERS)
        try:
            found = self._session.run(names, {"images": images}, self._run_options)
        except Exception as error:  # ONNX Runtime has one class for each status
            raise ValueError(_first_line(error)) from error
        outputs = dict(zip(names, found, strict=True))
        wrong = np.flatnonzero(~np.isfinite(outputs["score"]))
        if len(wrong):
            raise ValueError(
                f"its score is {outputs['score'][wrong[0]]}; {self.path.name} is damaged"
            )
        return outputs


class Images(Pass):
    """All images of some sources that a model can score, one by one.

    Raises:
        UserError: a source cannot be opened, or is a packed data set, which holds prepared images.
    """

    def __init__(self, model: PortableModel, sources: Sequence[Source]) -> None:
        super().__init__(open_all(sources))
        self.model = model
        for reader in self.readers:
            if reader.packed is not None:
                raise UserError(
                    f"{reader.packed.path}: holds prepared images; an exported model takes the original ones"
                )

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield names and what :meth:`PortableModel.score` gives.

        Raises:
            UserError: at the end, if no image can be scored.
        """
        used = 0
        for record in (record for reader in self.readers for record in reader):
            if isinstance(record, SkippedImage):
                self.leave_out(record)
                continue
            try:
                scored = self.model.score(self.model.usable(record.pixels))
            except (ValueError, MemoryError) as error:
                self.leave_out(SkippedImage(record.name, failure_reason(error)))
                continue
            used += 1
            yield record.name, scored
        self.finish(used)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
