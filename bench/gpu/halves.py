"""A model's weights in half precision, in files small enough to be sent one by one.

    python -m bench.gpu.halves PARTS -o MODEL      # joins them to a model that `anowild score` takes

Scores of the joined model differ a little from those of the model that was halved: a weight keeps
11 bits. The calibration stays that of the original.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from anowild.errors import UserError
from anowild.files import atomic_write, read_json, write_json
from anowild.scoring.detector import DESCRIPTION, WEIGHTS
from anowild.signals import exit_status

#: Bytes of a file, at most.
LIMIT = 16_000_000
INDEX = "parts.json"
#: What a tensor's entry in a file's header may take, and the header itself.
_ENTRY, _HEADER = 300, 1000


def halve(model: Path, folder: Path, limit: int = LIMIT) -> list[Path]:
    """Write the weights of a saved model into ``folder`` as parts, and an index of them.

    The index is written last; parts of an earlier model are removed after it. Returns the parts.
    """
    description = read_json(model / DESCRIPTION)
    name = description["weights_id"]
    parts: list[Path] = []
    facts = []
    with safe_open(model / WEIGHTS, framework="pt") as file:
        for i, keys in enumerate(_groups({k: _half_size(file, k) for k in file.keys()}, limit)):  # noqa: SIM118
            tensors = {key: _half(key, file.get_tensor(key)) for key in keys}
            path = folder / f"{name[:12]}-{i:02}.safetensors"
            with atomic_write(path) as temporary:
                save_file(tensors, temporary)
            parts.append(path)
            facts.append({"file": path.name, "blake2b": _digest(path)})
    description["weights_id"] = f"{name}-half"
    write_json(folder / INDEX, {"parts": facts, "description": description})
    for old in set(folder.glob("*.safetensors")) - set(parts):
        with suppress(OSError):
            old.unlink()
    return parts


def join(folder: Path, model: Path) -> None:
    """Write the model that the parts in ``folder`` make up, in float32.

    Raises:
        UserError: a part is missing or damaged; the message names it.
    """
    index = read_json(folder / INDEX)
    tensors: dict[str, Tensor] = {}
    for part in index["parts"]:
        path = folder / part["file"]
        if not path.is_file():
            raise UserError(f"{path}: is missing; copy it again")
        try:
            if _digest(path) != part["blake2b"]:
                raise UserError(f"{path}: is damaged; copy it again")
            tensors |= {key: value.float() for key, value in load_file(path).items()}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from error
    description = index["description"]
    with atomic_write(model / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"id": description["weights_id"]})
    write_json(model / DESCRIPTION, description)


def _groups(sizes: dict[str, int], limit: int) -> list[list[str]]:
    """Tensors by name, in their order, as many in a group as fit into a file of ``limit`` bytes."""
    groups: list[list[str]] = []
    room = 0
    for key, size in sizes.items():
        if size + _ENTRY + _HEADER > limit:
            raise UserError(f"{key}: takes {size} bytes, more than a file may have ({limit})")
        if not groups or size + _ENTRY > room:
            groups.append([])
            room = limit - _HEADER
        groups[-1].append(key)
        room -= size + _ENTRY
    return groups


def _half_size(file: safe_open, key: str) -> int:
    shape: list[int] = file.get_slice(key).get_shape()  # type: ignore[no-untyped-call]
    return 2 * math.prod(shape)


def _half(key: str, tensor: Tensor) -> Tensor:
    half = tensor.to(torch.float16)
    if not half.isfinite().all():
        raise UserError(f"{key}: holds values that are not finite in half precision")
    return half


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.halves")
    parser.add_argument("parts", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args(arguments)

    def work() -> int:
        join(given.parts, given.out)
        return 0

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
