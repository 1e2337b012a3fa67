"""From images to a detector: each view is fitted, then the cues of the training images are calibrated.

The fitting of a view is a function `fit` in the module of `training` that has the view's name, or one
that was registered with :func:`register_fit`. So looking never loads what fitting needs. A module may
also have `pieces`: trainings that `fit` begins with, and that can run in processes of their own before.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.errors import UserError, ViewUnavailable
from anowild.scoring import Calibration, Detector, Scores
from anowild.scoring.reference_images import ReferenceImages
from anowild.scoring.trained_on import TrainedOn
from anowild.settings import Settings
from anowild.training import trusted
from anowild.training.distributed import ALONE, World
from anowild.training.robust import Suspects
from anowild.training.side_by_side import remove_images, run_pieces
from anowild.views import Cue, View, view_class

log = logging.getLogger("anowild")

#: How often lookalikes are computed; see :func:`_with_lookalikes`.
LOOKALIKE_ROUNDS = 2

#: What goes wrong in one view alone: errors of PyTorch, also for want of memory, and of matrices that have no
#: decomposition.
FAILURES = (RuntimeError, MemoryError, np.linalg.LinAlgError)


@dataclass(frozen=True)
class Lookalikes:
    """The training images that each is most like, to a view that measures how odd these are."""

    #: Numbers of the training images among which they are looked for, int [M], ascending.
    bank: Array
    #: Of each training image, itself not counted: rows of the bank, int [N, K].
    nearest: Array
    #: Gives the view how odd the images of the bank are to all views, float64 [M]; returns the cue that it
    #: measures from then on: the mean over the images that an image is most like.
    set_oddness: Callable[[Array], Cue]


@dataclass(frozen=True)
class FittedView:
    """What the fitting of a view gives."""

    view: View
    #: How it was fitted, as JSON values, for reports: ``seconds``, ``kimg``, ...
    info: Mapping[str, Any] = field(default_factory=dict)
    #: Cues of the training images, each float64 [N], measured by what was fitted without the image
    #: where that makes a difference; None: ``view`` is asked for them.
    training_cues: Mapping[str, Array] | None = None
    #: Weights of cues, from 0 to 1, that say little; 1 unless given.
    weights: Mapping[str, float] = field(default_factory=dict)
    #: The training images that robust training suspects.
    suspects: Suspects | None = None
    #: Features of the training images, as the view's ``features`` gives them, where they are at hand: [N, D].
    features: Array | None = None
    #: Where the view measures how odd the images are that an image is most like.
    lookalikes: Lookalikes | None = None


@dataclass(frozen=True)
class FittedDetector:
    """A detector, what it says of the training images, and those that its training suspects."""

    detector: Detector
    training: Scores
    suspects: Suspects | None
    features: Array | None = None  # of the training images, where a view had them at hand
    #: What the fits of the views say of their cues' weights, by name; 1 unless given.
    weights: Mapping[str, float] = field(default_factory=dict)


#: Fits a view to images: (images, settings, folder, device) -> the view. ``folder`` holds the state that
#: an interrupted fit goes on from; a view keeps its files in the subfolder of its name (the GAN, which
#: was there first, in ``folder`` itself). Raises ViewUnavailable where the others should go on without
#: it, another UserError, or Interrupted after the state was saved.
Fit = Callable[[ImageSet, Settings, Path, torch.device], FittedView]


class Piece(Protocol):
    """A long piece of a fit; afterwards its result lies in ``folder``.

    Several processes may call it together, each with the same arguments and its place in ``world``. Then all
    return or raise ViewUnavailable or Interrupted alike, and the first one alone uses ``folder``.
    """

    def __call__(
        self, images: ImageSet, settings: Settings, folder: Path, device: torch.device,
        world: World = ALONE, /,
    ) -> object: ...  # fmt: skip


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


def check_views(settings: Settings) -> None:
    """Check, before images are read, that there are the views of ``settings``.

    Raises:
        UserError: as :func:`fit_of`.
    """
    for name in settings.views:
        fit_of(name)


def pieces_of(name: str, settings: Settings) -> dict[str, Piece]:
    """Return the long pieces of the fit of a view, by name."""
    module = importlib.import_module(fit_of(name).__module__)
    pieces: dict[str, Piece] = getattr(module, "pieces", lambda _: {})(settings)
    return pieces


def fit_detector(
    images: ImageSet, settings: Settings, folder: Path, device: torch.device, world: World = ALONE
) -> FittedDetector:
    """Fit all views of ``settings.views``, calibrate them, and join them to a detector.

    Views that train no network come first; what they find oddest no network is trained on (`trusted`). On a CPU of
    several threads, these trainings run side by side, a process each: small networks gain little from a second
    thread. Several processes of a ``world`` train one network after the other together; all else the first one
    does, while the others :func:`follow` it.

    Args:
        folder: training state; the same call goes on from there.
        world: processes that train together, of which this is the first.

    Raises:
        UserError: as the fitting of a view; no view can be used; or no cue counts.
        Interrupted: by Ctrl-C or SIGTERM, after the state was saved.
    """
    remove_images(folder)
    pieces = {name: pieces_of(name, settings) for name in settings.views}
    found = {
        name: _fitted(name, images, settings, folder, device)
        for name in settings.views
        if not pieces[name]
    }
    networks = {name: named for name, named in pieces.items() if named}
    if networks and settings.left_out:
        _choose_trusted(found, images, settings, folder)
    failed: Mapping[str, ViewUnavailable] = {}
    if world.size > 1:
        failed = _run_together(networks, images, settings, folder, device, world)
    else:
        run_pieces([*chain.from_iterable(networks.values())], images, settings, folder, device)
    for name in networks:
        found[name] = _fitted(name, images, settings, folder, device, failed.get(name))
    fitted = [part for name in settings.views if isinstance(part := found[name], FittedView)]
    unusable = {name: part for name, part in found.items() if isinstance(part, str)}
    if not fitted:
        raise UserError(f"none of the views {', '.join(found)} can be used: see the lines above")
    return _joined(_with_lookalikes(fitted), unusable, images, settings)


def check_shares(images: ImageSet, settings: Settings, processes: int) -> None:
    """Check that the views can deal out their minibatches to processes that train together.

    Raises:
        UserError: a view cannot.
    """
    for name in settings.views:
        module = importlib.import_module(fit_of(name).__module__)
        getattr(module, "check_shares", lambda *_: None)(images, settings, processes)


def follow(images: ImageSet, settings: Settings, device: torch.device, world: World) -> None:
    """Train with the first process of a world what it asks for, until it has ended; see :func:`fit_detector`."""
    while "piece" in (note := world.hear()):
        with suppress(ViewUnavailable):
            pieces_of(note["view"], settings)[note["piece"]](
                images, settings, Path(), device, world
            )


def _run_together(
    pieces: Mapping[str, Mapping[str, Piece]], images: ImageSet, settings: Settings, folder: Path,
    device: torch.device, world: World,
) -> dict[str, ViewUnavailable]:  # fmt: skip
    """Run pieces of views by all processes of a world; return why views cannot be used."""
    failed: dict[str, ViewUnavailable] = {}
    for view, name in [(view, name) for view, named in pieces.items() for name in named]:
        if view not in failed:
            world.tell({"view": view, "piece": name})
            try:
                pieces[view][name](images, settings, folder, device, world)
            except ViewUnavailable as error:
                failed[view] = error
    return failed


def _choose_trusted(
    found: Mapping[str, FittedView | str], images: ImageSet, settings: Settings, folder: Path
) -> None:
    """Save which images networks are trained on, by what the views say of them that train none; without any, all."""
    judges = [part for part in found.values() if isinstance(part, FittedView)]
    chosen, judged = np.ones(len(images), bool), ""
    if any(
        cue.counts and part.weights.get(cue.name, 1.0) for part in judges for cue in part.view.cues
    ):
        calibration, training = _calibrated(_with_lookalikes(judges))
        score = calibration.score(training)
        chosen = trusted.trusted_of(score, settings.left_out)
        judged = hashlib.blake2b(score.tobytes(), digest_size=16).hexdigest()
    trusted.save(folder, images, settings, chosen, judged)


def _fitted(
    name: str, images: ImageSet, settings: Settings, folder: Path, device: torch.device,
    failed: ViewUnavailable | None = None,
) -> FittedView | str:  # fmt: skip
    """Fit a view and measure the training images; where it cannot be used, or has failed before, return why."""
    try:
        if failed is not None:
            raise failed
        try:
            part = fit_of(name)(images, settings, folder, device)
            cues = part.training_cues
            cues = part.view.measure(images.images) if cues is None else cues
            check_finite(cues, name)
        except FAILURES as error:
            raise ViewUnavailable(failure(name, error)) from error
    except ViewUnavailable as error:
        if len(settings.views) == 1:
            raise
        log.warning("%s; the other views go on without it", error)
        return str(error)
    return replace(part, training_cues=cues)


def failure(name: str, error: Exception) -> str:
    """Say that something went wrong in a view or a piece of it, and what can be done."""
    text = " ".join(str(error).split())[:300]
    return (
        f"{name} failed ({type(error).__name__}: {text}); if memory ran out, take fewer threads or a lower "
        "resolution"
    )


def _calibrated(fitted: Sequence[FittedView]) -> tuple[Calibration, dict[str, Array]]:
    """Calibrate fitted views, by the cues that they have of the training images; return these, too."""
    views: dict[str, list[Cue]] = {}
    training: dict[str, Array] = {}
    for part in fitted:
        assert part.training_cues is not None
        # The lookalikes of `_choose_trusted` are not those of all views.
        views[part.view.name] = [c for c in part.view.cues if c.name in part.training_cues]
        training |= {cue.name: part.training_cues[cue.name] for cue in views[part.view.name]}
    return Calibration.fit(views, training, _weights(fitted)), training


def _weights(fitted: Sequence[FittedView]) -> dict[str, float]:
    """Return what the fits of the views say of their cues' weights."""
    return {name: weight for part in fitted for name, weight in part.weights.items()}


