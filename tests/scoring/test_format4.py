"""A model of format 4, made before there were views, gives the scores that it gave then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import anowild
from anowild.arrays import Array
from anowild.scoring import Detector
from anowild.scoring.explain import one_line
from anowild.scoring.scores import oddest_first

MODEL = Path(__file__).parent / "files" / "format4"


def test_model_of_format_4_scores_as_before(digits: Array, tmp_path: Path) -> None:
    expected = json.loads((MODEL / "scores.json").read_text())
    detector = Detector.load(MODEL)
    table = anowild.score(detector, digits[:64])
    columns = {name: np.array(values) for name, values in expected["columns"].items()}
    assert list(table.scores.columns()) == list(columns)
    # The rounding of cues depends on the processor, and on PyTorch.
    for name, values in table.scores.cues.items():
        assert np.allclose(values, columns[name], rtol=1e-5, atol=1e-5), name
    assert np.allclose(detector.calibration.score(columns), columns["score"], rtol=1e-6, atol=1e-6)
    # Where training scores lie close together, the score rises a hundred times faster than its cues.
    assert np.allclose(table.score, columns["score"], rtol=1e-4, atol=1e-4)
    assert [one_line(found) for found in detector.reasons(table.scores)] == expected["why"]
    assert [row.why for row in table.rows()] == [
        expected["why"][i] for i in oddest_first(table.score)
    ]
    assert detector.checksum == json.loads((MODEL / "model.json").read_text())["weights_id"]
    assert len(detector.reference_images.images) == 20
    assert detector.training_info["views"]["gan"]["kimg"] > 1

    detector.save(tmp_path)
    again = Detector.load(tmp_path)
    assert np.array_equal(anowild.score(again, digits[:64]).score, table.score)
