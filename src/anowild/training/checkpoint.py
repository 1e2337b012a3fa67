"""Checkpoints: the whole training state in one file, from which a run resumes with the same bits."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from anowild.checked import Amount, Count, Range, checked
from anowild.errors import UserError
from anowild.files import atomic_write, read_tensors
from anowild.training.distributed import World
from anowild.training.robust import Suspects
from anowild.training.step import Step
from anowild.views.loading import check_tensors

log = logging.getLogger("anowild")

#: Number of checkpoints kept: the newest, and an older one in case the newest is damaged.
KEPT = 2
#: Names of a checkpoint's tensors begin with a network's name, or with one of these.
_OTHERS = ("optimizer", "suspects")
_PLAIN = "plain"


@dataclass
class Counters:
    """Progress of a run. All random numbers depend on these counters and the seed alone."""

    nimg: Count = 0  # images that D was trained on; in sequential training, then also E
    held_nimg: Count = 0  # value of `nimg` at which the schedule was last read
    repeats: Count = 0  # iterations since then
    lod: Annotated[
        float, Range(-1, 7)
    ] = -1.0  # level of detail of the last iteration; -1 before the first
    ticks: Count = 0  # log lines written
    tick_nimg: Count = 0  # value of `nimg` at the last of them
    seconds: Amount = 0.0  # of training, over all runs that took part
    processes: Count = 1  # that trained together when the checkpoint was written

    def __post_init__(self) -> None:
        if max(self.held_nimg, self.tick_nimg) > self.nimg:
            raise ValueError("held_nimg or tick_nimg is larger than nimg")


@dataclass(frozen=True)
class _Plain:
    """What a checkpoint holds beside tensors."""

    counters: Counters
    adam_counts: Mapping[str, Count]  # by optimizer
    skipped: Count
    skipped_in_a_row: Count


def save(folder: Path, counters: Counters, step: Step, suspects: Suspects | None = None) -> Path:
    """Write ``state-<images>.safetensors`` into ``folder``, and remove all but the newest two.

    Returns:
        The path of the new file.
    """
    tensors, plain = _state(counters, step, suspects)
    path = folder / f"state-{counters.nimg:012d}.safetensors"
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={"anowild": json.dumps(plain)})
    for old in checkpoints(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def _state(
    counters: Counters, step: Step, suspects: Suspects | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return all that a run depends on: tensors, and JSON values."""
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
    return {key: value.detach().contiguous() for key, value in tensors.items()}, plain


def broadcast(
    world: World, step: Step, counters: Counters, suspects: Suspects | None, images: int
) -> tuple[Counters, Suspects | None]:
    """Bring all processes to the state of the first one.

    Args:
        world: the processes.
        step: of this process; the state of the first one's is brought into the others'.
        counters: of the first process.
        suspects: of the first process.
        images: size of the training set.

    Returns:
        Counters and suspects of the first process.
    """
    if world.size == 1:
        return counters, suspects

    def state() -> dict[str, Tensor]:
        tensors, plain = _state(counters, step, suspects)
        return {**tensors, _PLAIN: torch.tensor([*json.dumps(plain).encode()], dtype=torch.uint8)}

    tensors = {**world.broadcast(state)}
    if world.first:
        return counters, suspects
    text = bytes(tensors.pop(_PLAIN).tolist())
    return _restore(json.loads(text), tensors, step, images)


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints in ``folder``, the newest first."""
    return sorted(folder.glob("state-*.safetensors"), reverse=True)


def load_latest(folder: Path, step: Step, images: int) -> tuple[Counters, Suspects | None] | None:
    """Restore the newest usable checkpoint into ``step``.

    Args:
        folder: of the run.
        step: of the run; changed only by a checkpoint that is used.
        images: size of the training set.

    Returns:
        The counters, and the state of robust training if there is one; None without a checkpoint.

    Raises:
        UserError: there are checkpoints, but none can be used.
    """
    found = checkpoints(folder)
    for path in found:
        try:
            return _load(path, step, images)
        except (ValueError, KeyError, RecursionError) as error:
            log.warning("%s: cannot be used (%s); trying the one before", path, error)
    if found:
        raise UserError(
            f"{folder}: no checkpoint in it can be used; delete the folder to start again"
        )
    return None


def _load(path: Path, step: Step, images: int) -> tuple[Counters, Suspects | None]:
    metadata, read = read_tensors(path, "pt")
    # Earlier versions wrote "optimiser".
    tensors = {key.replace("optimiser/", "optimizer/"): value for key, value in read.items()}
    return _restore(json.loads(metadata["anowild"]), tensors, step, images)


def _restore(
    values: Any, tensors: dict[str, Tensor], step: Step, images: int
) -> tuple[Counters, Suspects | None]:
    plain = checked(_Plain, values, "the state")
    if plain.counters.repeats >= step.settings.minibatch_repeats:
        raise ValueError(f"the state.counters.repeats is {plain.counters.repeats}")
    # Everything is looked at before anything is changed.
    robust = _strip_prefix("suspects/", tensors)
    suspects = Suspects.from_tensors(robust, images) if robust else None
    sources = {
        f"{name}/{key}": own
        for name, network in step.networks.named().items()
        for key, own in network.state_dict().items()
    }
    check_tensors(
        {key: value for key, value in tensors.items() if key.partition("/")[0] not in _OTHERS},
        {key: (tuple(own.shape), own.dtype) for key, own in sources.items()},
    )
    moments = {name: _strip_prefix(f"optimizer/{name}/", tensors) for name in step.optimizers}
    for name, optimizer in step.optimizers.items():
        if name not in plain.adam_counts:
            raise ValueError(f"the state.adam_counts.{name} is missing")
        optimizer.check(moments[name])
    with torch.no_grad():
        for key, own in sources.items():
            own.copy_(tensors[key])
    for name, optimizer in step.optimizers.items():
        optimizer.load(plain.adam_counts[name], moments[name])
    step.set_skipped(plain.skipped, plain.skipped_in_a_row)
    return plain.counters, suspects


def _strip_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
