"""`AnomalyDetector`: the detector as an estimator of scikit-learn, for arrays of images."""

from __future__ import annotations

import logging
import operator
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from anowild.arrays import Array
from anowild.checked import checked
from anowild.data import ImageSet
from anowild.data.preprocessing import MIN_SIDE, Preprocess
from anowild.data.value_range import ValueRange
from anowild.device import select_device
from anowild.errors import UserError
from anowild.files import exists, read_json, write_json
from anowild.presets import preset
from anowild.scoring import Detector
from anowild.scoring.model_file import DESCRIPTION
from anowild.scoring.scores import USUAL_LIMIT, p_value
from anowild.settings import Settings
from anowild.training.fitting import check_views, fit_detector

log = logging.getLogger("anowild")

#: Axes of arrays of images, or rows of pixels.
Layout = Literal["NHW", "NHWC", "NCHW", "flat"]
LAYOUTS: dict[str, int] = {"NHW": 3, "NHWC": 4, "NCHW": 4, "flat": 2}
#: The file of :meth:`AnomalyDetector.save` beside those of the model.
FILE = "estimator.json"


@dataclass(frozen=True)
class _Saved:
    """What :data:`FILE` holds."""

    model: str  # identity
    parameters: Mapping[str, Any]
    value_range: tuple[float, ...] | None
    side: int | None
    offset: float
    threshold: float
    features: int | None
    decision_scores: Sequence[float]

    def __post_init__(self) -> None:
        ends = self.value_range
        if ends is not None and (len(ends) != 2 or not ends[0] < ends[1]):
            raise ValueError(f"value_range is {list(ends)}")
        if not len(self.decision_scores):
            raise ValueError("decision_scores is empty")


class AnomalyDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Finds odd images in an array of images that nobody has labeled; scikit-learn's outlier convention.

    ``score_samples`` is higher for usual images, ``predict`` gives 1 for them and -1 for odd ones. The
    attributes that end with an underscore and ``predict_proba`` are oriented as in PyOD: higher is odder.

    Args:
        preset: ``quick``, ``laptop``, or another one of :data:`anowild.PRESETS`.
        layout: axes of X: ``NHW`` (gray), ``NHWC``, ``NCHW``, or ``flat``, rows of pixels. It is never guessed.
        image_shape: of rows of pixels: (H, W) or (H, W, C); ``square`` lays a row out, row by row, in the smallest
            square that holds it, and leaves the rest black.
        value_range: values that become black and white; None: by the type (uint8, uint16, float in [0, 1]);
            ``training``: the lowest and the highest value of the training images. What lies beyond is clipped.
        contamination: share of the training images that ``predict`` flags, as scikit-learn has it: of new images
            it flags more, as a model finds those odder that it was not trained on. ``auto`` flags what is as odd
            as the oddest 5 % of the training images are to what was fitted without them, and is better for new ones.
        views: in the place of the preset's: a sequence, or a text with commas.
        settings: changes of the preset's settings, by name; the seed is ``random_state``.
        random_state: seed.
        device: ``auto``, ``cpu`` or ``cuda``.

    Attributes:
        detector_: the trained :class:`anowild.Detector`.
        decision_scores_: oddness of the training images, by what was fitted without each of them: [N]. A score
            of s says that about one in 10^s training images is as odd.
        threshold_: of ``decision_scores_``; ``labels_`` is 1 for training images beyond it, else 0.
        offset_: of ``score_samples``, from where ``predict`` gives 1.
        n_features_in_: length of rows of pixels.
    """

    def __init__(
        self,
        preset: str = "quick",
        *,
        layout: Layout = "NHW",
        image_shape: tuple[int, ...] | Literal["square"] | None = None,
        value_range: tuple[float, float] | Literal["training"] | None = None,
        contamination: float | Literal["auto"] = "auto",
        views: Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        device: str = "auto",
    ) -> None:
        self.preset = preset
        self.layout = layout
        self.image_shape = image_shape
        self.value_range = value_range
        self.contamination = contamination
        self.views = views
        self.settings = settings
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on images, of which some may be odd; ``y`` is ignored. If it fails, the estimator is not fitted.

        Raises:
            ValueError: X is no such array, a parameter is wrong, or there are too few images.
            UserError: no view can be used, or the device cannot.
        """
        self.__dict__.pop("detector_", None)
        self._check_parameters()
        pixels = self._pixels(X, fitting=True)
        settings = self._settings()
        images = _loaded(pixels, settings)
        with tempfile.TemporaryDirectory(prefix="anowild-") as folder:
            fitted = fit_detector(images, settings, Path(folder), select_device(self.device))
        self.detector_ = fitted.detector
        self.decision_scores_ = fitted.training.score
        if self.contamination == "auto":
            self.threshold_, self.offset_ = USUAL_LIMIT, -USUAL_LIMIT
        else:
            share = 100 * float(self.contamination)
            self.threshold_ = float(np.percentile(self.decision_scores_, 100 - share))
            # The trained networks find training images less odd than new ones.
            scores = self.detector_.score(images).score
            self.offset_ = float(np.percentile(-scores, share))
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "detector_")

    @property
    def labels_(self) -> Array:
        """Which training images are odd: int [N]."""
        check_is_fitted(self)
        return (self.decision_scores_ > self.threshold_).astype(np.int64)

    def score_samples(self, X: Any) -> Array:
        """Return how usual images are, [N]: minus the score, so 0 is the most usual, and -2 one in a hundred."""
        check_is_fitted(self)
        pixels = self._pixels(X)
        images = _loaded(pixels, preprocess=self.detector_.preprocess)
        for warning in self.detector_.value_warnings(images.values or ValueRange()):
            log.warning("%s", warning)
        return -self.detector_.score(images).score

    def decision_function(self, X: Any) -> Array:
        """Return :meth:`score_samples` minus ``offset_``: negative for odd images, [N]."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> Array:
        """Return 1 for usual and -1 for odd images: int [N]."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def predict_proba(self, X: Any) -> Array:
        """Return the shares of the training images that are as odd or odder, and that are less odd: [N, 2].

        The second is near 1 for odd images. It is no chance that an image is an anomaly: nothing that was
        trained without labels and rate can know that.
        """
        less_odd = 1 - p_value(-self.score_samples(X))
        return np.stack([1 - less_odd, less_odd], axis=1)

    def save(self, folder: str | Path) -> None:
        """Write a model that `anowild score` reads as well, and the estimator's own file beside it.

        Raises:
            UserError: the folder has a model of another kind, the disk is full, or it cannot be written.
            ValueError: a parameter is no plain value.
        """
        check_is_fitted(self)
        saved, folder = self._saved(), Path(folder)
        if exists(folder / DESCRIPTION) and not exists(folder / FILE):
            raise UserError(f"{folder}: has a model that no estimator saved; name another folder")
        self.detector_.save(folder)
        write_json(folder / FILE, saved)

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            UserError: a file is missing or damaged, or they do not belong together.
        """
        path = Path(folder) / FILE
        try:
            saved = checked(_Saved, read_json(path), FILE)
            known = cls._get_param_names()
            parameters = {k: _tuples(v) for k, v in saved.parameters.items() if k in known}
        except ValueError as error:
            raise UserError(f"{path}: is damaged ({error}); fit and save it again") from error
        estimator = cls(**{**parameters, "device": device})
        try:
            estimator._check_parameters()
        except ValueError as error:
            raise UserError(f"{path}: is damaged ({error}); fit and save it again") from error
        detector = Detector.load(folder, device)
        if detector.identity != saved.model:
            raise UserError(
                f"{path}: belongs to another model than the one beside it; save it again"
            )
        estimator._restore(saved, detector)
        return estimator

    def _saved(self) -> dict[str, Any]:
        parameters = self.get_params(deep=False)
        if isinstance(self.random_state, np.random.RandomState):
            parameters["random_state"] = None
        return {
            "model": self.detector_.identity,
            "parameters": _plain(parameters),
            "value_range": self._range,
            "side": self._side,
            "offset": self.offset_,
            "threshold": self.threshold_,
            "features": getattr(self, "n_features_in_", None),
            "decision_scores": self.decision_scores_.tolist(),
        }

    def _restore(self, saved: _Saved, detector: Detector) -> None:
        self.detector_ = detector
        self.offset_, self.threshold_ = saved.offset, saved.threshold
        self.decision_scores_ = np.asarray(saved.decision_scores, np.float64)
        if saved.features is not None:
            self.n_features_in_ = saved.features
        low_high = saved.value_range
        self._range = None if low_high is None else (low_high[0], low_high[1])
        self._side = saved.side

    def __getstate__(self) -> dict[str, Any]:
        """Return parameters and arrays, with the files of the model in the place of its networks."""
        state: dict[str, Any] = super().__getstate__()
        if "detector_" not in state:
            return state
        state = dict(state)
        with tempfile.TemporaryDirectory(prefix="anowild-") as folder:
            state.pop("detector_").save(Path(folder))
            state["_files"] = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the model from its files; they are checked as any model is."""
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is not None:
            with tempfile.TemporaryDirectory(prefix="anowild-") as folder:
                for name, content in files.items():
                    (Path(folder) / Path(name).name).write_bytes(content)
                self.detector_ = Detector.load(folder, self.device)
            self.detector_.folder = None  # it is gone

    def _check_parameters(self) -> None:
        if not isinstance(self.layout, str) or self.layout not in LAYOUTS:
            raise ValueError(f"layout is {self.layout!r}: take one of {', '.join(LAYOUTS)}")
        if self.layout == "flat":
            if self.image_shape is None:
                raise ValueError(
                    "layout 'flat' needs image_shape: (H, W), (H, W, C), or 'square' to lay rows out in a square"
                )
            self._shape()
        share: Any = self.contamination
        if not (
            (isinstance(share, str) and share == "auto")
            or (isinstance(share, Real) and 0 < float(share) <= 0.5)
        ):
            raise ValueError(
                f"contamination is {share!r}: a number above 0, at most 0.5, or 'auto'"
            )

    def _shape(self) -> tuple[int, ...] | None:
        """Return the shape of rows of pixels; None: a square."""
        given: Any = self.image_shape
        if isinstance(given, str) and given == "square":
            return None
        try:
            shape = tuple(operator.index(side) for side in given)
        except TypeError:
            shape = ()
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(f"image_shape is {given!r}: (H, W), (H, W, C) or 'square'")
        return shape

    def _settings(self) -> Settings:
        if self.settings is not None and not isinstance(self.settings, Mapping):
            raise ValueError(f"settings are {self.settings!r}: values by the name of the setting")
        changes = dict(self.settings or {})
        if "seed" in changes:
            raise ValueError("settings have a seed: give it as random_state")
        if self.views is not None:
            views: Any = self.views.split(",") if isinstance(self.views, str) else self.views
            if not np.iterable(views):
                raise ValueError(f"views are {views!r}: give their names")
            changes["views"] = tuple(map(str, views))
        if self._range is not None:
            changes |= {"black": self._range[0], "white": self._range[1]}
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = int(check_random_state(seed).randint(1 << 31))
        if unknown := [name for name in changes if not isinstance(name, str)]:
            raise ValueError(f"settings have {unknown[0]!r}, which is no name of a setting")
        try:
            settings = preset(str(self.preset)).settings().replace(**changes, seed=int(seed))
            check_views(settings)
            return settings
        except UserError as error:
            raise ValueError(str(error)) from error

    def _pixels(self, X: Any, fitting: bool = False) -> Array:
        """Check an array of images, and return it as [N, H, W, C]."""
        wanted = LAYOUTS[self.layout]
        found = validate_data(
            self, X, reset=fitting, dtype="numeric", ensure_2d=wanted == 2, allow_nd=wanted > 2,
            ensure_min_samples=2 if fitting else 1,
        )  # fmt: skip
        if found.ndim != wanted:
            raise ValueError(
                f"X has shape {list(found.shape)}; layout {self.layout!r} has {wanted} axes"
            )
        if fitting:
            self._range = self._range_of(found)
            self._side = (
                max(MIN_SIDE, int(np.ceil(np.sqrt(found.shape[1])))) if wanted == 2 else None
            )
        elif self._range is None and found.dtype not in (np.uint8, np.uint16, np.bool_):
            self._range_of(found)
        if self.layout == "NHW":
            return np.asarray(found[..., None])
        if self.layout == "NCHW":
            return np.moveaxis(found, 1, -1)
        return self._from_rows(found) if self.layout == "flat" else np.asarray(found)

    def _from_rows(self, rows: Array) -> Array:
        shape = self._shape()
        if shape is None:
            assert self._side is not None
            black, dtype = (
                (0.0, rows.dtype) if self._range is None else (self._range[0], np.float64)
            )
            square = np.full((len(rows), self._side**2), black, dtype)
            square[:, : rows.shape[1]] = rows
            return square.reshape(len(rows), self._side, self._side, 1)
        if int(np.prod(shape)) != rows.shape[1]:
            raise ValueError(
                f"image_shape is {self.image_shape!r}, but rows of X have {rows.shape[1]} values"
            )
        return rows.reshape(len(rows), *shape, *(() if len(shape) == 3 else (1,)))

    def _range_of(self, found: Array) -> tuple[float, float] | None:
        given: Any = self.value_range
        if given is None:
            kind = found.dtype
            if kind in (np.uint8, np.uint16, np.bool_) or (
                kind.kind == "f" and 0 <= found.min() <= found.max() <= 1
            ):
                return None
            raise ValueError(
                f"X holds values of type {kind} from {found.min():.4g} to {found.max():.4g}: give "
                "value_range=(black, white), or 'training'; only uint8, uint16 and floats in [0, 1] need none"
            )
        if isinstance(given, str) and given == "training":
            low, high = float(found.min()), float(found.max())
            return low, high if high > low else low + 1.0
        try:
            low, high = map(float, given)
        except (TypeError, ValueError):
            low, high = np.nan, np.nan
        if not (np.isfinite([low, high]).all() and low < high):
            raise ValueError(f"value_range is {given!r}: a pair (black, white), 'training' or None")
        return low, high


def _loaded(
    pixels: Array, settings: Settings | None = None, preprocess: Preprocess | None = None
) -> ImageSet:
    """Preprocess images; raise ValueError if one cannot be used."""
    try:
        images = ImageSet.of_pixels(pixels, settings, preprocess)
    except UserError as error:
        raise ValueError(f"X: {error}") from error
    if images.left_out:
        first = images.left_out[0]
        raise ValueError(
            f"{len(images.left_out)} of {len(pixels)} images of X cannot be used, beginning with "
            f"{first.name}: {first.reason}"
        )
    return images


def _plain(value: Any) -> Any:
    """Return a parameter as JSON values."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"a parameter is {value!r}, which cannot be saved")


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
