"""Rules that join the cues of several views into one score, compared on what a study kept of its trials.

A rule sees the cues of the (contaminated) training images, and scores other images by theirs; none sees a
label or a rate. Surprise and evidence are those of `scoring.calibration`. `anowild study recalibrate` renews what
a study kept where weights of cues have changed.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anowild.arrays import Array, read_array
from anowild.errors import UserError
from anowild.evaluation.metrics import auroc
from anowild.files import read_json
from anowild.scoring import Calibration
from anowild.scoring.calibration import (
    AGREEMENT_POWER,
    APART_POWER,
    LOUDEST,
    Tail,
    loudest_sum,
    loudness,
)
from anowild.study import cue_cache
from anowild.study.methods import ENSEMBLES
from anowild.study.trial import (
    CALIBRATION,
    CUES,
    FEATURES,
    RESULT,
    Trial,
    ViewCues,
    cues_and_gates,
    left_in,
)

Cues = Mapping[str, Array]
#: The cue that says how much there is in an image, and the share of training images that are most alike in it.
AMOUNT, ALIKE = "contrast", 0.1
#: Surprise from which the truncated product counts a view: one training image in five is as odd.
TRUNCATED = float(-np.log(0.2))


@dataclass(frozen=True)
class Kept:
    """What a trial of several views kept."""

    trial: Trial
    views: ViewCues
    gates: Mapping[str, float]  # what the fits of the views say of their cues' weights
    calibration: Calibration
    training: Cues
    test: Cues
    features: Array  # of the training images, [N, D]; D is 0 where an earlier version kept none

    @staticmethod
    def load(folder: Path) -> Kept:
        """Read it from the folder of a trial.

        Raises:
            UserError: a file is missing or damaged.
        """
        try:
            calibration = Calibration.from_json(read_json(folder / CALIBRATION))
        except ValueError as error:
            raise UserError(
                f"{folder / CALIBRATION}: is damaged ({error}); give `anowild study recalibrate`, which writes it anew"
            ) from error
        found = cue_cache.load(folder / CUES)
        features = np.zeros((len(next(iter(found["training"].values()))), 0))
        if (folder / FEATURES).exists():
            try:
                with (folder / FEATURES).open("rb") as file:
                    features = read_array(file).astype(np.float64)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"{folder / FEATURES}: is damaged ({error}); delete {folder / RESULT}, and run the study "
                    "again: what was trained stays"
                ) from error
        trial = Trial.load(folder)
        views, gates = cues_and_gates(folder)
        return Kept(trial, views, gates, calibration, found["training"], found["test"], features)

    def without(self, names: Sequence[str]) -> Kept:
        """Return what a detector without some views would have kept; see :func:`trial.left_in`.

        Raises:
            UserError: no view is left.
        """
        if not names:
            return self
        if not (views := left_in(self.views, names)):
            raise UserError(f"without {', '.join(names)} no view is left")
        calibration = Calibration.fit(views, self.training, self.gates)
        return replace(self, views=views, calibration=calibration)


#: Scores of the test images, [N], higher is odder.
Rule = Callable[[Kept], Array]
#: What views say of the training images and of the test images: [views, N] each.
Said = tuple[Array, Array]


def verdict(kept: Kept) -> Array:
    """Return the detector's own score before its last calibration, which changes no order."""
    return kept.calibration.raw_score(kept.test)


def uncontradicted(kept: Kept) -> Array:
    """Return the score if no cue lost weight where cues of other views contradict it."""
    plain = Calibration.fit(kept.views, kept.training, kept.gates, contradict=False)
    return plain.raw_score(kept.test)


def evidence(kept: Kept) -> Said:
    """Return the views' evidence."""
    return _by_view(kept, Calibration.view_evidence)


def surprises(kept: Kept) -> Said:
    """Return the surprises of the views' evidence: -log of the share of training images with as much."""
    return _by_view(kept, Calibration.view_surprises)


def largest_surprises(kept: Kept) -> Said:
    """Return the surprises of the largest surprise among each view's cues, as in models up to format 6."""
    before, after = [], []
    for view in kept.calibration.views.values():
        largest = [
            np.max([_cue_surprise(kept, cue, cues) for cue in view.cues], axis=0)
            for cues in (kept.training, kept.test)
        ]
        tail = Tail.fit(largest[0])
        before.append(-tail.log_upper(largest[0]))
        after.append(-tail.log_upper(largest[1]))
    return np.stack(before), np.stack(after)


def votes(kept: Kept, _said: Array) -> Array:
    """Weigh each view by its loudest cue: [views]."""
    found = kept.calibration
    return np.array([max(found.cues[c].weight for c in v.cues) for v in found.views.values()])


def even(_kept: Kept, said: Array) -> Array:
    """Weigh all views alike: [views]."""
    return np.ones(len(said))


