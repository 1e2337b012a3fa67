"""Whole iterations recorded as CUDA graphs, for levels so small that launching kernels is the cost.

What Python decides is fixed in a recording: level, learning rate, decay of the averages, Adam's
epsilon. So an iteration is recorded only where all of these stay as they are (at a whole level, once
epsilon has settled), and recorded anew where one of them changes. Everything else lies in tensors,
Adam's step counters and the count of skipped updates among them.

Most tests put something in the recorder's place that computes on a CPU; `pytest -m gpu` records.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from anowild.training.step import Step, StepNoise

log = logging.getLogger("anowild")

Report = dict[str, Tensor]
Run = Callable[[], Report]


class Recorder(Protocol):
    """Where iterations run before they are recorded, and what records them."""

    def warm_up(self, run: Run) -> Report:
        """Run, and compute, as the recorded one will."""

    def record(self, run: Run) -> tuple[Callable[[], None], Report]:
        """Run without computing; returns what computes it, and where its results will lie."""


class CudaRecorder:
    """Records on a stream of its own, on which the warm-up runs as well.

    Autograd remembers the stream on which it first met a parameter: one that is not being recorded
    would spoil the recording.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, run: Run) -> Report:
        # Each stream waits for the other, so that neither takes memory that the other still reads.
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            report = run()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return report

    def record(self, run: Run) -> tuple[Callable[[], None], Report]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            report = run()
        return graph.replay, report


@dataclass
class _Recording:
    replay: Callable[[], None]
    inputs: list[Tensor]  # reals and draws of the next replay are copied into these
    report: Report
    advanced: Counter[str]  # Adam counts that one iteration moves on


class GraphedStep:
    """Calls a Step, or replays a recording of it, and moves its counters on just the same.

    What a call returns is overwritten by the next one.

    Args:
        recorder: by default records on the device of the step's networks, a GPU.
    """

    #: Iterations before one is recorded: kernels are chosen, work spaces made.
    WARM_UP = 3

    def __init__(self, step: Step, recorder: Recorder | None = None) -> None:
        self.step = step
        device = next(step.networks.generator.parameters()).device
        self.recorder: Recorder = recorder or CudaRecorder(device)
        #: Why recording failed, after which all goes on without it.
        self.failure: str | None = None
        self.replayed = 0
        self._fixed: Any = None
        self._warmed = 0
        self._recording: _Recording | None = None

    def __call__(
        self, reals: Tensor, draws: StepNoise, lod: float, learning_rate: float, decay: float
    ) -> Report:
        """As :meth:`Step.__call__`."""
        if not self._can_be_recorded(lod):
            return self.step(reals, draws, lod, learning_rate, decay)
        inputs = [reals, *draws]
        optimizers = self.step.optimizers
        fixed = (
            lod, learning_rate, decay, [tensor.shape for tensor in inputs],
            [optimizer.resets for optimizer in optimizers.values()],
        )  # fmt: skip
        if fixed != self._fixed:
            self._fixed = fixed
            self._warmed = 0
            self._recording = None
        if self._recording is None:
            self._warmed += 1
            if self._warmed <= self.WARM_UP:
                return self.recorder.warm_up(
                    lambda: self.step(reals, draws, lod, learning_rate, decay)
                )
            self._recording = self._record(inputs, lod, learning_rate, decay)
            if self._recording is None:
                return self.step(reals, draws, lod, learning_rate, decay)
        recording = self._recording
        for own, tensor in zip(recording.inputs, inputs, strict=True):
            own.copy_(tensor)
        recording.replay()
        for name, count in recording.advanced.items():
            optimizers[name].count += count
        self.replayed += 1
        return dict(recording.report)

    def _can_be_recorded(self, lod: float) -> bool:
        # During a fade the level changes all the time. An optimizer that is not used has no count.
        return (
            self.failure is None
            and lod == int(lod)
            and all(o.settled for o in self.step.optimizers.values() if o.count)
        )

    def _record(
        self, inputs: list[Tensor], lod: float, lr: float, decay: float
    ) -> _Recording | None:
        """Record an iteration, and leave the step as it was; None where that fails."""
        own = [tensor.clone() for tensor in inputs]
        counts = self._counts()
        try:
            with ExitStack() as stack:
                for optimizer in self.step.optimizers.values():
                    stack.enter_context(optimizer.capturable())
                replay, report = self.recorder.record(
                    lambda: self.step(own[0], StepNoise(*own[1:]), lod, lr, decay)
                )
            return _Recording(replay, own, report, self._counts() - counts)
        except RuntimeError as error:
            self.failure = str(error).splitlines()[0]
            log.warning("CUDA graphs cannot be used here (%s): going on without", self.failure)
            return None
        finally:
            # Nothing has been computed yet.
            for name, optimizer in self.step.optimizers.items():
                optimizer.count = counts[name]

    def _counts(self) -> Counter[str]:
        return Counter({name: o.count for name, o in self.step.optimizers.items()})
