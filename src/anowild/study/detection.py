"""The detection table: our cues beside an untrained network and baselines on pixels.

    python -m anowild.study.detection run SET --data FOLDER --rate 0.1 --seed 0 --kimg 100 -o RUNS
    python -m anowild.study.detection table RUNS

``run`` trains one model on one contaminated set and writes RUNS/<name>/result.json; what is
there already is not run again, and what was stopped goes on. ``table`` prints the means and
standard deviations over seeds of all results under RUNS, as Markdown.
"""

from __future__ import annotations

import argparse
import logging
import platform
import statistics
import sys
from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anowild.config import Settings, preset
from anowild.data import ImageSet
from anowild.device import choose_device
from anowild.errors import UserError
from anowild.files import read_json, write_json
from anowild.scoring import Detector
from anowild.signals import exit_status
from anowild.study.baselines import BASELINES
from anowild.study.datasets import DATASETS, Experiment
from anowild.study.metrics import auroc, average_precision
from anowild.training import train
from anowild.version import VERSION

Array = np.ndarray[Any, Any]
Row = dict[str, float]

#: Titles of the rows that come from our networks.
TITLES = {
    "score": "AnoWild, combined score",
    "residual": "AnoWild, residual",
    "feature_distance": "AnoWild, feature distance",
    "latent_norm": "AnoWild, latent norm",
}


def evaluate_all(
    training: ImageSet, test: ImageSet, labels: Array, settings: Settings, folder: Path,
    device: torch.device,
) -> tuple[dict[str, dict[str, Row]], Detector]:  # fmt: skip
    """Train, and measure every way of scoring the test images.

    Returns:
        ``{"trained": {...}, "untrained": {...}, "baselines": {...}}``, each by title with
        ``auroc`` and ``average_precision``; and the trained detector.
    """
    detectors = {}
    for name, kimg in (("untrained", 0.0), ("trained", settings.kimg)):
        run = settings.but(kimg=kimg)
        place = folder / ("untrained" if name == "untrained" else "training")
        trained = train(training, run, place, device)
        detectors[name] = Detector.from_training(trained, training, run)
    rows: dict[str, dict[str, Row]] = {}
    for name, detector in detectors.items():
        columns = detector.score(test).columns()
        rows[name] = {TITLES[column]: _row(labels, values) for column, values in columns.items()}
    rows["baselines"] = {
        name: _row(labels, baseline(training.images, test.images))
        for name, baseline in BASELINES.items()
    }
    return rows, detectors["trained"]


def _row(labels: Array, scores: Array) -> Row:
    return {
        "auroc": auroc(labels, scores),
        "average_precision": average_precision(labels, scores),
    }


def run(name: str, experiment: Experiment, settings: Settings, folder: Path) -> dict[str, Any]:
    """One experiment, start to end; the result is also written to ``folder``/result.json."""
    done = folder / "result.json"
    if done.exists():
        result: dict[str, Any] = read_json(done)
        return result
    training = ImageSet.load(experiment.training, settings)
    test = ImageSet.load(experiment.test, preprocess=training.preprocess)
    rows, detector = evaluate_all(
        training, test, experiment.test_labels, settings, folder, choose_device("auto")
    )
    detector.save(folder)
    result = {
        "set": name,
        "rate": experiment.contamination.rate,
        "seed": settings.seed,
        "resolution": training.preprocess.resolution,
        "training_images": len(training),
        "test_images": len(test),
        "rows": rows,
        "sides": {cue: c.side for cue, c in detector.calibration.cues.items()},
        "skewness": {cue: round(c.skewness, 3) for cue, c in detector.calibration.cues.items()},
        "kimg": detector.facts["kimg"],
        "train_seconds": detector.facts["seconds"],
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "date": datetime.now(UTC).date().isoformat(),
        "anowild": VERSION,
        "contamination": asdict(experiment.contamination),
    }
    write_json(done, result)
    return result


