"""The protocol of a view, the description of a cue, and the registry of views."""

from __future__ import annotations

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.views.batches import by_batches

#: Where the odd values of a cue lie; "either": above or below, which the training set decides.
OddSide = Literal["upper", "either", "both"]
#: The floating-point type of convolutions in scoring.
Precision = Literal["float32", "bfloat16"]
#: A cue is unusual, and very much so, where at least this share of the training images is less far out;
#: beyond the last a share is "nearly all", for 100.0 % would be wrong.
UNUSUAL, MUCH, NEARLY_ALL = 0.95, 0.99, 0.9995


@dataclass(frozen=True, kw_only=True)
class Cue:
    """Description of one number that a view measures of an image: 0 or more, unusual when the image is odd.

    ``higher`` and ``lower`` complete the sentence "This image is [much | a little] ... than 99.6 % of the
    training images". They begin with a comparative, and have words that everybody knows; the terms of the
    method belong into ``meaning``, which is shown on demand.
    """

    name: str  # column of tables; lower case, unique among the cues that are not retired
    meaning: str  # what it measures, in one sentence, with the terms of the method
    higher: str  # phrase for an unusually high value, as "brighter"
    lower: str  # phrase for an unusually low value, as "darker"
    noun: str  # what it is about, as a title: "brightness"
    odd_side: OddSide = "upper"
    weight: float = 1.0  # of its evidence, from 0 to 1: a lesser cue speaks where it is far out
    counts: bool = True  # whether it enters the score of models that are trained from now on
    visible: bool = (
        False  # whether anybody sees it in the image: then it is never left out of the reasons
    )
    #: Name under which it has a say of its own beside the other cues of its view; none: it speaks with them.
    voice: str | None = None
    #: Name of a view that measures the same better. Where the detector has it, the cue's weight is multiplied by
    #: the factor that the fit of the cue's own view gives; elsewhere that factor is ignored. None: it always counts.
    gated_beside: str | None = None


@dataclass(frozen=True)
class Explanation:
    """Pictures of some images: what a view sees, rebuilds, and where it finds them odd; float32."""

    seen: Array  # [N, C, r, r] in [-1, 1], the images at the resolution of the view
    rebuilt: Array | None = None  # [N, C, r, r], reconstructions
    signed: Array | None = None  # [N, r, r], image minus reconstruction, mean over channels
    heat: Mapping[str, Array] = field(default_factory=dict)  # each [N, r, r], 0 or more

    def heat_map(self, brightest: float = 100.0) -> Array | None:
        """Average all heat maps, [N, r, r]; in each, this percentile over all images becomes 1."""
        if not self.heat:
            return None
        scaled = [x / max(float(np.percentile(x, brightest)), 1e-12) for x in self.heat.values()]
        return np.asarray(sum(scaled) / len(scaled))


