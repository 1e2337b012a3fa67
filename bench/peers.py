"""Runs candidates side by side: each in a process of its own, taking turns, round after round.

A round is a fixed number of iterations. All processes are started and warmed up first, and only
one works at a time, so that what the machine does besides falls on all alike.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Round:
    """What one round of one candidate took."""

    images: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Images per second of a core."""
        return self.images / self.cpu_seconds


@dataclass
class Measured:
    """A candidate's rounds, and what it said of itself when it was ready (see :func:`serve`)."""

    facts: dict[str, Any]
    rounds: list[Round]


def serve(iterate: Callable[[], None], images: int, iterations: int, **facts: Any) -> None:
    """The candidate's side: warm up, say ``facts``, and run a round for each line that comes.

    Args:
        iterate: one iteration.
        images: of an iteration.
        iterations: of a round.
    """
    for _ in range(2):
        iterate()
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        started, cpu_started = time.perf_counter(), time.process_time()
        for _ in range(iterations):
            iterate()
        took = [time.perf_counter() - started, time.process_time() - cpu_started]
        print(json.dumps([images * iterations, *took]), flush=True)


def alternate(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, Measured]:
    """Run all candidates in turns. One that cannot start is named on stderr and left out."""
    processes = {
        name: subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name, command in commands.items()
    }
    try:
        found: dict[str, Measured] = {}
        for name, process in processes.items():
            line = process.stdout.readline() if process.stdout else ""
            if line:
                found[name] = Measured(json.loads(line), [])
            else:
                print(f"{name}: did not start, and is left out", file=sys.stderr)
        for _ in range(rounds):
            for name, measured in found.items():
                measured.rounds.append(_one_round(name, processes[name]))
        return found
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def _one_round(name: str, process: subprocess.Popen[str]) -> Round:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{name}: broke off")
    return Round(*json.loads(line))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """min/median/max"""
    return "/".join(f"{f(values):.{digits}f}" for f in (min, statistics.median, max))


def without_torchvision_kernels() -> None:
    """Let torchvision be imported beside a torch build that its compiled operators do not fit."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)  # its operators go with it


_KEPT: list[Any] = []
