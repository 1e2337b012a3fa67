"""Types, channels and values of the images of a run, and warnings where they make little sense."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.data.preprocessing import Preprocess

#: Share of the range of a type below which a warning says that most of the contrast is lost.
LITTLE = 0.1
#: The same of 16 bits, of which many cameras fill 12 or 14.
LITTLE_OF_16_BITS = 0.26
#: Other images than in training use a range this many times as wide, or as narrow.
TIMES = 4
#: Most images that a description may claim.
MOST = 10**12
#: Fewest images whose narrow range is told from chance.
FEWEST = 16


@dataclass
class ValueRange:
    """What images hold before they are preprocessed: types, channels, and the range of their values."""

    types: Counter[str] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    #: Smallest and largest value of all images of a type.
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, pixels: Array) -> None:
        """Add an image, [H, W, C] of any type."""
        name = pixels.dtype.name
        low, high = float(pixels.min()), float(pixels.max())
        before = self.ranges.get(name, (low, high))
        self.types[name] += 1
        self.channels[pixels.shape[2]] += 1
        self.ranges[name] = min(low, before[0]), max(high, before[1])

    def merge(self, other: ValueRange) -> None:
        """Add the images of another range."""
        self.types.update(other.types)
        self.channels.update(other.channels)
        for name, (low, high) in other.ranges.items():
            before = self.ranges.get(name, (low, high))
            self.ranges[name] = min(low, before[0]), max(high, before[1])

    def __len__(self) -> int:
        return self.types.total()

    @property
    def usual(self) -> tuple[str, int, float, float]:
        """Type and channels of most images, and the smallest and largest value of that type."""
        name = self.types.most_common(1)[0][0]
        return name, self.channels.most_common(1)[0][0], *self.ranges[name]

    def to_json(self) -> dict[str, Any]:
        """Return what a data set or a model remembers of its images, as JSON values."""
        return {
            "types": dict(self.types),
            "channels": {str(number): count for number, count in self.channels.items()},
            "ranges": {name: list(found) for name, found in self.ranges.items()},
        }

    @staticmethod
    def from_json(value: object) -> ValueRange | None:
        """Read what :meth:`to_json` gave; None: nothing is known, as of models of earlier versions."""
        if not isinstance(value, Mapping):
            return None
        try:
            types = Counter({np.dtype(k).name: int(n) for k, n in value["types"].items()})
            channels = Counter({int(k): int(n) for k, n in value["channels"].items()})
            ranges = {}
            for name in types:
                low, high = value["ranges"][name]
                ranges[name] = float(low), float(high)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            return None
        bounded = all(0 < count <= MOST for count in [*types.values(), *channels.values()])
        ordered = all(low <= high < math.inf and low > -math.inf for low, high in ranges.values())
        known = types and channels and bounded and ordered
        return ValueRange(types, channels, ranges) if known else None


def little_used(values: ValueRange, preprocess: Preprocess) -> str | None:
    """Return a warning if the images use little of the range that becomes black to white; None if not."""
    if not values or preprocess.contrast != "kept":
        return None
    name, _, low, high = values.usual
    black, white = _black_and_white(name, preprocess)
    little = LITTLE_OF_16_BITS if name == "uint16" else LITTLE
    if not low < high or not white - black or (high - low) / abs(white - black) >= little:
        return None
    mend = _mend(name, low, high)
    count = values.types[name]
    which = f"all {count} images" if count == len(values) else f"the {count} images of type {name}"
    return (
        f"the values of {which} lie between {low:g} and {high:g}, where {black:g} is black "
        f"and {white:g} is white: most of the contrast is lost; {mend} stretches it"
    )


def mixed_types(values: ValueRange, preprocess: Preprocess) -> str | None:
    """Return a warning if the images are of several types, each of which has its own full range; None if not."""
    if len(values.types) < 2 or preprocess.contrast != "kept":
        return None
    counts = ", ".join(f"{count} of type {name}" for name, count in values.types.most_common())
    return (
        f"the images are {counts}: each type has a full range of its own, so that pictures that look alike may be "
        "darker or plainer to the views; convert them to one type"
    )


def warnings_of(value: object, preprocess: Preprocess) -> list[str]:
    """Return the warnings about the images of a data set, whose ``values`` are as :meth:`ValueRange.to_json` gave."""
    values = ValueRange.from_json(value)
    if values is None:
        return []
    found = (little_used(values, preprocess), mixed_types(values, preprocess))
    return [text for text in found if text is not None]


def unlike_trained(
    values: ValueRange, trained: ValueRange | None, preprocess: Preprocess
) -> list[str]:
    """Return warnings of images of another type, channel count or range than those of the training."""
    if not values or not trained:
        return []
    name, channels, low, high = values.usual
    found = []
    if name not in trained.types:
        then, _, low_then, high_then = trained.usual
        found.append(
            f"most images are of type {name} (values {low:g} to {high:g}), those of the training were of "
            f"{then} ({low_then:g} to {high_then:g}): scores say little unless equal light has equal shares "
            "of both ranges; convert the images, or train on images like these"
        )
    elif preprocess.contrast == "kept":
        low_then, high_then = trained.ranges[name]
        times = (high - low) / max(high_then - low_then, 1e-12)
        if times > TIMES or (times < 1 / TIMES and len(values) >= FEWEST):
            found.append(
                f"the values of the images run from {low:g} to {high:g}, those of the training ran from "
                f"{low_then:g} to {high_then:g}: scores say little; bring the images to the same range, or "
                "train on images like these"
            )
    if channels not in trained.channels:
        then_channels = trained.usual[1]
        found.append(
            f"most images have {channels} channel(s), those of the training had {then_channels}: give "
            "images like those of the training, or train on images like these"
        )
    return found


def _black_and_white(name: str, preprocess: Preprocess) -> tuple[float, float]:
    """Return the values of images of a type that become black and white."""
    if preprocess.black is not None and preprocess.white is not None:
        return preprocess.black, preprocess.white
    kind = np.dtype(name)
    return (0.0, float(np.iinfo(kind).max)) if kind.kind in "iu" else (0.0, 1.0)


def _mend(name: str, low: float, high: float) -> str:
    """Return the settings that stretch values to black to white: of 16 bits that hold 12, all 12."""
    whole = [(1 << bits) - 1 for bits in (12, 14)]
    if name == "uint16" and 1023 < high <= whole[-1]:
        low, high = 0, next(most for most in whole if high <= most)
    return f"--set black={low:g} --set white={high:g}"
