"""Checkpoints: the whole training state in one file, from which a run resumes with the same bits."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anowild.errors import UserError
from anowild.files import atomic_write
from anowild.training.robust import Suspects
from anowild.training.step import Step

log = logging.getLogger("anowild")

#: Number of checkpoints kept: the newest, and an older one in case the newest is damaged.
KEPT = 2


@dataclass
class Counters:
    """Progress of a run. All random numbers depend on these counters and the seed alone."""

    nimg: int = 0  # images that D was trained on; in sequential training, then also E
    held_nimg: int = 0  # value of `nimg` at which the schedule was last read
    repeats: int = 0  # iterations since then
    lod: float = -1.0  # level of detail of the last iteration; -1 before the first
    ticks: int = 0  # log lines written
    tick_nimg: int = 0  # value of `nimg` at the last of them
    seconds: float = 0.0  # of training, over all processes that took part


def save(folder: Path, counters: Counters, step: Step, suspects: Suspects | None = None) -> Path:
    """Write ``state-<images>.safetensors`` into ``folder``, and remove all but the newest two.

    Returns:
        The path of the new file.
    """
    tensors: dict[str, Tensor] = {}
    for name, network in step.networks.named().items():
        tensors |= {f"{name}/{key}": value for key, value in network.state_dict().items()}
    for name, optimizer in step.optimizers.items():
        tensors |= {f"optimizer/{name}/{key}": value for key, value in optimizer.tensors().items()}
    if suspects is not None:
        tensors |= {f"suspects/{key}": value for key, value in suspects.tensors().items()}
    plain = {
        "counters": asdict(counters),
        "adam_counts": {name: optimizer.count for name, optimizer in step.optimizers.items()},
        "skipped": step.skipped,
        "skipped_in_a_row": step.skipped_in_a_row,
    }
    path = folder / f"state-{counters.nimg:012d}.safetensors"
    with atomic_write(path) as temporary:
        save_file(
            {key: value.detach().contiguous() for key, value in tensors.items()},
            temporary,
            metadata={"anowild": json.dumps(plain)},
        )
    for old in checkpoints(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints in ``folder``, the newest first."""
    return sorted(folder.glob("state-*.safetensors"), reverse=True)


def load_latest(folder: Path, step: Step) -> tuple[Counters, Suspects | None] | None:
    """Restore the newest readable checkpoint into ``step``.

    Returns:
        The counters, and the state of robust training if there is one; None without a checkpoint.

    Raises:
        UserError: there are checkpoints, but none can be read.
    """
    found = checkpoints(folder)
    for path in found:
        try:
            return _load(path, step)
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            log.warning("%s: cannot be read (%s); trying the one before", path, error)
    if found:
        raise UserError(
            f"{folder}: no checkpoint in it can be read; delete the folder to start again"
        )
    return None


def _load(path: Path, step: Step) -> tuple[Counters, Suspects | None]:
    with safe_open(path, framework="pt") as file:
        plain: dict[str, Any] = json.loads((file.metadata() or {})["anowild"])
        # Earlier versions wrote "optimiser".
        tensors = {
            key.replace("optimiser/", "optimizer/"): file.get_tensor(key)
            for key in file.keys()  # noqa: SIM118
        }
    counters = Counters(**plain["counters"])
    robust = _strip_prefix("suspects/", tensors)
    suspects = Suspects.from_tensors(robust) if robust else None
    # Look everything up before changing anything, so that a damaged file changes nothing.
    sources = {}
    for name, network in step.networks.named().items():
        for key, own in network.state_dict().items():
            sources[f"{name}/{key}"] = own
            if tensors[f"{name}/{key}"].shape != own.shape:
                raise ValueError(f"{name}/{key} has another shape")
    with torch.no_grad():
        for key, own in sources.items():
            own.copy_(tensors[key])
    for name, optimizer in step.optimizers.items():
        optimizer.load(plain["adam_counts"][name], _strip_prefix(f"optimizer/{name}/", tensors))
    step.set_skipped(plain["skipped"], plain["skipped_in_a_row"])
    return counters, suspects


def _strip_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
