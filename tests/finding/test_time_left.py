"""The progress of a job, and the time that is left, on a clock of the test's own."""

from __future__ import annotations

import random

import pytest

from anowild.finding.time_left import TimeLeft, duration

LOOKS, ALL = "pretrained network, images", "pretrained network, all images"
GAN, FIRST, SECOND = "GAN, kimg", "transforms 1/2, kimg", "transforms 2/2, kimg"
PLAN = [{LOOKS: 40.0}, {ALL: 60.0}, {GAN: 200.0, FIRST: 100.0, SECOND: 100.0}]


class Clock:
    """A clock that stands still unless it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def updates(slowness: float) -> list[tuple[float, str, float]]:
    """What a training reports: seconds from its beginning, the part, and its share that is done.

    Two networks are trained at a time, each at half the pace.
    """
    rng, now, found = random.Random(0), 0.0, []
    for part, seconds in ((LOOKS, 40.0), (ALL, 60.0)):
        for step in range(20):
            found.append((now, part, step / 20))
            now += seconds / 20 * slowness * rng.uniform(0.6, 1.4)
    done, left = {GAN: 0.0, FIRST: 0.0}, {GAN: 200.0, FIRST: 100.0, SECOND: 100.0}
    while done:
        for part in [*done]:
            found += [(now, part, done[part] / left[part]), (now, "calibrating, images", 0.5)]
            done[part] += 0.5 * rng.uniform(0.6, 1.4) / slowness
            if done[part] >= left[part]:
                found.append((now, part, 1.0))
                del done[part]
                if part == FIRST:
                    done[SECOND] = 0.0
        now += 1.0
    return found


@pytest.mark.parametrize("slowness", [0.5, 1.0, 4.0])
def test_the_time_left_is_near_the_truth(slowness: float) -> None:
    clock = Clock()
    left = TimeLeft(PLAN, clock)
    recorded = updates(slowness)
    end = recorded[-1][0]
    fractions, words = [], []
    for now, part, share in recorded:
        clock.now = 1000.0 + now
        left.update(part, share)
        assert left.fraction is not None
        fractions.append(left.fraction)
        words.append(left.words())
        minutes = left.minutes()
        if now < 20:
            assert (minutes, words[-1]) == (None, "")
        elif now > 60:
            assert minutes is not None
            assert minutes == pytest.approx((end - now) / 60, rel=0.35, abs=0.35)
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] == pytest.approx(1)
    assert words[-1] == "the last steps"
    assert "under a minute left" in words
    assert "about 1 minute left" in words


def test_what_an_earlier_run_did_counts_for_progress_and_not_for_the_rate() -> None:
    clock = Clock()
    left = TimeLeft(PLAN, clock)
    left.update(GAN, 1.0)  # reported first: the parts before are done
    assert left.fraction == pytest.approx(0.6)
    left.update(FIRST, 0.5)
    assert left.fraction == pytest.approx(0.7)
    for second in range(31):
        clock.now = 1000.0 + second
        left.update(FIRST, 0.5 + second / 100)
    assert left.minutes() == pytest.approx(120 / 60)
    left.update(FIRST, 0.0)
    assert left.fraction == pytest.approx(0.76)


def test_a_job_without_known_parts_says_nothing() -> None:
    left = TimeLeft([{}, {}])
    left.update("scoring, images", 0.5)
    assert (left.fraction, left.words()) == (None, "")


def test_durations_are_rounded_up() -> None:
    found = [duration(seconds / 60) for seconds in (0, 4, 11, 55, 56, 61, 119, 121, 3600)]
    assert found == [
        "about 5 seconds", "about 5 seconds", "about 15 seconds", "about 55 seconds", "about 1 minute",
        "about 2 minutes", "about 2 minutes", "about 3 minutes", "about 60 minutes",
    ]  # fmt: skip
