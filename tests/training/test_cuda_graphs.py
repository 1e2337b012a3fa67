"""Captured iterations do what plain ones do. The capture here computes on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anowild.data import ImageSet
from anowild.settings import Settings
from anowild.training.cuda_graphs import GraphedStep, Report, Run
from anowild.training.loop import train_gan
from anowild.training.networks import Networks
from anowild.training.noise import StepNoise
from anowild.training.step import Step
from tests.conftest import tiny_settings


class CaptureOnCpu:
    """Keeps to what a graph does: the Python part runs once, and each replay computes it anew."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.captured = 0

    def warm_up(self, run: Run) -> Report:
        return run()

    def capture(self, run: Run) -> tuple[Callable[[], None], Report]:
        self.captured += 1
        step = self.step
        counts = {n: o.count for n, o in step.optimizers.items()}
        before = [tensor.clone() for tensor in self._tensors()]
        report = run()
        report = {name: value.clone() for name, value in report.items()}
        for tensor, value in zip(self._tensors(), before, strict=True):
            tensor.detach().copy_(value)

        def replay() -> None:
            # Python's numbers as they were at the capture, then as they are now.
            now = {n: o.count for n, o in step.optimizers.items()}
            self._set(counts)
            for name, value in run().items():
                report[name].copy_(value)
            self._set(now)

        return replay, report

    def _set(self, counts: dict[str, int]) -> None:
        for name, optimizer in self.step.optimizers.items():
            optimizer.count = counts[name]

    def _tensors(self) -> list[Tensor]:
        networks = [n.state_dict().values() for n in self.step.networks.named().values()]
        moments = [o.tensors().values() for o in self.step.optimizers.values()]
        return [*(t for part in (*networks, *moments) for t in part), self.step._skipped]


def steps(settings: Settings) -> tuple[Step, GraphedStep, CaptureOnCpu]:
    """The same step twice, the second one captured."""
    plain, other = (
        Step(Networks.build(settings, 16, 1).to(torch.device("cpu")), settings) for _ in range(2)
    )
    capture = CaptureOnCpu(other)
    return plain, GraphedStep(other, capture), capture


def inputs(i: int, count: int = 8, latent: int = 8, side: int = 16) -> tuple[Tensor, StepNoise]:
    rng = torch.Generator().manual_seed(i)
    normal = [torch.randn((count, latent), generator=rng) for _ in range(3)]
    alpha = torch.rand((count, 1, 1, 1), generator=rng)
    reals = torch.rand((count, 1, side, side), generator=rng) * 2 - 1
    return reals, StepNoise(normal[0], alpha, normal[1], normal[2])


def call_both(
    plain: Step, graphed: GraphedStep, i: int, lod: float = 0.0, lr: float = 0.001
) -> None:
    """One iteration of each, with the same results."""
    given = inputs(i, side=16 >> int(lod))
    expected = plain(*given, lod, lr, 0.9)
    report = graphed(*given, lod, lr, 0.9)
    assert report.keys() == expected.keys()
    for name in expected:
        same(report[name], expected[name])


def same(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=0, atol=0, equal_nan=True)


def assert_same(plain: Step, graphed: GraphedStep) -> None:
    other = graphed.step
    assert other.skipped == plain.skipped
    for name, network in plain.networks.named().items():
        for key, value in network.state_dict().items():
            same(other.networks.named()[name].state_dict()[key], value)
    for name, optimizer in plain.optimizers.items():
        assert other.optimizers[name].count == optimizer.count
        for key, value in optimizer.tensors().items():
            same(other.optimizers[name].tensors()[key], value)


def settle(*some: Step) -> None:
    for step in some:
        for optimizer in step.optimizers.values():
            optimizer.count += 2000


@pytest.mark.parametrize("changes", [{}, {"simultaneous": True, "penalty_share": 0.25}], ids=str)
def test_graphed_step_gives_the_bits_of_plain_steps(changes: dict[str, Any]) -> None:
    plain, graphed, capture = steps(tiny_settings(**changes))
    graphed.WARM_UP = 2
    settle(plain, graphed.step)
    for i in range(5):
        call_both(plain, graphed, i)
    assert_same(plain, graphed)
    assert capture.captured == 1
    assert graphed.replayed == 3


