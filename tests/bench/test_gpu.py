"""The GPU measurements on a CPU, with tiny networks, where little but PyTorch can be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anowild.device import select_device
from anowild.presets import preset
from anowild.training.networks import Networks
from bench import gpu
from bench.levels import measure, schedule_hours, schedule_kimg

ROOT = Path(__file__).parents[2]

#: Runs the program where the package's other dependencies cannot be imported.
BLOCKED = """
import sys

class Without:
    names = {"typer", "rich", "click", "jinja2", "pyarrow", "mlxtend", "tifffile", "imagecodecs",
             "av", "h5py", "zarr", "skimage", "google_crc32c", "matplotlib", "pandas", "cv2",
             "imageio", "imageio_ffmpeg", "hypothesis", "pytest", "pyod"}

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
sys.path[:0] = ["src", "."]
try:
    import rich
except ModuleNotFoundError:
    pass
else:
    sys.exit("nothing is blocked")
from bench.gpu import main

sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ``mnist2``: normal images are bars, the others noise."""
    folder = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (200, 1, 32, 32), dtype=np.uint8)
    bars = np.repeat(noise[:, :, :, :1], 32, axis=3)
    np.savez(
        folder / "mnist2.npz", train=bars[:80], test_normal=bars[80:100], test_anomaly=noise[:20]
    )
    np.savez(folder / "mnist2_contaminants.npz", images=noise[100:])
    return folder


@pytest.mark.slow
def test_all_parts_are_measured_once_on_a_bare_machine(data: Path, tmp_path: Path) -> None:
    given = ["--tiny", "--device", "cpu", "--data", str(data), "--sets", "mnist2", "-o"]
    command = [sys.executable, "-c", BLOCKED, *given, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path / "results.json"
    results = json.loads(path.read_text())
    assert set(results["environment"]["peaks"]) == {"float32", "bfloat16"}
    assert max(group["error"] for group in results["parity"].values()) < 1e-10
    assert set(results["scores"].values()) == {0.0}
    assert results["default"]["gan, seconds"] > 0
    assert results["default"]["transforms, images/s"] > 0
    assert 0 < results["default"]["of reading"] < 2
    assert results["trial/mnist2"]["injected"] > 0
    rows = {key: row for key, row in results.items() if key.startswith("speed/")}
    # Two levels, with a fade between them that graphs cannot record, of either preset.
    assert len(rows) == 2 * 4 * (2 + 3)
    for key, row in rows.items():
        if key.endswith("graphs"):
            assert row["failed"] == "CUDA graphs need a GPU"
        else:
            assert row["s_per_iteration"] > 0
            assert row["minibatch"] == 8
    shown = (tmp_path / "results.md").read_text()
    assert "no figure here means anything" in shown
    assert "mnist2, " in shown
    hours = gpu.hours(results, tiny=True)
    assert {title: None not in row.values() for title, row in hours.items()} == {
        gpu.title(variant): not variant[2] for variant in gpu.VARIANTS
    }

    # All is there: nothing is measured again.
    before = path.read_text()
    assert gpu.main([*given, str(tmp_path)]) == 0
    assert path.read_text() == before


def test_a_part_that_fails_is_named_and_no_part_starts_after_the_time(tmp_path: Path) -> None:
    session = gpu.Session(tmp_path, torch.device("cpu"), 10, tiny=True)

    def fails() -> dict[str, Any]:
        raise RuntimeError("CUDA error: an illegal memory access\nand more")

    session.part("trial/x", fails)
    assert session.results["trial/x"] == {"failed": "CUDA error: an illegal memory access"}
    assert "- x: failed (CUDA error" in (tmp_path / "results.md").read_text()
    late = gpu.Session(tmp_path, torch.device("cpu"), -1, tiny=True)
    assert late.results == session.results
    late.part("y", dict)
    assert "y" not in late.results


def test_needs_a_gpu_and_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cpu", "-o", str(tmp_path)]) == 1
    assert "--tiny" in capsys.readouterr().err
    assert gpu.main(["--device", "cpu", "--tiny", "-o", str(tmp_path)]) == 1
    assert "the trials need --data" in capsys.readouterr().err


def test_speed_rows_are_in_order_of_worth() -> None:
    rows = gpu.speed_rows(tiny=False)
    # 4 and 5 levels that graphs can record; 7 and 9 with the fades between them.
    assert len(rows) == len(set(rows)) == 4 * 9 + 4 * 16
    assert rows[0] == ("paper-cifar10", 0.0, ("bfloat16", "in turn", True))


def test_relative_difference() -> None:
    assert gpu.relative(np.array([1.0, 2.0]), np.array([1.0, 4.0])) == 0.5
    assert np.isnan(gpu.relative(np.array([1.0, np.nan]), np.array([1.0, 4.0])))


# bench.levels


def test_measure_counts_what_a_step_does() -> None:
    settings = preset("paper-cifar10").settings().replace(**gpu.TINY)
    networks = Networks.build(settings, 8, 3)
    row = measure(settings, networks, 0.0, 0.01, 1e9, graphs=False)
    half = measure(settings, networks, 1.0, 0.01, 1e9, graphs=False)
    assert row["resolution"] == 8
    assert half["resolution"] == 4
    assert row["gflop_per_iteration"] > 2 * half["gflop_per_iteration"]
    assert row["of_peak"] == pytest.approx(row["gflops"])
    assert row["images_per_s"] * row["s_per_iteration"] == pytest.approx(8)
    assert row["s_per_kimg"] == pytest.approx(1000 / row["images_per_s"])
    sparing = settings.replace(penalty_share=0.25)
    every, less = (
        measure(given, networks, 0.0, 0.01, 1e9, minibatch=16)["gflop_per_iteration"]
        for given in (settings, sparing)
    )
    assert less < 0.85 * every


def test_schedule_hours_adds_levels_fades_and_settling() -> None:
    kimg = schedule_kimg(preset("paper-cifar10").settings(), 32)
    # 600 kimg at each of 3 levels and fades, and what is left of 12,000 at full size. (The first
    # thousand images of a fade begin at a whole level.)
    levels = {3: 601, 2.5: 599, 2: 601, 1.5: 599, 1: 601, 0.5: 599, 0: 12_000 - 3600}
    assert sum(kimg.values()) == 12_000
    for lod, expected in levels.items():
        assert kimg[lod, True] + kimg[lod, False] == expected
        # 1,725 iterations of 128 images, or 64 at full size.
        settling = expected if lod % 1 else (111 if lod == 0 else 221)
        assert kimg[lod, False] == settling

    seconds = {3.0: 1.0, 2.5: 10.0, 2.0: 2.0, 1.5: 20.0, 1.0: 3.0, 0.5: 30.0, 0.0: 5.0}
    all_plain = sum(levels[lod] * seconds[lod] for lod in levels) / 3600
    assert schedule_hours(kimg, seconds) == pytest.approx(all_plain)
    assert schedule_hours(kimg, {3.0: 1.0}) is None
    assert schedule_hours(kimg, seconds, {3.0: 1.0}) is None
    recorded = schedule_hours(kimg, seconds, dict.fromkeys((0.0, 1.0, 2.0, 3.0), 0.0))
    rest = 599 * (10 + 20 + 30) + 221 * (1 + 2 + 3) + 111 * 5
    assert recorded == pytest.approx(rest / 3600)


# On a GPU


@pytest.mark.gpu
def test_scores_agree_with_the_cpu_on_a_gpu(tmp_path: Path) -> None:
    differences = gpu.score_differences(select_device("cuda"), tmp_path, 1.0)
    assert max(differences.values()) < 1e-4


@pytest.mark.gpu
def test_all_parts_on_a_gpu(data: Path, tmp_path: Path) -> None:
    given = ["--tiny", "--device", "cuda", "--data", str(data), "--sets", "mnist2"]
    assert gpu.main([*given, "-o", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert not any("failed" in part for part in results.values())
    assert max(results["scores"].values()) < 1e-4
