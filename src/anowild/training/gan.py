"""The fitting of the view `gan`: train G, D and E, then fit the references of its distances."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.progress import bar
from anowild.scoring import Calibration
from anowild.settings import Settings
from anowild.training.fitting import FittedView, calibration_images, check_finite
from anowild.training.loop import Trained, train
from anowild.training.robust import AnomalyScorer
from anowild.training.step import Networks
from anowild.views.gan import GanView, ScoringNetworks
from anowild.views.gaussian import GaussianReference

log = logging.getLogger("anowild")

#: Generated images that the reference of the latents is fitted to.
SAMPLES = 2048


def fit(images: ImageSet, settings: Settings, folder: Path, device: torch.device) -> FittedView:
    """Train the networks, or go on with a training that ``folder`` holds; see `fitting.Fit`."""
    scorer = anomaly_scorer(images, settings) if settings.robust else None
    trained = train(images, settings, folder, device, scorer)
    if trained.lod > 0:
        resolution = images.preprocess.resolution
        log.warning(
            "the training ended at level of detail %.2f, before it had grown to full resolution: "
            "scores see images at %d pixels",
            trained.lod, resolution >> int(trained.lod),
        )  # fmt: skip
    view = view_of(trained.networks, trained.lod, settings)
    chosen = calibration_images(images, settings)
    with bar("calibrating, images", len(chosen)) as shown:
        batches = shown.counting(view.batches(chosen), view.batch_size)
        cues = fit_references(view, batches, len(chosen), settings)
    return FittedView(view, training_info(trained), cues, trained.suspects)


def view_of(networks: Networks, lod: float, settings: Settings) -> GanView:
    """Make a view of trained networks: EMA weights of G and E (or the raw ones, see ``scoring_weights``) and D."""
    averaged = settings.scoring_weights == "averaged"
    generator = networks.average_generator if averaged else networks.generator
    encoder = networks.average_encoder if averaged else networks.encoder
    architecture = {
        "resolution": generator.resolution,
        "channels": generator.channels,
        "fmap_base": settings.fmap_base,
        "fmap_max": settings.fmap_max,
        "latent_size": generator.latent_size,
    }
    scoring = ScoringNetworks(generator, networks.discriminator, encoder)
    return GanView(scoring, architecture, lod)


def fit_references(
    view: GanView, batches: Iterable[Tensor], count: int, settings: Settings
) -> dict[str, Array]:
    """Fit the view's references, and measure the cues of the training images.

    The reference of E's latents is fitted to generated images, that of D's hidden layer to the training
    images.

    Args:
        batches: training images as the networks see them.
        count: images in ``batches``; the last batch may be filled up.

    Returns:
        The cues of the training images by name, float64 [N].

    Raises:
        UserError: a cue or feature is not finite.
    """
    measured = view.measure_batches(batches, count)
    generated = view.samples(SAMPLES, settings.latent_scale, settings.seed)
    samples = view.measure_batches(generated, SAMPLES, cues=(), features=("latent",))
    check_finite(measured, view.name)
    check_finite(samples, view.name)
    references = {
        "latent": GaussianReference.fit(samples["latent"]),
        "hidden": GaussianReference.fit(measured["hidden"]),
    }
    for cue in view.cues:
        if cue.distance_of is not None:
            features = torch.from_numpy(measured[cue.distance_of])
            measured[cue.name] = references[cue.distance_of](features).numpy()
    view.references = {name: r.to(view.device) for name, r in references.items()}
    return {cue.name: measured[cue.name] for cue in view.cues}


def training_info(trained: Trained) -> dict[str, float]:
    """Return what reports say of a training."""
    return {
        "kimg": trained.kimg,
        "seconds": round(trained.seconds, 1),
        "skipped_steps": trained.skipped,
    }


def anomaly_scorer(images: ImageSet, settings: Settings) -> AnomalyScorer:
    """Return what robust training asks for the raw scores of the training images.

    They are those that a detector with the present networks would give, in nats: a sum of surprises.
    """
    chosen = calibration_images(images, settings)

    def raw_scores(networks: Networks, lod: float) -> Array:
        modes = {name: network.training for name, network in networks.named().items()}
        try:
            view = view_of(networks, lod, settings)
            cues = fit_references(view, view.batches(chosen), len(chosen), settings)
            calibration = Calibration.fit(view.cues, cues)
            if len(chosen) < len(images):
                cues = view.measure(images.images)
        finally:
            for name, network in networks.named().items():
                network.train(modes[name])
        return calibration.raw_score(cues)

    return raw_scores
