"""The GPU kit on a CPU, with tiny networks, where little but PyTorch can be imported."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anowild.arrays import Array
from anowild.device import select_device
from anowild.errors import UserError
from anowild.presets import preset
from anowild.scoring import Detector
from anowild.signals import Interrupted
from anowild.study.baselines import BASELINES
from anowild.study.datasets import cifar10_automobile
from anowild.training.step import Networks
from anowild.views.gan import CUES
from bench.gpu import halves, kit, ledger
from bench.gpu.ledger import ATTEMPTS, Ledger, failure
from bench.levels import measure, schedule_hours, schedule_kimg

ROOT = Path(__file__).parents[2]

#: All that the package or its tests may import beyond what the kit is allowed.
BLOCKED = """
import sys

class Without:
    names = {"typer", "rich", "click", "jinja2", "pyarrow", "mlxtend", "tifffile", "imagecodecs",
             "av", "h5py", "zarr", "skimage", "google_crc32c", "matplotlib", "pandas", "cv2",
             "imageio", "imageio_ffmpeg", "hypothesis", "pytest"}

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
import anowild.scoring.detector
from bench.gpu import main

anowild.scoring.detector.SAMPLES = 64
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anowild.scoring.detector.SAMPLES", 64)
    for module in ("anowild.training.loop", "bench.gpu.kit"):
        monkeypatch.setattr(f"{module}.matrix_product_peak", lambda *_: 1e9)


