"""Writes a model's graph as a file of another runtime."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from anowild.errors import UserError
from anowild.exporting.graph import Graph, Outputs
from anowild.exporting.page import RUNTIME, read_runtime, write_page
from anowild.files import as_user_error, atomic_write, check_place, new_part_of, sync
from anowild.libraries import require
from anowild.portable.facts import METADATA, PIXELS, Facts
from anowild.scoring import Detector
from anowild.scoring.saved_limit import kept_limit
from anowild.scoring.scores import USUAL_LIMIT
from anowild.version import VERSION

#: Version of the set of operators of an ONNX file.
OPSET = 18


def export(
    detector: Detector,
    out: Path,
    kind: str = "onnx",
    pixels: str | None = None,
    runtime: Path | None = None,
) -> Facts:
    """Write a detector as one graph, from raw images to scores.

    Args:
        detector: in float32, on the CPU.
        out: file to write: .onnx; .xml, beside which a .bin is written (OpenVINO); .pt2 (PyTorch); or .html, a page
            that scores in a browser.
        kind: ``onnx``, ``openvino``, ``torch`` or ``page``.
        pixels: type of the images that the graph takes; that of the model's images unless given.
        runtime: of a page, see :func:`anowild.exporting.page.write_page`.

    Raises:
        UserError: the detector cannot be exported, ``out`` has another ending or cannot be written, or a library
            is missing.
    """
    if kind not in WRITERS:
        raise UserError(f"there is no format '{kind}'; take {', '.join(WRITERS)}")
    ending, write = WRITERS[kind]
    if out.suffix.lower() != ending:
        raise UserError(f"{out}: the format {kind} is written as {ending}; give it that ending")
    check_place(out)
    if any(getattr(view, "dtype", None) is not None for view in detector.views):
        raise UserError("the model was loaded in bfloat16; load it in float32 to export it")
    if kind != "torch":
        require("exports", "onnxscript")
    facts = facts_of(detector, pixels)
    if kind == "page":
        read_runtime(runtime or RUNTIME)
        if facts.pixels != "uint8" or facts.rule.channels not in (1, 3):
            raise UserError(
                "a page reads images of 8 bits in gray or color, and this model takes "
                f"{facts.pixels} with {facts.rule.channels} channels; export it as .onnx"
            )
        write = partial(_write_page, runtime=runtime)
    with _quiet(), torch.no_grad():
        program = traced(Graph(detector).eval(), facts)
        write(program, facts, out)
    return facts


def facts_of(detector: Detector, pixels: str | None = None) -> Facts:
    """Return what an exported file says of its model.

    Raises:
        UserError: there is no such type of pixels, or the model cannot take it.
    """
    p = detector.preprocess
    ranged = p.black is not None
    usual = "float32" if ranged else "uint8" if p.bits == 8 else "uint16"
    if pixels is not None and pixels not in PIXELS:
        raise UserError(f"there are no pixels of type '{pixels}'; take {', '.join(PIXELS)}")
    folder = detector.folder
    limit = None if folder is None or not folder.is_dir() else kept_limit(folder)
    return Facts(
        version=VERSION,
        checksum=detector.checksum,
        pixels=pixels or usual,
        preprocess=p.to_json(),
        threshold=USUAL_LIMIT if limit is None else limit,
        views=detector.view_names,
        cues=detector.cue_names,
        training_images=detector.training_images,
    )


def traced(graph: Graph, facts: Facts) -> torch.export.ExportedProgram:
    """Record the operations of a graph, for any number of images of any size."""
    channels = facts.preprocess["channels"]
    any_channels = channels in (1, 3)
    # Sides that differ from each other and from everything in the graph, so that none is taken for another.
    example = torch.zeros(
        (2, 37, 41, 3 if any_channels else channels), dtype=getattr(torch, facts.pixels)
    )
    free = torch.export.Dim.DYNAMIC
    shape = {0: free, 1: free, 2: free} | ({3: free} if any_channels else {})
    return torch.export.export(graph, (example,), dynamic_shapes=(shape,))


def _write_onnx(program: torch.export.ExportedProgram, facts: Facts, out: Path) -> None:
    made = torch.onnx.export(
        program, dynamo=True, opset_version=OPSET, verbose=False,
        input_names=["images"], output_names=list(Outputs._fields),
    )  # fmt: skip
    assert made is not None
    for axis, name in enumerate(("images", "height", "width", "channels")):
        _name_axis(made.model, axis, name)
    made.model.metadata_props[METADATA] = facts.to_text()
    with atomic_write(out) as temporary:
        made.save(temporary)


def _name_axis(model: Any, axis: int, name: str) -> None:
    """Give an axis of the input a name that people understand, wherever it stands."""
    given = str(model.graph.inputs[0].shape[axis])
    if given.isdecimal():
        return
    for value in (*model.graph.inputs, *model.graph.outputs):
        for place, size in enumerate(value.shape):
            if str(size) == given:
                value.shape[place] = name


def _write_openvino(program: torch.export.ExportedProgram, facts: Facts, out: Path) -> None:
    openvino = require("models for OpenVINO", "openvino")
    weights = out.with_suffix(".bin")
    part = new_part_of(out)
    try:
        onnx, made = part / "model.onnx", part / "model.xml"
        _write_onnx(program, facts, onnx)
        model = openvino.convert_model(onnx)
        model.set_rt_info(facts.to_text(), METADATA)
        openvino.save_model(model, made, compress_to_fp16=False)
        for path in (made, made.with_suffix(".bin")):
            sync(path)
        # Never a description with the weights of another model, wherever this is killed.
        out.unlink(missing_ok=True)
        made.with_suffix(".bin").replace(weights)
        made.replace(out)
    except OSError as error:
        raise as_user_error(error, out) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_torch(program: torch.export.ExportedProgram, facts: Facts, out: Path) -> None:
    with atomic_write(out) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file, extra_files={METADATA: facts.to_text()})


def _write_page(
    program: torch.export.ExportedProgram, facts: Facts, out: Path, runtime: Path | None = None
) -> None:
    with TemporaryDirectory() as folder:
        onnx = Path(folder) / "model.onnx"
        _write_onnx(program, facts, onnx)
        write_page(onnx.read_bytes(), facts, out, runtime)


#: Ending and writer of a format, by its name.
WRITERS: dict[str, tuple[str, Callable[[torch.export.ExportedProgram, Facts, Path], None]]] = {
    "onnx": (".onnx", _write_onnx),
    "openvino": (".xml", _write_openvino),
    "torch": (".pt2", _write_torch),
    "page": (".html", _write_page),
}


def kind_of(out: Path) -> str:
    """Return the format that a file's ending stands for.

    Raises:
        UserError: it stands for none.
    """
    for kind, (ending, _) in WRITERS.items():
        if out.suffix.lower() == ending:
            return kind
    endings = ", ".join(f"{ending} ({kind})" for kind, (ending, _) in WRITERS.items())
    raise UserError(f"{out}: its ending is none of {endings}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about itself off the terminal."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
