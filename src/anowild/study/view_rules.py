"""Rules that join the cues of several views into one score, compared on what a study kept of its trials.

A rule sees the cues of the (contaminated) training images, and scores other images by theirs; none sees a
label or a rate. Surprises are in nats: -log of the share of training images as odd, or odder.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anowild.arrays import Array, read_array
from anowild.errors import UserError
from anowild.evaluation.metrics import auroc
from anowild.files import read_json
from anowild.scoring import Calibration
from anowild.scoring.calibration import Tail, agreement
from anowild.study import cue_cache
from anowild.study.methods import ENSEMBLES
from anowild.study.trial import CALIBRATION, CUES, FEATURES, TRIAL, Trial

Cues = Mapping[str, Array]
#: The cue that says how much there is in an image, and the share of training images that are most alike in it.
AMOUNT, ALIKE = "contrast", 0.1
#: Surprise from which the truncated product counts a view: one training image in five is as odd.
TRUNCATED = float(-np.log(0.2))


@dataclass(frozen=True)
class Kept:
    """What a trial of several views kept."""

    trial: Trial
    calibration: Calibration
    training: Cues
    test: Cues
    features: Array  # of the training images, [N, D]; D is 0 where no view had them at hand

    @staticmethod
    def load(folder: Path) -> Kept:
        """Read it from the folder of a trial.

        Raises:
            UserError: a file is missing or damaged.
        """
        try:
            calibration = Calibration.from_json(read_json(folder / CALIBRATION))
        except ValueError as error:
            raise UserError(f"{folder / CALIBRATION}: is damaged ({error})") from error
        found = cue_cache.load(folder / CUES)
        features = np.zeros((len(next(iter(found["training"].values()))), 0))
        if (folder / FEATURES).exists():
            with (folder / FEATURES).open("rb") as file:
                features = read_array(file).astype(np.float64)
        trial = Trial(**read_json(folder / TRIAL))
        return Kept(trial, calibration, found["training"], found["test"], features)


#: Scores of the test images, [N], higher is odder.
Rule = Callable[[Kept], Array]


def verdict(kept: Kept) -> Array:
    """Return the detector's own score before its last calibration, which changes no order."""
    return kept.calibration.raw_score(kept.test)


def weighted(power: float = 2.0, by_cues: bool = True) -> Rule:
    """Return the rule of the sum of the views' surprises, weighted as the verdict does.

    Args:
        power: of the mean correlation with the other views; 2 in the verdict, 0: views count alike.
        by_cues: whether a view also has the weight of the loudest of its cues.
    """

    def rule(kept: Kept) -> Array:
        before, after = (
            _surprises(kept.calibration, kept.training),
            _surprises(kept.calibration, kept.test),
        )
        weights = np.power(agreement([*before]), power / 2)
        if by_cues:
            weights *= _loudest(kept.calibration)
        return weights @ after

    return rule


def largest(count: int) -> Rule:
    """Return the rule of the sum of the ``count`` largest weighted surprises of views."""

    def rule(kept: Kept) -> Array:
        found = _weighted(kept.calibration, kept.test)
        return np.sort(found, axis=0)[-count:].sum(axis=0)

    return rule


def truncated(kept: Kept) -> Array:
    """Sum the weighted surprises above :data:`TRUNCATED` (Zaykin et al. 2002); the whole sum breaks ties."""
    found, plain = _weighted(kept.calibration, kept.test), _surprises(kept.calibration, kept.test)
    return np.asarray(np.where(plain >= TRUNCATED, found, 1e-3 * found).sum(axis=0))


def consensus(kept: Kept) -> Array:
    """Weigh views by the first eigenvector of their correlations, as hubs of each other (HITS)."""
    surprises = _surprises(kept.calibration, kept.training)
    if len(surprises) < 2:
        return verdict(kept)
    _, vectors = np.linalg.eigh(np.nan_to_num(np.corrcoef(surprises)))
    first = vectors[:, -1] * np.sign(vectors[:, -1].sum())
    return np.asarray(np.maximum(first, 0.0) @ _surprises(kept.calibration, kept.test))


def all_cues(kept: Kept) -> Array:
    """Sum the weighted surprises of all cues that count, whatever view they are of."""
    return np.asarray(sum(_cue_surprises(kept.calibration, kept.calibration.counted, kept.test)))


def within_views(power: float = 2.0) -> Rule:
    """Return the rule of the verdict with the sum, not the largest, of the cues' surprises in each view."""

    def rule(kept: Kept) -> Array:
        before, after = [], []
        for view in kept.calibration.views.values():
            training, test = (
                np.sum(_cue_surprises(kept.calibration, view.cues, cues), axis=0)
                for cues in (kept.training, kept.test)
            )
            tail = Tail.fit(training)
            before.append(-tail.log_upper(training))
            after.append(-tail.log_upper(test))
        weights = np.power(agreement(before), power / 2) * _loudest(kept.calibration)
        return np.asarray(weights @ np.stack(after))

    return rule


