"""Real false discovery rates against the promised one, with clean and contaminated calibration.

    python -m bench thresholds [--study STUDY] [--rate 0.05] [--sets NAMES]

Simulated scores: N(0, 1) of normal images and N(3, 1) of anomalies; 1,000 calibration images, and 1,000
others of which 5 % are anomalies. Real scores, with ``--study``: those of the detectors of several views of a
study of `anowild study run`, trained at the contamination ``--rate``, seed 0; half of the normal test images are
for calibration, the others are flagged among 5 % anomalies. Then some of the calibration images are anomalies as well: as they are;
after the highest tenth was looked at and its anomalies removed; and after as many of the highest ones as there
are anomalies were removed unseen.

Then how many anomalies there are at least, with 95 % confidence, among the images of the same splits, with normal
images for calibration: the mean of the bound, and the share of splits in which it is not above the truth.

Then the share of anomalies among the training images, as `--gap` estimates it, and as a mixture of two
normal distributions fitted to the log of the oddness does: simulated, with anomalies 2 to 8 standard
deviations off, and on the study's sets.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from sklearn.mixture import GaussianMixture

from anowild.arrays import Array
from anowild.scoring.thresholds import false_discovery_rate, fewest_odd, gap
from anowild.study.datasets import names_of
from anowild.study.view_rules import Kept, kept_trials

#: (generator, share of anomalies in calibration) -> calibration scores and labels, scores and labels.
Draw = Callable[[np.random.Generator, float], tuple[Array, Array, Array, Array]]

RATE, SPOILT, ODD, LOOKED_AT = 0.1, (0.0, 0.02, 0.05, 0.1), 0.05, 0.1
SIMULATED, SPLITS = 200, 20


def simulated(rng: np.random.Generator, spoilt: float) -> tuple[Array, Array, Array, Array]:
    """Draw normal distributions; see :data:`Draw`."""

    def draw(share: float) -> tuple[Array, Array]:
        odd = np.arange(1000) < share * 1000
        return rng.normal(size=1000) + 3.0 * odd, odd

    return *draw(spoilt), *draw(ODD)


def of_cell(normal: Array, odd: Array) -> Draw:
    """Return a function that splits the scores of real images at random."""

    def draw(rng: np.random.Generator, spoilt: float) -> tuple[Array, Array, Array, Array]:
        n, o = rng.permutation(normal), rng.permutation(odd)
        half = len(n) // 2
        within, tested = (round(half * share / (1 - share)) for share in (spoilt, ODD))
        calibration = np.concatenate([n[:half], o[:within]])
        scores = np.concatenate([n[half:], o[within : within + tested]])
        return (
            calibration, np.arange(len(calibration)) >= half,
            scores, np.arange(len(scores)) >= len(n) - half,
        )  # fmt: skip

    return draw


def real(trials: Sequence[Kept]) -> Iterator[tuple[str, Draw]]:
    """Yield the sets of a study, seed 0."""
    for kept in trials:
        if not kept.trial.seed:
            scores = kept.calibration.score(kept.test)
            labels = kept.trial.experiment().test_labels
            yield kept.trial.set, of_cell(scores[labels == 0], scores[labels == 1])


def show(title: str, draw: Draw, count: int) -> None:
    """Print a line for each share of anomalies among the calibration images."""
    for spoilt in SPOILT:
        found: list[list[float]] = [[] for _ in range(6)]
        for seed in range(count):
            calibration, known, scores, odd = draw(np.random.default_rng(seed), spoilt)
            looked_at = calibration >= np.quantile(calibration, 1 - LOOKED_AT)
            cleaned = calibration[~(looked_at & known)]
            trimmed = np.sort(calibration)[: len(calibration) - known.sum()]
            for k, usual in enumerate((calibration, cleaned, trimmed)):
                flags = false_discovery_rate(scores, usual, RATE).flags(scores)
                found[2 * k].append((flags & ~odd).sum() / max(1, flags.sum()))
                found[2 * k + 1].append((flags & odd).sum() / odd.sum())
        figures = "".join(f"{np.mean(values):10.3f}" for values in found)
        print(f"{title:32}{100 * spoilt:6.0f} %{figures}")


def show_least(title: str, draw: Draw, count: int) -> None:
    """Print how many anomalies there are, at least so many, and how often that is right."""
    bounds, truths = [], []
    for seed in range(count):
        calibration, _, scores, odd = draw(np.random.default_rng(seed), 0.0)
        bounds.append(fewest_odd(scores, calibration))
        truths.append(int(odd.sum()))
    right, told = np.array(bounds) <= truths, np.array(bounds) > 0
    print(
        f"{title:40}{np.mean(truths):8.1f}{np.mean(bounds):12.1f}{told.mean():10.2f}{right.mean():10.2f}"
    )


def share_by_mixture(oddness: Array) -> float:
    """Fit two normal distributions, and return the share of the upper one."""
    x = np.log(np.maximum(oddness, 1e-12))[:, None]
    mixture = GaussianMixture(2, n_init=3, random_state=0).fit(x)
    return float(mixture.weights_[mixture.means_[:, 0].argmax()])


def shares(title: str, draws: Sequence[tuple[Array, Array]]) -> None:
    """Print the estimates for several sets of raw scores and labels."""
    told, right = [], []
    for oddness, odd in draws:
        flags = gap(oddness, oddness).flags(oddness)
        if flags.any():
            told.append(flags.mean())
            right.append((flags & odd).sum() / flags.sum())
    mixed = [share_by_mixture(oddness) for oddness, _ in draws]
    auto = (
        f"tells {len(told)} of {len(draws)}: {100 * np.mean(told):.1f} %, {100 * np.mean(right):.0f} % of them right"
        if told
        else f"can't tell, {len(draws)} of {len(draws)}"
    )
    truth = 100 * np.mean([odd.mean() for _, odd in draws])
    print(
        f"{title:40}{truth:6.1f} %{100 * min(mixed):8.1f} to {100 * max(mixed):4.1f} %   {auto}",
        flush=True,
    )


def apart(distance: float, share: float) -> list[tuple[Array, Array]]:
    """Simulate log-normal oddness, with anomalies ``distance`` standard deviations off in the log."""
    found = []
    for seed in range(SPLITS):
        odd = np.arange(2000) < share * 2000
        x = np.random.default_rng(seed).normal(size=2000) + distance * odd
        found.append((np.exp(x), odd))
    return found


def trained_on(trials: Sequence[Kept]) -> dict[str, list[tuple[Array, Array]]]:
    """Return raw scores and labels of the training images of a study, seed by seed, by set."""
    found: dict[str, list[tuple[Array, Array]]] = {}
    for kept in trials:
        scores = kept.calibration.raw_score(kept.training)
        found.setdefault(kept.trial.set, []).append((scores, kept.trial.experiment().injected))
    return found


def main(arguments: list[str]) -> int:
    """Print the three tables."""
    parser = argparse.ArgumentParser(prog="python -m bench thresholds", description=__doc__)
    parser.add_argument("--study", type=Path, default=None)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--sets")
    given = parser.parse_args(arguments)
    sets = names_of(given.sets) if given.sets else None
    trials = [*kept_trials(given.study, sets, given.rate)] if given.study else []
    print(f"false discovery rate {RATE}: mean share of false alarms, and of anomalies found")
    print(f"{'':32}{'spoilt':>8}{'as it is':>20}{'after a look':>20}{'trimmed unseen':>20}")
    print(" " * 40 + f"{'false':>10}{'found':>10}" * 3)
    show(f"simulated, {SIMULATED}", simulated, SIMULATED)
    for name, draw in real(trials):
        show(f"{name}, {SPLITS} splits", draw, SPLITS)
    print("\nleast number of anomalies, with 95 % confidence; 0: can't tell")
    print(f"{'':40}{'true':>8}{'at least':>12}{'told':>10}{'right':>10}")
    show_least(f"simulated, {SIMULATED}", simulated, SIMULATED)
    for name, draw in real(trials):
        show_least(f"{name}, {SPLITS} splits", draw, SPLITS)
    print("\nshare of anomalies")
    print(f"{'':40}{'true':>8}{'mixture of two':>18}    --gap")
    for distance in (2, 4, 6, 8):
        for share in (0.0, 0.05):
            shares(f"simulated, {distance} deviations off", apart(distance, share))
    for title, draws in trained_on(trials).items():
        shares(title, draws)
    return 0
