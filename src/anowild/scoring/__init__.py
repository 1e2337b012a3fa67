"""Station 5: trained networks -> cues -> calibrated scores. Imports `data`, `networks`, `training`.

`cues` computes what is measured of one image, `calibration` turns it into a score, `detector`
holds both with the networks, saves and loads them; `stream` scores a source of any length, `table` ranks
and writes what was scored, `thresholds` draws a line through it, `explain` says where an image is odd,
`examples` are the ordinary images to hold beside it.
"""

from anowild.scoring.calibration import Calibration
from anowild.scoring.cues import CUES
from anowild.scoring.detector import Detector, Scores
from anowild.scoring.table import Row, Table

__all__ = ["CUES", "Calibration", "Detector", "Row", "Scores", "Table"]
