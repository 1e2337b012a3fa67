"""The fitting of the view `gan`: train G, D and E, then fit the references of its distances."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.progress import Bar, bar
from anowild.scoring import Calibration
from anowild.settings import Settings
from anowild.training.distributed import ALONE, World
from anowild.training.fitting import FittedView, Piece, check_finite
from anowild.training.loop import TrainedGan, train_gan
from anowild.training.networks import Networks
from anowild.training.references import chosen_for_fitting
from anowild.training.robust import AnomalyScorer
from anowild.training.schedule import Schedule
from anowild.training.sizes import network_halvings
from anowild.views.gan import GanView, ScoringNetworks
from anowild.views.gaussian import GaussianReference

log = logging.getLogger("anowild")

#: Generated images that the reference of the latents is fitted to.
SAMPLES = 2048


def pieces(settings: Settings) -> Mapping[str, Piece]:
    """Return the training of the networks, which can run beside others."""
    return {"gan": train_networks}


def check_shares(images: ImageSet, settings: Settings, processes: int) -> None:
    """Check that minibatches can be dealt out to processes that train together; see `fitting.check_shares`."""
    side = images.preprocess.resolution
    Schedule(settings, side >> network_halvings(side, settings)).check_shares(processes)


def train_networks(
    images: ImageSet, settings: Settings, folder: Path, device: torch.device, world: World = ALONE
) -> TrainedGan:
    """Train the networks, or go on with a training that ``folder`` holds; see `loop.train_gan`."""
    scorer = anomaly_scorer(images, settings) if settings.robust else None
    return train_gan(images, settings, folder, device, scorer, world)


def fit(images: ImageSet, settings: Settings, folder: Path, device: torch.device) -> FittedView:
    """Train the networks, or go on, then fit the references of the distances; see `fitting.Fit`."""
    trained = train_networks(images, settings, folder, device)
    shrink = network_halvings(images.preprocess.resolution, settings)
    if trained.lod > 0:
        log.warning(
            "the training ended at level of detail %.2f, before it had grown to full resolution: "
            "the networks see images at %d pixels",
            trained.lod, images.preprocess.resolution >> (shrink + int(trained.lod)),
        )  # fmt: skip
    view = view_of(trained.networks, trained.lod, settings, shrink)
    with bar("calibrating the GAN, images", len(images)) as shown:
        cues = fit_references(view, images.images, settings, shown)
    return FittedView(view, training_info(trained), cues, suspects=trained.suspects)


def view_of(networks: Networks, lod: float, settings: Settings, shrink: int = 0) -> GanView:
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
    return GanView(scoring, architecture, lod, shrink=shrink)


def fit_references(
    view: GanView, images: Array, settings: Settings, shown: Bar | None = None
) -> dict[str, Array]:
    """Fit the view's references, and measure the cues of the training images.

    The reference of E's latents is fitted to generated images, that of D's hidden layer to the training
    images.

    Args:
        images: all training images as stored, [N, C, R, R].
        shown: counts the images.

    Returns:
        The cues of the training images by name, float64 [N].

    Raises:
        UserError: a cue or feature is not finite.
    """
    batches = view.batches(images)
    if shown is not None:
        batches = shown.counting(batches, view.batch_size)
    measured = view.measure_batches(batches, len(images))
    generated = view.samples(SAMPLES, settings.latent_scale, settings.seed)
    samples = view.measure_batches(generated, SAMPLES, cues=(), features=("latent",))
    check_finite(measured, view.name)
    check_finite(samples, view.name)
    chosen = chosen_for_fitting(len(images), settings.seed)
    references = {
        "latent": GaussianReference.fit(samples["latent"]),
        "hidden": GaussianReference.fit(measured["hidden"][chosen]),
    }
    for cue in view.cues:
        if cue.distance_of is not None:
            features = torch.from_numpy(measured[cue.distance_of])
            measured[cue.name] = references[cue.distance_of](features).numpy()
    view.references = {name: r.to(view.device) for name, r in references.items()}
    return {cue.name: measured[cue.name] for cue in view.cues}


def training_info(trained: TrainedGan) -> dict[str, float]:
    """Return what reports say of a training."""
    return {
        "kimg": trained.kimg,
        "seconds": round(trained.seconds, 1),
        "skipped_steps": trained.skipped,
    }


def anomaly_scorer(images: ImageSet, settings: Settings) -> AnomalyScorer:
    """Return what robust training asks for the raw scores of the training images.

    They are sums of the surprises of the cues that count, with the present networks, in nats.
    """
    shrink = network_halvings(images.preprocess.resolution, settings)

    def raw_scores(networks: Networks, lod: float) -> Array:
        modes = {name: network.training for name, network in networks.named().items()}
        try:
            view = view_of(networks, lod, settings, shrink)
            cues = fit_references(view, images.images, settings)
        finally:
            for name, network in networks.named().items():
                network.train(modes[name])
        fitted = Calibration.fit({view.name: view.cues}, cues).cues
        return np.sum([c.surprise(cues[name]) for name, c in fitted.items() if c.counts], axis=0)

    return raw_scores
