"""Why an image ranks where it does, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from anowild.arrays import Array
from anowild.scoring.calibration import Calibration
from anowild.views import View

#: A cue is called unusual where at most this share of the training images is as far out.
UNUSUAL = 0.05


def reasons(
    views: Sequence[View], calibration: Calibration, cues: Mapping[str, Array]
) -> list[str]:
    """Say in one line an image which counting cues are unusual, the most surprising first; then the usual."""
    counted = [
        (view, cue)
        for view in views
        for cue in view.cues
        if cue.name in cues and cue.name in calibration.counted
    ]
    names = [cue.name for _, cue in counted]
    surprises = np.stack([calibration.cues[name].surprise(cues[name]) for name in names])
    shares = np.stack([calibration.cues[name].tail_shares(cues[name]) for name in names])
    lines = []
    for i in range(surprises.shape[1]):
        unusual, usual = [], []
        for k in np.argsort(-surprises[:, i], kind="stable"):
            view, cue = counted[k]
            above, below = shares[k, :, i]
            # The side from which more of the evidence comes.
            likely = calibration.cues[cue.name].lower
            lower = bool(likely / below > (1 - likely) / above)
            far = float(below if lower else above)
            if far <= UNUSUAL and surprises[k, i] >= -np.log(UNUSUAL):
                unusual.append(view.reason(cue, lower, 1 - far))
            else:
                usual.append(cue.noun)
        rest = f"{', '.join(usual)}: usual" if usual else ""
        lines.append("; ".join(part for part in (*unusual, rest) if part))
    return lines
