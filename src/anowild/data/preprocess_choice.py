"""The choice of the preprocessing: that of packed data sets, or by the settings and the shapes of the images."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

from anowild.data.dataset.format import PackedSet
from anowild.data.preprocessing import Preprocess
from anowild.data.readers import ImageSource
from anowild.data.readers.base import Shape
from anowild.errors import UserError
from anowild.settings import Settings

#: Most images of a source whose shapes decide resolution and channels.
_MAX_SHAPES = 2000


def choose_preprocess(readers: Iterable[ImageSource], settings: Settings) -> Preprocess:
    """Choose the preprocessing for sources.

    Packed data sets bring their own. Otherwise it follows the settings; a resolution or number of
    channels that they leave open is chosen by the shapes of the images.

    Raises:
        UserError: packed data sets differ from each other or from the settings.
    """
    readers = list(readers)
    packed = [reader.packed for reader in readers if reader.packed is not None]
    if packed:
        return _agreed(packed, settings)
    resolution, channels = settings.resolution, settings.channels
    if resolution is None or channels is None:
        shapes = list(chain.from_iterable(reader.shapes(_MAX_SHAPES) for reader in readers))
        if resolution is None:
            side = statistics.median_low([min(s[:2]) for s in shapes]) if shapes else 8
            side = min(side, settings.tiles or side)
            fitting = 1 << max(3, int(side - 1).bit_length())
            resolution = min(fitting, settings.max_resolution, 512)
        if channels is None:
            channels = _usual_channels(shapes)
    return Preprocess(
        resolution, channels, settings.fit, settings.bits,
        settings.black, settings.white, settings.contrast, settings.tiles,
    )  # fmt: skip


def _usual_channels(shapes: Sequence[Shape]) -> int:
    """Return 1 if all images are gray, 3 if some are in color; or another number if most images have it."""
    counts = Counter(shape[2] for shape in shapes)
    usual = counts[1] + counts[3]
    other, most = max(
        counts.items(), key=lambda item: (item[0] not in (1, 3)) * item[1], default=(1, 0)
    )
    if other not in (1, 3) and most > usual:
        return other
    return 3 if counts[3] else 1


def _agreed(packed: Sequence[PackedSet], settings: Settings) -> Preprocess:
    first = packed[0]
    for other in packed[1:]:
        if other.preprocess != first.preprocess:
            raise UserError(
                f"{other.path}: was prepared with other settings than {first.path}; prepare one of them "
                "again"
            )
    default = Settings()
    for name, value in first.preprocess.to_json().items():
        wanted = getattr(settings, name)
        if wanted not in (value, getattr(default, name)):
            raise UserError(
                f"{first.path}: was prepared with {name} {value}, not {wanted}; prepare it again, "
                f"or omit {name}"
            )
    return first.preprocess
