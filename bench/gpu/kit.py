"""Everything that needs a GPU, in one command.

    python -m bench.gpu --minutes 25 --data FOLDER -o OUT

In order of worth: the machine and its matrix-product peaks; parity with tests/golden and
agreement of scores on the device; speed at every level and fade of both paper presets, and from
it the hours of the paper's schedule; and, with what is left of the minutes, training of paper-size
networks on contaminated CIFAR-10 automobiles and cells, measured every few minutes.

It may be cut off at any time: what is finished is on disk, and the same command goes on. OUT gets
results.json and results.md (rewritten after each part), auroc.jsonl, and weights/ in half precision
(bench.gpu.halves joins them). Training states, 0.9 GB each, lie in ``--work`` (OUT/work). Needs
torch, numpy, pillow, scikit-learn and safetensors, and this repository with PYTHONPATH=src.
docs/gpu holds what an H100 gave.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.device import matrix_product_peak, select_device
from anowild.errors import UserError
from anowild.evaluation.metrics import auroc
from anowild.files import exclusive_lock, read_json, write_json, write_text
from anowild.paper import parity
from anowild.presets import FAST, preset
from anowild.scoring import Detector
from anowild.views.gan import CUES
from anowild.settings import Settings
from anowild.signals import Interrupted, exit_status
from anowild.study.baselines import BASELINES
from anowild.study.datasets import DATASETS
from anowild.training import checkpoint, train
from anowild.training.schedule import Schedule
from anowild.training.step import Networks
from bench.gpu.halves import halve
from bench.gpu.ledger import Ledger, failure
from bench.gpu.report import markdown
from bench.levels import measure, schedule_hours, schedule_kimg

log = logging.getLogger("anowild")

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
#: Share of the minutes at which speed has to be done, and that at which training ends.
SPEED_UNTIL, TRAINING_UNTIL = 0.4, 0.97
#: Largest relative difference between cues or scores computed on the device and on the CPU.
SCORES_AGREE = 1e-4
#: Contamination of the sets that are trained on, and the seed of all.
RATE, SEED = 0.05, 0

Precision = Literal["float32", "bfloat16"]
#: What a step does, by name.
ORDERS: dict[str, dict[str, Any]] = {
    "in turn": {},
    "simultaneous": {"simultaneous": True},
    "fast": {k: v for k, v in FAST.items() if k != "precision"},
}

#: A short run must not stay at 4x4, and its averages must not lag.
TRAINING_CHANGES: dict[str, Any] = {
    "initial_resolution": None,
    "precision": "bfloat16",
    "cuda_graphs": True,
    "minibatch_repeats": 1,
    "ema_half_life_kimg": 20,
    "tick_kimg": 5,
    "checkpoint_ticks": 8,
    "seed": SEED,
}


@dataclass(frozen=True)
class Size:
    """How large everything is: as the paper has it, or tiny, to try the kit itself on a CPU."""

    changes: Mapping[str, Mapping[str, Any]]  # of each preset
    row_seconds: float  # measured for each row of the speed table
    training: Mapping[str, Any]
    evaluate_every: float  # seconds of training
    calibration_kimg: float  # of the model whose scores are compared


PAPER = Size(
    changes={"paper-cifar10": {}, "paper-kth-cells": {}},
    row_seconds=1.0,
    training=TRAINING_CHANGES,
    evaluate_every=120.0,
    calibration_kimg=2.0,
)
_TINY = {"fmap_base": 32, "fmap_max": 4, "minibatch": 8}
TINY = Size(
    changes={
        "paper-cifar10": _TINY | {"resolution": 8},
        "paper-kth-cells": _TINY | {"resolution": 8},
    },
    row_seconds=0.01,
    training=TRAINING_CHANGES
    | {"precision": "float32", "tick_kimg": 0.05, "checkpoint_ticks": 1, "kimg": 0.1},
    evaluate_every=0.5,
    calibration_kimg=0.1,
)

#: Preset of each set that is trained on.
SETS = {"cifar10_automobile": "paper-cifar10", "cells64": "paper-kth-cells"}


@dataclass(frozen=True)
class Variant:
    """A way of running the step."""

    precision: Precision
    order: str
    graphs: bool

    def __str__(self) -> str:
        return f"{self.precision}, {self.order}{', graphs' if self.graphs else ''}"


#: The most telling first.
VARIANTS = [
    Variant(precision, order, graphs)
    for order, graphs in (("in turn", False), ("fast", False), ("in turn", True),
                          ("fast", True), ("simultaneous", False), ("simultaneous", True))
    for precision in ("bfloat16", "float32")
]  # fmt: skip


class Kit:
    """One start of the command."""

    def __init__(
        self, out: Path, work: Path, data: Path, minutes: float, size: Size, device: torch.device
    ) -> None:
        self.out, self.work, self.data, self.size, self.device = out, work, data, size, device
        self.total = minutes * 60
        self.minutes = minutes
        self.ledger = Ledger(out, self.report)
        self._networks: tuple[str, Networks] | None = None
        self._schedules = {}
        for name in size.changes:
            settings = self.settings(name)
            self._schedules[name] = schedule_kimg(settings, _resolution(settings))

    # Parts

    def run(self) -> None:
        self._agree_on_machine()
        with self.ledger.noting_time():
            self.unit("environment", lambda: environment(self.device))
            self.unit("parity", lambda: device_parity(self.device))
            self.unit("scores", self.agreement)
            for name, lod, variant in self.rows():
                if self.ledger.seconds > SPEED_UNTIL * self.total:
                    break
                self.unit(f"speed/{name}/{lod:g}/{variant}", lambda: self.speed(name, lod, variant))  # noqa: B023
            self._networks = None
            self.train()
        self.report()

    def _agree_on_machine(self) -> None:
        before = self.ledger.units.get("environment", {})
        name = device_name(self.device)
        if before.get("device", name) != name:
            raise UserError(
                f"{self.out}: was measured on {before['device']}, and this is {name}; "
                "take another output"
            )

    def unit(self, name: str, work: Callable[[], Any]) -> Any:
        new = name not in self.ledger.units
        if new:
            log.info("%s", name)
        result = self.ledger.unit(name, work)
        if new and (why := failure(result)) is not None:
            log.warning("%s: %s", name, why)
            self._start_again_if_broken()
        return result

    def _start_again_if_broken(self) -> None:
        """An error of the GPU's own lasts as long as the process: take a new one."""
        if self.device.type != "cuda":
            return
        try:
            torch.cuda.empty_cache()
            torch.zeros(1, device=self.device).item()
        except RuntimeError as error:
            log.warning("the GPU no longer answers (%s): starting again", error)
            write_json(self.out / "clock.json", self.ledger.seconds)
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def agreement(self) -> dict[str, float]:
        return scores_agreement(self.device, self.work / "agreement", self.size.calibration_kimg)

    # Speed

    def settings(self, name: str, variant: Variant | None = None) -> Settings:
        settings = preset(name).settings().replace(**self.size.changes[name])
        if variant is None:
            return settings
        return settings.replace(precision=variant.precision, **ORDERS[variant.order])

    def rows(self) -> list[tuple[str, float, Variant]]:
        """Preset, level and variant of each row of the speed table, in order of worth."""
        found = []
        for variant in VARIANTS:
            for name in self.size.changes:
                highest = Schedule(
                    self.settings(name), _resolution(self.settings(name))
                ).initial_lod
                for half in range(2 * round(highest) + 1):
                    if half % 2 == 0 or not variant.graphs:  # a fade cannot be recorded
                        found.append((name, half / 2, variant))
        return found

    def speed(self, name: str, lod: float, variant: Variant) -> dict[str, Any]:
        settings = self.settings(name, variant)
        if variant.graphs and self.device.type != "cuda":
            raise RuntimeError("CUDA graphs need a GPU")
        if self._networks is None or self._networks[0] != name:
            self._networks = None
            shape = _resolution(settings), settings.channels or 1
            self._networks = name, Networks.build(settings, *shape).to(self.device)
        peak = self.ledger.units["environment"]["peaks"][variant.precision]
        return measure(
            settings, self._networks[1], lod, self.size.row_seconds, peak, graphs=variant.graphs
        )

    def hours(self) -> dict[str, dict[str, float | None]]:
        """Hours of each preset's schedule, by preset and variant; None where rows are missing."""
        found: dict[str, dict[str, float | None]] = {}
        for name in self.size.changes:
            kimg = self._schedules[name]
            for variant in VARIANTS:
                plain = Variant(variant.precision, variant.order, graphs=False)
                recorded = self._s_per_kimg(name, variant) if variant.graphs else None
                found.setdefault(name, {})[str(variant)] = schedule_hours(
                    kimg, self._s_per_kimg(name, plain), recorded
                )
        return found

    def _s_per_kimg(self, name: str, variant: Variant) -> dict[float, float]:
        found = {}
        for unit, result in self.ledger.units.items():
            part, *rest = unit.split("/")
            wanted = part == "speed" and (rest[0], rest[2]) == (name, str(variant))
            if wanted and "s_per_kimg" in result:
                found[float(rest[1])] = float(result["s_per_kimg"])
        return found

    # Training

    def train(self) -> None:
        runs = []
        for name in SETS:
            run = _Training(name, self)
            result = self.unit(f"training/{name}/baselines", run.baselines)
            if failure(result) is None:
                runs.append(run)
        while runs and self.ledger.seconds < TRAINING_UNTIL * self.total:
            run = min(runs, key=lambda run: run.seconds)
            left = TRAINING_UNTIL * self.total - self.ledger.seconds
            share = (left + sum(run.seconds for run in runs)) / len(runs) - run.seconds
            unit = f"training/{run.name}/failure"
            try:
                more = failure(self.ledger.units.get(unit)) is None and run.go_on(share, left)
            except Interrupted:
                raise
            except Exception as error:  # the other set is wanted all the same
                why = str(error) or repr(error)
                self.unit(unit, lambda: _fail(why))  # noqa: B023
                more = False
            if not more:
                runs.remove(run)
            self.report()

    # Results

    def report(self) -> None:
        """Write results.json and results.md."""
        units = self.ledger.units
        speed = []
        for name, lod, variant in self.rows():
            result = units.get(f"speed/{name}/{lod:g}/{variant}", {"failed": "out of time"})
            speed.append({"preset": name, "lod": lod, **asdict(variant), **result})
        training = {}
        for name in SETS:
            training[name] = {
                "baselines": units.get(f"training/{name}/baselines"),
                "failed": failure(units.get(f"training/{name}/failure")),
                "settings": self.size.training,
                "rate": RATE,
                "measured": [line for line in _lines(self.out) if line["set"] == name],
            }
        results = {
            "minutes": self.minutes,
            "seconds": round(self.ledger.seconds, 1),
            "tiny": self.size is TINY,
            "environment": units.get("environment"),
            "parity": units.get("parity"),
            "scores": units.get("scores"),
            "scores_tolerance": SCORES_AGREE,
            "speed": speed,
            "hours": self.hours(),
            "training": training,
        }
        write_json(self.out / "results.json", results)
        write_text(self.out / "results.md", markdown(results))