def table(folder: Path, metric: str = "auroc") -> str:
    """Markdown: a section for each set and length, a column for each rate, mean ± deviation."""
    results = [read_json(path) for path in sorted(folder.glob("*/result.json"))]
    if not results:
        raise UserError(f"{folder}: holds no results; make some with the command 'run'")
    sections: dict[tuple[str, int, float], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        sections[result["set"], result["resolution"], result["kimg"]].append(result)
    return "\n".join(_section(key, group, metric) for key, group in sorted(sections.items()))


def _section(key: tuple[str, int, float], results: list[dict[str, Any]], metric: str) -> str:
    name, resolution, kimg = key
    rates = sorted({r["rate"] for r in results})
    by_rate = {rate: [r for r in results if r["rate"] == rate] for rate in rates}
    seconds = statistics.mean(r["train_seconds"] for r in results)
    threads, dates = {r["threads"] for r in results}, {r["date"] for r in results}
    lines = [
        f"### `{name}` at {resolution}x{resolution}, {kimg:g} kimg",
        "",
        f"{', '.join(f'{len(v)} seeds at {100 * k:g} %' for k, v in by_rate.items())}; "
        f"{results[0]['test_images']} test images; {seconds / 60:.1f} minutes of training each on "
        f"{'/'.join(map(str, sorted(threads)))} thread(s) ({results[0]['machine']}); "
        f"{', '.join(sorted(dates))}.",
        "",
        f"| {metric} | " + " | ".join(f"{100 * rate:g} % contaminated" for rate in rates) + " |",
        "|---" * (len(rates) + 1) + "|",
    ]
    for part, suffix in (("trained", ""), ("untrained", ", untrained"), ("baselines", "")):
        for title in results[0]["rows"][part]:
            cells = [
                _mean([r["rows"][part][title][metric] for r in by_rate[rate]]) for rate in rates
            ]
            lines.append(f"| {title}{suffix} | {' | '.join(cells)} |")
    lines += ["", "Side of each cue that counted as odd, by run:", ""]
    for r in sorted(results, key=lambda r: (r["rate"], r["seed"])):
        sides = ", ".join(f"{c} {s} ({r['skewness'][c]:+.2f})" for c, s in r["sides"].items())
        lines.append(f"- {100 * r['rate']:g} %, seed {r['seed']}: {sides}")
    return "\n".join(lines) + "\n"


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m anowild.study.detection")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="train and measure one model")
    one.add_argument("set", choices=sorted(DATASETS))
    one.add_argument("--data", type=Path, required=True, help="folder of the image sets")
    one.add_argument("--rate", type=float, default=0.0, help="contamination of training")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--kimg", type=float, default=100)
    one.add_argument("--preset", default="laptop")
    one.add_argument("--set", dest="changes", action="append", default=[], metavar="NAME=VALUE")
    one.add_argument("--threads", type=int, default=None)
    one.add_argument("-o", "--out", type=Path, required=True, help="folder of all runs")
    tables = commands.add_parser("table", help="print all results")
    tables.add_argument("runs", type=Path)
    tables.add_argument("--metric", choices=["auroc", "average_precision"], default="auroc")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")

    def work() -> int:
        if given.command == "table":
            print(table(given.runs, given.metric))
            return 0
        choose_device("auto", given.threads)
        changes = dict(change.split("=", 1) for change in given.changes)
        settings = preset(given.preset).settings().but(seed=given.seed, kimg=given.kimg, **changes)
        experiment = DATASETS[given.set](given.data, given.rate, given.seed)
        name = f"{given.set}-{100 * given.rate:g}pct-{given.kimg:g}kimg-seed{given.seed}"
        result = run(given.set, experiment, settings, given.out / name)
        for part, rows in result["rows"].items():
            for title, row in rows.items():
                print(f"{part:10} {title:32} {row['auroc']:.3f} {row['average_precision']:.3f}")
        return 0

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
