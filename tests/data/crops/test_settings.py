"""Settings of cropping."""

from __future__ import annotations

from typing import Any

import pytest

from anowild.data.crops import CropSettings
from anowild.errors import UserError


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"object_size": 2}, "typical diameter"),
        ({"object_size": float("nan")}, "typical diameter"),
        ({"contrast": 1}, "above 1"),
        ({"side": 3}, "from 4 to 8192"),
        ({"padding": "mirror"}, "choose one of shift, reflect, edge, zero, skip"),
        ({"levels": "clip"}, "choose one of frame, video, fixed"),
        ({"percentiles": (50, 50)}, "have to rise"),
        ({"percentiles": (-1, 50)}, "have to rise"),
        ({"levels": "fixed"}, "go together"),
        ({"grays": (0, 9)}, "go together"),
        ({"levels": "fixed", "grays": (9, 9)}, "the higher one"),
        ({"max_shift": -1}, "0 \\(off\\) or more"),
        ({"max_change": 2}, "from 0 \\(off\\) to 1"),
        ({"every": 0}, "from 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        CropSettings(**({"object_size": 16} | wrong))


def test_crop_side_defaults_to_twice_the_object_size() -> None:
    assert CropSettings(55.5).crop_side == 112
    assert CropSettings(56, side=64).crop_side == 64


def test_to_json_has_the_keys_of_format_1() -> None:
    settings = CropSettings(56, levels="fixed", grays=(3, 200))
    assert settings.to_json() == {
        "object_size": 56,
        "contrast": 4.0,
        "side": 112,
        "padding": "shift",
        "levels": "fixed",
        "percentiles": (0.1, 99.9),
        "greys": (3, 200),
        "still": 0.1,
        "changed": 0.03,
        "every": 1,
    }
