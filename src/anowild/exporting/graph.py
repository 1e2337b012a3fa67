"""The whole model as one module of PyTorch, from raw images to scores."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from anowild.errors import UserError
from anowild.exporting.pixels import Pixels
from anowild.exporting.verdict import Verdict
from anowild.scoring import Detector


class Outputs(NamedTuple):
    """What a graph says of N images."""

    score: Tensor  # float64 [N]
    p_value: Tensor  # float64 [N], about the share of training images as odd, or odder
    views: Tensor  # float64 [N, V], the score of each view alone
    cues: Tensor  # float64 [N, K]
    heat: Tensor  # float32 [N, r, r] in [0, 1], where the image is odd; 0 where no view offers that


class Graph(nn.Module):
    """A detector from raw images to scores, in operators that other runtimes know.

    Args:
        detector: in float32, on the CPU.

    Raises:
        UserError: the detector cannot be exported.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        if detector.preprocess.tiles:
            raise UserError(
                "a model that looks at tiles cannot be exported; score with anowild score, or train without --tiles"
            )
        for view in detector.views:
            view.check_export()
        self.detector = detector
        self.pixels, self.verdict = Pixels(detector.preprocess), Verdict(detector.calibration)

    def forward(self, images: Tensor) -> Outputs:
        """Score images of one size, [N, H, W, C]; see :meth:`Pixels.forward`."""
        stored = self.pixels(images)
        cues: dict[str, Tensor] = {}
        heat: Tensor | None = None
        for view in self.detector.views:
            if heat is not None:
                cues |= view.look(stored)
                continue
            found, maps = view.look_closely(stored)
            cues |= found
            if maps:
                heat = torch.stack([_to_one(x) for x in maps.values()]).mean(dim=0)
        if heat is None:
            heat = torch.zeros_like(stored[:, 0], dtype=torch.float32)
        score, views = self.verdict(cues)
        measured = torch.stack([cues[name] for name in self.detector.cue_names], dim=1)
        return Outputs(score, torch.pow(10.0, -score), views, measured, heat)


def _to_one(maps: Tensor) -> Tensor:
    """Scale each map, [N, r, r] of 0 or more, to a largest value of 1."""
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