def given_amount(kept: Kept) -> Array:
    """Hold each view against the training images of like contrast, and add the surprise of the contrast.

    So a view that finds plain images usual, because there is little to differ in, says nothing of them.
    """
    calibration = kept.calibration
    if AMOUNT not in calibration.cues:
        return verdict(kept)
    before, after = (_surprises(calibration, cues) for cues in (kept.training, kept.test))
    order = np.argsort(kept.training[AMOUNT])
    count = len(order)
    alike = max(20, round(ALIKE * count))
    place = np.searchsorted(kept.training[AMOUNT][order], kept.test[AMOUNT])
    start = np.clip(place - alike // 2, 0, max(0, count - alike))
    near = before[:, order[np.minimum(start[:, None] + np.arange(alike), count - 1)]]
    above = (near >= after[:, :, None]).sum(axis=2)
    weights = np.array([view.weight for view in calibration.views.values()])
    amount = calibration.cues[AMOUNT].surprise(kept.test[AMOUNT])
    return np.asarray(weights @ -np.log((above + 1) / (alike + 1)) + amount)


def _loudest(calibration: Calibration) -> Array:
    """Return the weight of each view's loudest cue, [views]."""
    return np.array(
        [max(calibration.cues[c].weight for c in v.cues) for v in calibration.views.values()]
    )


def _surprises(calibration: Calibration, cues: Cues) -> Array:
    """Return the surprises of views: [views, N]."""
    return np.stack([*calibration.view_surprises(cues).values()])


def _weighted(calibration: Calibration, cues: Cues) -> Array:
    """Return the surprises of views times their weights: [views, N]."""
    weights = np.array([view.weight for view in calibration.views.values()])
    return np.asarray(weights[:, None] * _surprises(calibration, cues))


def _cue_surprises(calibration: Calibration, names: Sequence[str], cues: Cues) -> list[Array]:
    """Return the surprises of cues times their weights, [N] each."""
    return [calibration.cues[n].weight * calibration.cues[n].surprise(cues[n]) for n in names]


#: Rules by the title of their row.
RULES: dict[str, Rule] = {
    "the verdict": verdict,
    "agreement to the power 0": weighted(0),
    "agreement to the power 1": weighted(1),
    "agreement to the power 3": weighted(3),
    "one vote a view": weighted(0, by_cues=False),
    "the two largest": largest(2),
    "the three largest": largest(3),
    "the largest": largest(1),
    "truncated product": truncated,
    "consensus (first eigenvector)": consensus,
    "sum within views": within_views(),
    "sum of all cues": all_cues,
    "given the contrast": given_amount,
}


def kept_trials(
    out: Path, sets: Sequence[str] | None, rate: float, method: str = "ensemble"
) -> Iterator[Kept]:
    """Read what the trials of a study kept, set by set in their order, seed by seed.

    Args:
        out: folder of the study.
        sets: None: all.
        method: one of several views.

    Raises:
        UserError: a file is damaged; no such trial is there.
    """
    if method not in ENSEMBLES:
        raise UserError(f"method '{method}': has no views; take one of {', '.join(ENSEMBLES)}")
    found = sorted(out.glob(f"*/{100 * rate:g}pct/{method}/*/{CALIBRATION}"))
    by_set: dict[str, list[Path]] = defaultdict(list)
    for path in found:
        by_set[path.parents[3].name].append(path.parent)
    folders = [folder for name in (sets or by_set) for folder in by_set.get(name, ())]
    if not folders:
        raise UserError(f"{out}: holds no such trials; make some with `anowild study run`")
    yield from map(Kept.load, folders)


def compare(out: Path, sets: Sequence[str] | None, rate: float, method: str = "ensemble") -> str:
    """Format the AUROC of each rule as Markdown: a column for each set, means over the seeds that are there.

    Args:
        out, sets, rate, method: as for :func:`kept_trials`.

    Raises:
        UserError: as :func:`kept_trials`.
    """
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for kept in kept_trials(out, sets, rate, method):
        labels = kept.trial.experiment().test_labels
        for title, rule in RULES.items():
            found[title][kept.trial.set].append(auroc(labels, rule(kept)))
    columns = [*next(iter(found.values()))]
    lines = [f"| AUROC at {100 * rate:g} % | {' | '.join(columns)} | mean |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for title, by_set in found.items():
        means = [statistics.mean(values) for values in by_set.values()]
        cells = " | ".join(f"{value:.3f}" for value in means)
        lines.append(f"| {title} | {cells} | {statistics.mean(means):.4f} |")
    return "\n".join(lines) + "\n"
