"""Settings of cropping."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from anowild.data.preprocessing import MIN_SIDE
from anowild.errors import UserError

PADDINGS = ("shift", "reflect", "edge", "zero", "skip")
LEVELS = ("frame", "video", "fixed")

_MAX_SIDE = 8192  # of a crop, in pixels

#: Keys in the recipe of a data set, for settings that had another name when format 1 was fixed.
_KEYS = {"grays": "greys", "max_shift": "still", "max_change": "changed"}


@dataclass(frozen=True)
class CropSettings:
    """Settings of cropping. Positions and lengths are in pixels of the frame.

    Raises:
        UserError: a value is out of range.
    """

    #: Typical diameter of an object, in pixels: that of a circle of the same area. If in doubt, give a
    #: larger one: a value that is too small divides objects into parts and crops them too tightly.
    object_size: float
    #: Least local contrast of an object, in multiples of the frame's noise. Local contrast is the
    #: mean distance of the gray values from the background (the median over 4 by 4 object sizes) in
    #: a Gaussian window with a sigma of 1/12 object size. The noise is its 10th percentile over the
    #: frame. Lower values find fainter objects, and more of them.
    contrast: float = 4.0
    #: Side of a crop in pixels; None: twice the object size, rounded up to an even number.
    side: int | None = None
    #: Treatment of crops that leave the frame. 'shift' moves the crop into the frame, so that its
    #: object is no longer in the center. 'reflect', 'edge' (repeat the last pixel) and 'zero' (black)
    #: keep the object in the center and fill the pixels beyond the border, which a detector may then
    #: find anomalous. 'skip' leaves such crops out.
    padding: str = "shift"
    #: Source of the gray values that become 0 and 255: the ``percentiles`` of each 'frame', those of
    #: the whole 'video' (which is read twice), or the two 'fixed' values ``grays``.
    levels: str = "frame"
    percentiles: tuple[float, float] = (0.1, 99.9)
    grays: tuple[float, float] | None = None
    #: A crop is dropped if, since the last kept crop of its object, the object moved by at most
    #: ``max_shift`` object sizes and the pixels at the place of that crop changed by at most
    #: ``max_change`` (mean absolute difference of the 8-bit values, as a share of 255). 0 in either
    #: one keeps all crops.
    max_shift: float = 0.1
    max_change: float = 0.03
    #: Step between the frames that are read, beginning with the first.
    every: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.object_size) and self.object_size >= MIN_SIDE):
            raise UserError(
                f"object size {self.object_size:g}: give the typical diameter of an object in "
                f"pixels, at least {MIN_SIDE}"
            )
        if not (math.isfinite(self.contrast) and self.contrast > 1):
            raise UserError(
                f"contrast {self.contrast:g}: is a multiple of the noise and has to be above 1; "
                "4 is usual"
            )
        if not MIN_SIDE <= self.crop_side <= _MAX_SIDE:
            raise UserError(
                f"crop side {self.crop_side}: has to be from {MIN_SIDE} to {_MAX_SIDE} pixels"
            )
        if self.padding not in PADDINGS:
            raise UserError(f"padding '{self.padding}': choose one of {', '.join(PADDINGS)}")
        if self.levels not in LEVELS:
            raise UserError(f"levels '{self.levels}': choose one of {', '.join(LEVELS)}")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise UserError(f"percentiles {low:g} and {high:g}: have to rise within 0 to 100")
        if (self.levels == "fixed") != (self.grays is not None):
            raise UserError(
                "fixed levels and two gray values go together: give levels 'fixed' and the gray "
                "values that become black and white, or neither"
            )
        if self.grays is not None and not all(map(math.isfinite, self.grays)):
            raise UserError(
                f"gray values {self.grays[0]:g} and {self.grays[1]:g}: have to be finite"
            )
        if self.grays is not None and not self.grays[0] < self.grays[1]:
            raise UserError(
                f"gray values {self.grays[0]:g} and {self.grays[1]:g}: the first becomes black, "
                "the second white, and has to be the higher one"
            )
        if not (0 <= self.max_shift < math.inf and 0 <= self.max_change <= 1):
            raise UserError(
                f"thinning at {self.max_shift:g} object sizes and a change of {self.max_change:g}: "
                "the first has to be 0 (off) or more, the second from 0 (off) to 1"
            )
        if not 1 <= self.every < 2**31:
            raise UserError(f"every {self.every} frames: has to be from 1 to {2**31 - 1}")

    @property
    def crop_side(self) -> int:
        """Side of a crop in pixels."""
        return self.side if self.side is not None else 2 * math.ceil(self.object_size)

    def to_json(self) -> dict[str, Any]:
        """Return all values under the keys of the data set's format, with the side that applies."""
        values = asdict(self) | {"side": self.crop_side}
        return {_KEYS.get(name, name): value for name, value in values.items()}