class _Training:
    """Training on one set: a stretch at a time, and a measurement after each."""

    def __init__(self, name: str, kit: Kit) -> None:
        self.name, self.kit = name, kit
        self.settings = kit.settings(SETS[name]).replace(**kit.size.training)
        self.folder = kit.work / name
        self.state = self.folder / "training"

    @cached_property
    def sets(self) -> tuple[ImageSet, ImageSet, Array]:
        experiment = DATASETS[self.name](self.kit.data, RATE, SEED)
        training = ImageSet.load(experiment.training, self.settings)
        test = ImageSet.load(experiment.test, preprocess=training.preprocess)
        return training, test, experiment.test_labels

    def baselines(self) -> dict[str, Any]:
        training, test, labels = self.sets
        values = {
            name: auroc(labels, baseline(training.images, test.images))
            for name, baseline in BASELINES.items()
        }
        return {"auroc": values, "training_images": len(training), "test_images": len(test)}

    @property
    def reached(self) -> float | None:
        """The kimg of the newest training state; None where there is none."""
        found = checkpoint.checkpoints(self.state)
        return int(found[0].stem.removeprefix("state-")) / 1000 if found else None

    @cached_property
    def run(self) -> int:
        """Counts the states that training began with: one that was lost begins a new run."""
        path = self.folder / "run.json"
        if not path.exists():
            earlier = [line["run"] for line in _lines(self.kit.out) if line["set"] == self.name]
            write_json(path, max(earlier, default=0) + 1)
        return int(read_json(path))

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What has been measured of this run."""
        return [
            line
            for line in _lines(self.kit.out)
            if line["set"] == self.name and line["run"] == self.run
        ]

    @property
    def seconds(self) -> float:
        """Time that the stretches so far have taken, all in all."""
        return sum(line["seconds"] for line in self.lines)

    def go_on(self, share: float, left: float) -> bool:
        """Train for a stretch, measure, and save the weights; False where there is no more to do.

        Args:
            share: seconds that this set still has.
            left: seconds until all training must be over.
        """
        started = time.monotonic()
        reached = self.reached or 0.0
        target = self._target(reached, share, left)
        if target is None:
            return False
        training, test, labels = self.sets
        settings = self.settings.replace(kimg=target)
        trained = train(training, settings, self.state, self.kit.device)
        detector = Detector.from_training(trained, training, settings)
        measured = {
            name: auroc(labels, values) for name, values in detector.score(test).columns().items()
        }
        detector.save(self.folder / "model")
        halve(self.folder / "model", self.kit.out / "weights" / self.name)
        pace = self._pace()
        seconds = time.monotonic() - started
        line = {
            "set": self.name,
            "run": self.run,
            "kimg": trained.kimg,
            "s_per_kimg": pace,
            "seconds": round(seconds, 1),  # the whole stretch
            "apart_from_training": round(seconds - (pace or 0.0) * (trained.kimg - reached), 1),
            "skipped": trained.skipped,
            "auroc": measured,
            "sides": {cue: detector.calibration.cues[cue].side for cue in CUES},
        }
        # On a line of its own even after one that a kill cut short.
        with (self.kit.out / "auroc.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(line)}\n")
        log.info("%s at %g kimg: AUROC %s", self.name, trained.kimg, measured)
        return True

    def _target(self, reached: float, share: float, left: float) -> float | None:
        """The kimg of the next measurement; None where all is trained, or time is too short."""
        if not self.lines:
            return reached  # first of all the untrained networks
        last, tick = self.lines[-1], min(self.settings.tick_kimg.values())
        if last["kimg"] < reached:
            return reached  # a kill came between training and measurement
        if reached >= self.settings.kimg:
            return None
        pace, apart = last["s_per_kimg"], last["apart_from_training"]
        if pace is None:
            return min(reached + tick, self.settings.kimg)
        if apart + tick * pace > min(share, left):
            return None
        seconds = min(share, self.kit.size.evaluate_every) - apart
        return float(min(reached + max(tick, seconds / pace), self.settings.kimg))

    def _pace(self) -> float | None:
        """Seconds per kimg in the training's last log line; None before the first."""
        path = self.state / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return float(json.loads(lines[-1])["s_per_kimg"]) if lines else None


