"""From images to a detector: each view is fitted, then the cues of the training images are calibrated.

The fitting of a view is a function `fit` in the module of `training` that has the view's name, or one
that was registered with :func:`register_fit`. So looking never loads what fitting needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.errors import UserError
from anowild.scoring import Calibration, Detector
from anowild.scoring.reference_images import ReferenceImages
from anowild.settings import Settings
from anowild.training.robust import Suspects
from anowild.views import View, view_class

#: Training images that calibration looks at, at most.
MOST_CALIBRATED = 20_000


@dataclass(frozen=True)
class FittedView:
    """What the fitting of a view gives."""

    view: View
    #: How it was fitted, as JSON values, for reports: ``seconds``, ``kimg``, ...
    info: Mapping[str, Any] = field(default_factory=dict)
    #: Cues of :func:`calibration_images`, each float64 [N]; None: ``view`` is asked for them.
    training_cues: Mapping[str, Array] | None = None
    #: The training images that robust training suspects.
    suspects: Suspects | None = None


@dataclass(frozen=True)
class FittedDetector:
    """A detector, and the training images that its training suspects."""

    detector: Detector
    suspects: Suspects | None


#: Fits a view to images: (images, settings, folder, device) -> the view. ``folder`` holds the state that
#: an interrupted fit goes on from; a view keeps its files in the subfolder of its name (the GAN, which
#: was there first, in ``folder`` itself). Raises UserError, or Interrupted after the state was saved.
Fit = Callable[[ImageSet, Settings, Path, torch.device], FittedView]

_FITS: dict[str, Fit] = {}


def register_fit(name: str) -> Callable[[Fit], Fit]:
    """Register a function as the fitting of the view called ``name``; use as a decorator."""

    def register(fit: Fit) -> Fit:
        _FITS[name] = fit
        return fit

    return register


def fit_of(name: str) -> Fit:
    """Return the function that fits the view called ``name``.

    Raises:
        UserError: there is no such view, or it cannot be fitted.
    """
    view_class(name)
    if name not in _FITS:
        module = f"anowild.training.{name}"
        if find_spec(module) is None:
            raise UserError(f"the view '{name}' cannot be trained: there is no module {module}")
        _FITS[name] = importlib.import_module(module).fit
    return _FITS[name]


def fit_detector(
    images: ImageSet, settings: Settings, folder: Path, device: torch.device
) -> FittedDetector:
    """Fit all views of ``settings.views``, calibrate them, and join them to a detector.

    Args:
        folder: training state; the same call goes on from there.

    Raises:
        UserError: as the fitting of a view; a cue is not finite; or no cue counts.
        Interrupted: by Ctrl-C or SIGTERM, after the state was saved.
    """
    fits = {name: fit_of(name) for name in settings.views}
    chosen = calibration_images(images, settings)
    fitted = [fit(images, settings, folder, device) for fit in fits.values()]
    training: dict[str, Array] = {}
    for part in fitted:
        measured = part.training_cues
        measured = part.view.measure(chosen) if measured is None else measured
        check_finite(measured, part.view.name)
        training |= measured
    cues = [cue for part in fitted for cue in part.view.cues]
    if not any(cue.counts for cue in cues):
        raise UserError(
            f"no cue of the views {', '.join(fits)} counts, so there is no score; add a view whose cues count"
        )
    calibration = Calibration.fit(cues, training)
    reference_images = ReferenceImages.choose(
        chosen, calibration.score(training), settings.reference_images, settings.seed
    )
    info = {
        "images": len(images),
        "settings": settings.to_json(),
        "views": {part.view.name: dict(part.info) for part in fitted},
    }
    detector = Detector(
        [part.view for part in fitted], images.preprocess, calibration, info, reference_images
    )
    suspects = next((part.suspects for part in fitted if part.suspects is not None), None)
    return FittedDetector(detector, suspects)


def calibration_images(images: ImageSet, settings: Settings) -> Array:
    """Return the training images that calibration looks at: all, or a random ``MOST_CALIBRATED``."""
    if len(images) <= MOST_CALIBRATED:
        return images.images
    rng = np.random.default_rng(settings.seed)
    return images.images[np.sort(rng.permutation(len(images))[:MOST_CALIBRATED])]


def check_finite(cues: Mapping[str, Array], view: str) -> None:
    """Raise UserError if a view's cue or feature of the training images is not finite."""
    for name, values in cues.items():
        if not np.isfinite(values).all():
            raise UserError(
                f"the view '{view}' gives values of {name} that are not finite on the training images; if "
                "it trains networks, they have diverged: start again with a lower learning_rate"
            )
