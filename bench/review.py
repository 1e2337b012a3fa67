"""Training images to look at until most of the anomalies among them are found.

    python -m bench review --study STUDY [--rate 0.05]

Takes the joint networks of a study of `anowild study run`. Images are looked at one by one, the oddest first,
and marked correctly, until 90 % of the injected anomalies are found: ranked by the unsupervised score, by PCA
reconstruction, by low contrast, at random, and by the score reranked by the marks after every 20. Means over
seeds, in images and as a share of all. Then the AUROC over the unmarked images after the first 20 marks, by the
score and by the reranked score.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.evaluation.metrics import auroc
from anowild.files import read_json
from anowild.reviewing.rerank import rerank, reranking_features
from anowild.study import cue_cache
from anowild.study.baselines import BASELINES, pca_residual
from anowild.study.fusion_rules import DEFAULT_RULE, RULES
from anowild.study.trial import CUE_CACHE, RESULT, TRIAL, Trial
from anowild.views.gan import CUES
from anowild.views.gaussian import GaussianReference

FOUND, EVERY = 0.9, 20


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


def efforts(folder: Path) -> tuple[str, int, dict[str, float]]:
    """Return the set of a trial, its number of images, and images looked at by way of ranking."""
    trial = Trial(**read_json(folder / TRIAL))
    measured = cue_cache.load(folder / CUE_CACHE)
    training = measured["training"]
    count = len(training["residual"])
    experiment = trial.experiment()
    odd = experiment.injected
    score = RULES[DEFAULT_RULE](training, training)
    # As the detector's score: -log10 of the share of training images as odd.
    ranks = (-score).argsort().argsort()
    rarity = -np.log10((ranks + 0.5) / count)
    usual = GaussianReference.fit(measured["samples"]["latent"])
    latents = usual.whitened(torch.from_numpy(training["latent"]))
    described = reranking_features({name: training[name] for name in CUES}, latents.numpy())

    def learning(seen: Array) -> Array:
        found = rerank(rarity, described, seen, odd[seen])
        return rarity if found is None else found

    images = ImageSet.load(experiment.training, trial.full_settings()).images
    pca = pca_residual(images, images, trial.seed)
    contrast = BASELINES["low contrast"](images, images)
    chance = np.random.default_rng(trial.seed).random(count)
    ways = {
        "our score": lambda seen: rarity,
        "and marks": learning,
        "PCA": lambda seen: pca,
        "low contrast": lambda seen: contrast,
        "at random": lambda seen: chance,
    }
    found: dict[str, float] = {name: looked_at(odd, way) for name, way in ways.items()}
    first = np.argsort(-rarity, kind="stable")[:EVERY]
    rest = np.setdiff1d(np.arange(count), first)
    found["before"] = auroc(odd[rest], rarity[rest])
    found["after"] = auroc(odd[rest], learning(first)[rest])
    return trial.set, count, found


def main(arguments: list[str]) -> int:
    """Print the means over seeds of each set."""
    parser = argparse.ArgumentParser(prog="python -m bench review", description=__doc__)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=0.05)
    given = parser.parse_args(arguments)
    found: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for result in sorted(given.study.glob(f"*/{100 * given.rate:g}pct/joint/*/{RESULT}")):
        name, count, effort = efforts(result.parent)
        found.setdefault(name, []).append((count, effort))
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
