"""Speed, parity and one default-length study trial on a GPU.

    python -m bench gpu -o OUT [--data DATA] [--minutes 15]

In order: the machine and its matrix-product peaks; parity with tests/golden and agreement of scores
with the CPU; the whole default training of all views on 6,000 crops of photographs, and how fast its model scores
beside reading alone; a training of the default length for each of ``--sets``, 10 % contaminated, as
`anowild study run` does it; speed at every level and fade of both paper presets, most telling rows
first, and the hours of their schedules from it. OUT/results.json and results.md are written after
each part, and a part that is there is not measured again. Needs torch, numpy, scipy, scikit-learn,
pillow and safetensors, and this repository with PYTHONPATH=src:. on a machine without our package.
docs/gpu holds what an H100 gave.
"""

from __future__ import annotations

import argparse
import logging
import platform
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.device import matrix_product_peak, select_device
from anowild.errors import UserError
from anowild.files import read_json, write_json, write_text
from anowild.paper import parity
from anowild.presets import FAST, preset
from anowild.process import exit_status
from anowild.scoring import Detector
from anowild.scoring.stream import score
from anowild.settings import Settings
from anowild.signals import Interrupted
from anowild.study import sweep, trial
from anowild.training.fitting import fit_detector
from anowild.training.networks import Networks
from anowild.training.schedule import Schedule
from anowild.views.base import View
from bench.capacity import crops, rate, read
from bench.levels import measure, schedule_hours, schedule_kimg

log = logging.getLogger("anowild")

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
PRESETS = ("paper-cifar10", "paper-kth-cells")
#: Contamination and seed of the default-length trials.
RATE, SEED = 0.1, 0
#: Changes with --tiny, which tries this program on a CPU.
TINY = {"resolution": 8, "fmap_base": 32, "fmap_max": 4, "minibatch": 8}
TINY_TRIAL = {**TINY, "kimg": 0.1, "tick_kimg": 0.1}
#: Images of the default training, and those that its model scores, with --tiny and without.
DEFAULT_IMAGES = {True: (64, 64), False: (6000, 4096)}

#: Results by name: "environment", "parity", "scores", "default", "trial/SET", "speed/PRESET/LEVEL/VARIANT".
Results = dict[str, Any]
#: Precision, step ("in turn" is the paper's), and whether CUDA graphs are used; most telling first.
Variant = tuple[str, str, bool]
VARIANTS: list[Variant] = [
    (precision, step, graphs)
    for graphs, step, precision in product((True, False), ("in turn", "fast"), ("bfloat16", "float32"))
]  # fmt: skip


def environment(device: torch.device) -> dict[str, Any]:
    """Return facts on the machine, and its best matrix product of each type in FLOP/s."""
    facts: dict[str, Any] = {
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu_threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
        facts["memory_gb"] = round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1)
        facts["cuda"] = torch.version.cuda
        facts["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    peaks = {
        "float32": matrix_product_peak(device, torch.float32),
        "bfloat16": matrix_product_peak(device, torch.bfloat16),
    }
    return facts | {"peaks": peaks}


def score_differences(device: torch.device, folder: Path, kimg: float) -> dict[str, float]:
    """Return the largest relative difference of each score column, device against CPU.

    A small model is trained for ``kimg`` on the CPU; both score 100 images of bars with it.
    """
    rng = np.random.default_rng(SEED)
    rows = np.repeat(rng.integers(0, 256, (300, 16, 1)), 16, axis=2)
    bars = np.clip(rows + rng.normal(0, 10, rows.shape), 0, 255).astype(np.uint8)[:, None]
    changes: dict[str, Any] = {"resolution": 16, "channels": 1, "fmap_max": 16, "kimg": kimg}
    changes["seed"] = SEED
    changes |= {"transforms_kimg": kimg, "views": ("gan", "transforms", "pixels")}
    settings = preset("laptop").settings().replace(**changes, precision="float32")
    images = ImageSet.load(bars, settings)
    cpu = torch.device("cpu")
    fit_detector(images, settings, folder / "training", cpu).detector.save(folder / "model")
    there, here = (Detector.load(folder / "model", d) for d in (device, cpu))
    ours, expected = (d.score(images.images[:100]).columns() for d in (there, here))
    return {name: relative(ours[name], values) for name, values in expected.items()}


