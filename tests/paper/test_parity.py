"""The reference's numbers, in float64: see tests/golden/README.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anowild.paper import parity, reference
from anowild.training import losses, optimizer

GOLDEN = Path(__file__).parents[1] / "golden"

# Fewer arrays than this, and a group has silently stopped looking.
ARRAYS = {
    "networks": 26,
    "losses and gradients": 175,
    "training traces": 672,
    "fades of real images": 14,
    "schedule": 42,
    "Adam": 2,
    "scoring": 13,
}


@pytest.mark.parametrize("group", parity.GROUPS)
def test_agrees_with_the_reference(group: str) -> None:
    errors = dict(parity.GROUPS[group](GOLDEN, parity.CPU))
    assert len(errors) == ARRAYS[group]
    assert {key: e for key, e in errors.items() if not e <= parity.TOLERANCE} == {}


def test_generator_in_eval_agrees_with_the_reference() -> None:
    golden = parity.Golden(GOLDEN / "a_nets.npz")
    generator = golden.network("G", "var/G").eval()
    for key, expected in golden.arrays.items():
        if key.startswith("out/G/lod"):
            lod = float(key.removeprefix("out/G/lod"))
            images = reference.forward(generator, golden["in/latents"], lod)
            assert parity.relative_error(images, expected) <= parity.TOLERANCE


def test_every_golden_output_is_looked_at() -> None:
    looked = {key for group in ("networks",) for key, _ in parity.GROUPS[group](GOLDEN, parity.CPU)}
    golden = parity.Golden(GOLDEN / "a_nets.npz")
    assert looked == {k for k in golden.arrays if k.startswith(("out/", "mbstd/"))}

    looked = {key.split(" ")[0] for key, _ in parity.losses(GOLDEN)}
    golden = parity.Golden(GOLDEN / "a_losses.npz")
    assert looked == {k for k in golden.arrays if k.startswith("lod")}


def test_notices_a_wrong_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anowild.networks.operators.LEAK", 0.21)
    assert max(error for _, error in parity.networks(GOLDEN)) > 1e-4


def test_notices_the_other_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    original = optimizer.Adam.__init__

    def other(self: optimizer.Adam, parameters: object, settings: object) -> None:
        original(self, parameters, settings.replace(adam_epsilon_hat=False))  # type: ignore[attr-defined, arg-type]

    monkeypatch.setattr(optimizer.Adam, "__init__", other)
    assert max(error for _, error in parity.traces(GOLDEN)) > 1e-6


def test_notices_a_gradient_norm_at_the_level_s_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "split_lod", lambda lod, max_lod: (0, 0.0))
    assert max(error for _, error in parity.traces(GOLDEN)) > 1e-3


def test_command_prints_and_judges(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parity.main([str(tmp_path)]) == 2
    monkeypatch.setattr(parity, "GROUPS", {"Adam": parity.adam})
    assert parity.main([str(GOLDEN)]) == 0
    assert "ok" in capsys.readouterr().out
    monkeypatch.setattr(parity, "GROUPS", {"bad": lambda folder, device: iter([("x", 1e-9)])})
    assert parity.main([str(GOLDEN)]) == 1
    monkeypatch.setattr(
        parity, "GROUPS", {"bad": lambda folder, device: iter([("x", 0.0), ("y", float("nan"))])}
    )
    assert parity.main([str(GOLDEN)]) == 1
    assert parity.main([str(GOLDEN), "--device", "no-such"]) == 2


@pytest.mark.gpu
def test_agrees_with_the_reference_on_a_gpu() -> None:
    found = parity.worst(GOLDEN, torch.device("cuda"))
    assert {name: group.arrays for name, group in found.items()} == ARRAYS
    # float32's sums are taken in another order there.
    float32 = found.pop("fades of real images")
    assert float32.error < 1e-6
    assert {name: g for name, g in found.items() if not g.error <= 1e-9} == {}
