"""What robust training asks at every look: how odd each training image is, by the networks as they are."""

from __future__ import annotations

from anowild.arrays import Array
from anowild.data.image_set import ImageSet
from anowild.scoring.calibration import Calibration
from anowild.scoring.detector import (
    calibrated_on,
    cue_computer,
    fit_reference_statistics,
    scoring_networks,
)
from anowild.settings import Settings
from anowild.training.robust import AnomalyScorer
from anowild.training.step import Networks


def judge_of(images: ImageSet, settings: Settings) -> AnomalyScorer:
    """A judge that scores the images just as the finished detector would; in nats of surprise."""
    chosen = calibrated_on(images, settings)

    def judge(networks: Networks, lod: float) -> Array:
        modes = {name: network.training for name, network in networks.named().items()}
        try:
            scoring = scoring_networks(networks, settings)
            computer = cue_computer(scoring, lod)
            cues, usual = fit_reference_statistics(
                computer, computer.passes(chosen), len(chosen), settings
            )
            calibration = Calibration.fit(cues)
            if len(chosen) < len(images):
                computer = cue_computer(scoring | usual, lod)
                cues = computer(images.images)
        finally:
            for name, network in networks.named().items():
                network.train(modes[name])
        return calibration.oddness(cues)

    return judge
