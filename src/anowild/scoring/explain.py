"""Why an image ranks where it does, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from anowild.arrays import Array
from anowild.scoring.calibration import Calibration
from anowild.views import View

#: A cue is called unusual where at most this share of the training images is as far out.
UNUSUAL = 0.05


def reasons(
    views: Sequence[View], calibration: Calibration, cues: Mapping[str, Array]
) -> list[str]:
    """Say in one line an image which counting cues are unusual: by view, the most surprising first."""
    counted = [
        (view, cue)
        for view in views
        for cue in view.cues
        if cue.name in cues and cue.name in calibration.counted
    ]
    fitted = [calibration.cues[cue.name] for _, cue in counted]
    values = [cues[cue.name] for _, cue in counted]
    surprises = np.stack([f.weight * f.surprise(v) for f, v in zip(fitted, values, strict=True)])
    tails = [f.odd_tail(v) for f, v in zip(fitted, values, strict=True)]
    lines = []
    for i in range(surprises.shape[1]):
        unusual: dict[str, list[str]] = {}
        usual: dict[str, list[str]] = {}
        for k in np.argsort(-surprises[:, i], kind="stable"):
            view, cue = counted[k]
            share, lower = float(tails[k][0][i]), bool(tails[k][1][i])
            if share <= UNUSUAL and surprises[k, i] >= -fitted[k].weight * np.log(UNUSUAL):
                unusual.setdefault(view.name, []).append(view.reason(cue, lower, 1 - share))
            else:
                usual.setdefault(view.name, []).append(cue.noun)
        if len(views) == 1:
            parts = [*chain.from_iterable(unusual.values())]
            rest = list(chain.from_iterable(usual.values()))
        else:
            parts = [f"{name}: {', '.join(phrases)}" for name, phrases in unusual.items()]
            rest = [name for name in usual if name not in unusual]
        lines.append("; ".join([*parts, *([f"{', '.join(rest)}: usual"] if rest else [])]))
    return lines