def write_set(path: Path, arrays: dict[str, Array], more: dict[str, Array]) -> None:
    """A zip of lossless WebP strips, as `load_webp_zip` reads it, and .npy arrays."""
    facts: dict[str, Any] = {}
    with zipfile.ZipFile(path, "w") as archive:
        for key, images in arrays.items():
            count, channels, height, width = images.shape
            strip = np.broadcast_to(
                images.transpose(0, 2, 3, 1).reshape(-1, width, channels),
                (count * height, width, 3),
            )
            data = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(strip)).save(
                data, "WEBP", lossless=True, exact=True
            )
            archive.writestr(f"{key}.webp", data.getvalue())
            facts[key] = {"h": height, "w": width, "c": channels, "parts": [f"{key}.webp"]}
        for key, array in more.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(f"{key}.npy", buffer.getvalue())
        archive.writestr("meta.json", json.dumps({"images": facts}))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both image sets of the kit, small: what is normal is bars, what is not is noise."""
    folder = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)

    def images(labels: Array, shape: tuple[int, int, int]) -> Array:
        noise = rng.integers(0, 256, (len(labels), *shape), dtype=np.uint8)
        bars = np.repeat(noise[:, :, :, :1], shape[2], axis=3)
        return np.where(labels.reshape(-1, 1, 1, 1) == 0, bars, noise)

    classes = np.concatenate([np.ones(60, np.uint8), np.repeat(np.arange(10, dtype=np.uint8), 4)])
    test = np.repeat(np.arange(10, dtype=np.uint8), 4)
    write_set(
        folder / "cifar10_subset.zip",
        {"train": images(classes != 1, (3, 32, 32)), "test": images(test != 1, (3, 32, 32))},
        {"train_label": classes, "test_label": test},
    )
    labels = np.repeat([0, 1], [60, 20]).astype(np.uint8)
    write_set(
        folder / "cells64.zip",
        {"train": images(labels, (1, 64, 64)), "test": images(labels, (1, 64, 64))},
        {"train_label": labels, "test_label": labels},
    )
    return folder


class Start:
    """The command, in a process of its own."""

    def __init__(self, data: Path, out: Path, minutes: float = 10.0) -> None:
        arguments = ["--tiny", "--device", "cpu", "--minutes", str(minutes), "--data", str(data)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", BLOCKED, *arguments, "-o", str(out)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=300)
        return self.process.returncode, output

    def kill_when(self, happened: Callable[[], bool]) -> None:
        while not happened():
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.02)
        self.process.kill()
        code, output = self.end()
        assert code == -signal.SIGKILL, output


def units(out: Path) -> dict[str, Any]:
    path = out / "state.json"
    return dict(json.loads(path.read_text())["units"]) if path.exists() else {}


def lines(out: Path) -> list[dict[str, Any]]:
    return kit._lines(out)


def test_is_cut_off_and_goes_on(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    Start(data, out).kill_when(lambda: sum(name.startswith("speed/") for name in units(out)) >= 3)
    first = units(out)
    assert (out / "results.md").read_text().count("out of time") > 10
    Start(data, out).kill_when(lambda: len(lines(out)) >= 3)
    second, measured = units(out), lines(out)
    code, output = Start(data, out).end()
    assert code == 0, output

    # What was finished before a kill has stayed as it was.
    third = units(out)
    assert {name: third[name] for name in first} == first
    assert {name: third[name] for name in second} == second
    assert lines(out)[: len(measured)] == measured

    results = json.loads((out / "results.json").read_text())
    assert set(results["environment"]["peaks"]) == {"float32", "bfloat16"}
    assert len(results["parity"]) == 7
    assert max(group["error"] for group in results["parity"].values()) < 1e-10
    assert results["scores"] == dict.fromkeys(["score", *CUES], 0.0)
    # Two levels and a fade of either preset; 3 orders in 2 precisions; graphs at the levels.
    plain = [row for row in results["speed"] if not row["graphs"]]
    assert len(plain) == 2 * 3 * 6
    for row in plain:
        assert row["s_per_iteration"] > 0
        assert row["minibatch"] == 8
        assert row["gflop_per_iteration"] > 0
    graphs = [row for row in results["speed"] if row["graphs"]]
    assert [row["failed"] for row in graphs] == ["CUDA graphs need a GPU"] * 2 * 2 * 6
    for hours in results["hours"].values():
        assert {v: h is not None for v, h in hours.items()} == {v: "graphs" not in v for v in hours}

    for name, run in results["training"].items():
        assert set(run["baselines"]["auroc"]) == set(BASELINES)
        assert run["failed"] is None
        kimg = [line["kimg"] for line in run["measured"]]
        assert kimg == sorted(set(kimg))
        assert kimg[0] == 0
        assert kimg[-1] >= 0.1
        assert {line["run"] for line in run["measured"]} == {1}
        halves.join(out / "weights" / name, tmp_path / name)
        detector = Detector.load(tmp_path / name, "cpu")
        original = Detector.load(out / "work" / name / "model", "cpu")
        _, test, _ = training_of(name, data, tmp_path).sets
        joined, full = (d.score(test).columns() for d in (detector, original))
        for cue in CUES:
            difference = kit.relative(joined[cue], full[cue])
            # Halves are not the whole; but contrast is of the image alone.
            assert difference < 1e-2
            assert (difference > 0) == (cue != "contrast")

    markdown = (out / "results.md").read_text()
    assert "Training: cells64, 5 % contaminated" in markdown
    assert "out of time" not in markdown
    assert markdown in output

    # All is done: nothing is measured again.
    before = (out / "state.json").read_text(), lines(out)
    assert kit.main(arguments(data, out)) == 0
    assert ((out / "state.json").read_text(), lines(out)) == before


def arguments(data: Path, out: Path, minutes: float = 10) -> list[str]:
    return ["--tiny", "--device", "cpu", "--minutes", f"{minutes:g}", "--data", f"{data}", "-o", f"{out}"]  # fmt: skip


def small_kit(data: Path, out: Path, size: kit.Size = kit.TINY, minutes: float = 10) -> kit.Kit:
    out.mkdir(parents=True, exist_ok=True)
    return kit.Kit(out, out / "work", data, minutes, size, torch.device("cpu"))


def training_of(name: str, data: Path, out: Path, size: kit.Size = kit.TINY) -> kit._Training:
    return kit._Training(name, small_kit(data, out, size))


def test_says_what_it_has_no_time_for(data: Path, tmp_path: Path) -> None:
    assert kit.main(arguments(data, tmp_path, minutes=0)) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["parity"]["Adam"]["arrays"] == 2
    assert {row["failed"] for row in results["speed"]} == {"out of time"}
    assert results["training"]["cells64"]["measured"] == []
    assert not any(name.startswith("speed/") for name in units(tmp_path))


def test_a_missing_set_is_named_and_the_other_one_trained(data: Path, tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "cells64.zip").symlink_to(data / "cells64.zip")
    one = small_kit(tmp_path / "sets", tmp_path / "out")
    one.train()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert "cifar10_subset.zip" in results["training"]["cifar10_automobile"]["baselines"]["failed"]
    assert results["training"]["cells64"]["measured"][-1]["kimg"] >= 0.1


def test_a_training_that_fails_is_named_and_not_tried_again(data: Path, tmp_path: Path) -> None:
    # float32 cannot hold what this leads to.
    bad = dict(kit.TINY.training) | {"learning_rate": 1e30, "nonfinite_limit": 1, "kimg": 5}
    one = small_kit(data, tmp_path, replace(kit.TINY, training=bad))
    one.train()
    results = json.loads((tmp_path / "results.json").read_text())
    for run in results["training"].values():
        assert "diverged" in run["failed"]
    count = len(lines(tmp_path))
    small_kit(data, tmp_path, replace(kit.TINY, training=bad)).train()
    assert len(lines(tmp_path)) == count


def test_a_state_that_was_lost_begins_another_run(data: Path, tmp_path: Path) -> None:
    one = training_of("cells64", data, tmp_path)
    assert one.go_on(100, 100)
    assert one.go_on(100, 100)
    assert [line["run"] for line in one.lines] == [1, 1]
    (tmp_path / "work").rename(tmp_path / "lost")
    two = training_of("cells64", data, tmp_path)
    assert two.go_on(100, 100)
    assert [(line["run"], line["kimg"]) for line in two.lines] == [(2, 0)]


def test_a_kill_between_training_and_measuring_is_made_good(data: Path, tmp_path: Path) -> None:
    one = training_of("cells64", data, tmp_path)
    one.go_on(100, 100)
    one.go_on(100, 100)
    path = tmp_path / "auroc.jsonl"
    text = path.read_text()
    path.write_text(text[:-30])  # the line that says so was cut short
    assert [line["kimg"] for line in one.lines] == [0]
    reached = one.reached
    assert reached
    assert one.go_on(100, 100)
    assert [line["kimg"] for line in one.lines] == [0, reached]


def test_stops_before_the_time_is_over(data: Path, tmp_path: Path) -> None:
    one = training_of("cells64", data, tmp_path)
    one.go_on(100, 100)
    one.go_on(100, 100)
    last = one.lines[-1]
    tick = min(one.settings.tick_kimg.values())
    least = last["apart_from_training"] + tick * last["s_per_kimg"]
    assert one._target(one.reached or 0, 100, 0.99 * least) is None
    assert one._target(one.reached or 0, 100, 1.01 * least) is not None
    # In a hundred seconds, as much as is measured at once: but no more than the whole run.
    target = one._target(0.05, 100, 100)
    assert target is not None
    assert 0.05 + tick <= target <= one.settings.kimg
    one.settings = one.settings.replace(kimg=1e6)
    one.kit.size = replace(one.kit.size, evaluate_every=60)
    target = one._target(0.05, 100, 100)
    expected = 0.05 + (60 - last["apart_from_training"]) / last["s_per_kimg"]
    assert target == pytest.approx(expected)


def test_needs_a_gpu_for_the_real_thing(data: Path, tmp_path: Path, capsys: Any) -> None:
    given = ["--device", "cpu", "--data", str(data), "-o", str(tmp_path)]
    assert kit.main(given) == 1
    assert "--tiny" in capsys.readouterr().err


def test_another_machine_needs_another_output(
    data: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kit.main(arguments(data, tmp_path, minutes=0)) == 0
    monkeypatch.setattr(kit, "device_name", lambda device: "another")
    assert kit.main(arguments(data, tmp_path, minutes=0)) == 1
    assert "this is another; take another output" in capsys.readouterr().err


def test_a_gpu_that_no_longer_answers_gets_a_new_process(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr("os.execv", lambda *given: started.append(given))
    one = small_kit(data, tmp_path)
    one.device = torch.device("cuda")

    def sticky() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("torch.cuda.empty_cache", sticky)
    name = "speed/paper-cifar10/0/bfloat16, in turn"
    assert "illegal memory access" in (failure(one.unit(name, sticky)) or "")
    ((program, argv),) = started
    assert program == sys.executable
    assert argv == [sys.executable, *sys.orig_argv[1:]]
    one.unit(name, sticky)  # known: nothing is tried, nothing started
    assert len(started) == 1


# Speed


def test_counts_what_a_step_does() -> None:
    settings = preset("paper-cifar10").settings().replace(**kit.TINY.changes["paper-cifar10"])
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


def test_hours_of_the_schedule() -> None:
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


def test_the_rows_are_in_order_of_worth(data: Path, tmp_path: Path) -> None:
    rows = small_kit(data, tmp_path, kit.PAPER).rows()
    # 7 levels and fades at 32x32, 9 at 64x64; 4 and 5 levels that graphs can record.
    assert len(rows) == 6 * 16 + 6 * 9
    assert len(set(rows)) == len(rows)
    first = [f"{name} {lod:g} {variant}" for name, lod, variant in rows[:2]]
    assert first[0] == "paper-cifar10 0 bfloat16, in turn"
    assert {row[0] for row in rows[:16]} == {"paper-cifar10", "paper-kth-cells"}


# Parts


def test_cifar10_automobile(data: Path) -> None:
    experiment = cifar10_automobile(data, 0.1, 0)
    # 64 automobiles, and 7 others among them.
    assert len(experiment.training) == 71
    assert len(experiment.contamination.indices) == 7
    noisy = experiment.training.std(axis=3).mean(axis=(1, 2)) > 1
    assert np.flatnonzero(noisy).tolist() == sorted(experiment.contamination.indices)
    assert experiment.test_labels.tolist() == [int(c != 1) for c in range(10) for _ in range(4)]


def test_what_fails_or_kills_the_process_is_given_up(tmp_path: Path) -> None:
    changes = []
    one = Ledger(tmp_path, lambda: changes.append(1))

    def fails() -> None:
        raise RuntimeError("CUDA error: an illegal memory access\nand more")

    assert failure(one.unit("a", fails)) == "CUDA error: an illegal memory access"
    assert one.unit("b", lambda: {"x": 1}) == {"x": 1}
    assert len(changes) == 2
    again = Ledger(tmp_path)
    assert again.unit("b", lambda: {"x": 2}) == {"x": 1}
    assert failure(again.unit("a", lambda: 1)) is not None

    def memory() -> None:
        raise torch.OutOfMemoryError("tried to allocate")

    assert failure(again.unit("c", memory)) == "out of memory"

    def unforeseen() -> None:
        raise KeyError("peaks")

    assert failure(again.unit("e", unforeseen)) == "'peaks'"

    def stopped() -> None:
        raise Interrupted(signal.SIGTERM, "0.1 kimg")

    with pytest.raises(Interrupted):
        again.unit("f", stopped)
    assert again.unit("f", lambda: 1) == 1

    def killed() -> None:
        raise KeyboardInterrupt

    for _ in range(ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            Ledger(tmp_path).unit("d", killed)
    result = Ledger(tmp_path).unit("d", killed)
    assert "ended 3 times" in (failure(result) or "")


def test_time_is_counted_over_all_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "NOTED_EVERY", 0.05)
    one = Ledger(tmp_path)
    with one.noting_time():
        deadline = time.monotonic() + 20
        while not (tmp_path / "clock.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    reached = one.seconds
    two = Ledger(tmp_path)
    assert two.seconds >= 0.05
    assert two.seconds == pytest.approx(reached, abs=1.0)
    assert ledger.Ledger(tmp_path / "other").seconds < 1.0


def test_halves_are_small_and_joined_again(model_folder: Path, tmp_path: Path) -> None:
    limit = 20_000
    parts = halves.halve(model_folder, tmp_path / "parts", limit)
    assert len(parts) > 2
    assert max(path.stat().st_size for path in parts) <= limit
    halves.join(tmp_path / "parts", tmp_path / "model")
    original, joined = (Detector.load(f, "cpu") for f in (model_folder, tmp_path / "model"))
    for name, network in original.networks.items():
        for key, value in network.state_dict().items():
            ours = joined.networks[name].state_dict()[key]
            assert ours.dtype == value.dtype
            assert torch.equal(ours, value.half().float()), (name, key)

    # Other weights take the place of these.
    stale = tmp_path / "parts" / "of-before-00.safetensors"
    stale.write_bytes(b"")
    assert halves.halve(model_folder, tmp_path / "parts", 10 * limit) != parts
    assert not stale.exists()
    halves.join(tmp_path / "parts", tmp_path / "model")


def test_halves_that_are_not_whole(model_folder: Path, tmp_path: Path, capsys: Any) -> None:
    parts = halves.halve(model_folder, tmp_path / "parts", 20_000)
    content = bytearray(parts[1].read_bytes())
    content[-1] ^= 1
    parts[1].write_bytes(content)
    with pytest.raises(UserError, match=f"{parts[1].name}: is damaged"):
        halves.join(tmp_path / "parts", tmp_path / "model")
    parts[1].unlink()
    with pytest.raises(UserError, match=f"{parts[1].name}: is missing"):
        halves.join(tmp_path / "parts", tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert halves.main([str(tmp_path / "parts"), "-o", str(tmp_path / "model")]) == 1
    assert "is missing" in capsys.readouterr().err
    with pytest.raises(UserError, match="more than a file may have"):
        halves.halve(model_folder, tmp_path / "parts", 3000)


def test_relative_difference() -> None:
    assert kit.relative(np.array([1.0, 2.0]), np.array([1.0, 4.0])) == 0.5
    assert np.isnan(kit.relative(np.array([1.0, np.nan]), np.array([1.0, 4.0])))


@pytest.mark.gpu
def test_scores_agree_on_a_gpu(tmp_path: Path) -> None:
    differences = kit.scores_agreement(select_device("cuda"), tmp_path, 1.0)
    assert max(differences.values()) < kit.SCORES_AGREE


@pytest.mark.gpu
@pytest.mark.parametrize("order", kit.ORDERS)
def test_graphs_are_measured_on_a_gpu(order: str) -> None:
    changes = kit.TINY.changes["paper-cifar10"]
    settings = preset("paper-cifar10").settings().replace(**changes, **kit.ORDERS[order])
    networks = Networks.build(settings, 8, 3).to(torch.device("cuda"))
    assert measure(settings, networks, 0.0, 0.1, 1e12, graphs=True)["s_per_iteration"] > 0


@pytest.mark.gpu
def test_the_kit_on_a_gpu(data: Path, tmp_path: Path) -> None:
    given = ["--tiny", "--device", "cuda", "--data", str(data), "-o", str(tmp_path)]
    assert kit.main(given) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert [row for row in results["speed"] if failure(row) is not None] == []
    assert max(results["scores"].values()) < kit.SCORES_AGREE
    for run in results["training"].values():
        assert run["measured"][-1]["kimg"] >= 0.1
