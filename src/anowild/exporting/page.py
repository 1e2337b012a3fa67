"""A model as one page that scores in a browser, by ONNX Runtime's own build for it."""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from pathlib import Path

from anowild.errors import UserError
from anowild.files import write_text
from anowild.portable.facts import Facts

#: Where npm puts the runtime, and the two files of it that the page holds.
RUNTIME = Path("node_modules/onnxruntime-web/dist")
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"


def write_page(onnx: bytes, facts: Facts, out: Path, runtime: Path | None = None) -> None:
    """Write a page that holds an exported model and the runtime, and loads nothing else.

    Args:
        onnx: the exported model, which takes uint8 images.
        facts: of the model.
        out: .html.
        runtime: folder ``dist`` of npm's package onnxruntime-web; ``RUNTIME`` unless given.

    Raises:
        UserError: the runtime is not there, or the page cannot be written.
    """
    parts = {"MODEL": onnx, **read_runtime(runtime or RUNTIME)}
    text = files("anowild.exporting").joinpath("page.html").read_text(encoding="utf-8")
    # Within a script nothing but its end tag is special.
    shown = {"version": facts.version, "threshold": facts.threshold}
    described = json.dumps(shown | {"training_images": facts.training_images})
    text = text.replace("@FACTS@", described.replace("<", "\\u003c"))
    for name, content in parts.items():
        text = text.replace(f"@{name}@", base64.b64encode(content).decode())
    write_text(out, text)


def read_runtime(folder: Path) -> dict[str, bytes]:
    """Read the runtime's files.

    Raises:
        UserError: they are not there.
    """
    try:
        return {"RUNTIME": (folder / SCRIPT).read_bytes(), "WASM": (folder / WASM).read_bytes()}
    except OSError as error:
        raise UserError(
            f"{error.filename}: is missing; a page needs ONNX Runtime for browsers: npm install onnxruntime-web, "
            "and --runtime with its folder dist unless it is node_modules/onnxruntime-web/dist"
        ) from error
