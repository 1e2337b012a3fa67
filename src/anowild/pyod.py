"""`AnoWild`: the detector as one of PyOD's, for arrays of images or rows of their pixels; needs `pip install pyod`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from pyod.models.base import BaseDetector
from sklearn.utils.validation import check_is_fitted

from anowild.arrays import Array
from anowild.estimator import AnomalyDetector, Layout


class AnoWild(BaseDetector):  # type: ignore[misc]
    """Finds odd images; PyOD's convention: scores are higher for odd images, labels 1.

    ``decision_scores_`` are of the training images, each by what was fitted without it.

    Args:
        contamination: share of the training images beyond ``threshold_``, or a thresholder of PyThresh.
        preset, layout, image_shape, value_range, views, settings, random_state, device: as for
            :class:`anowild.AnomalyDetector`, but that rows of pixels are usual here.
    """

    def __init__(
        self,
        contamination: Any = 0.1,
        preset: str = "quick",
        layout: Layout = "flat",
        image_shape: tuple[int, ...] | Literal["square"] | None = "square",
        value_range: tuple[float, float] | Literal["training"] | None = None,
        views: Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        super().__init__(contamination=contamination)
        self.preset = preset
        self.layout = layout
        self.image_shape = image_shape
        self.value_range = value_range
        self.views = views
        self.settings = settings
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on images, of which some may be odd; ``y`` is ignored.

        Raises:
            ValueError, UserError: as :meth:`AnomalyDetector.fit`.
        """
        share = self.contamination
        if not (0 < share <= 0.5 if isinstance(share, float | int) else hasattr(share, "fit")):
            raise ValueError(
                f"contamination is {share!r}: a float above 0, at most 0.5, or a thresholder of PyThresh"
            )
        self._set_n_classes(y)
        parameters = {
            name: getattr(self, name)
            for name in AnomalyDetector._get_param_names()
            if name != "contamination"
        }
        self.estimator_ = AnomalyDetector(**parameters).fit(X)
        self.decision_scores_ = self.estimator_.decision_scores_
        self._process_decision_scores()
        return self

    def decision_function(self, X: Any) -> Array:
        """Return scores, [N]: a score of s says that about one in 10^s training images is as odd.

        Raises:
            NotFittedError: there is no model yet.
            ValueError: as :meth:`AnomalyDetector.score_samples`.
        """
        check_is_fitted(self, ["estimator_", "decision_scores_"])
        return np.asarray(-self.estimator_.score_samples(X))
