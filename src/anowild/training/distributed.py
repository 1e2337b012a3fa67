"""Several processes that train one model, each on its share of every minibatch.

`torchrun` starts them, one a GPU (NCCL) or, without GPUs, one a core or machine (gloo). All processes hold the
same networks, draw the same numbers and decide alike; only gradients differ, and these are averaged before
anything is done with them. So what one process does and what many do is the same but for rounding.

Gradients are averaged here, one message a network and update, rather than by `DistributedDataParallel`. That
averages only what ``backward()`` adds to parameters, and our gradients come from `torch.autograd.grad`, for which
DDP does nothing and the processes would drift apart: the gradient penalty differentiates a gradient, G's loss goes
through D without a gradient of D, and D runs several times before an update. What is given up is sending one layer's gradients while those of the next are computed.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from datetime import timedelta
from io import StringIO
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from anowild.arrays import Array
from anowild.device import select_device
from anowild.errors import UserError
from anowild.process import launched_together, run
from anowild.progress import report_to
from anowild.signals import Interrupted

Values = TypeVar("Values")

#: How long a process waits for the others within a step, or while the first one writes a checkpoint.
PATIENCE = timedelta(minutes=30)
#: Seconds between looks at whether the first process has done what the others wait for, however long it takes.
POLL = 0.1
#: Seconds that the first process stays after an error: without torchrun it keeps the notes.
LINGER = 1.0


class LostProcess(UserError):
    """Another process has ended, and this one cannot go on."""

    def __init__(self) -> None:
        super().__init__(
            "another process of this training has ended or cannot be reached; give the same command again: it "
            "goes on from the last checkpoint"
        )


class World:
    """The processes that train together, and the place of this one among them.

    All processes have to make the same calls in the same order. For a single process none of them does anything.

    Args:
        rank: number of this process, from 0.
        size: number of processes.
        store: where they leave each other notes; None for a single process.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: Any = None) -> None:
        self.rank, self.size = rank, size
        self._store = store
        self._notes = 0  # that were told or heard

    @property
    def first(self) -> bool:
        """Whether this is the process that reads and writes the files of the training."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """Return the name of this process's device: each takes a GPU of its own.

        Raises:
            UserError: there are fewer GPUs than processes, or ``name`` is a single one of them.
        """
        if self.size == 1 or name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
            return name
        if name not in ("auto", "cuda"):
            raise UserError(
                f"device '{name}' cannot be that of {self.size} processes: give cuda, or cpu"
            )
        number = int(os.environ.get("LOCAL_RANK", self.rank))
        if number >= torch.cuda.device_count():
            raise UserError(
                f"this machine has {torch.cuda.device_count()} GPUs, too few for its processes: start one for "
                "each (--nproc-per-node), or give --device cpu"
            )
        return f"cuda:{number}"

    def share(self, values: Values, axis: int = 0) -> Values:
        """Return this process's part of a minibatch, an array or tensor: every ``size``-th image along ``axis``.

        A group of minibatch stddev has the images n, n + N/4, n + N/2 and n + 3N/4 of N. If the shares are
        multiples of 4, such a group is whole in one share, and is one of its groups.
        """
        if self.size == 1:
            return values
        own = values[(slice(None),) * axis + (slice(self.rank, None, self.size),)]  # type: ignore[index]
        return own.contiguous() if isinstance(own, Tensor) else own  # type: ignore[return-value]

    def mean(self, tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """Average each tensor over all processes, in one message; the result has the same bits in all of them.

        Args:
            tensors: of one type, on one device; None stays None, and has to be so in all processes.
        """
        if self.size == 1:
            return tensors
        present = [tensor.detach() for tensor in tensors if tensor is not None]
        if not present:
            return tensors
        joined = torch.cat([tensor.reshape(-1) for tensor in present])
        with _together():
            dist.all_reduce(joined)
        parts = iter(torch.split(joined / self.size, [tensor.numel() for tensor in present]))
        return [None if tensor is None else next(parts).view(tensor.shape) for tensor in tensors]

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes."""
        if self.size > 1:
            for own, mean in zip(tensors, self.mean(tensors), strict=True):
                assert mean is not None
                own.copy_(mean)

    def largest(self, *numbers: int) -> list[int]:
        """Return the largest that any process has of each number: the way to decide alike."""
        if self.size == 1:
            return list(numbers)
        found = torch.tensor(numbers)
        with _together():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return found.tolist()

    def broadcast(self, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Return the tensors that the first process makes; the others wait for them, however long it takes."""
        if self.size == 1:
            return make()
        made: Mapping[str, Tensor] = {}
        if self.first:
            made = make()
            self.tell({k: [str(v.dtype).partition(".")[2], *v.shape] for k, v in made.items()})
        else:
            kinds = self.hear()
            made = {
                k: torch.empty(shape, dtype=getattr(torch, t)) for k, (t, *shape) in kinds.items()
            }
        for value in made.values():
            # As bytes, because not every type can be sent.
            sent = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
            if sent.numel():
                with _together():
                    dist.broadcast(sent, 0)
        return made

    def broadcast_array(self, make: Callable[[], Array]) -> Array:
        """Return the array that the first process makes; the others wait for it."""
        made: Array = self.broadcast(lambda: {"made": torch.from_numpy(make())})["made"].numpy()
        return made

    def tell(self, note: dict[str, Any]) -> None:
        """Leave JSON values for the other processes; only the first process calls this."""
        if self.size > 1:
            with _together():
                self._store.set(f"note {self._notes}", json.dumps(note))
        self._notes += 1

    def hear(self) -> dict[str, Any]:
        """Wait for the first process's next note, however long that takes.

        Raises:
            LostProcess: another process has ended.
        """
        key = f"note {self._notes}"
        self._notes += 1
        while True:
            with _together():
                if self._store.check([key]):
                    note: dict[str, Any] = json.loads(self._store.get(key))
                    return note
                if self._store.check([_ENDED]):
                    raise LostProcess
            time.sleep(POLL)

    def agree(self, **facts: str) -> None:
        """Check that all processes were given the same.

        Args:
            **facts: what was given, by its name in the plural.

        Raises:
            UserError: this process was given something else than the first.
        """
        if self.first:
            self.tell(facts)
            return
        for name, value in self.hear().items():
            if value != facts[name]:
                raise UserError(
                    f"has other {name} than the first process; start all with the same command, on the same "
                    "images, in the same environment"
                )

    def end(self, error: BaseException) -> NoReturn:
        """End this process, at once: libraries would wait for processes that are gone.

        One process writes the message: if all were stopped, the first; after an error, the one that it ended first.
        """
        # torchrun sends this to all others when one has ended.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        speaks = self.first
        if isinstance(error, Interrupted):
            with suppress(LostProcess):
                self.largest(
                    0
                )  # until the first process has saved: after a while torchrun kills it
        else:
            ended = 1  # unless the notes, which say better, went with another process
            with suppress(RuntimeError):
                ended = self._store.add(_ENDED, 1)
            if not isinstance(error, KeyboardInterrupt):
                speaks = ended == 1
        if isinstance(error, UserError) and not self.first:
            error = UserError(f"process {self.rank} of {self.size}: {error}")
        with redirect_stderr(sys.stderr if speaks else StringIO()):
            code = _explain(error)
            sys.stderr.flush()
        sys.stdout.flush()
        if self.first:
            time.sleep(LINGER)
        os._exit(code)


def _explain(error: BaseException) -> int:
    """Say what the command would say of an error without other processes; return its exit code."""

    def again() -> None:
        raise error

    try:
        run(again)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # noqa: BLE001 - a defect
        traceback.print_exc()
    return 1


_ENDED = "ended"  # how many processes have ended with an error
#: A process that trains by itself.
ALONE = World()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that torchrun started with this one; without it, yield ``ALONE``.

    Errors end this process and so the others, which say nothing more. Only the first process shows warnings and
    progress.

    Args:
        device: as `anowild.device.select_device` takes it.
    """
    if not launched_together():
        yield ALONE
        return
    if not dist.is_available():
        raise UserError("this PyTorch was built without torch.distributed; start without torchrun")
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes cannot find each other ({error})") from error
    world = World(rank, size, store)
    if not world.first:
        logging.getLogger("anowild").setLevel(logging.ERROR)
        report_to(lambda **_: None)
    try:
        own = select_device(world.device(device))
        if own.type == "cuda":
            torch.cuda.set_device(own)
        with _together():
            dist.init_process_group(
                # Numbers on which all decide alike are on the CPU: they never wait for a GPU.
                "gloo" if own.type == "cpu" else f"cpu:gloo,{own.type}:nccl",
                store=dist.PrefixStore("group", store),  # type: ignore[attr-defined]
                rank=rank, world_size=size, timeout=PATIENCE,
            )  # fmt: skip
        yield world
        if world.first:
            world.tell({})
        world.largest(0)
    except BaseException as error:  # noqa: BLE001 - the other processes have to learn of it
        world.end(error)
    dist.destroy_process_group()


@contextmanager
def _together() -> Iterator[None]:
    """Say that a process is gone if a message to the others fails."""
    try:
        yield
    except RuntimeError as error:
        logging.getLogger("anowild").debug("%s", error)
        raise LostProcess from error