def _with_lookalikes(fitted: Sequence[FittedView]) -> list[FittedView]:
    """Add the cue of lookalikes to the views that know which training images are alike.

    It is how odd these are to all views together. Anomalies that are many and alike are usual to what measures
    distances from the training images. Where anything else finds them odd, an image is known by being like them;
    akin to label propagation (Zhu and Ghahramani 2002). It is computed twice: the second time the new cue has a
    say in the scores.
    """
    found = list(fitted)
    knowing = [n for n, part in enumerate(found) if part.lookalikes is not None]
    for _ in range(LOOKALIKE_ROUNDS if knowing else 0):
        calibration, training = _calibrated(found)
        score = calibration.score(training)
        for number in knowing:
            part = found[number]
            assert part.lookalikes is not None
            assert part.training_cues is not None
            oddness = score[part.lookalikes.bank]
            cue = part.lookalikes.set_oddness(oddness)
            told = oddness[part.lookalikes.nearest].mean(axis=1)
            found[number] = replace(part, training_cues={**part.training_cues, cue.name: told})
    return found


def _joined(
    fitted: list[FittedView], failed: Mapping[str, str], images: ImageSet, settings: Settings
) -> FittedDetector:
    """Calibrate fitted views, and join them to a detector."""
    calibration, training = _calibrated(fitted)
    scores = calibration.scores(training)
    reference_images = ReferenceImages.choose(
        images.images, scores.score, settings.reference_images, settings.seed
    )
    if images.owners is not None:
        calibration = calibration.with_tiles(scores, images.owners)
        scores = calibration.of_images(scores, images.owners)
    info = {
        "images": len(scores.score),
        **({"tiles": len(images)} if images.owners is not None else {}),
        "settings": settings.to_json(),
        "views": {part.view.name: dict(part.info) for part in fitted},
        "failed": dict(failed),
        "values": None if images.values is None else images.values.to_json(),
    }
    detector = Detector(
        [part.view for part in fitted], images.preprocess, calibration, info, reference_images,
        trained_on=TrainedOn.of(images.images),
    )  # fmt: skip
    suspects = next((part.suspects for part in fitted if part.suspects is not None), None)
    features = next((part.features for part in fitted if part.features is not None), None)
    if images.owners is not None:
        suspects = None  # robust training suspects tiles
        if features is not None:
            features = features[scores.deciding_squares(images.owners)]
    return FittedDetector(detector, scores, suspects, features, _weights(fitted))


def check_finite(cues: Mapping[str, Array], view: str) -> None:
    """Raise ViewUnavailable if a view's cue or feature of the training images is not finite."""
    for name, values in cues.items():
        if not np.isfinite(values).all():
            raise ViewUnavailable(
                f"the view '{view}' gives values of {name} that are not finite on the training images; if "
                "it trains networks, they have diverged: start again with a lower learning_rate"
            )