class View(ABC):
    """One way of looking at preprocessed images, uint8 or uint16 [N, C, R, R].

    What a view says of an image never depends on the other images of a batch. A subclass sets ``name``,
    is registered with :func:`register_view`, and implements :meth:`look`; the other methods have a default.
    """

    name: ClassVar[str]
    #: How well distances between features tell what people call alike: the views with the most are asked.
    likeness: ClassVar[int] = 0
    #: The cues that this instance measures: a loaded view has those of its model.
    cues: tuple[Cue, ...]
    #: Images that are computed at a time; fewer cost as much.
    batch_size: int = 64
    #: Where the view computes, in float32 unless it is told otherwise.
    device: torch.device = torch.device("cpu")

    @classmethod
    def known_cues(cls) -> tuple[Cue, ...]:
        """Return the cues that views of this class may measure: the ``cues`` of the class, if it has them."""
        return getattr(cls, "cues", ())

    @abstractmethod
    def look(self, stored: Tensor) -> dict[str, Tensor]:
        """Measure all cues of stored images [n, C, R, R] on the view's device: by name, float64 [n].

        An export records the operations that it runs: they have to be the same for any images, and any number.
        """

    def look_closely(self, stored: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Measure all cues, and where the images are odd: maps by name, float32 [n, r, r], 0 or more; or none.

        As :meth:`look`, an export records it.
        """
        return self.look(stored), {}

    def check_export(self) -> None:  # noqa: B027 - any can
        """Raise UserError if an export cannot record what :meth:`look` does."""

    def measure(self, images: Array) -> dict[str, Array]:
        """Measure all cues: by name, float64 [N]."""
        found = by_batches(images, self.batch_size, self.device, self.look)
        return {cue.name: found.get(cue.name, np.empty(0)) for cue in self.cues}

    def tensors(self) -> dict[str, Tensor]:
        """Return everything numeric that :meth:`load` needs, by name, on the CPU."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Return everything else that :meth:`load` needs, as JSON values."""
        return {}

    @classmethod
    def load(
        cls,
        facts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        cues: Sequence[str],
        device: torch.device,
        precision: Precision,
    ) -> Self:
        """Rebuild a view from what :meth:`facts` and :meth:`tensors` gave.

        Unless overridden, facts and tensors are the arguments that the view is made with, and it computes on the CPU.

        Args:
            cues: names of the model's cues; one that this version does not know is left out.
            device: where the view computes.
            precision: of convolutions.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: facts and tensors do not fit together.
        """
        return cls(**facts, **tensors).with_cues(cues)

    def with_cues(self, names: Sequence[str]) -> Self:
        """Leave this view only the cues of some names, and return it."""
        self.cues = tuple(cue for cue in self.cues if cue.name in names)
        return self

    def check_input(self, channels: int, resolution: int) -> None:  # noqa: B027 - any will do
        """Raise ValueError if the view cannot look at images [N, channels, resolution, resolution]."""

    def features(self, images: Array) -> Array | None:
        """Return float64 [N, D] whose Euclidean distances say how alike images are; None: not offered.

        Beside those of another view their total variance says how much they count: 1, unless the view counts for more.
        """
        return None

    def explain(self, images: Array) -> Explanation | None:
        """Return pictures of where images are odd; None: not offered."""
        return None

    def reason(self, cue: Cue, lower: bool, share: float) -> str:
        """Say how low or high a cue is, as "much darker than 99.8 %".

        Args:
            share: of the training images, which are less far out; from 0 to 1.
        """
        degree = "much " if share >= MUCH else "" if share >= UNUSUAL else "a little "
        return f"{degree}{cue.lower if lower else cue.higher} than {percentage(share)}"


def features_of(views: Sequence[View], images: Array) -> Array:
    """Return features of preprocessed images, float64 [N, D]; alike images are near to each other.

    They come from the views that know likeness best of those that offer any, side by side; if none does, D is 0.
    """
    for likeness in sorted({view.likeness for view in views}, reverse=True):
        offered = [view.features(images) for view in views if view.likeness == likeness]
        if found := [features for features in offered if features is not None]:
            return np.concatenate(found, axis=1)
    return np.empty((len(images), 0))


def percentage(share: float) -> str:
    """Write a share of images, rounded down, with a decimal where it matters; never 0 or 100 %."""
    if share >= NEARLY_ALL:
        return "nearly all"
    if share < 0.01:
        return "hardly any"
    # A little is added so that 0.29 is 29 %, not 28 % for its rounding.
    percent = 100 * share + 1e-9
    return f"{math.floor(10 * percent) / 10:.1f} %" if share >= UNUSUAL else f"{int(percent)} %"


V = TypeVar("V", bound=type[View])
_VIEWS: dict[str, type[View]] = {}


def register_view(view: V) -> V:
    """Add a class of views to the registry under its name; use as a decorator."""
    _VIEWS[view.name] = view
    return view


def view_names() -> list[str]:
    """Return the names of all registered views."""
    _import_all()
    return sorted(_VIEWS)


def view_class(name: str) -> type[View]:
    """Return the class of the view called ``name``.

    Raises:
        UserError: there is no such view.
    """
    if name not in view_names():
        raise UserError(f"there is no view '{name}'; take some of {', '.join(view_names())}")
    return _VIEWS[name]


def _import_all() -> None:
    """Import every module of this package, so that its views are registered."""
    for module in pkgutil.iter_modules(importlib.import_module("anowild.views").__path__):
        importlib.import_module(f"anowild.views.{module.name}")
