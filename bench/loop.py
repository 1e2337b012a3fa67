"""Anomalies found, and AUROC, over rounds of review, cleaning and training anew.

    python -m bench loop --data DATA -o OUT [--sets cells64,mnist2] [--rate 0.05] [--seeds 3] [--preset quick]

A round: a model is trained on a contaminated set; 100 training images are marked correctly, the oddest
first, reranked by the marks after every 20; `anowild clean` removes the images marked odd; the next model
is trained on the rest, and the same review goes on with its scores. Printed for each round: how many
injected anomalies are found, the share that is left, and the AUROC of the model on held-out images; beside
it, how many are found in as many looks with the first model. Means over seeds.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from anowild import api
from anowild.evaluation.metrics import auroc
from anowild.files import read_json, write_json
from anowild.presets import preset
from anowild.reviewing.clean import IMAGES, clean
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import MARKS, Store, consensus
from anowild.scoring import Detector
from anowild.scoring.scores import oddest_first
from anowild.settings import Settings
from anowild.study.datasets import DATASETS, Experiment

EVERY = 20
#: The mark of an anomaly, which `anowild clean` removes.
ODD = "remove"


def look(scored: ReviewSession, store: Store, odd: set[str], looks: int) -> None:
    """Mark ``looks`` more images correctly, the oddest first, reranked after every ``EVERY``."""
    for _ in range(looks // EVERY):
        verdicts = consensus(store.marks())
        order = oddest_first(scored.reranked_scores(verdicts))
        new = [scored.names[i] for i in order if scored.names[i] not in verdicts]
        store.mark([name for name in new[:EVERY] if name in odd], "loop", ODD)
        store.mark([name for name in new[:EVERY] if name not in odd], "loop", "keep")


def found(store: Store) -> int:
    """Return the number of images marked odd."""
    return sum(verdict == ODD for verdict in consensus(store.marks()).values())


def one_loop(
    experiment: Experiment, settings: Settings, folder: Path, rounds: int, looks: int
) -> list[dict[str, float]]:
    """Run all rounds of one set and seed; the last one trains, and marks nothing."""
    shutil.rmtree(folder, ignore_errors=True)  # of a start that was cut off
    images = folder / "images"
    images.mkdir(parents=True)
    for i, image in enumerate(experiment.training):
        picture = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(picture).save(images / f"{i:06}.png")
    injected = {str(images / f"{i:06}.png") for i in experiment.contamination.indices}
    review, staying = folder / "review", folder / "review0"
    rows, kept = [], images
    for turn in range(rounds + 1):
        api.train(str(kept), folder / f"model{turn}", settings)
        detector = Detector.load(folder / f"model{turn}")
        row = {"auroc": auroc(experiment.test_labels, api.score(detector, experiment.test).score)}
        # As `anowild review model IMAGES -o review` does, whichever model the review began with.
        scored = ReviewSession.make(review, detector, str(images))
        store = Store(review / MARKS)
        row["left"] = (len(injected) - found(store)) / (len(scored) - found(store))
        if turn == 0:
            first, beside = (
                ReviewSession.make(staying, detector, str(images)),
                Store(staying / MARKS),
            )
        row |= {"found": found(store), "found by the first model": found(beside)}
        rows.append(row | {"injected": len(injected)})
        if turn < rounds:
            look(scored, store, injected, looks)
            look(first, beside, injected, looks)
            clean(review, folder / f"cleaned{turn + 1}")
            kept = folder / f"cleaned{turn + 1}" / IMAGES
        store.close()
    beside.close()
    return rows


def main(arguments: list[str]) -> int:
    """Run all sets and seeds that are not done, and print the means."""
    parser = argparse.ArgumentParser(prog="python -m bench loop", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--sets", default="cells64,mnist2")
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--looks", type=int, default=100)
    parser.add_argument("--preset", default="quick")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for name in given.sets.split(","):
        loops = []
        for seed in range(given.seeds):
            folder = given.out / name / f"seed{seed}"
            result = folder / "rounds.json"
            if not result.exists():
                settings = preset(given.preset).settings().replace(seed=seed)
                experiment = DATASETS[name](given.data, given.rate, seed)
                write_json(
                    result, one_loop(experiment, settings, folder, given.rounds, given.looks)
                )
            loops.append(read_json(result))
        print(
            f"{name}, {100 * given.rate:g} %, {len(loops)} seeds, {loops[0][0]['injected']} injected"
        )
        for turn in range(len(loops[0])):
            mean = {key: np.mean([rows[turn][key] for rows in loops]) for key in loops[0][turn]}
            spread = np.std([rows[turn]["auroc"] for rows in loops], ddof=min(1, len(loops) - 1))
            print(
                f"  {turn * given.looks:4} looked at: found {mean['found']:.0f} (if the first model "
                f"stays {mean['found by the first model']:.0f}), {100 * mean['left']:.1f} % left, "
                f"AUROC of the model {mean['auroc']:.3f} ± {spread:.3f}",
                flush=True,
            )
    return 0
