"""From views to scores, tables and limits.

`calibration` turns cues into one score, and `scores` are what comes out. `detector` holds preprocessing, views and
calibration; `persistence` has its files, whose names `model_file` knows, and `description` checks what they say.
`stream` scores a source of any length, `table` ranks and writes the scores, `partitions` does so for sets that do not
fit into memory, `growing` adds what is new to a table, and `written_table` reads one back. `thresholds` and
`threshold_rules` choose the limit from which images are flagged, `saved_limit` keeps one with the model,
`flagged_files` copies what it flags, and `unlike_training` and `drift` warn of images unlike the training images,
which `trained_on` knows again. `explain` puts cues into words, `heat_map` shows where an image is odd, and
`reference_images` are ordinary training images to show beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anowild.scoring.calibration import Calibration
    from anowild.scoring.detector import Detector
    from anowild.scoring.scores import Scores
    from anowild.scoring.table import Row, Table

__all__ = ["Calibration", "Detector", "Row", "Scores", "Table"]

#: Where names come from. They are imported when they are first used: tables are read without PyTorch, which takes
#: seconds.
_LAZY = {
    "Calibration": "calibration", "Detector": "detector", "Row": "table", "Scores": "scores", "Table": "table",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