def test_graphed_step_captures_once_epsilon_has_settled() -> None:
    plain, graphed, capture = steps(tiny_settings())
    for step in (plain, graphed.step):
        for optimizer in step.optimizers.values():
            optimizer.count = 1720
    for i in range(10):
        call_both(plain, graphed, i)
    # Five iterations to 1,725, three to warm up, two replayed.
    assert (capture.captured, graphed.replayed) == (1, 2)
    assert_same(plain, graphed)
    hat = np.float32(plain.settings.adam_epsilon / np.sqrt(1 - plain.settings.adam_beta2**1725))
    assert hat == np.float32(plain.settings.adam_epsilon)


def test_graphed_step_captures_at_once_where_epsilon_is_constant() -> None:
    plain, graphed, capture = steps(tiny_settings(adam_epsilon_hat=False))
    for i in range(5):
        call_both(plain, graphed, i)
    assert (capture.captured, graphed.replayed) == (1, 2)
    assert_same(plain, graphed)


def test_replay_skips_an_update_that_is_not_finite() -> None:
    plain, graphed, _ = steps(tiny_settings())
    settle(plain, graphed.step)
    for i in range(5):
        call_both(plain, graphed, i)
    reals, noise = inputs(5)
    for step in (plain, graphed):
        step(torch.full_like(reals, torch.nan), noise, 0.0, 0.001, 0.9)
    assert graphed.replayed == 3
    assert plain.skipped >= 1
    call_both(plain, graphed, 6)
    assert_same(plain, graphed)


def test_graphed_step_captures_again_after_a_change() -> None:
    plain, graphed, capture = steps(tiny_settings())
    settle(plain, graphed.step)
    for i in range(5):
        call_both(plain, graphed, i)
    for i in range(5, 10):
        call_both(plain, graphed, i, lr=0.01)
    assert capture.captured == 2
    for i in range(10, 12):
        call_both(plain, graphed, i, lod=0.5)  # a fade: plain
    assert capture.captured == 2
    for step in (plain, graphed.step):
        for optimizer in step.optimizers.values():
            optimizer.reset()
    settle(plain, graphed.step)
    for i in range(12, 17):
        call_both(plain, graphed, i, lod=1.0)
    assert capture.captured == 3
    for step in (plain, graphed.step):
        for optimizer in step.optimizers.values():
            optimizer.reset()
    settle(plain, graphed.step)
    for i in range(17, 22):
        call_both(plain, graphed, i, lod=1.0)  # other moments: the old graph moves the wrong ones
    assert capture.captured == 4
    assert_same(plain, graphed)


def test_graphed_step_runs_plainly_after_a_failed_capture(caplog: pytest.LogCaptureFixture) -> None:
    plain, graphed, capture = steps(tiny_settings())
    settle(plain, graphed.step)

    def fails(run: Run) -> Any:
        result = original(run)
        del result
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    original = capture.capture
    capture.capture = fails  # type: ignore[method-assign]
    for i in range(8):
        call_both(plain, graphed, i)
    assert graphed.failure == "operation not permitted when stream is capturing"
    assert caplog.text.count("goes on without them") == 1
    assert graphed.replayed == 0
    assert_same(plain, graphed)


def test_the_loop_uses_no_graphs_on_a_cpu(tmp_path: Path, image_set: ImageSet) -> None:
    settings = tiny_settings(kimg=0.1, cuda_graphs=True)
    assert train_gan(image_set, settings, tmp_path).kimg >= 0.1


@pytest.mark.gpu
def test_replays_on_a_gpu() -> None:
    settings = tiny_settings(precision="float32")
    device = torch.device("cuda")
    plain, other = (Step(Networks.build(settings, 16, 1).to(device), settings) for _ in range(2))
    graphed = GraphedStep(other)
    settle(plain, other)
    for i in range(10):
        reals, noise = inputs(i)
        given = reals.to(device), StepNoise(*(draw.to(device) for draw in noise))
        expected = plain(*given, 0.0, 0.001, 0.9)
        report = graphed(*given, 0.0, 0.001, 0.9)
        for name, value in expected.items():
            torch.testing.assert_close(report[name], value, rtol=1e-2, atol=1e-3)
    assert graphed.failure is None
    assert graphed.replayed == 7
    assert other.optimizers["encoder"].count == plain.optimizers["encoder"].count