def default_training(device: torch.device, folder: Path, tiny: bool) -> dict[str, Any]:
    """Train all views as `anowild train` does by default, and score with them.

    Returns:
        Seconds of all and of each view, or why it could not be fitted; images a second of each view, and of scoring and
        of reading JPEG files of 256 pixels with one process.
    """
    count, scored = DEFAULT_IMAGES[tiny]
    changes = {**TINY_TRIAL, "transforms_kimg": 0.1} if tiny else {}
    settings = preset("laptop").settings().replace(seed=SEED, **changes)
    images = ImageSet.load(np.stack(list(crops(count, 40))), settings)
    started = time.perf_counter()
    fitted = fit_detector(images, settings, folder / "training", device)
    found: dict[str, Any] = {"images": count, "seconds": time.perf_counter() - started}
    detector = fitted.detector
    info = detector.training_info
    found |= {f"{name}, seconds": facts["seconds"] for name, facts in info["views"].items()}
    found |= {f"{name}, failed": reason for name, reason in info["failed"].items()}
    detector.save(folder / "model")
    detector = Detector.load(folder / "model", device)
    squares = images.images[np.arange(scored) % count]

    def measured(view: View) -> int:
        view.measure(squares)
        return scored

    for view in detector.views:
        found[f"{view.name}, images/s"] = rate(partial(measured, view), 0.1 if tiny else 3.0)
    (folder / "files").mkdir(exist_ok=True)
    for number, crop in enumerate(crops(scored, 256)):
        Image.fromarray(crop).save(folder / "files" / f"{number:05}.jpg", quality=90)
    reads = rate(lambda: read(detector, folder / "files"), 0.0)
    scores = rate(lambda: len(score(detector, str(folder / "files"))), 0.0)
    return found | {
        "reading, images/s": reads,
        "scoring, images/s": scores,
        "of reading": scores / reads,
    }


def relative(ours: Array, expected: Array) -> float:
    """Return max |a - b| / max |b|."""
    return float(np.abs(ours - expected).max() / np.abs(expected).max())


def run_trial(
    name: str, data: Path | None, settings: Settings, out: Path, device: torch.device
) -> dict[str, Any]:
    """Run a trial of the study with joint training, and return its result."""
    (one,) = sweep.plan(data, [name], [RATE], ["joint"], [SEED], settings)
    return trial.run(one, out / one.place, device)


def variant_settings(name: str, variant: Variant, tiny: bool) -> Settings:
    """Return a preset's settings for one way of running the step."""
    precision, step, _ = variant
    fast = FAST if step == "fast" else {}
    changes = {**(TINY if tiny else {}), **fast, "precision": precision}
    return preset(name).settings().replace(**changes)


def speed_rows(tiny: bool) -> list[tuple[str, float, Variant]]:
    """Return preset, level and variant of each row; level k + 0.5 is the middle of a fade."""
    rows = []
    for variant, name in product(VARIANTS, PRESETS):
        settings = variant_settings(name, variant, tiny)
        highest = round(Schedule(settings, settings.resolution or 0).initial_lod)
        # Iterations of a fade cannot be recorded as a graph.
        levels = np.arange(0, highest + 0.5, 1.0 if variant[2] else 0.5).tolist()
        rows += [(name, lod, variant) for lod in levels]
    return rows


def title(variant: Variant) -> str:
    """Return a variant's name, as in "bfloat16, in turn, graphs"."""
    precision, step, graphs = variant
    return f"{precision}, {step}{', graphs' if graphs else ''}"


def paces(results: Results, name: str, variant: Variant) -> dict[float, float]:
    """Return the measured seconds per kimg of a preset by level."""
    found = {}
    for key, row in results.items():
        part, *rest = key.split("/")
        if part == "speed" and (rest[0], rest[2]) == (name, title(variant)) and "failed" not in row:
            found[float(rest[1])] = row["s_per_kimg"]
    return found


@cache
def _schedule(name: str, tiny: bool) -> Mapping[tuple[float, bool], int]:
    settings = variant_settings(name, VARIANTS[0], tiny)
    return schedule_kimg(settings, settings.resolution or 0)


def hours(results: Results, tiny: bool) -> dict[str, dict[str, float | None]]:
    """Return the hours of each preset's schedule by variant; None where levels are not measured."""
    found: dict[str, dict[str, float | None]] = {}
    for variant, name in product(VARIANTS, PRESETS):
        precision, step, graphs = variant
        kimg = _schedule(name, tiny)
        recorded = paces(results, name, variant) if graphs else None
        plain = paces(results, name, (precision, step, False))
        found.setdefault(title(variant), {})[name] = schedule_hours(kimg, plain, recorded)
    return found


