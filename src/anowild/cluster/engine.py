"""Runs a job on pieces of sources, on all cores of a Ray cluster, or of this machine."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NamedTuple, Protocol

from anowild.cluster.pieces import Piece
from anowild.errors import UserError
from anowild.libraries import require
from anowild.version import VERSION

#: Workers that share a GPU: while some decode, others compute.
WORKERS_A_GPU = 8
#: Bytes of the shared memory of a local cluster: results that wait to be taken.
SHARED_MEMORY = 512 << 20
#: Pieces that are handed to Ray as tasks of their own, at most; of more, some share one.
MOST_TASKS = 10_000
#: Times that a piece is begun before it is taken for the reason why processes die.
ATTEMPTS = 5


class Work(Protocol):
    """What a worker does; it is made once in each process, and again in one that takes a dead one's place."""

    def __call__(self, piece: Piece) -> Any:
        """Return the result for a piece; the same piece may be given again."""


class Result(NamedTuple):
    """What became of a piece."""

    number: int  # of the piece
    value: Any  # what the work returned
    process: int  # that did it, by its number on its machine


def ray_library() -> Any:
    """Import Ray.

    Raises:
        UserError: it is not installed; the message says how to install it.
    """
    if "ray" not in sys.modules and not os.environ.get("RAY_ADDRESS"):
        # Ray listens on all addresses, and would run what anybody in the network sends. It looks here on import.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    return require("clusters", "ray")


def run(
    make: Callable[..., Work],
    arguments: Mapping[str, Any],
    pieces: Mapping[int, Piece],
    *,
    workers: int | None = None,
    in_order: bool = False,
) -> Generator[Result, None, None]:
    """Yield the result of each piece, once; close the iterator to stop the work.

    A piece whose process dies is given to another one.

    Args:
        make: a function or class of a module, which makes what does the work.
        arguments: of ``make``.
        pieces: by number.
        workers: processes, one core each; all cores of the cluster unless given.
        in_order: yield the results by the order of ``pieces``, not as they come.

    Raises:
        UserError: Ray is missing or cannot be reached; or whatever the work raised.
        KeyboardInterrupt: by Ctrl-C or SIGTERM.
    """
    if not pieces:
        return
    ray = ray_library()
    with _connected(ray, workers), _interruptible():
        data = require("clusters", "ray.data")
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_options.preserve_order = in_order
        size, gpus = _pool(ray, workers, len(pieces))
        rows = [{"number": number, "piece": piece} for number, piece in pieces.items()]
        attempts = ray.remote(num_cpus=0)(_Attempts).remote()
        results = data.from_items(rows, override_num_blocks=min(len(rows), MOST_TASKS)).map_batches(
            _Worker,
            fn_constructor_args=(VERSION, make, dict(arguments), attempts),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
            num_cpus=1,
            num_gpus=gpus,
        )
        done = set()
        for row in results.iter_rows():
            if row["error"]:
                raise UserError(row["error"])
            if row["number"] not in done:
                done.add(row["number"])
                yield Result(row["number"], row["value"], row["process"])


class _Attempts:
    """Counts how often each piece was begun: Ray itself would give it to new processes without end."""

    def __init__(self) -> None:
        self.begun = Counter[int]()

    def begin(self, number: int) -> int:
        """Count an attempt, and return how many there were."""
        self.begun[number] += 1
        return self.begun[number]


class _Worker:
    """Does the work in a process of the cluster."""

    def __init__(
        self, version: str, make: Callable[..., Work], arguments: dict[str, Any], attempts: Any
    ) -> None:
        self.attempts = attempts
        self.work: Work | None = None
        self.error = ""
        try:
            if version != VERSION:
                raise UserError(
                    f"a machine of the cluster has anowild {VERSION}, not {version}: install the same version"
                )
            self.work = make(**arguments)
        except UserError as error:
            self.error = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        numbers = [int(number) for number in batch["number"]]
        found = list(map(self._do, numbers, batch["piece"]))
        return {
            "number": numbers,
            "value": [value for value, _ in found],
            "error": [error for _, error in found],
            "process": [os.getpid()] * len(found),
        }

    def _do(self, number: int, piece: Piece) -> tuple[Any, str]:
        """Return the result for a piece, and an error message or nothing."""
        if self.work is None:
            return None, self.error
        ray = ray_library()
        if ray.get(self.attempts.begin.remote(number)) > ATTEMPTS:
            return None, (
                f"the process that reads part {number} of the images has died {ATTEMPTS} times; if memory ran out, "
                "take fewer workers (--workers); the same command goes on with what is missing"
            )
        try:
            return self.work(piece), ""
        except UserError as error:
            return None, str(error)


@contextmanager
def _connected(ray: Any, workers: int | None) -> Iterator[None]:
    """Connect to the cluster that RAY_ADDRESS names, or start one on this machine, and leave it at the end."""
    if ray.is_initialized():  # by whoever calls us
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    given: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if not address:
        given |= {"include_dashboard": False, "object_store_memory": SHARED_MEMORY}
        given |= {"num_cpus": workers} if workers else {}
    try:
        with _silent(ray):
            ray.init(address or "local", **given)
    # Ray raises errors of many kinds.
    except Exception as error:
        what = (
            f"the Ray cluster {address} cannot be reached" if address else "Ray cannot be started"
        )
        raise UserError(f"{what}: {' '.join(str(error).split())}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _silent(ray: Any) -> Iterator[None]:
    """Start Ray without its own messages: of killed processes and the like, which the work outlives."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with suppress(AttributeError):  # prints what the machines report, and has no switch
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
    sys.stderr.flush()
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)  # Ray's library writes there that it has found the level above
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _pool(ray: Any, workers: int | None, pieces: int) -> tuple[int, float]:
    """Return how many workers there are, and each one's share of a GPU."""
    resources = ray.cluster_resources()
    cores, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    size = max(1, min(workers or cores, cores, pieces))
    if not gpus:
        return size, 0.0
    # Shares of a GPU have to lie on one, so as many workers on each.
    each = min(WORKERS_A_GPU, -(-size // gpus))
    return min(size, each * gpus), 1 / each


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have SIGTERM interrupt as Ctrl-C does; outside the main thread neither can be handled."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(signum)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