def weights(
    apart: float = APART_POWER, agreeing: float = AGREEMENT_POWER
) -> Callable[[Kept, Array], Array]:
    """Return the weights of the verdict, with other powers of standing apart and of agreement."""

    def weigh(kept: Kept, said: Array) -> Array:
        return votes(kept, said) * loudness(said, apart, agreeing)

    return weigh


def consensus(_kept: Kept, said: Array) -> Array:
    """Weigh views by the first eigenvector of their correlations, as hubs of each other (HITS): [views]."""
    _, vectors = np.linalg.eigh(np.atleast_2d(np.nan_to_num(np.corrcoef(said), nan=1.0)))
    return np.asarray(np.maximum(vectors[:, -1] * np.sign(vectors[:, -1].sum()), 0.0))


def joined(
    say: Callable[[Kept], Said] = evidence,
    weigh: Callable[[Kept, Array], Array] = weights(),  # noqa: B008
    count: int | None = LOUDEST,
) -> Rule:
    """Return the rule of a weighted sum over the ``count`` loudest views; None: all."""

    def rule(kept: Kept) -> Array:
        training, test = say(kept)
        return loudest_sum(weigh(kept, training)[:, None] * test, count)

    return rule


def truncated(kept: Kept) -> Array:
    """Sum the surprises above :data:`TRUNCATED` (Zaykin et al. 2002); the whole sum breaks ties."""
    training, test = surprises(kept)
    weighted = votes(kept, training)[:, None] * test
    return np.asarray(np.where(test >= TRUNCATED, weighted, 1e-3 * weighted).sum(axis=0))


def all_cues(kept: Kept) -> Array:
    """Sum the weighted surprises of all cues that count, whatever view they are of."""
    names = [cue for view in kept.calibration.views.values() for cue in view.cues]
    return np.asarray(np.sum([_cue_surprise(kept, name, kept.test) for name in names], axis=0))


def given_amount(kept: Kept) -> Array:
    """Hold each view against the training images of like contrast, and add the surprise of the contrast.

    So a view that finds plain images usual, because there is little to differ in, says nothing of them.
    """
    if AMOUNT not in kept.calibration.cues:
        return verdict(kept)
    before, after = evidence(kept)
    order = np.argsort(kept.training[AMOUNT])
    alike = max(20, round(ALIKE * len(order)))
    place = np.searchsorted(kept.training[AMOUNT][order], kept.test[AMOUNT])
    start = np.clip(place - alike // 2, 0, max(0, len(order) - alike))
    near = before[:, order[np.minimum(start[:, None] + np.arange(alike), len(order) - 1)]]
    above = (near >= after[:, :, None]).sum(axis=2)
    amount = kept.calibration.cues[AMOUNT].surprise(kept.test[AMOUNT])
    return np.asarray(votes(kept, before) @ -np.log((above + 1) / (alike + 1)) + amount)


def _by_view(kept: Kept, say: Callable[[Calibration, Cues], dict[str, Array]]) -> Said:
    found = [
        np.stack([*say(kept.calibration, cues).values()]) for cues in (kept.training, kept.test)
    ]
    return found[0], found[1]


def _cue_surprise(kept: Kept, name: str, cues: Cues) -> Array:
    """Return the surprise of a cue times its weight, [N]."""
    cue = kept.calibration.cues[name]
    return np.asarray(cue.weight * cue.surprise(cues[name]))


#: Powers of standing apart and of agreement that those of the verdict are held against.
OTHER_POWERS = (
    (0, 0),
    (0, 2),
    (1, 0),
    (1, 0.5),
    (1.5, 0),
    (1.5, 2),
    (2, 0),
    (2, 0.5),
    (2, 2),
    (4, 0),
)
#: Rules by the title of their row.
RULES: dict[str, Rule] = {
    "the verdict": verdict,
    "no cue contradicted": uncontradicted,
    "the loudest view alone": joined(count=1),
    "the three loudest": joined(count=3),
    "all views": joined(count=None),
    **{
        f"standing apart to the power {a}, agreement to the power {b}": joined(weigh=weights(a, b))
        for a, b in OTHER_POWERS
    },
    "consensus (first eigenvector) in their place": joined(weigh=consensus),
    "one vote a view": joined(weigh=even),
    "surprises, not evidence": joined(surprises),
    "sum of all views' surprises": joined(surprises, even, None),
    "largest surprise of each view, agreement, all views (format 6)": joined(
        largest_surprises, weights(0, 2), None
    ),
    "truncated product": truncated,
    "sum of all cues' surprises": all_cues,
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


def compare(
    out: Path,
    sets: Sequence[str] | None,
    rate: float,
    method: str = "ensemble",
    without: Sequence[str] = (),
) -> str:
    """Format the AUROC of each rule as Markdown: a column for each set, means over the seeds that are there.

    Args:
        out, sets, rate, method: as for :func:`kept_trials`.
        without: views that are left out.

    Raises:
        UserError: as :func:`kept_trials`.
    """
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for whole in kept_trials(out, sets, rate, method):
        kept = whole.without(without)
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