def markdown(results: Results, tiny: bool) -> str:
    """Format all results."""
    lines = ["# What `python -m bench gpu` measured", ""]
    if tiny:
        lines += [
            "**Tiny networks, to try the program itself: no figure here means anything.**",
            "",
        ]
    for key in ("environment", "parity", "scores", "default"):
        facts = results.get(key, {})
        lines += [f"## {key.capitalize()}", "", *(f"- {k}: {v}" for k, v in facts.items()), ""]
    lines += [f"## Trials: joint training, {100 * RATE:g} % contaminated, seed {SEED}", ""]
    for key, result in results.items():
        if key.startswith("trial/") and "rows" in result:
            auroc = ", ".join(f"{row['score']} {row['auroc']:.3f}" for row in result["rows"])
            lines.append(f"- {key[6:]}, {result['train_seconds']:.0f} s of training: {auroc}")
        elif key.startswith("trial/"):
            lines.append(f"- {key[6:]}: failed ({result['failed']})")
    lines += [
        "",
        "## Speed",
        "",
        "| preset | level | step | s/kimg | TFLOP/s | of peak | peak MB |",
    ]
    lines += ["|---" * 7 + "|"]
    for key, row in results.items():
        if key.startswith("speed/"):
            start = "| " + " | ".join(key.split("/")[1:])
            lines.append(
                f"{start} | {row['failed']} | | | |"
                if "failed" in row
                else f"{start} | {row['s_per_kimg']:.3f} | {row['gflops'] / 1000:.1f} | "
                f"{row['of_peak']:.2f} | {row['peak_memory_mb']} |"
            )
    lines += ["", "## Hours of the schedule", "", f"| step | {' | '.join(PRESETS)} |"]
    lines += ["|---" * (1 + len(PRESETS)) + "|"]
    for name, row in hours(results, tiny).items():
        cells = ["-" if row[p] is None else f"{row[p]:.2f}" for p in PRESETS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


class Session:
    """One start of the program: measures what OUT/results.json does not hold yet."""

    def __init__(self, out: Path, device: torch.device, minutes: float, tiny: bool) -> None:
        self.out, self.device, self.tiny = out, device, tiny
        self.deadline = time.monotonic() + 60 * minutes
        path = out / "results.json"
        self.results: Results = read_json(path) if path.exists() else {}

    def part(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Measure a part unless it is there or time is over; a failure is a result as well."""
        if name in self.results or time.monotonic() > self.deadline:
            return
        log.info("%s", name)
        try:
            self.results[name] = work()
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the other parts are wanted
            self.results[name] = {"failed": (str(error).splitlines() or [repr(error)])[0]}
        write_json(self.out / "results.json", self.results)
        write_text(self.out / "results.md", markdown(self.results, self.tiny))

    def run(self, sets: list[str], data: Path | None) -> None:
        """Measure all parts, in order of worth."""
        device, work = self.device, self.out / "work"
        self.part("environment", lambda: environment(device))
        self.part(
            "parity", lambda: {k: v._asdict() for k, v in parity.worst(GOLDEN, device).items()}
        )
        kimg = 0.1 if self.tiny else 2.0
        self.part("scores", lambda: score_differences(device, work / "scores", kimg))
        settings = preset("laptop").settings().replace(**(TINY_TRIAL if self.tiny else {}))
        self.part("default", lambda: default_training(device, work / "default", self.tiny))
        for name in sets:
            self.part(f"trial/{name}", partial(run_trial, name, data, settings, work, device))
        networks: dict[str, Networks] = {}
        for name, lod, variant in speed_rows(self.tiny):
            self.part(
                f"speed/{name}/{lod:g}/{title(variant)}",
                partial(self.speed, name, lod, variant, networks),
            )

    def speed(
        self, name: str, lod: float, variant: Variant, networks: dict[str, Networks]
    ) -> dict[str, Any]:
        """Measure one row; ``networks`` keeps those of the preset that was measured last."""
        if variant[2] and self.device.type != "cuda":
            raise RuntimeError("CUDA graphs need a GPU")
        settings = variant_settings(name, variant, self.tiny)
        if name not in networks:
            networks.clear()
            shape = settings.resolution or 0, settings.channels or 1
            networks[name] = Networks.build(settings, *shape).to(self.device)
        peak = self.results["environment"]["peaks"][variant[0]]
        seconds = 0.01 if self.tiny else 1.0
        return measure(settings, networks[name], lod, seconds, peak, graphs=variant[2])


def main(arguments: list[str]) -> int:
    """Measure, and print the results as Markdown."""
    parser = argparse.ArgumentParser(
        prog="python -m bench gpu", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--data", type=Path, help="folder of the image sets")
    parser.add_argument("--sets", nargs="*", default=["mnist2", "cells64"], help="of the trials")
    parser.add_argument("--minutes", type=float, default=15, help="no part starts after them")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to try the program")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    def work() -> int:
        device = select_device(given.device)
        if device.type == "cpu" and not given.tiny:
            raise UserError("there is no GPU here; --tiny tries the program on a CPU")
        if given.sets and given.data is None:
            raise UserError("the trials need --data; without it, give --sets with no name")
        session = Session(given.out, device, given.minutes, given.tiny)
        session.run(given.sets, given.data)
        print(markdown(session.results, session.tiny))
        return 0

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
