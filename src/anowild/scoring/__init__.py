"""From views to scores, tables and limits. Imports `data` and `views`.

`calibration` turns cues into one score; `detector` holds preprocessing, views and calibration, and
`persistence` its files; `stream` scores a source of any length, `table` ranks and writes the scores,
`partitions` does so for sets that do not fit into memory, `growing` adds what is new to a table. `thresholds` and `threshold_rules` choose the limit from which images
are flagged, `saved_limit` keeps one with the model, `flagged_files` copies what it flags, and
`unlike_training` and `drift` warn of images unlike the training images, which `trained_on` knows again.
`explain` puts cues into words, and `reference_images` are ordinary training images to show beside an odd one.
"""

from anowild.scoring.calibration import Calibration
from anowild.scoring.detector import Detector
from anowild.scoring.scores import Scores
from anowild.scoring.table import Row, Table

__all__ = ["Calibration", "Detector", "Row", "Scores", "Table"]
