"""The detector: what a person trains, saves, loads and scores with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anowild.arrays import Array
from anowild.data import ImageSet, Preprocess
from anowild.data.value_range import ValueRange, unlike_trained
from anowild.errors import UserError
from anowild.files import printable
from anowild.scoring import persistence
from anowild.scoring.calibration import Calibration
from anowild.scoring.explain import Reason, of_tile, reasons
from anowild.scoring.reference_images import ReferenceImages
from anowild.scoring.scores import Scores
from anowild.scoring.trained_on import TrainedOn
from anowild.views import Cue, Explanation, View, features_of
from anowild.views.base import Precision


class Detector:
    """Preprocessing, views and their calibration; the same image always gets the same score.

    Made by `anowild.train` or :meth:`load`.

    >>> detector = Detector.load("model")                                              # doctest: +SKIP
    >>> images = ImageSet.load("images", preprocess=detector.preprocess)               # doctest: +SKIP
    >>> detector.score(images).score                                                   # doctest: +SKIP

    Args:
        views: one or more; the names of their cues differ.
        calibration: fitted to the cues of the training images.
        training_info: how it was trained, as JSON values; reports show it.
        reference_images: ordinary training images; pages show them.
        checksum: of the weights, where it is known from a file.
        trained_on: hashes of the training images; None: not known.
        folder: that has its files; None: it was not saved.
        precision: of convolutions, which the views were loaded with.
    """

    def __init__(
        self,
        views: Sequence[View],
        preprocess: Preprocess,
        calibration: Calibration,
        training_info: dict[str, Any],
        reference_images: ReferenceImages,
        checksum: str | None = None,
        trained_on: TrainedOn | None = None,
        folder: Path | None = None,
        precision: Precision = "float32",
    ) -> None:
        self.views = tuple(views)
        self.preprocess = preprocess
        self.calibration = calibration
        self.training_info = training_info
        self.reference_images = reference_images
        self.trained_on = trained_on
        self.folder = folder
        self.precision = precision
        self._checksum = checksum

    @property
    def cues(self) -> tuple[Cue, ...]:
        """Descriptions of the model's cues, in the order of tables."""
        return tuple(
            cue for view in self.views for cue in view.cues if cue.name in self.calibration.cues
        )

    @property
    def cue_names(self) -> tuple[str, ...]:
        """Names of the model's cues, in the order of tables."""
        return tuple(cue.name for cue in self.cues)

    @property
    def view_names(self) -> tuple[str, ...]:
        """Names of the views that have a score of their own; none in models up to format 5."""
        cues = {cue.name for cue in self.cues}
        return tuple(
            name
            for name, view in self.calibration.views.items()
            if view.training is not None and not cues.isdisjoint(view.cues)
        )

    @property
    def batch_size(self) -> int:
        """Images that the view with the largest batches computes at a time."""
        return max(view.batch_size for view in self.views)

    def measure(self, images: Array) -> dict[str, Array]:
        """Measure the cues of preprocessed images [N, C, R, R]: by name, float64 [N]."""
        measured: dict[str, Array] = {}
        for view in self.views:
            measured |= view.measure(images)
        return {name: measured[name] for name in self.cue_names}

    def score(
        self,
        images: Array | ImageSet,
        owners: Array | None = None,
        names: Sequence[str] | None = None,
    ) -> Scores:
        """Score preprocessed images.

        Args:
            images: a set, or [M, C, R, R] of the preprocessing's type (uint8 or uint16).
            owners: of an array of tiles, the number of the image that each is of, int [M], ascending;
                None: each is an image. Every image has to be there with all of its tiles.
            names: of the N images, for messages.

        Raises:
            ValueError: the images are of another shape or type.
            UserError: a score is not finite.
        """
        if isinstance(images, ImageSet):
            array, owners, names = images.images, images.owners, images.names
        else:
            array = images
        p = self.preprocess
        expected = (p.channels, p.resolution, p.resolution)
        if array.dtype != p.dtype or array.shape[1:] != expected:
            raise ValueError(f"expected {p.dtype} [N, {expected}], not {array.dtype} {array.shape}")
        with np.errstate(all="ignore"):  # what is not finite is an error below
            tiles = self.calibration.scores(self.measure(array))
            scores = self.calibration.of_images(
                tiles, np.arange(len(array)) if owners is None else owners
            )
        self._check_finite(scores, names)
        return scores

    def _check_finite(self, scores: Scores, names: Sequence[str] | None) -> None:
        for column, values in scores.columns().items():
            wrong = np.flatnonzero(~np.isfinite(values))
            if len(wrong):
                image = f"image {wrong[0]}" if names is None else printable(names[wrong[0]])
                model = "the model" if self.folder is None else f"the model {self.folder}"
                raise UserError(
                    f"{image}: {column.replace('_', ' ')} is {values[wrong[0]]}, which is no number to rank by; "
                    f"{model} is damaged or was trained badly: train again"
                )

    def reasons(self, scores: Scores) -> list[list[Reason]]:
        """Say what is unusual about each image, the strongest first; at least what comes nearest to it."""
        found = self.training_info.get("tiles" if self.preprocess.tiles else "images")
        count = found if isinstance(found, int) and found > 0 else None
        said = reasons(self.views, self.calibration, scores.cues, count)
        return [of_tile(each) for each in said] if self.preprocess.tiles else said

    def value_warnings(self, values: ValueRange) -> list[str]:
        """Return warnings of images whose type, channel count or values are not as those of the training were."""
        trained = ValueRange.from_json(self.training_info.get("values"))
        return unlike_trained(values, trained, self.preprocess)

    def explain(self, images: Array) -> Explanation:
        """Return pictures of where preprocessed images [N, C, R, R], at least one, are odd.

        They come from the first view that offers any; if none does, only the images are shown.
        """
        for view in self.views:
            explanation = view.explain(images)
            if explanation is not None:
                return explanation
        half = self.preprocess.full / 2
        return Explanation((images / half - 1).astype(np.float32))

    def features(self, images: Array) -> Array:
        """Return features of preprocessed images, float64 [N, D]; see :func:`anowild.views.features_of`."""
        return features_of(self.views, images)

    def neighbors(self, images: Array, count: int) -> list[Array]:
        """Find the reference images that are most like each image, by their features.

        Args:
            images: preprocessed, [N, C, R, R].

        Returns:
            For each image at most ``count`` reference images, the nearest first, as the view sees them:
            float32 [K, C, r, r] in about [-1, 1]. An image is not a neighbor of itself.
        """
        known = self.reference_images.images
        none = [np.empty((0, *known.shape[1:]), np.float32) for _ in images]
        if not len(known) or not len(images) or not self._reference_features.shape[1]:
            return none
        found = []
        for image, features in zip(images, self.features(images), strict=True):
            distances = np.square(self._reference_features - features).sum(axis=1)
            itself = (known == image).all(axis=(1, 2, 3))
            nearest = np.argsort(np.where(itself, np.inf, distances), kind="stable")
            found.append(nearest[: min(count, int((~itself).sum()))])
        wanted, places = np.unique(np.concatenate(found), return_inverse=True)
        if not len(wanted):
            return none
        seen = self.explain(known[wanted]).seen[places]
        return np.split(seen, np.cumsum([len(nearest) for nearest in found])[:-1])

    @cached_property
    def _reference_features(self) -> Array:
        return self.features(self.reference_images.images)

    @property
    def checksum(self) -> str:
        """A checksum of all weights."""
        if self._checksum is None:
            self._checksum = persistence.checksum_of(self.views)
        return self._checksum

    @cached_property
    def identity(self) -> str:
        """A digest of all that scores depend on: weights, preprocessing and calibration."""
        said = [self.checksum, self.preprocess.to_json(), self.calibration.to_json()]
        text = json.dumps(said, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def training_images(self) -> int | None:
        """How many images the model was trained on; None if it does not say."""
        return self.training_info.get("images")

    def save(self, folder: Path) -> None:
        """Write model.json, model.safetensors and the files beside them into ``folder``.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        persistence.save(self, folder)

    @staticmethod
    def of(model: Detector | str | Path, device: torch.device | str = "auto") -> Detector:
        """Return a detector as it is; of a folder, the one that :meth:`load` reads."""
        return model if isinstance(model, Detector) else Detector.load(model, device)

    @staticmethod
    def load(
        folder: str | Path,
        device: torch.device | str = "auto",
        precision: Precision = "float32",
    ) -> Detector:
        """Read a detector that :meth:`save` wrote.

        Args:
            precision: of convolutions; ``bfloat16`` is faster where the device has instructions for it,
                and ranks nearly as ``float32`` does.

        Raises:
            UserError: a file is missing, damaged, of another kind, or the files do not belong together;
                the message names the file.
        """
        return persistence.load(Path(folder), device, precision)
