"""Settings of a training run, each with its meaning, unit, bounds and source.

The defaults are the paper's configuration: from its appendix or, where that is silent, from the released
code. `anowild.presets` has named sets of other values.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from anowild.errors import UserError

APPENDIX = "appendix, section 2"
RELEASED = "released configuration"
OURS = "our choice"

ByResolution = dict[int, int]

#: Old names and values, which saved models, runs and command lines may contain.
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
#: Settings of earlier versions that mean nothing any more.
REMOVED = {"draw_weights"}
RENAMED_VALUES = {"normalise": "normalize"}


#: Sides of images: powers of two.
RESOLUTIONS = tuple(8 << i for i in range(7))
#: Resolutions that values may be given by: those of all levels, and 1024, which the paper names.
LEVELS = tuple(4 << i for i in range(9))

#: Names of bounds, their test and their words.
_BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "choices": (lambda value, choices: value in choices, "one of"),
    "at_least": (operator.ge, "at least"),
    "more_than": (operator.gt, "more than"),
    "at_most": (operator.le, "at most"),
    "below": (operator.lt, "less than"),
}


def setting(
    default: Any,
    meaning: str,
    *,
    unit: str = "",
    source: str,
    choices: tuple[Any, ...] | None = None,
    at_least: float | None = None,
    more_than: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """Make a dataclass field with metadata.

    Args:
        default: the paper's value, or ours.
        meaning: a phrase for users.
        unit: of the value.
        source: of the default.
        choices: the values allowed, of a tuple each; None is always allowed where the type has it.
        at_least: least value. This and the other bounds hold for each value of a dictionary.
        more_than: value that is just too small.
        at_most: largest value.
        below: value that is just too large.
    """
    given = {"choices": choices, "at_least": at_least, "more_than": more_than, "at_most": at_most,
             "below": below}  # fmt: skip
    bounds = {name: bound for name, bound in given.items() if bound is not None}
    metadata = {"meaning": meaning, "unit": unit, "source": source, "bounds": bounds}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Everything that determines the outcome of a training run, given the images.

    Raises:
        UserError: a value is out of its bounds, or does not fit another one.
    """

    # Images
    resolution: int | None = setting(
        None,
        "side of the square images that the networks see, a power of two from 8 to 512; "
        "none: the power of two next above the images' usual shorter side",
        unit="pixels",
        source=OURS,
        choices=RESOLUTIONS,
    )
    max_resolution: int = setting(
        512, "upper limit where the resolution comes from the images", unit="pixels", source=OURS,
        choices=RESOLUTIONS,
    )  # fmt: skip
    max_network_resolution: int = setting(
        512,
        "upper limit of what the trained networks (G, D, E and R) see, where the resolution comes from the "
        "images; larger images are halved for them",
        unit="pixels", source=OURS, choices=RESOLUTIONS,
    )  # fmt: skip
    channels: int | None = setting(
        None,
        "channels; none: 1 if every image is gray, else 3",
        source=OURS,
        at_least=1,
        at_most=4096,
    )
    fit: Literal["crop", "pad", "letterbox", "stretch"] = setting(
        "crop", "how an image is made square: see anowild.data.Preprocess", source=OURS
    )
    tiles: int = setting(
        0,
        "side of the tiles that an image is cut into and scored by, the oddest of them deciding; 0: it is "
        "seen whole. For images far larger than what the networks see, where small things matter",
        unit="pixels of the original", source=OURS, at_least=0, at_most=4096,
    )  # fmt: skip
    bits: int = setting(8, "depth that is kept: 8 or 16", unit="bits", source=OURS, choices=(8, 16))
    black: float | None = setting(
        None, "value of the source that becomes black; none: by its type", source=OURS
    )
    white: float | None = setting(
        None, "value of the source that becomes white; none: by its type", source=OURS
    )
    contrast: Literal["kept", "normalize"] = setting(
        "kept",
        "keep it, or normalize it per image: mean to mid-gray, 4 standard deviations to black and white",
        source=OURS,
    )
    mirror: bool = setting(False, "flip training images at random, left to right", source=RELEASED)
    rotate: bool = setting(
        False,
        "rotate training images at random by quarter turns (as the authors did with their cells); only "
        "where up and down have no meaning",
        source=OURS,
    )

    # Views
    views: tuple[str, ...] = setting(
        ("gan",), "ways of looking at an image that are trained, with commas", source=OURS
    )
    features: str = setting(
        "efficientnet-lite0",
        "where the view `pretrained` has its vectors from: efficientnet-lite0, timm:NAME, a network "
        "FILE.onnx, or vectors FILE.npy, a row a training image",
        source=OURS,
    )

    # View "transforms"
    transforms: tuple[str, ...] = setting(
        ("turns",),
        "sets of transformations that R tells apart, with commas: turns (of the image, by quarters of a "
        "circle), quarters (of the image, in 4 orders), rings (turns of the middle alone)",
        source=OURS, choices=("turns", "quarters", "rings"),
    )  # fmt: skip
    transforms_kimg: float = setting(
        100,
        "length of the training of each of the two networks R; each image counts once for each set of "
        "transformations",
        unit="1000 images", source=OURS, at_least=0, at_most=1e7
    )  # fmt: skip
    transforms_maps: int = setting(
        16, "feature maps of R at full resolution; at most four times as many deeper", source=OURS,
        at_least=1, at_most=1024
    )  # fmt: skip
    transforms_minibatch: int = setting(
        32, "minibatch; of each image there are all transformations", unit="images", source=OURS,
        at_least=2, at_most=65536
    )  # fmt: skip
    transforms_learning_rate: float = setting(
        0.05, "of R at the start; it falls as a cosine to 0", source=OURS, more_than=0, at_most=1e6
    )
    transforms_weight_decay: float = setting(5e-4, "of R", source=OURS, at_least=0, at_most=1e6)

    # Networks
    fmap_base: int = setting(
        8192, "feature maps at stage s are min(fmap_base / 2^s, fmap_max)",
        source="appendix, section 1", at_least=1, at_most=2**20
    )  # fmt: skip
    fmap_max: int = setting(
        512,
        "most feature maps of any layer",
        source="appendix, section 1",
        at_least=1,
        at_most=2**14,
    )
    latent_size: int | None = setting(
        None, "components of a latent; none: the number of maps at stage 0", source=RELEASED,
        at_least=1, at_most=2**17
    )  # fmt: skip

    # Schedule
    kimg: float = setting(
        12000,
        "length of the training",
        unit="1000 images",
        source=RELEASED,
        at_least=0,
        at_most=1e7,
    )
    initial_resolution: int | None = setting(
        4, "resolution at which growing starts; none: no growing", unit="pixels", source=RELEASED,
        choices=(4, *RESOLUTIONS),
    )  # fmt: skip
    stable_kimg: float = setting(
        600, "training at each resolution before the next fade", unit="1000 images",
        source=RELEASED, at_least=0, at_most=1e7
    )  # fmt: skip
    fade_kimg: float = setting(
        600, "length of a fade", unit="1000 images", source=RELEASED, at_least=0, at_most=1e7
    )
    minibatch_base: int = setting(
        4, "minibatch where none is given; every minibatch is a multiple of it", source=APPENDIX,
        at_least=1, at_most=65536
    )  # fmt: skip
    minibatch: ByResolution = setting(
        {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4},
        "minibatch by resolution",
        unit="images",
        source=APPENDIX,
        at_least=1,
        at_most=65536,
    )
    max_minibatch: ByResolution = setting(
        {256: 16, 512: 8, 1024: 4},
        "largest minibatch, by resolution",
        unit="images",
        source=APPENDIX,
        at_least=1,
        at_most=65536,
    )
    minibatch_repeats: int = setting(
        4,
        "iterations for which values of the schedule are held",
        source=RELEASED,
        at_least=1,
        at_most=1e6,
    )

    # Optimizer
    learning_rate: float = setting(0.001, "of G, D and E", source=RELEASED, more_than=0)
    learning_rates: dict[int, float] = setting(
        {1024: 0.0015}, "exceptions by resolution", source=APPENDIX, more_than=0
    )
    adam_beta1: float = setting(
        0.0, "decay of the mean gradient", source=APPENDIX, at_least=0, below=1
    )
    adam_beta2: float = setting(
        0.99, "decay of the mean squared gradient", source=APPENDIX, at_least=0, below=1
    )
    adam_epsilon: float = setting(1e-8, "added to the root in Adam", source=APPENDIX, more_than=0)
    adam_epsilon_hat: bool = setting(
        True,
        "TensorFlow's convention: epsilon is added before the bias correction, not after",
        source=RELEASED,
    )
    reset_optimizers: bool = setting(
        True, "reset Adam's moments when a fade starts or ends", source=RELEASED
    )

    # Losses
    gradient_penalty: float = setting(
        10.0, "weight lambda of the penalty", source=RELEASED, at_least=0
    )
    gradient_target: float = setting(
        1.0,
        "gradient norm that the penalty aims at (a remark there: 750 for CIFAR)",
        source=RELEASED,
        more_than=0,
    )
    regularizer: Literal["wgan-gp", "r1"] = setting(
        "wgan-gp",
        "penalty of D's gradient: between real and generated images; or r1: of its square at "
        "real images, without a target and with half the weight",
        source="paper; r1: Mescheder et al. 2018",
    )
    drift: float = setting(0.001, "weight of the squared real score", source=RELEASED, at_least=0)
    latent_scale: float = setting(
        0.1, "latents are this times N(0, I)", source=RELEASED, more_than=0
    )
    encoder: Literal["joint", "sequential"] = setting(
        "joint",
        "train E together with the GAN (the paper), or after it for as many images again",
        source="paper",
    )
    encoder_reals: float = setting(
        0.0,
        "weight of E's loss on real images, beside that on generated ones; 0: on generated images only, "
        "as in the paper",
        source="f-AnoGAN (Schlegl et al. 2019), 'izi'",
        at_least=0,
    )
    cycle_weight: float = setting(
        0.0, "weight of E's loss in G's (10 in the released signatures, unused)", source=RELEASED,
        at_least=0,
    )  # fmt: skip

    differentiable_augmentation: bool = setting(
        False,
        "translate all images that D learns from, and cut a part out, real and generated images alike: "
        "for sets of a few hundred images",
        source="Zhao et al. 2020",
    )

    # Contaminated images
    left_out: float = setting(
        0.2,
        "share of the training images that no network is trained on: the oddest to the views that train none; "
        "0, or where there is no such view: it is trained on all",
        source=OURS, at_least=0, at_most=0.5,
    )  # fmt: skip
    robust: bool = setting(
        False,
        "leave out training images that the model itself finds odd, reassessed up to ten times",
        source=OURS,
    )
    robust_start_fraction: float = setting(
        0.5, "share of the training before the first reassessment", source=OURS, at_least=0,
        at_most=1,
    )  # fmt: skip
    robust_max_dropped: float = setting(
        0.1, "largest share of the training images to leave out", source=OURS, more_than=0,
        at_most=0.5,
    )  # fmt: skip
    trim_rate: float = setting(
        0.0,
        "share of each minibatch to leave out, the worst reconstructed, after robust_start_fraction of the "
        "training; the rate must be known",
        source="Latent Outlier Exposure (Qiu et al. 2022), 'refine'",
        at_least=0,
        at_most=0.5,
    )

    # Speed
    precision: Literal["float32", "bfloat16", "auto"] = setting(
        "float32",
        "of convolutions in training (scores are float32); auto: bfloat16 where the machine "
        "multiplies it faster",
        source=APPENDIX,
    )
    shared_fakes: bool = setting(
        False, "train D, G and E on the same generated images, else each on its own",
        source=RELEASED,
    )  # fmt: skip
    simultaneous: bool = setting(
        False,
        "train D, G and E at the same time on the same generated images, with one backward pass through "
        "D; else in turn",
        source=RELEASED,
    )
    penalty_share: float = setting(
        1.0, "share of each minibatch to compute the gradient penalty on", source=RELEASED,
        more_than=0, at_most=1,
    )  # fmt: skip
    cuda_graphs: bool = setting(
        True,
        "on a GPU, capture iterations at a whole level once and replay them",
        source=OURS,
    )

    # Averages of G and E
    ema_decay: float = setting(
        0.999, "per D step; used where no half-life is given", source=RELEASED, at_least=0, below=1
    )
    ema_half_life_kimg: float | None = setting(
        None,
        "half-life instead of a decay, at most a tenth of the images seen so far",
        unit="1000 images",
        source=OURS,
        more_than=0,
    )

    scoring_weights: Literal["averaged", "raw"] = setting(
        "averaged", "which G and E the detector scores with", source=OURS
    )
    reference_images: int = setting(
        500,
        "most ordinary training images that a model keeps, to show them beside odd ones",
        source=OURS,
        at_least=0,
        at_most=1e6,
    )

    # Run
    seed: int = setting(
        1000, "of initial parameters, latents, data order", source=APPENDIX, at_least=0,
        below=2**63,
    )  # fmt: skip
    tick_kimg: dict[int, float] = setting(
        {4: 160, 8: 140, 16: 120, 32: 100, 64: 80, 128: 60, 256: 40, 512: 20},
        "between log lines, by resolution",
        unit="1000 images",
        source=RELEASED,
        more_than=0,
    )
    checkpoint_ticks: int = setting(
        1, "log lines between checkpoints", source=OURS, at_least=1, at_most=1e9
    )
    nonfinite_limit: int = setting(
        50,
        "steps skipped in a row, for a gradient that is not finite, after which a run stops",
        source=OURS,
        at_least=1,
        at_most=1e9,
    )

    def __post_init__(self) -> None:
        _check(self)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Settings:
        """Restore settings from :meth:`to_json`, also of earlier versions.

        Raises:
            UserError: a name is unknown, or a value is impossible.
        """
        return Settings().replace(**{k: v for k, v in values.items() if k not in REMOVED})

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with some settings changed.

        Args:
            **changes: new values by name; strings are parsed as the setting's type.

        Raises:
            UserError: a name is unknown (the nearest one is suggested), or a value is impossible.
        """
        names = {f.name for f in dataclasses.fields(self)}
        changes = {RENAMED.get(name, name): value for name, value in changes.items()}
        for name in changes:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else "; `anowild settings` lists them"
                raise UserError(f"there is no setting '{name}'{hint}")
        parsed = {name: _parse(name, value) for name, value in changes.items()}
        return dataclasses.replace(self, **parsed)


_TYPES = typing.get_type_hints(Settings)


def _parse(name: str, value: Any) -> Any:
    """Convert ``value``, from JSON, the command line or Python, to the type of setting ``name``."""
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
                return {level: number(value) for level in LEVELS}
            return {int(key): number(item) for key, item in value.items()}
        if typing.get_origin(kind) is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(str(part).strip() for part in parts)
        if kind is str:
            return str(value)
        if kind is bool:
            if isinstance(value, str):
                return {"true": True, "false": False, "1": True, "0": False}[value.lower()]
            return bool(value)
        if not math.isfinite(float(value)) or (kind is int and float(value) != int(float(value))):
            raise ValueError
        return int(float(value)) if kind is int else float(value)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise UserError(
            f"setting '{name}' cannot be {value!r}: it takes {_kind_in_words(kind)}"
        ) from None


def _check(s: Settings) -> None:
    """Raise UserError for a value that breaks its own bounds, or a rule between settings."""
    for f in dataclasses.fields(s):
        _check_bounds(f, getattr(s, f.name))

    def need(condition: bool, name: str, rule: str) -> None:
        if not condition:
            raise _broken(name, getattr(s, name), rule)

    both = s.black is not None and s.white is not None and s.black < s.white
    neither = s.black is None and s.white is None
    need(both or neither, "black", "given together with white, and less than it")
    need(s.tiles == 0 or s.tiles >= 8, "tiles", "0, or at least 8")
    several = len(s.transforms) > 0 and len({*s.transforms}) == len(s.transforms)
    need(several, "transforms", "one or more, each once")
    need(len(s.views) > 0 and len({*s.views}) == len(s.views), "views", "one or more, each once")
    need(
        s.features == "efficientnet-lite0"
        or s.features.endswith((".onnx", ".npy"))
        or s.features.startswith("timm:"),
        "features",
        "efficientnet-lite0, timm:NAME, FILE.onnx or FILE.npy",
    )
    need(
        not s.robust or s.left_out + s.robust_max_dropped < 1,
        "left_out",
        "less than 1 - robust_max_dropped where robust is true",
    )
    need(not (s.simultaneous and s.cycle_weight), "cycle_weight", "0 where simultaneous is true")
    need(
        all(v % 4 == 0 or v < 4 for v in s.minibatch.values()),
        "minibatch",
        "a multiple of 4 (minibatch stddev's groups), or less than 4, at every resolution",
    )


def _check_bounds(f: dataclasses.Field[Any], value: Any) -> None:
    """Raise UserError for a value of a setting that is of no use, whatever the others are."""
    if value is None:
        if "None" not in str(f.type):
            raise _broken(f.name, value, f"of type {f.type}")
        return
    values, each, bounds = (value,), "", f.metadata["bounds"]
    if isinstance(value, tuple):
        choices = bounds.get("choices", value)
        if unknown := [v for v in value if v not in choices]:
            raise UserError(
                f"setting '{f.name}': there is no '{unknown[0]}'; take some of {_in_words(choices)}"
            )
        return
    if isinstance(value, dict):
        values, each = tuple(value.values()), " at every resolution"
        if not {*value} <= {*LEVELS}:
            raise _broken(f.name, value, f"given for resolutions among {_in_words(LEVELS)}")
    if not all(map(_is_finite, values)):
        raise _broken(f.name, value, f"a finite number{each}")
    if not all(_BOUNDS[name][0](v, bound) for v in values for name, bound in bounds.items()):
        rules = " and ".join(f"{_BOUNDS[name][1]} {_in_words(b)}" for name, b in bounds.items())
        raise _broken(f.name, value, rules + each)


def _broken(name: str, value: Any, rule: str) -> UserError:
    return UserError(f"setting '{name}' is {value!r}: it must be {rule}")


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _kind_in_words(kind: Any) -> str:
    """Return what values of a type look like: ``crop, letterbox or stretch``."""
    if typing.get_origin(kind) is Literal:
        *first, last = typing.get_args(kind)
        return f"{', '.join(first)} or {last}"
    if typing.get_origin(kind) is dict:
        return "a number, or numbers by resolution, as 32:64,64:32"
    words = {int: "a whole number", float: "a number", bool: "true or false"}
    return words.get(kind, "a text")


def _in_words(bound: Any) -> str:
    return ", ".join(map(str, bound)) if isinstance(bound, tuple) else f"{bound}"
