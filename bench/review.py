"""Training images to look at until most of the anomalies among them are found.

    python -m bench review --study STUDY [--rate 0.05] [--sets NAMES] [--method ensemble]

Takes the detectors of several views of a study of `anowild study run`, of one of its methods. Images are looked at one by one, the oddest first,
and marked correctly, until 90 % of the injected anomalies are found: ranked by the unsupervised score, by PCA
reconstruction, by low contrast, at random, and by the score reranked by the marks after every 20. "All labels" ranks
each image by the same model fitted to the labels of the images outside its fold, one of ten: with nearly all images
marked. Means over seeds, in images and as a share of all. Then the AUROC over the unmarked images after the
first 20 marks, by the score and by the reranked score.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.evaluation.metrics import auroc
from anowild.reviewing.alike import compacted
from anowild.reviewing.rerank import rerank, reranking_features
from anowild.study.baselines import low_contrast, pca_residual
from anowild.study.datasets import names_of
from anowild.study.view_rules import Kept, kept_trials

FOUND, EVERY, FOLDS = 0.9, 20, 10


def looked_at(odd: Array, rank: Callable[[Array], Array]) -> int:
    """Return the number of images to look at until ``FOUND`` of the odd ones are found.

    Args:
        odd: which images are anomalies, bool [N].
        rank: (numbers of the images seen so far) -> scores [N].
    """
    wanted = int(np.ceil(FOUND * odd.sum()))
    seen: list[int] = []
    while True:
        score = np.array(rank(np.array(seen, int)), np.float64)
        score[seen] = -np.inf
        for i in np.argsort(-score, kind="stable")[:EVERY]:
            seen.append(int(i))
            if odd[seen].sum() >= wanted:
                return len(seen)


def efforts(kept: Kept) -> tuple[int, dict[str, float]]:
    """Return the number of training images of a trial, and images looked at by way of ranking."""
    trial, training = kept.trial, kept.training
    experiment = trial.experiment()
    odd = experiment.injected
    count = len(odd)
    score = kept.calibration.score(training)
    described = reranking_features(training, compacted(kept.features))

    def learning(seen: Array) -> Array:
        found = rerank(score, described, seen, odd[seen])
        return score if found is None else found

    informed = _with_all_labels(score, described, odd, trial.seed)
    images = ImageSet.load(experiment.training, trial.full_settings()).images
    pca = pca_residual(images, images, trial.seed)
    contrast = low_contrast(images, images)
    chance = np.random.default_rng(trial.seed).random(count)
    ways = {
        "our score": lambda seen: score,
        "and marks": learning,
        "all labels": lambda seen: informed,
        "PCA": lambda seen: pca,
        "low contrast": lambda seen: contrast,
        "at random": lambda seen: chance,
    }
    found: dict[str, float] = {name: looked_at(odd, way) for name, way in ways.items()}
    first = np.argsort(-score, kind="stable")[:EVERY]
    rest = np.setdiff1d(np.arange(count), first)
    found["before"] = auroc(odd[rest], score[rest])
    found["after"] = auroc(odd[rest], learning(first)[rest])
    return count, found


def _with_all_labels(score: Array, described: Array, odd: Array, seed: int) -> Array:
    """Rerank each image by the labels of all images outside its fold: [N]."""
    fold = np.random.default_rng(seed).permutation(len(odd)) % FOLDS
    informed = np.array(score, np.float64)
    for k in range(FOLDS):
        others = np.flatnonzero(fold != k)
        if (found := rerank(score, described, others, odd[others])) is not None:
            informed[fold == k] = found[fold == k]
    return informed


def main(arguments: list[str]) -> int:
    """Print the means over seeds of each set."""
    parser = argparse.ArgumentParser(prog="python -m bench review", description=__doc__)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--sets")
    parser.add_argument("--method", default="ensemble")
    given = parser.parse_args(arguments)
    found: dict[str, list[tuple[int, dict[str, float]]]] = {}
    sets = names_of(given.sets) if given.sets else None
    for kept in kept_trials(given.study, sets, given.rate, given.method):
        found.setdefault(kept.trial.set, []).append(efforts(kept))
    print(f"images looked at until {100 * FOUND:g} % of the anomalies are found, of all")
    for name, efforts_of in found.items():
        count = efforts_of[0][0]
        means = {way: np.mean([e[way] for _, e in efforts_of]) for way in efforts_of[0][1]}
        before, after = means.pop("before"), means.pop("after")
        worst = min(e["after"] - e["before"] for _, e in efforts_of)
        shown = "".join(f"  {way} {n:.0f} ({100 * n / count:.0f} %)" for way, n in means.items())
        print(f"{name}, {len(efforts_of)} seeds, of {count}:{shown}")
        print(
            f"    AUROC of the rest after {EVERY} marks: score {before:.3f}, and marks {after:.3f} "
            f"(the seeds differ by {worst:+.3f} at worst)"
        )
    return 0