def _lines(out: Path) -> list[dict[str, Any]]:
    """The measurements so far; a line that a kill cut short is left out."""
    path = out / "auroc.jsonl"
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # empty, or cut short
    return found


def _fail(why: str) -> None:
    raise RuntimeError(why)


def _resolution(settings: Settings) -> int:
    assert settings.resolution is not None
    return settings.resolution


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def environment(device: torch.device) -> dict[str, Any]:
    """The machine, and the best matrix product of each type, in operations a second."""
    facts: dict[str, Any] = {
        "device": device_name(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu_threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        facts |= {
            "capability": f"{gpu.major}.{gpu.minor}",
            "multiprocessors": gpu.multi_processor_count,
            "memory_gb": round(gpu.total_memory / 1e9, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "driver": _driver(),
        }
    peaks = {
        "float32": matrix_product_peak(device, torch.float32),
        "bfloat16": matrix_product_peak(device, torch.bfloat16),
    }
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            peaks["float32 with TF32"] = matrix_product_peak(device, torch.float32)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False
    return facts | {"peaks": peaks}


def _driver() -> str | None:
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip().splitlines()[0] if answer.stdout.strip() else None


def device_parity(device: torch.device) -> dict[str, Any]:
    """The worst relative error of each group of golden arrays, in float64 on the device."""
    return {name: found._asdict() for name, found in parity.worst(GOLDEN, device).items()}


def scores_agreement(device: torch.device, folder: Path, kimg: float) -> dict[str, float]:
    """Largest relative difference of each cue and of the score, device against CPU.

    Of a small model trained for a moment on the CPU, for 100 images of bars.
    """
    rng = np.random.default_rng(SEED)
    rows = np.repeat(rng.integers(0, 256, (300, 16, 1)), 16, axis=2)
    bars = np.clip(rows + rng.normal(0, 10, rows.shape), 0, 255).astype(np.uint8)[:, None]
    changes = {"resolution": 16, "channels": 1, "fmap_max": 16, "kimg": kimg, "seed": SEED}
    settings = preset("laptop").settings().replace(**changes)
    images = ImageSet.load(bars, settings)
    trained = train(images, settings, folder / "training")
    Detector.from_training(trained, images, settings).save(folder / "model")
    there, here = (Detector.load(folder / "model", d) for d in (device, torch.device("cpu")))
    ours, expected = (d.score(images.images[:100]).columns() for d in (there, here))
    return {name: relative(ours[name], values) for name, values in expected.items()}


def relative(ours: Array, expected: Array) -> float:
    """max |a - b| / max |b|."""
    return float(np.abs(ours - expected).max() / np.abs(expected).max())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu")
    parser.add_argument("--minutes", type=float, default=25, help="of all starts together")
    parser.add_argument("--data", type=Path, required=True, help="folder of the image sets")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--work", type=Path, help="folder of training states (OUT/work)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to try the kit itself")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    def work() -> int:
        device = select_device(given.device)
        if device.type == "cpu" and not given.tiny:
            raise UserError("there is no GPU here; --tiny tries the kit on a CPU")
        size = TINY if given.tiny else PAPER
        with exclusive_lock(given.out, "another process is measuring there now"):
            states = given.work or given.out / "work"
            Kit(given.out, states, given.data, given.minutes, size, device).run()
        print((given.out / "results.md").read_text(encoding="utf-8"))
        return 0

    return exit_status(work)
