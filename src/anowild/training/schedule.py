"""The training schedule: settings as a function of the images trained on (appendix, section 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from anowild.errors import UserError
from anowild.networks.layers import MinibatchStddev
from anowild.settings import Settings


@dataclass(frozen=True)
class ScheduleState:
    """Values of the schedule at a point of the training."""

    lod: float  # level of detail, 0 at full size
    resolution: int  # of the level, in pixels; during a fade, of the finer level
    minibatch: int  # images per iteration
    learning_rate: float
    tick_kimg: float  # thousands of images from one log line to the next


class Schedule:
    """The schedule of a training run.

    Args:
        settings: of the run; ``resolution`` in them is not used.
        resolution: full size of the images, in pixels.
    """

    def __init__(self, settings: Settings, resolution: int) -> None:
        self.settings = settings
        self.resolution = resolution
        initial = min(settings.initial_resolution or resolution, resolution)
        self.initial_lod = math.log2(resolution) - math.log2(initial)

    def at(self, nimg: int) -> ScheduleState:
        """Return the schedule after ``nimg`` images."""
        s = self.settings
        lod = self.lod(nimg)
        resolution = self.resolution >> math.floor(lod)
        return ScheduleState(
            lod=lod,
            resolution=resolution,
            minibatch=self.minibatch(resolution),
            learning_rate=s.learning_rates.get(resolution, s.learning_rate),
            tick_kimg=s.tick_kimg.get(resolution, min(s.tick_kimg.values(), default=20.0)),
        )

    def minibatch(self, resolution: int) -> int:
        """Return the number of images of an iteration at a resolution."""
        s = self.settings
        minibatch = s.minibatch.get(resolution, s.minibatch_base)
        minibatch -= minibatch % min(s.minibatch_base, minibatch)
        if resolution in s.max_minibatch:
            minibatch = min(minibatch, s.max_minibatch[resolution])
        return minibatch

    def check_shares(self, processes: int) -> None:
        """Check that the minibatches of all levels can be dealt out to processes that train together.

        Raises:
            UserError: a share would not consist of whole groups of minibatch stddev.
        """
        unit = MinibatchStddev.GROUP * processes
        for halvings in range(math.ceil(self.initial_lod) + 1):
            side = self.resolution >> halvings
            count = self.minibatch(side)
            if processes > 1 and count % unit:
                raise UserError(
                    f"a minibatch of {count} at {side}x{side} cannot be dealt out to {processes} processes: it has "
                    f"to be a multiple of {unit}, {MinibatchStddev.GROUP} images for each; start fewer, or "
                    f"change the setting minibatch (--set minibatch={side}:{-(-count // unit) * unit})"
                )

    def lod(self, nimg: int) -> float:
        """Return the level of detail: constant for ``stable_kimg``, then 1 lower within ``fade_kimg``."""
        s = self.settings
        phase = s.stable_kimg + s.fade_kimg
        if self.initial_lod == 0 or phase <= 0:
            return 0.0
        kimg = nimg / 1000.0
        index = math.floor(kimg / phase)
        lod = self.initial_lod - index
        if s.fade_kimg > 0:
            lod -= max(kimg - index * phase - s.stable_kimg, 0.0) / s.fade_kimg
        return max(lod, 0.0)


def changes_level(before: float, after: float) -> bool:
    """Whether a fade started or ended between two levels of detail."""
    return math.floor(before) != math.floor(after) or math.ceil(before) != math.ceil(after)
