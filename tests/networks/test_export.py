"""Networks in ``eval()``: plain operators with the results of training's, which ONNX exporters take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from anowild.networks import Discriminator, Encoder, Generator, operators, seeded_init
from anowild.networks.operators import conv_precision

SIDE, LATENT = 16, 16
#: The network's class and its method.
PARTS = [(Generator, "forward"), (Encoder, "forward"), (Discriminator, "forward"),
         (Discriminator, "features")]  # fmt: skip
NAMES = ["G", "E", "D", "D.features"]


class Part(nn.Module):
    """A method of a network at a level of detail, as a module of its own."""

    def __init__(self, network: nn.Module, method: str, lod: float) -> None:
        super().__init__()
        self.network, self.method, self.lod = network, method, lod

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = getattr(self.network, self.method)(x, self.lod)
        return result


def build(kind: Any, method: str, channels: int, lod: float) -> tuple[Part, Tensor]:
    """A part in ``eval()``, and a batch of 8 of its inputs."""
    with seeded_init(0):
        network = kind(resolution=SIDE, channels=channels, fmap_base=256, fmap_max=LATENT)
        if kind is Generator:
            return Part(network, method, lod).eval(), torch.randn(8, LATENT)
        side = SIDE >> int(lod)
        images = torch.rand(8, channels, side, side) * 2 - 1
        with torch.no_grad():
            network(images, lod)  # sets the running statistic of minibatch stddev
    return Part(network, method, lod).eval(), images


def onnx_outputs(part: Part, x: Tensor, path: Path, dynamo: bool, expected: int) -> Tensor:
    """Export with the first two of ``x``, then run all of ``x`` in ONNX Runtime."""
    if dynamo:
        program = torch.onnx.export(
            part, (x[:2],), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )  # fmt: skip
        assert program is not None
        program.save(path)
    else:
        torch.onnx.export(
            part, (x[:2],), path, dynamo=False, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert isinstance(given.shape[0], str)  # any number; only newer exporters keep its name
    (result,) = session.run(None, {given.name: x.numpy()})
    assert len(result) == expected
    return torch.from_numpy(result)


def relative(ours: Tensor, expected: Tensor) -> float:
    return ((ours - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("channels", "lod", "dynamo"),
    [
        pytest.param(1, 0.0, False, id="gray, trace"),
        pytest.param(3, 0.4, False, id="rgb, mid-fade, trace"),
        pytest.param(3, 0.4, True, id="rgb, mid-fade, dynamo", marks=pytest.mark.slow),
        pytest.param(1, 0.0, True, id="gray, dynamo", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("kind", "method"), PARTS, ids=NAMES)
def test_onnx_runtime_agrees_at_another_batch_size(
    kind: Any, method: str, channels: int, lod: float, dynamo: bool, tmp_path: Path
) -> None:
    part, x = build(kind, method, channels, lod)
    with torch.no_grad():
        expected = part(x[:5])
    found = onnx_outputs(part, x[:5], tmp_path / "part.onnx", dynamo, 5)
    assert relative(found, expected) < 1e-5


@pytest.mark.parametrize("lod", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "rgb"])
@pytest.mark.parametrize(("kind", "method"), PARTS, ids=NAMES)
def test_eval_agrees_with_train(kind: Any, method: str, channels: int, lod: float) -> None:
    part, x = build(kind, method, channels, lod)
    as_scored = part(x)
    part.train()
    for module in part.modules():
        if hasattr(module, "running"):
            module.eval()  # the statistic stays frozen
    assert relative(as_scored, part(x)) < 1e-5


@pytest.mark.parametrize(("kind", "method"), PARTS, ids=NAMES)
def test_eval_calls_no_operator_of_our_own(
    kind: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, x = build(kind, method, 1, 0.4)

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("an operator with derivatives of its own ran")

    functions = [
        value for value in vars(operators).values()
        if isinstance(value, type) and issubclass(value, torch.autograd.Function)
        and value is not torch.autograd.Function
    ]  # fmt: skip
    assert len(functions) >= 6
    for function in functions:
        monkeypatch.setattr(function, "forward", refuse)
    part(x)
    part.train()
    with pytest.raises(AssertionError, match="of its own ran"):
        part(x)


@pytest.mark.parametrize(("kind", "method"), PARTS, ids=NAMES)
def test_eval_has_the_derivatives_of_train(kind: Any, method: str) -> None:
    part, x = build(kind, method, 3, 0.4)
    part, x = part.double(), x.double().requires_grad_(True)

    def gradient() -> Tensor:
        (found,) = torch.autograd.grad(part(x).square().sum(), x)
        return found

    as_scored = gradient()
    part.train()
    for module in part.modules():
        if hasattr(module, "running"):
            module.eval()
    assert relative(as_scored, gradient()) < 1e-12


def test_eval_in_bfloat16_agrees_with_train() -> None:
    part, x = build(Generator, "forward", 3, 0.4)
    with torch.no_grad(), conv_precision(torch.bfloat16):
        as_scored = part(x)
        assert relative(as_scored, part.train()(x)) < 0.02
