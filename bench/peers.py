"""Side-by-side runs of programs, each in a process of its own, that take turns round after round.

A round is a fixed number of iterations. The processes are started and warmed up one after the
other, and only one works at a time: whatever else the machine does affects all of them alike.

This module needs the standard library only, so that a peer can use it in an environment of its own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Working directory of the processes: ``python -m bench.NAME`` is found from there.
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Round:
    """Number of images and cost of one round of one candidate."""

    images: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Images per second of a core."""
        return self.images / self.cpu_seconds


@dataclass
class Measured:
    """The rounds of a candidate, and the facts that it reported at its start (see :func:`serve`)."""

    facts: dict[str, Any]
    rounds: list[Round]


def serve(iterate: Callable[[], None], images: int, iterations: int, **facts: Any) -> None:
    """Warm up, print ``facts`` as JSON, then run one round for each line on stdin.

    Args:
        iterate: runs one iteration.
        images: images of one iteration.
        iterations: iterations of one round.
        facts: what the driver has to know; see :attr:`Measured.facts`.
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
    """Run all candidates in turns.

    A candidate that does not start is named on stderr and left out.

    Args:
        commands: command line of each candidate, by name; it has to call :func:`serve`.
        rounds: rounds of each candidate.

    Raises:
        SystemExit: a candidate ended during a round.
    """
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        found: dict[str, Measured] = {}
        for name, command in commands.items():
            process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
            )
            processes[name] = process
            assert process.stdout is not None
            if line := process.stdout.readline():
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
        raise SystemExit(f"{name}: the process ended during a round")
    return Round(*json.loads(line))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Format as minimum/median/maximum."""
    return "/".join(f"{f(values):.{digits}f}" for f in (min, statistics.median, max))
