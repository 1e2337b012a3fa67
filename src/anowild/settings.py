"""Every setting, with its unit and its source, and the presets.

The defaults are the paper's configuration: what its appendix states, and what the released
configuration adds where the appendix is silent. A preset overrides some of them and says why.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from anowild.errors import UserError

APPENDIX = "appendix, section 2"
RELEASED = "released configuration"
OURS = "our choice"

ByResolution = dict[int, int]

#: Names and values of earlier versions, which saved models, runs and command lines may hold.
RENAMED = {
    "average_decay": "ema_decay",
    "average_half_life_kimg": "ema_half_life_kimg",
    "examples": "reference_images",
    "refine_rate": "trim_rate",
    "regulariser": "regularizer",
    "reset_optimisers": "reset_optimizers",
    "robust_most": "robust_max_dropped",
    "robust_start": "robust_start_fraction",
}
RENAMED_VALUES = {"normalise": "normalize"}


def setting(default: Any, meaning: str, *, unit: str = "", source: str) -> Any:
    """A dataclass field that knows what it means, in which unit, and where its default is from."""
    metadata = {"meaning": meaning, "unit": unit, "source": source}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """All that decides the outcome of a training run, given the images."""

    # Images
    resolution: int | None = setting(
        None,
        "side of the square images the networks see, a power of two from 8 to 512; "
        "none: the power of two next above the images' usual shorter side",
        unit="pixels",
        source=OURS,
    )
    max_resolution: int = setting(
        512, "upper limit where the resolution comes from the images", unit="pixels", source=OURS
    )
    channels: int | None = setting(
        None, "channels; none: 1 if every image is gray, else 3", source=OURS
    )
    fit: Literal["crop", "pad", "letterbox", "stretch"] = setting(
        "crop", "how an image becomes a square: see anowild.data.Preprocess", source=OURS
    )
    bits: int = setting(8, "depth that is kept: 8 or 16", unit="bits", source=OURS)
    black: float | None = setting(
        None, "value of the source that becomes black; none: by its type", source=OURS
    )
    white: float | None = setting(
        None, "value of the source that becomes white; none: by its type", source=OURS
    )
    contrast: Literal["kept", "normalize"] = setting(
        "kept",
        "or, per image, normalized: mean to mid-gray, 4 deviations to black and white",
        source=OURS,
    )
    mirror: bool = setting(False, "flip training images at random, left to right", source=RELEASED)
    rotate: bool = setting(
        False,
        "turn training images at random by quarters (the authors turned their cells); not where "
        "up and down mean something",
        source=OURS,
    )

    # Views
    views: tuple[str, ...] = setting(
        ("gan",), "ways of looking at an image that are trained, with commas", source=OURS
    )

    # Networks
    fmap_base: int = setting(
        8192, "maps at stage s are min(fmap_base / 2^s, fmap_max)", source="appendix, section 1"
    )
    fmap_max: int = setting(512, "most maps of any layer", source="appendix, section 1")
    latent_size: int | None = setting(
        None, "components of a latent; none: the number of maps at stage 0", source=RELEASED
    )

    # Schedule
    kimg: float = setting(12000, "length of the training", unit="1000 images", source=RELEASED)
    initial_resolution: int | None = setting(
        4, "where growing starts; none: no growing", unit="pixels", source=RELEASED
    )
    stable_kimg: float = setting(
        600, "at each resolution before the next fade", unit="1000 images", source=RELEASED
    )
    fade_kimg: float = setting(600, "length of a fade", unit="1000 images", source=RELEASED)
    minibatch_base: int = setting(
        4, "minibatch where none is given; every minibatch is a multiple", source=APPENDIX
    )
    minibatch: ByResolution = setting(
        {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4},
        "minibatch by resolution",
        unit="images",
        source=APPENDIX,
    )
    max_minibatch: ByResolution = setting(
        {256: 16, 512: 8, 1024: 4}, "cap per device", unit="images", source=APPENDIX
    )
    minibatch_repeats: int = setting(
        4, "iterations for which schedule values are held", source=RELEASED
    )

    # Optimizer
    learning_rate: float = setting(0.001, "for G, D and E", source=RELEASED)
    learning_rates: dict[int, float] = setting(
        {1024: 0.0015}, "exceptions by resolution", source=APPENDIX
    )
    adam_beta1: float = setting(0.0, "decay of the mean gradient", source=APPENDIX)
    adam_beta2: float = setting(0.99, "decay of the mean squared gradient", source=APPENDIX)
    adam_epsilon: float = setting(1e-8, "added to the root in Adam", source=APPENDIX)
    adam_epsilon_hat: bool = setting(
        True,
        "TensorFlow's convention: epsilon is added before the bias correction, not after",
        source=RELEASED,
    )
    reset_optimizers: bool = setting(
        True, "forget Adam's moments when a fade starts or ends", source=RELEASED
    )

    # Losses
    gradient_penalty: float = setting(10.0, "weight lambda of the penalty", source=RELEASED)
    gradient_target: float = setting(
        1.0,
        "gradient norm that the penalty aims at (a remark there: 750 for CIFAR)",
        source=RELEASED,
    )
    regularizer: Literal["wgan-gp", "r1"] = setting(
        "wgan-gp",
        "penalty of D's gradient: between real and generated images; or r1: of its square at the "
        "real ones, without a target (half the weight counts)",
        source="paper; r1: Mescheder et al. 2018",
    )
    drift: float = setting(0.001, "weight of the squared real score", source=RELEASED)
    latent_scale: float = setting(0.1, "latents are this times N(0, I)", source=RELEASED)
    encoder: Literal["joint", "sequential"] = setting(
        "joint",
        "train E together with the GAN (the paper), or after it for as many images again",
        source="paper",
    )
    encoder_reals: float = setting(
        0.0,
        "weight of E's loss on real images, beside that on generated ones; 0: E sees none, as in "
        "the paper",
        source="f-AnoGAN (Schlegl et al. 2019), 'izi'",
    )
    cycle_weight: float = setting(
        0.0, "weight of E's loss in G's (10 in the released signatures, unused)", source=RELEASED
    )

    differentiable_augmentation: bool = setting(
        False,
        "move, and cover part of, all that D learns from, real and generated images alike: for "
        "sets of a few hundred images",
        source="Zhao et al. 2020",
    )

    # Contaminated images
    robust: bool = setting(
        False,
        "leave out training images that the model itself finds odd, look after look",
        source=OURS,
    )
    robust_start_fraction: float = setting(
        0.5, "from where on, as a share of the training", source=OURS
    )
    robust_max_dropped: float = setting(
        0.1, "of the training images that are left out, at most", source=OURS
    )
    trim_rate: float = setting(
        0.0,
        "from robust_start_fraction on, leave this share out of each minibatch, the worst rebuilt: the rate "
        "must be known",
        source="Latent Outlier Exposure (Qiu et al. 2022), 'refine'",
    )

    # Speed
    precision: Literal["float32", "bfloat16", "auto"] = setting(
        "float32",
        "of convolutions in training (scores are float32); auto: bfloat16 where the machine "
        "multiplies it faster",
        source=APPENDIX,
    )
    shared_fakes: bool = setting(
        False, "D, G and E learn from the same generated images, else each from its own",
        source=RELEASED,
    )  # fmt: skip
    simultaneous: bool = setting(
        False,
        "D, G and E learn at the same time from the same generated images, with one pass back "
        "through D; else in turn",
        source=RELEASED,
    )
    penalty_share: float = setting(
        1.0, "of each minibatch that the gradient penalty looks at", source=RELEASED
    )
    cuda_graphs: bool = setting(
        True,
        "on a GPU, record iterations at a whole level once and replay them",
        source=OURS,
    )

    # Averages of G and E
    ema_decay: float = setting(
        0.999, "per D step; used where no half-life is given", source=RELEASED
    )
    ema_half_life_kimg: float | None = setting(
        None,
        "half-life instead of a decay, at most a tenth of the images seen so far",
        unit="1000 images",
        source=OURS,
    )

    scoring_weights: Literal["averaged", "raw"] = setting(
        "averaged", "which G and E the detector scores with", source=OURS
    )
    reference_images: int = setting(
        500,
        "ordinary training images, at most, that a model keeps to show them beside odd ones",
        source=OURS,
    )

    # Run
    seed: int = setting(1000, "of initial parameters, latents, data order", source=APPENDIX)
    tick_kimg: dict[int, float] = setting(
        {4: 160, 8: 140, 16: 120, 32: 100, 64: 80, 128: 60, 256: 40, 512: 20},
        "between log lines, by resolution",
        unit="1000 images",
        source=RELEASED,
    )
    checkpoint_ticks: int = setting(1, "log lines between checkpoints", source=OURS)
    nonfinite_limit: int = setting(
        50,
        "steps skipped in a row, for a gradient that is not finite, that stop a run",
        source=OURS,
    )

    def __post_init__(self) -> None:
        _check(self)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Settings:
        """Raises UserError for an unknown name or an impossible value."""
        return Settings().replace(**values)

    def replace(self, **changes: Any) -> Settings:
        """A copy with some settings changed; strings are parsed as the setting's type.

        Raises:
            UserError: an unknown name (the nearest one is suggested) or an impossible value.
        """
        names = {f.name for f in dataclasses.fields(self)}
        changes = {RENAMED.get(name, name): value for name, value in changes.items()}
        for name in changes:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise UserError(f"there is no setting '{name}'{hint}")
        parsed = {name: _parse(name, value) for name, value in changes.items()}
        return dataclasses.replace(self, **parsed)


_TYPES = typing.get_type_hints(Settings)


def _parse(name: str, value: Any) -> Any:
    """Bring ``value`` (from JSON, the command line or Python) to the type of setting ``name``."""
    kind = _TYPES[name]
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
        if type(None) in options:
            return None
        raise UserError(f"setting '{name}' needs a value")
    kind = options[0]
    try:
        if typing.get_origin(kind) is Literal:
            value = RENAMED_VALUES.get(value, value)
            if value not in typing.get_args(kind):
                raise ValueError
            return value
        if typing.get_origin(kind) is dict:
            number = typing.get_args(kind)[1]
            if isinstance(value, str) and ":" in value:
                value = dict(part.split(":") for part in value.split(",") if part)
            elif isinstance(value, str | int | float):  # one value for all resolutions
                return {4 << s: number(value) for s in range(9)}
            return {int(key): number(item) for key, item in value.items()}
        if typing.get_origin(kind) is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(str(part).strip() for part in parts)
        if kind is bool:
            if isinstance(value, str):
                return {"true": True, "false": False, "1": True, "0": False}[value.lower()]
            return bool(value)
        if not math.isfinite(float(value)) or (kind is int and float(value) != int(float(value))):
            raise ValueError
        return int(float(value)) if kind is int else float(value)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        allowed = typing.get_args(kind) if typing.get_origin(kind) is Literal else kind
        expected = getattr(allowed, "__name__", None) or str(allowed)
        raise UserError(f"setting '{name}' cannot be {value!r}: it takes {expected}") from None


def _check(s: Settings) -> None:
    def need(condition: bool, name: str, rule: str) -> None:
        if not condition:
            raise UserError(f"setting '{name}' is {getattr(s, name)!r}: it must be {rule}")

    powers = [8 << i for i in range(7)]
    need(len(s.views) > 0 and len({*s.views}) == len(s.views), "views", "one or more, each once")
    need(s.resolution is None or s.resolution in powers, "resolution", f"one of {powers}")
    need(s.max_resolution in powers, "max_resolution", f"one of {powers}")
    need(s.bits in (8, 16), "bits", "8 or 16")
    ordered = s.black < s.white if s.black is not None and s.white is not None else False
    need(
        ordered or (s.black is None and s.white is None),
        "black",
        "given together with white, and less than it",
    )
    need(
        s.initial_resolution is None or s.initial_resolution in [4, *powers],
        "initial_resolution",
        f"one of {[4, *powers]}, or none",
    )
    for name in ("fmap_base", "fmap_max", "minibatch_base", "minibatch_repeats",
                 "checkpoint_ticks", "nonfinite_limit"):  # fmt: skip
        need(getattr(s, name) >= 1, name, "at least 1")
    need(0 <= s.robust_start_fraction <= 1, "robust_start_fraction", "from 0 to 1")
    need(0 < s.robust_max_dropped <= 0.5, "robust_max_dropped", "more than 0, and at most 0.5")
    need(0 <= s.trim_rate <= 0.5, "trim_rate", "from 0 to 0.5")
    need(0 < s.penalty_share <= 1, "penalty_share", "more than 0, and at most 1")
    for name in ("channels", "latent_size"):
        need(getattr(s, name) is None or getattr(s, name) >= 1, name, "at least 1")
    for name in (
        "stable_kimg",
        "fade_kimg",
        "gradient_penalty",
        "drift",
        "cycle_weight",
        "encoder_reals",
        "kimg",
        "reference_images",
    ):
        need(getattr(s, name) >= 0, name, "0 or more")
    for name in ("learning_rate", "adam_epsilon", "latent_scale", "gradient_target"):
        need(getattr(s, name) > 0, name, "more than 0")
    for name in ("adam_beta1", "adam_beta2", "ema_decay"):
        need(0 <= getattr(s, name) < 1, name, "from 0 to below 1")
    need(not (s.simultaneous and s.cycle_weight), "cycle_weight", "0 where simultaneous is true")
    half_life = s.ema_half_life_kimg
    need(half_life is None or half_life > 0, "ema_half_life_kimg", "more than 0")
    need(
        all(v >= 1 and (v % 4 == 0 or v < 4) for v in s.minibatch.values()),
        "minibatch",
        "a multiple of 4 (minibatch stddev's groups), or fewer than 4, at every resolution",
    )
    need(all(v > 0 for v in s.tick_kimg.values()), "tick_kimg", "more than 0 at every resolution")
    need(0 <= s.seed < 2**63, "seed", "from 0 to below 2^63")
