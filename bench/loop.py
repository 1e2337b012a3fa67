"""Whether looking, cleaning and training anew gets better, round by round.

    python -m bench loop --data DATA -o OUT [--sets cells64,mnist2] [--rate 0.05] [--seeds 3]

Trains on a contaminated set; somebody looks at 100 training images, in the order of what the marks so
far teach, ranked anew after every 20, and marks them rightly; `anowild clean` takes out what is marked odd;
a new model is trained on what stays, and the same review goes on with its scores. For each round: how many of
the injected anomalies are found, the share that is left, and the AUROC of the model on the held-out images.
Beside it, how many are found in as many looks if the first model stays. Mean over seeds.
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


def look(scored: ReviewSession, store: Store, odd: set[str], looks: int) -> None:
    """Mark so many more images, the oddest first of what the marks so far teach."""
    for _ in range(looks // EVERY):
        verdicts = consensus(store.marks())
        order = oddest_first(scored.reranked_scores(verdicts))
        new = [scored.names[i] for i in order if scored.names[i] not in verdicts]
        for name in new[:EVERY]:
            store.mark(name, "loop", "odd" if name in odd else "keep")


def found(store: Store) -> int:
    return sum(verdict == "odd" for verdict in consensus(store.marks()).values())


def one_loop(
    experiment: Experiment, settings: Settings, folder: Path, rounds: int, looks: int
) -> list[dict[str, float]]:
    """Of one set and seed: what each round gives; the last one trains and does not look."""
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier start left half done
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
    parser = argparse.ArgumentParser(prog="python -m bench loop", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--sets", default="cells64,mnist2")
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--looks", type=int, default=100)
    parser.add_argument("--kimg", type=float, default=30)
    parser.add_argument("--resolution", type=int, default=16)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for name in given.sets.split(","):
        loops = []
        for seed in range(given.seeds):
            folder = given.out / name / f"seed{seed}"
            result = folder / "rounds.json"
            if not result.exists():
                settings = preset("laptop").settings()
                settings = settings.replace(kimg=given.kimg, resolution=given.resolution, seed=seed)
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
