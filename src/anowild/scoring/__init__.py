"""From views to scores, tables and lines through them. Imports `data` and `views`.

`calibration` turns cues into one score; `detector` holds preprocessing, views and calibration, and
`persistence` its files; `stream` scores a source of any length, `table` ranks and writes the scores,
`thresholds` and `threshold_rules` draw a line through them, `explain` puts cues into words, and
`reference_images` are ordinary training images to show beside an odd one.
"""

from anowild.scoring.calibration import Calibration
from anowild.scoring.detector import Detector
from anowild.scoring.scores import Scores
from anowild.scoring.table import Row, Table

__all__ = ["Calibration", "Detector", "Row", "Scores", "Table"]
