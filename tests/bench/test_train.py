"""The speed benchmarks measure the steps that they name, and their peers stand alone."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
import torch

from anowild.presets import FAST
from anowild.training.flops import flops_per_image
from anowild.training.networks import Networks
from bench import train
from bench.peers import Measured, Round, alternate

BENCH = Path(train.__file__).parent


@pytest.mark.parametrize(
    ("kind", "gflop"),
    [("like for like", 2.131), ("like for like, with E", 2.759), ("paper", 3.010), ("fast", 1.945)],
)
def test_kind_has_its_flops_per_image(kind: str, gflop: float) -> None:
    torch.manual_seed(0)
    iterate = train.iteration(kind, 64, 16, "float32")
    counted = train.gflop_per_image(iterate, 16)
    assert counted == pytest.approx(gflop, abs=0.0005)
    settings = train.settings(kind, 64, "float32")
    networks = Networks.build(settings, train.RESOLUTION, train.CHANNELS)
    by_hand = flops_per_image(networks, settings, 0.0, 16) / 1e9
    assert counted == pytest.approx(by_hand, rel=0.01)


def test_fast_is_what_train_fast_does() -> None:
    assert FAST.items() - {("precision", "auto")} <= train.OURS["fast"].items()


@pytest.mark.parametrize("name", ["peer_progan", "peer_ganomaly"])
def test_peer_imports_torch_and_itself_alone(name: str) -> None:
    seen: set[str] = set()
    modules = [f"bench.{name}"]
    while modules:
        path = BENCH / f"{modules.pop().removeprefix('bench.')}.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for module in imported:
                if module.startswith("bench.") and module not in seen:
                    modules.append(module)
                seen.add(module)
    packages = {module.split(".")[0] for module in seen} - set(sys.stdlib_module_names)
    peer = {"peer_progan": "pro_gan_pytorch", "peer_ganomaly": "anomalib"}[name]
    assert packages == {"bench", "torch", peer}


def test_alternate_takes_turns_and_leaves_out_what_does_not_start(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code = "from bench.peers import serve; serve(lambda: None, 3, 2, gflop=1.5)"
    found = alternate(
        {"works": [sys.executable, "-c", code], "broken": [sys.executable, "-c", "1/0"]}, 2
    )
    assert list(found) == ["works"]
    assert found["works"].facts == {"gflop": 1.5}
    assert [r.images for r in found["works"].rounds] == [6, 6]
    assert "broken: did not start" in capfd.readouterr().err


def test_table_shares_one_peak_for_each_precision() -> None:
    def measured(cpu_seconds: float, **facts: object) -> Measured:
        return Measured({"gflop": 2.0, **facts}, [Round(10, 9.0, cpu_seconds)] * 3)

    table = train.table(
        {
            "pro-gan-pth, float32": measured(1.0, versions="pro-gan-pth 2"),
            "paper, float32": measured(0.5, peak=50.0),
            "fast, float32": measured(0.25, peak=160.0),
        }
    )
    peer, paper, fast = table.splitlines()[1:4]
    assert peer.split()[-4:] == ["1.00/1.00/1.00", "2.000", "20.0", "0.12"]
    assert paper.split()[-4:] == ["2.00/2.00/2.00", "2.000", "40.0", "0.25"]
    assert fast.split()[-1] == "0.50"
    assert "peak, float32: 160 GFLOP/s" in table
    assert "peer: pro-gan-pth 2" in table
