"""CUDA graphs of whole iterations, for levels so small that launching kernels dominates their cost.

A captured graph has Python's values built in: level, learning rate, decay of the averages, Adam's epsilon.
So an iteration is captured only once these are constant (at a whole level, with epsilon settled), and
captured again when one of them changes. All other state is in tensors, including Adam's step counters
and the count of skipped updates.

Most tests replace the capture by a stand-in that computes on a CPU; `pytest -m gpu` captures graphs.
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

from anowild.training.noise import StepNoise
from anowild.training.step import Step

log = logging.getLogger("anowild")

Report = dict[str, Tensor]
Run = Callable[[], Report]


class GraphCapture(Protocol):
    """A way to capture iterations as graphs."""

    def warm_up(self, run: Run) -> Report:
        """Run an iteration where it will be captured later."""

    def capture(self, run: Run) -> tuple[Callable[[], None], Report]:
        """Capture an iteration without computing it.

        Returns:
            A function that replays the graph, and the tensors that a replay overwrites with its report.
        """


class CudaGraphCapture:
    """Capture of CUDA graphs, on a stream of its own, where the warm-up runs as well.

    Autograd remembers the stream on which it first saw a parameter. A stream that is not being captured
    would invalidate the capture.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm_up(self, run: Run) -> Report:
        # Each stream waits for the other, so that neither reuses memory that the other still reads.
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            report = run()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return report

    def capture(self, run: Run) -> tuple[Callable[[], None], Report]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            report = run()
        return graph.replay, report


@dataclass
class _CapturedIteration:
    replay: Callable[[], None]
    inputs: list[Tensor]  # reals and noise of the next replay are copied into these
    report: Report
    advanced: Counter[str]  # how much one iteration adds to Adam's counts


class GraphedStep:
    """A :class:`Step` that replays a captured graph of the iteration where it can.

    Counters advance as in plain calls. The tensors that a call returns are overwritten by the next one.

    Args:
        step: what to capture.
        graph_capture: by default captures CUDA graphs on the device of the step's networks.
    """

    #: Iterations run before the capture, in which kernels are chosen and workspaces allocated.
    WARM_UP = 3

    def __init__(self, step: Step, graph_capture: GraphCapture | None = None) -> None:
        self.step = step
        device = next(step.networks.generator.parameters()).device
        self.graph_capture: GraphCapture = graph_capture or CudaGraphCapture(device)
        #: Why the capture failed; from then on all iterations are plain calls.
        self.failure: str | None = None
        self.replayed = 0
        self._fixed: Any = None
        self._warmed = 0
        self._captured: _CapturedIteration | None = None

    def __call__(
        self, reals: Tensor, noise: StepNoise, lod: float, learning_rate: float, decay: float
    ) -> Report:
        """Run one iteration, as :meth:`Step.__call__` does."""
        if not self._can_be_captured(lod):
            return self.step(reals, noise, lod, learning_rate, decay)
        inputs = [reals, *noise]
        optimizers = self.step.optimizers
        fixed = (
            lod, learning_rate, decay, [tensor.shape for tensor in inputs],
            [optimizer.resets for optimizer in optimizers.values()],
        )  # fmt: skip
        if fixed != self._fixed:
            self._fixed = fixed
            self._warmed = 0
            self._captured = None
        if self._captured is None:
            self._warmed += 1
            if self._warmed <= self.WARM_UP:
                return self.graph_capture.warm_up(
                    lambda: self.step(reals, noise, lod, learning_rate, decay)
                )
            self._captured = self._capture(inputs, lod, learning_rate, decay)
            if self._captured is None:
                return self.step(reals, noise, lod, learning_rate, decay)
        captured = self._captured
        for own, tensor in zip(captured.inputs, inputs, strict=True):
            own.copy_(tensor)
        captured.replay()
        for name, count in captured.advanced.items():
            optimizers[name].count += count
        self.replayed += 1
        return dict(captured.report)

    def _can_be_captured(self, lod: float) -> bool:
        # During a fade the level changes in every iteration. An unused optimizer has a count of 0.
        return (
            self.failure is None
            and lod == int(lod)
            and all(o.settled for o in self.step.optimizers.values() if o.count)
        )

    def _capture(
        self, inputs: list[Tensor], lod: float, lr: float, decay: float
    ) -> _CapturedIteration | None:
        """Capture an iteration without changing the step; return None if that fails."""
        own = [tensor.clone() for tensor in inputs]
        counts = self._counts()
        try:
            with ExitStack() as stack:
                for optimizer in self.step.optimizers.values():
                    stack.enter_context(optimizer.capturable())
                replay, report = self.graph_capture.capture(
                    lambda: self.step(own[0], StepNoise(*own[1:]), lod, lr, decay)
                )
            return _CapturedIteration(replay, own, report, self._counts() - counts)
        except RuntimeError as error:
            self.failure = str(error).splitlines()[0]
            log.warning(
                "CUDA graphs cannot be used here (%s); training goes on without them", self.failure
            )
            return None
        finally:
            # The capture counted an iteration that it did not compute.
            for name, optimizer in self.step.optimizers.items():
                optimizer.count = counts[name]

    def _counts(self) -> Counter[str]:
        return Counter({name: o.count for name, o in self.step.optimizers.items()})
