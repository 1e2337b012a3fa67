"""Lets torchvision be imported beside a build of torch that its compiled operators do not fit."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
#: The operators are removed when their library is garbage-collected.
_libraries: list[Any] = []


def define_missing_operators() -> None:
    """Define the operators that ``import torchvision`` needs, if its compiled part does not load."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    untyped: Any = torch
    with suppress(OSError):
        for path in Path(spec.origin).parent.glob("_C*.so"):
            untyped.ops.load_library(path)
    library = untyped.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _SIGNATURE)
    _libraries.append(library)
