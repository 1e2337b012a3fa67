"""Why an image ranks where it does: what could not be rebuilt, where, and which cue says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anowild.arrays import Array
from anowild.networks.operators import conv_precision
from anowild.scoring.calibration import COMBINED, Calibration, CueCalibration, log_cue
from anowild.scoring.cues import CueComputer

#: Standard deviations, as shares of the side, at which a residual is smoothed: a pixel's own, a
#: stroke's, a part's.
SCALES = (0.0, 1 / 32, 1 / 12)
#: A cue is called unusual where no more of the training images than this are as far out.
UNUSUAL = 0.05
#: What is said of a cue whose upper or lower side is odd, before "than 99.9 %"; and its name.
WORDS = {
    "relative_residual": ("rebuilt worse", "rebuilt better", "reconstruction"),
    "latent_distance": ("latent farther out", "latent nearer the middle", "latent"),
    "hidden_distance": ("stranger to D", "less strange to D", "D's features"),
    "contrast": ("more contrast", "less contrast", "contrast"),
}


@dataclass(frozen=True)
class Explained:
    """What the networks make of some images: all float32, r the side that they see."""

    seen: Array  # [N, C, r, r] in [-1, 1], the images
    rebuilt: Array  # [N, C, r, r], G(E(x))
    signed: Array  # [N, r, r], image less reconstruction, mean over channels: 2 at most
    heat: Array  # [N, r, r], 0 or more: where the residual is large, on all scales together
    features: Array  # [N, r, r], 0 or more: where D's 4x4 maps of the two differ

    def places(self, brightest: float = 100.0) -> Array:
        """Heat and features in one map, [N, r, r]; of both, this percentile becomes 1."""

        def scaled(x: Array) -> Array:
            return np.asarray(x / max(float(np.percentile(x, brightest)), 1e-12))

        return (scaled(self.heat) + scaled(self.features)) / 2


@torch.no_grad()
def explain(computer: CueComputer, images: Array) -> Explained:
    """Maps of stored images, uint8 or uint16 [N, C, R, R]; at least one."""
    parts: list[tuple[Tensor, ...]] = []
    for x in computer.passes(images):
        _, rebuilt = computer.rebuilt(x)
        signed = (x - rebuilt).mean(dim=1, keepdim=True)
        with conv_precision(computer.dtype):
            maps = computer.discriminator.features(torch.cat([x, rebuilt]), computer.lod)
        first, second = maps.float().chunk(2)
        difference = (first - second).abs().mean(dim=1, keepdim=True)
        features = F.interpolate(difference, x.shape[-1], mode="bilinear", align_corners=False)
        parts.append((x, rebuilt, signed[:, 0], _heat(x - rebuilt), features[:, 0]))
    joined = (
        torch.cat(group)[: len(images)].float().cpu().numpy() for group in zip(*parts, strict=True)
    )
    return Explained(*joined)


def _heat(difference: Tensor) -> Tensor:
    """The root mean square over channels and scales of a residual [N, C, r, r]: [N, r, r].

    A coarser residual has less noise in it, and is scaled up to weigh as much as the finest.
    """

    def energy(x: Tensor) -> Tensor:
        return x.square().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)

    squares = []
    for share in SCALES:
        smooth = _smoothed(difference, share * difference.shape[-1])
        gain = energy(difference) / energy(smooth)
        squares.append((smooth.square() * gain).mean(dim=1))
    return torch.stack(squares).mean(dim=0).sqrt()


def _smoothed(images: Tensor, deviation: float) -> Tensor:
    """Gaussian blur, the edges drawn out."""
    if deviation < 0.3:
        return images
    reach = int(3 * deviation + 0.5)
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (places / deviation) ** 2)
    kernel = kernel / kernel.sum()
    channels = images.shape[1]
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def reasons(calibration: Calibration, cues: Mapping[str, Array]) -> list[str]:
    """One line for each image: what is unusual, and than how many training images; what is usual."""
    surprises = {name: calibration.cues[name].surprise(cues[name]) for name in COMBINED}
    shares = {name: _shares(calibration.cues[name], cues[name]) for name in COMBINED}
    lines = []
    for i in range(len(cues[COMBINED[0]])):
        unusual, usual = [], []
        for name in sorted(COMBINED, key=lambda name: -surprises[name][i]):
            above, below = (float(side[i]) for side in shares[name])
            # The side from which more of the evidence comes.
            likely = calibration.cues[name].lower
            lower = likely / below > (1 - likely) / above
            far = below if lower else above
            if far <= UNUSUAL and surprises[name][i] >= -np.log(UNUSUAL):
                unusual.append(f"{WORDS[name][lower]} than {_percent(1 - far)}")
            else:
                usual.append(WORDS[name][2])
        rest = f"{', '.join(usual)}: usual" if usual else ""
        lines.append("; ".join(part for part in (*unusual, rest) if part))
    return lines


def _shares(cue: CueCalibration, values: Array) -> tuple[Array, Array]:
    """The shares of training images with as high, and with as low a value."""
    x = log_cue(values)
    floor = np.finfo(np.float64).tiny
    sides = np.exp(cue.training.log_upper(x)), np.exp(cue.training.log_lower(x))
    return np.maximum(sides[0], floor), np.maximum(sides[1], floor)


def _percent(share: float) -> str:
    return "nearly all" if share > 0.9995 else f"{100 * share:.1f} %"
