from __future__ import annotations

import pytest

from anowild.presets import preset
from anowild.settings import Settings
from anowild.training.schedule import Schedule, changes_level


def test_laptop_never_grows() -> None:
    schedule = Schedule(preset("laptop").settings(), 32)
    assert {schedule.at(nimg).lod for nimg in (0, 10_000, 5_000_000)} == {0.0}


def test_phases_of_no_length_are_full_size_at_once() -> None:
    schedule = Schedule(Settings(stable_kimg=0, fade_kimg=0), 32)
    assert schedule.at(0).lod == 0


def test_without_fades_a_level_starts_at_once() -> None:
    schedule = Schedule(Settings(stable_kimg=10, fade_kimg=0), 16)
    assert [schedule.at(n).lod for n in (0, 9_999, 10_000, 20_000, 99_000)] == [2, 2, 1, 0, 0]


def test_growing_may_start_above_4x4_but_not_above_the_images() -> None:
    assert Schedule(Settings(initial_resolution=16), 64).at(0).resolution == 16
    assert Schedule(Settings(initial_resolution=64), 16).at(0).resolution == 16


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (3, 3, False),
        (3, 2.9, True),
        (2.9, 2.1, False),
        (2.1, 2, True),
        (2.1, 1.9, True),
        (0, 0, False),
    ],
)
def test_changes_of_level(before: float, after: float, expected: bool) -> None:
    assert changes_level(before, after) is expected
