"""AnoWild finds the odd images in a folder that nobody has labeled.

The public API, in the order of a first session; each name is imported when it is first used, because
PyTorch takes two seconds:

>>> import anowild
>>> detector = anowild.train("images", "model")                      # doctest: +SKIP
>>> table = anowild.score(detector, "images", "scores.csv")          # doctest: +SKIP
>>> anowild.report(detector, "images", "report.html")                # doctest: +SKIP

- ``find``, ``prepare``, ``contaminate``, ``train``, ``score``, ``evaluate``, ``report``, ``review``, ``marks``,
  ``clean``, ``undo_clean``, ``limit``, ``watch``, ``serve``, ``share``, ``export``, and of tables in parts
  ``report_table`` and ``review_table``: the jobs, as the command line has them (`anowild.api`)
- ``Settings``, ``preset``, ``PRESETS``, ``CropSettings``: everything that can be set
- ``FixedScore``, ``Budget``, ``ExpectedShare``, ``FalseDiscoveryRate``, ``Gap``: rules that choose a limit
- ``Labels``: ground truth for evaluations
- ``from_pretrained``, ``save_pretrained``, ``push_to_hub``: models on the Hugging Face Hub
- ``AnomalyDetector``: an estimator of scikit-learn, for arrays of images
- ``Detector``, ``View``, ``Cue``, ``ImageSet``, ``PackedSet``, ``Preprocess``, ``Table``, ...: what jobs take and give
- ``UserError``, ``Interrupted``: raised where the user can mend something, or asked for a stop
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anowild.errors import UserError
from anowild.presets import PRESETS, Preset, preset
from anowild.settings import Settings
from anowild.signals import Interrupted
from anowild.version import VERSION as __version__

if TYPE_CHECKING:
    from anowild.api import (
        clean,
        contaminate,
        evaluate,
        export,
        find,
        limit,
        marks,
        prepare,
        report,
        report_table,
        review,
        review_table,
        score,
        serve,
        share,
        train,
        undo_clean,
        watch,
    )
    from anowild.data import ImageSet, PackedSet, Preprocess
    from anowild.data.crops import CropSettings
    from anowild.data.dataset.finalize import Leaks
    from anowild.data.image_stream import Batch
    from anowild.data.readers import Provenance, SkippedImage
    from anowild.data.sources import Source
    from anowild.data.value_range import ValueRange
    from anowild.estimator import AnomalyDetector
    from anowild.evaluation.evaluate import Evaluation
    from anowild.evaluation.labels import Labels
    from anowild.evaluation.metrics import Estimate, Quality
    from anowild.hub import Uploaded, from_pretrained, push_to_hub, save_pretrained
    from anowild.portable.facts import Facts
    from anowild.scoring import Calibration, Detector, Row, Scores, Table
    from anowild.scoring.calibration import CueCalibration, Tail, ViewCalibration
    from anowild.scoring.explain import Reason
    from anowild.scoring.reference_images import ReferenceImages
    from anowild.scoring.saved_limit import SavedLimit
    from anowild.scoring.stream import ThresholdRule, Trained
    from anowild.scoring.table import Scored
    from anowild.scoring.threshold_rules import (
        Budget,
        ExpectedShare,
        FalseDiscoveryRate,
        FixedScore,
        Gap,
    )
    from anowild.scoring.thresholds import Threshold
    from anowild.scoring.trained_on import TrainedOn
    from anowild.serving.limits import ServiceLimits
    from anowild.views import Cue, Explanation, View
    from anowild.watching.watch import WatchOptions, WatchSummary

#: Where names come from that are imported when they are first used.
_LAZY = {
    "anowild.api": (
        "clean", "contaminate", "evaluate", "export", "find", "limit", "marks", "prepare", "report",
        "report_table", "review", "review_table", "score", "serve", "share", "train", "undo_clean", "watch",
    ),
    "anowild.data": ("ImageSet", "PackedSet", "Preprocess"),
    "anowild.data.crops": ("CropSettings",),
    "anowild.data.dataset.finalize": ("Leaks",),
    "anowild.data.image_stream": ("Batch",),
    "anowild.data.sources": ("Source",),
    "anowild.data.readers": ("Provenance", "SkippedImage"),
    "anowild.data.value_range": ("ValueRange",),
    "anowild.estimator": ("AnomalyDetector",),
    "anowild.evaluation.evaluate": ("Evaluation",),
    "anowild.evaluation.labels": ("Labels",),
    "anowild.evaluation.metrics": ("Estimate", "Quality"),
    "anowild.portable.facts": ("Facts",),
    "anowild.hub": ("Uploaded", "from_pretrained", "push_to_hub", "save_pretrained"),
    "anowild.scoring": ("Calibration", "Detector", "Row", "Scores", "Table"),
    "anowild.scoring.calibration": ("CueCalibration", "Tail", "ViewCalibration"),
    "anowild.scoring.explain": ("Reason",),
    "anowild.scoring.reference_images": ("ReferenceImages",),
    "anowild.scoring.saved_limit": ("SavedLimit",),
    "anowild.scoring.stream": ("ThresholdRule", "Trained"),
    "anowild.scoring.threshold_rules": (
        "Budget", "ExpectedShare", "FalseDiscoveryRate", "FixedScore", "Gap",
    ),
    "anowild.scoring.table": ("Scored",),
    "anowild.scoring.thresholds": ("Threshold",),
    "anowild.scoring.trained_on": ("TrainedOn",),
    "anowild.serving.limits": ("ServiceLimits",),
    "anowild.views": ("Cue", "Explanation", "View"),
    "anowild.watching.watch": ("WatchOptions", "WatchSummary"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _LAZY.items() for name in names}

__all__ = [
    "PRESETS",
    "AnomalyDetector",
    "Batch",
    "Budget",
    "Calibration",
    "CropSettings",
    "Cue",
    "CueCalibration",
    "Detector",
    "Estimate",
    "Evaluation",
    "ExpectedShare",
    "Explanation",
    "Facts",
    "FalseDiscoveryRate",
    "FixedScore",
    "Gap",
    "ImageSet",
    "Interrupted",
    "Labels",
    "Leaks",
    "PackedSet",
    "Preprocess",
    "Preset",
    "Provenance",
    "Quality",
    "Reason",
    "ReferenceImages",
    "Row",
    "SavedLimit",
    "Scored",
    "Scores",
    "ServiceLimits",
    "Settings",
    "SkippedImage",
    "Source",
    "Table",
    "Tail",
    "Threshold",
    "ThresholdRule",
    "Trained",
    "TrainedOn",
    "Uploaded",
    "UserError",
    "ValueRange",
    "View",
    "ViewCalibration",
    "WatchOptions",
    "WatchSummary",
    "__version__",
    "clean",
    "contaminate",
    "evaluate",
    "export",
    "find",
    "from_pretrained",
    "limit",
    "marks",
    "prepare",
    "preset",
    "push_to_hub",
    "report",
    "report_table",
    "review",
    "review_table",
    "save_pretrained",
    "score",
    "serve",
    "share",
    "train",
    "undo_clean",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        from importlib import import_module

        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'anowild' has no attribute '{name}'")
