"""From cues to scores in PyTorch's operators: the formulas of `anowild.scoring.calibration`, for all cues at once.

They hold in float32 as well, for runtimes that know nothing else: no difference of nearly equal numbers decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anowild.errors import UserError
from anowild.scoring.calibration import TINY, Calibration, Tail

#: Terms of the series of -log(1 - u), and the u up to which they are enough for float64.
_TERMS, _SMALL = 9, 0.02
#: Stands for infinity in sums.
_FAR = 1e30


class Tails(nn.Module):
    """Several tails: -log P(X >= x), in nats, of column k by tail k.

    Args:
        tails: as many as there will be columns.
    """

    def __init__(self, tails: Sequence[Tail]) -> None:
        super().__init__()
        # The last knot and its value are repeated: stretches of no length add nothing.
        most = max(len(tail.knots) for tail in tails)
        knots, values = (
            np.stack([np.pad(x, (0, most - len(x)), "edge") for x in group])
            for group in ([t.knots for t in tails], [t.laplace for t in tails])
        )
        lengths = np.diff(knots)
        slopes = np.diff(values) / np.where(lengths > 0, lengths, 1)
        self.knots, self.lengths, self.slopes = map(torch.from_numpy, (knots, lengths, slopes))
        self.start = torch.from_numpy(values[:, 0].copy())
        self.below = torch.tensor([t.lower_rate for t in tails], dtype=torch.float64)
        self.above = torch.tensor([t.upper_rate for t in tails], dtype=torch.float64)

    def laplace(self, x: Tensor) -> Tensor:
        """Return the quantiles of a standard Laplace distribution at the same probabilities: [N, K] -> [N, K]."""
        past = x[..., None] - self.knots
        inside = torch.minimum(past[..., :-1].clamp_min(0), self.lengths)
        # A product of matrices: OpenVINO 2026.4 sums wrongly over the last axis of a large tensor of differences.
        summed = (inside[:, :, None] @ self.slopes[..., None])[..., 0, 0]
        beyond = past[..., 0].clamp_max(0) * self.below + past[..., -1].clamp_min(0) * self.above
        return self.start + summed + beyond

    def forward(self, x: Tensor) -> Tensor:
        return minus_log_upper(self.laplace(x))


def minus_log_upper(t: Tensor) -> Tensor:
    """Return -log P(T >= t) of a standard Laplace variable."""
    return torch.where(t >= 0, t + math.log(2.0), _minus_log_less(torch.exp(t.clamp_max(0)) / 2))


def _minus_log_less(u: Tensor) -> Tensor:
    """Return -log(1 - u) with all its digits, for u from 0 to 1/2."""
    small = u.clamp_max(_SMALL)
    series = torch.zeros_like(u)
    for power in range(_TERMS, 0, -1):
        series = small * (1 / power + series)
    return torch.where(u < _SMALL, series, -torch.log(1 - u))


class Verdict(nn.Module):
    """Scores of images whose cues are known.

    Args:
        calibration: of the model.

    Raises:
        UserError: it is of a model up to format 6, which joined its views otherwise.
    """

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        views = calibration.views
        self.names = [name for view in views.values() for name in view.cues]
        cues = [calibration.cues[name] for name in self.names]
        bulks = [cue.bulk for cue in cues if cue.bulk is not None]
        alone = [view.training for view in views.values() if view.training is not None]
        scales = [view.scale for view in views.values() if view.scale is not None]
        if len(bulks) < len(cues) or min(len(alone), len(scales)) < len(views):
            raise UserError("models of earlier versions of AnoWild cannot be exported; train again")

        def row(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64)

        self.cues, self.alone = Tails(bulks), Tails(alone)
        self.combined = Tails([calibration.combined])
        self.center = row([cue.center or 0.0 for cue in cues])
        self.folded = torch.tensor([cue.center is not None for cue in cues])
        # Of a cue whose two sides are odd alike, the distance has an upper side alone.
        lower = [0.0 if cue.center is not None else cue.lower for cue in cues]
        self.upper_odds = row([-math.log1p(-p) if p < 1 else _FAR for p in lower])
        self.lower_odds = row([-math.log(p) if p > 0 else _FAR for p in lower])
        self.shares = torch.zeros(len(cues), len(views), dtype=torch.float64)
        for column, view in enumerate(views.values()):
            for name in view.cues:
                place = self.names.index(name)
                self.shares[place, column] = calibration.cues[name].weight
        self.scales, self.weights = row(scales), row([view.weight for view in views.values()])
        self.loudest = min(calibration.loudest or len(views), len(views))

    def forward(self, cues: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Score images, as :meth:`Calibration.scores` does.

        Args:
            cues: float64 [N] by name.

        Returns:
            Scores of all views together, float64 [N], and of each view alone, [N, V].
        """
        x = torch.stack([cues[name] for name in self.names], dim=1)
        x = torch.log(x.clamp_min(TINY)) - self.center
        t = self.cues.laplace(torch.where(self.folded, x.abs(), x))
        upper = minus_log_upper(t) - self.upper_odds
        lower = minus_log_upper(-t) - self.lower_odds
        high, low = torch.maximum(upper, lower), torch.minimum(upper, lower)
        evidence = high + torch.log(1 + torch.exp(low - high))
        said = evidence @ self.shares
        weighted = said / self.scales * self.weights
        raw = weighted.topk(self.loudest, dim=1).values.sum(dim=1, keepdim=True)
        return self.combined(raw)[:, 0] / math.log(10.0), self.alone(said) / math.log(10.0)
