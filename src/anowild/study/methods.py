"""Methods that a study compares: ways of training our networks, and baseline detectors.

A method takes a contaminated training set and returns scores of the test set, one row or several.
All methods see the same images, preprocessed in the same way, and no label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.study import baselines


@dataclass(frozen=True)
class Training:
    """A way of training our networks."""

    summary: str
    changes: Mapping[str, Any]  # to the study's settings
    knows_rate: bool = False  # whether ``trim_rate`` is set to the rate of contamination


@dataclass(frozen=True)
class Baseline:
    """A detector on pixels: ``score`` is (training images, images, seed) -> [N], higher for odder."""

    summary: str
    score: Callable[[Array, Array, int], Array]
    needs: str | None = None  # an optional package

    def available(self) -> bool:
        return self.needs is None or find_spec(self.needs) is not None


#: The paper's step; with the fast step, E's loss cannot be part of G's.
_IN_TURN = {"simultaneous": False, "penalty_share": 1.0}

TRAININGS: dict[str, Training] = {
    "joint": Training("G, D and E together, as in the paper", {}),
    "sequential": Training("E after the GAN, for as many images again", {"encoder": "sequential"}),
    "robust": Training("joint, and suspects are left out", {"robust": True}),
    "refine": Training("joint, and each minibatch's worst share is left out", {}, knows_rate=True),
    "cycle": Training(
        "joint in turn, with E's loss in G's, weight 10", {**_IN_TURN, "cycle_weight": 10.0}
    ),
    "in-turn": Training("joint in turn: the paper's own step", _IN_TURN),
    "izi": Training("joint, and E sees the real images as well (f-AnoGAN)", {"encoder_reals": 1.0}),
    "untrained": Training("the networks before the first step", {"kimg": 0.0}),
}

DETECTORS: dict[str, Baseline] = {
    "pca": Baseline("PCA reconstruction", baselines.pca_residual),
    "knn": Baseline("5 nearest neighbors", baselines.nearest_neighbors),
    "iforest": Baseline("isolation forest", baselines.isolation_forest),
    "ecod": Baseline("ECOD", baselines.ecod, "pyod"),
    "deep-svdd": Baseline("Deep SVDD", baselines.deep_svdd, "pyod"),
    "autoencoder": Baseline("autoencoder", baselines.autoencoder, "pyod"),
    "contrast": Baseline("low contrast", baselines.low_contrast),
    "brightness": Baseline("brightness", baselines.brightness),
    "compressed": Baseline("size when compressed", baselines.compressed_size),
}
#: Detectors that also run on E's features of the joint networks.
ON_FEATURES = ("pca", "knn", "iforest", "ecod")

METHODS: dict[str, Training | Baseline] = {**TRAININGS, **DETECTORS}


def changes_of(name: str, rate: float) -> dict[str, Any]:
    """Return what a way of training changes in the study's settings."""
    training = TRAININGS[name]
    told = {"trim_rate": rate} if training.knows_rate else {}
    return {**training.changes, **told}


def check(names: list[str]) -> None:
    """Check that all methods exist and their packages are installed.

    Raises:
        UserError: one is unknown, or its package is missing.
    """
    for name in names:
        if name not in METHODS:
            raise UserError(f"method '{name}': unknown; take some of {', '.join(METHODS)}")
        method = METHODS[name]
        if isinstance(method, Baseline) and not method.available():
            raise UserError(
                f"method '{name}': {method.needs} is not installed; pip install 'anowild[study]'"
            )
