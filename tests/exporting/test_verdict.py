"""The graph's scores against the calibration's."""

import numpy as np
import pytest
import torch

from anowild.errors import UserError
from anowild.exporting.verdict import Verdict
from anowild.scoring.calibration import Calibration
from anowild.views import Cue


def cue(name: str, **options: object) -> Cue:
    return Cue(name=name, meaning=".", higher="more", lower="less", noun=name, **options)  # type: ignore[arg-type]


@pytest.fixture
def calibration() -> Calibration:
    rng = np.random.default_rng(0)
    views = {
        "one": [cue("a"), cue("b", odd_side="both", weight=0.2), cue("c", odd_side="either")],
        "two": [cue("d", odd_side="either", weight=0.5)],
        "three": [cue("e"), cue("constant")],
    }
    training = {name: np.exp(rng.normal(size=500)) for name in "abde"}
    # Longer to the left, so that the lower side is the odd one.
    training["c"] = np.exp(-rng.exponential(size=500))
    return Calibration.fit(views, training | {"constant": np.ones(500)})


def test_scores_are_the_same_within_and_beyond_the_training_images(
    calibration: Calibration,
) -> None:
    rng = np.random.default_rng(1)
    names = [*calibration.cues]
    cues = {name: np.exp(rng.normal(scale=3, size=2000)) for name in names}
    cues["a"][:3] = 0.0, 1e-30, 1e30
    expected = calibration.scores(cues)
    score, views = Verdict(calibration)({k: torch.from_numpy(v) for k, v in cues.items()})
    assert np.allclose(score.numpy(), expected.score, rtol=1e-11, atol=0)
    for column, name in enumerate(calibration.views):
        assert np.allclose(views[:, column].numpy(), expected.views[name], rtol=1e-11, atol=0)


def test_float32_is_enough(calibration: Calibration) -> None:
    rng = np.random.default_rng(1)
    cues = {name: np.exp(rng.normal(size=500)) for name in calibration.cues}
    verdict = Verdict(calibration)
    exact, _ = verdict({k: torch.from_numpy(v) for k, v in cues.items()})
    for module in verdict.modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
                setattr(module, name, value.float())
    rounded, _ = verdict({k: torch.from_numpy(v).float() for k, v in cues.items()})
    assert rounded.dtype == torch.float32
    assert np.allclose(rounded.numpy(), exact.numpy(), rtol=3e-5, atol=0)


def test_models_of_earlier_formats_are_refused(calibration: Calibration) -> None:
    value = calibration.to_json()
    for view in value["views"].values():
        view["scale"] = None
    with pytest.raises(UserError, match="earlier versions"):
        Verdict(Calibration.from_json(value))
