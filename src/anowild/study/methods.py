"""Methods that a study compares: ways of training our GAN, detectors of several views, and baselines.

A method takes a contaminated training set and returns scores of the test set, one row or several.
All methods see the same images, preprocessed in the same way, and no label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.presets import preset
from anowild.settings import Settings
from anowild.study import baselines
from anowild.study.fusion_rules import DEFAULT_RULE
from anowild.training.pretrained import PACKAGE

#: Title of the score of a detector of several views.
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Training:
    """A way of training the networks of the view `gan`, by themselves."""

    summary: str
    changes: Mapping[str, Any]  # to the study's settings
    knows_rate: bool = False  # whether ``trim_rate`` is set to the rate of contamination
    main: str = DEFAULT_RULE  # the row that stands for the method


@dataclass(frozen=True)
class Ensemble:
    """A detector of several views, as `anowild train` makes it."""

    summary: str
    preset: str | None = None  # what it has otherwise than the preset laptop comes first
    changes: Mapping[str, Any] = field(default_factory=dict)  # to the study's settings
    without: tuple[str, ...] = ()  # views that are left out
    #: A method whose trained views are taken over where its trial is done: of all views but ``trains``.
    like: str | None = None
    trains: tuple[str, ...] = ()
    main: str = ENSEMBLE


@dataclass(frozen=True)
class Baseline:
    """A detector from elsewhere: ``score`` is (training images, images, seed) -> [N], higher for odder."""

    summary: str
    score: Callable[[Array, Array, int], Array]
    needs: str | None = None  # an optional package
    extra: str = "study"  # what of `anowild` brings that package

    @property
    def main(self) -> str:
        return self.summary

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

ENSEMBLES: dict[str, Ensemble] = {
    "ensemble": Ensemble("all views of the study's settings"),
    "quick": Ensemble(
        "the same with what the preset quick has otherwise than laptop", preset="quick"
    ),
    "ensemble-all": Ensemble(
        "the same, and networks are trained on all images", changes={"left_out": 0.0}
    ),
    "ensemble-own": Ensemble(
        "the same, and no network that was trained elsewhere", without=("pretrained",)
    ),
    "ensemble-sequential": Ensemble(
        "the same, and E is trained after the GAN, for as many images again",
        changes={"encoder": "sequential"},
        like="ensemble",
        trains=("gan",),
    ),
    "ensemble-untrained": Ensemble(
        "its networks before the first step, and none that was trained elsewhere",
        changes={"kimg": 0.0, "transforms_kimg": 0.0},
        without=("pretrained",),
    ),
}

_EMBEDDING = {"needs": PACKAGE, "extra": "pretrained"}
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
    "embedding-knn": Baseline(
        "10 nearest neighbors, embeddings", baselines.embedding_neighbors, **_EMBEDDING
    ),
    "embedding-lof": Baseline(
        "local outlier factor, embeddings", baselines.embedding_lof, **_EMBEDDING
    ),
    "embedding-iforest": Baseline(
        "isolation forest, embeddings", baselines.embedding_forest, **_EMBEDDING
    ),
}
#: Detectors that also run on E's features of the joint networks.
ON_FEATURES = ("pca", "knn", "iforest", "ecod")

#: Baselines of raw pixels that a user would try first; the ensemble is held against the best of them.
PIXEL_BASELINES = ("pca", "knn", "iforest", "ecod", "contrast")

METHODS: dict[str, Training | Ensemble | Baseline] = {**TRAININGS, **ENSEMBLES, **DETECTORS}


def settings_of(name: str, settings: Settings, rate: float) -> Settings:
    """Return the settings of a method: the study's, with what the method changes.

    Raises:
        UserError: the method's preset is unknown.
    """
    method = METHODS[name]
    if isinstance(method, Baseline):
        return settings
    changes = dict(method.changes)
    if isinstance(method, Training) and method.knows_rate:
        changes["trim_rate"] = rate
    if isinstance(method, Ensemble):
        if method.preset is not None:
            laptop, other = (vars(preset(p).settings()) for p in ("laptop", method.preset))
            changes = {k: v for k, v in other.items() if v != laptop[k]} | changes
        settings = settings.replace(**changes)
        changes = {"views": tuple(v for v in settings.views if v not in method.without)}
    return settings.replace(**changes)


def check(names: list[str]) -> None:
    """Check that all methods exist and their packages are installed.

    Raises:
        UserError: one is unknown, or its package or preset is missing.
    """
    for name in names:
        if name not in METHODS:
            raise UserError(f"method '{name}': unknown; take some of {', '.join(METHODS)}")
        method = METHODS[name]
        if isinstance(method, Baseline) and not method.available():
            raise UserError(
                f"method '{name}': {method.needs} is not installed; "
                f"pip install 'anowild[{method.extra}]'"
            )
        if isinstance(method, Ensemble) and method.preset is not None:
            preset(method.preset)
