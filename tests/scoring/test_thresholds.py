"""Lines through scores: what each promises is kept in simulations."""

from __future__ import annotations

import numpy as np
import pytest

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.scoring.thresholds import (
    budget,
    expected_share,
    false_discovery_rate,
    fewest_odd,
    fixed_score,
    gap,
    p_values,
    training_share,
)
from anowild.shown import shown_limit, shown_score


def test_a_budget_is_spent_on_the_oddest() -> None:
    scores = np.array([0.5, 3.0, 1.0, 2.0])
    found = budget(scores, 2)
    assert found.flags(scores).tolist() == [False, True, False, True]
    assert found.flagged == 2
    assert budget(scores, 9).flagged == 4
    assert budget(np.ones(5), 2).flagged == 5  # equal scores are not torn apart


def test_an_expected_share_is_flagged() -> None:
    scores = np.random.default_rng(0).normal(size=200)
    found = expected_share(scores, 0.02)
    assert found.flagged == 4
    assert set(np.flatnonzero(found.flags(scores))) == set(np.argsort(-scores)[:4])
    assert expected_share(scores, 0.001).flagged == 1


def test_p_values_are_the_share_as_high() -> None:
    assert p_values(np.array([9.0, 2.0, 0.0]), np.array([1.0, 2.0, 3.0])).tolist() == [
        1 / 4, 3 / 4, 1.0,
    ]  # fmt: skip


def test_p_values_of_normal_images_are_uniform() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([p_values(rng.normal(size=1), rng.normal(size=19)) for _ in range(2000)])
    for t in (0.05, 0.2, 0.5):
        assert (p <= t).mean() == pytest.approx(t, abs=0.03)


@pytest.mark.parametrize(("odd", "distance"), [(0, 0.0), (25, 2.0), (50, 4.0), (300, 4.0)])
def test_at_least_so_many_images_are_odd(odd: int, distance: float) -> None:
    rng = np.random.default_rng(odd)
    found = np.array(
        [
            fewest_odd(
                rng.normal(size=500) + distance * (np.arange(500) < odd), rng.normal(size=200)
            )
            for _ in range(400)
        ]
    )
    assert (found > odd).mean() <= 0.05 + 0.02  # a deviation of 0.011
    # Where they lie apart, most of them are counted.
    assert found.mean() >= {0: 0, 25: 1, 50: 33, 300: 280}[odd]


def test_the_least_number_holds_for_scores_that_are_equal_and_for_few() -> None:
    assert fewest_odd(np.ones(50), np.ones(20)) == 0
    assert fewest_odd(np.full(5, 2.0), np.ones(1)) == 0
    assert fewest_odd(np.full(50, 2.0), np.ones(200)) > 40


def simulate(spoilt: float, odd: float, rate: float, seed: int) -> tuple[float, float]:
    """Shares of false alarms among the flags, and of the anomalies that are found."""
    rng = np.random.default_rng(seed)
    calibration = rng.normal(size=1000) + 4 * (np.arange(1000) < 1000 * spoilt)
    label = np.arange(1000) < 1000 * odd
    scores = rng.normal(size=1000) + 4 * label
    flags = false_discovery_rate(scores, calibration, rate).flags(scores)
    return (flags & ~label).sum() / max(1, flags.sum()), (flags & label).sum() / max(1, label.sum())


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("odd", [0.0, 0.05, 0.2])
def test_false_discoveries_are_as_few_as_promised(rate: float, odd: float) -> None:
    shares = np.array([simulate(0.0, odd, rate, seed) for seed in range(200)])
    error = shares[:, 0].std() / np.sqrt(200)
    assert shares[:, 0].mean() <= rate + 2 * error
    if odd:
        # The promise is not kept by flagging nothing: the rule spends what it may.
        assert shares[:, 0].mean() >= 0.5 * rate * (1 - odd)
        assert shares[:, 1].mean() > 0.6


def test_spoilt_calibration_costs_power_and_not_the_promise() -> None:
    shares = np.array([simulate(0.05, 0.05, 0.1, seed) for seed in range(100)])
    assert shares[:, 0].mean() <= 0.1
    assert shares[:, 1].mean() < 0.3


def test_few_calibration_images_flag_nothing_and_say_why() -> None:
    scores = np.append(np.zeros(999), 100.0)
    found = false_discovery_rate(scores, np.random.default_rng(0).normal(size=50), 0.1)
    assert (found.score, found.flagged) == (None, 0)
    assert not found.flags(scores).any()
    assert "50 calibration images cannot give a p-value under 0.02" in found.promise


def groups(apart: float, share: float, seed: int, count: int = 1000) -> Array:
    rng = np.random.default_rng(seed)
    odd = round(share * count)
    x = np.concatenate([rng.normal(size=count - odd), rng.normal(apart, 0.5, odd)])
    return np.exp(x)


def test_a_gap_is_found_where_there_is_one() -> None:
    for seed in range(5):
        oddness = groups(6.0, 0.05, seed)
        found = gap(oddness, oddness, seed)
        assert found.flags(oddness)[-50:].all()
        assert found.flagged == pytest.approx(50, abs=2)
        assert "two groups" in found.promise


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_no_gap_is_made_up(share: float) -> None:
    for seed in range(20):
        oddness = groups(2.0, share, seed)
        found = gap(oddness, oddness, seed)
        assert found.score is None
        assert found.promise.startswith("Can't tell")
    rng = np.random.default_rng(0)
    for oddness in (rng.gamma(2.0, size=1000), rng.pareto(2.0, size=1000) + 1, np.ones(100)):
        assert gap(oddness, oddness).score is None


@pytest.mark.parametrize("count", [3, 4, 7, 20])
def test_a_limit_that_is_given_again_as_it_was_shown_flags_the_same(count: int) -> None:
    scores = np.random.default_rng(0).exponential(size=60)
    found = budget(scores, count)
    assert found.score is not None
    shown = shown_limit(found.score)
    assert float(shown) <= found.score < float(shown) + 1e-4
    assert fixed_score(scores, float(shown)).flagged == count


@pytest.mark.parametrize(
    ("limit", "shown"),
    [
        (1.3, "1.30"),
        (1.0, "1.00"),
        (1.3565, "1.3565"),
        (1.356, "1.356"),
        (1.29999, "1.2999"),
        (-400, "-400.00"),
    ],
)
def test_limits_are_shown_rounded_down(limit: float, shown: str) -> None:
    assert shown_limit(limit) == shown


def test_a_limit_far_below_all_scores_is_a_sentence() -> None:
    assert "about 100 % of the training images" in fixed_score(np.ones(3), -400).promise


def test_an_expected_share_of_equal_scores_does_not_promise_a_balance() -> None:
    promise = expected_share(np.ones(10), 0.1).promise
    assert promise.startswith(
        "10 of 10 images are flagged, for the share that you expect. That are more than the 1 "
    )
    assert "missed" not in promise


def test_flags_of_a_gap_are_those_of_its_limit() -> None:
    """Also where the scores do not rise with what the gap was looked for in."""
    rng = np.random.default_rng(0)
    raw = np.exp(np.append(rng.normal(size=300), rng.normal(9, 0.3, 30)))
    scores = np.append(rng.normal(size=300), rng.normal(3, 0.1, 30))
    scores[:5] = 9
    found = gap(scores, raw)
    assert found.score is not None
    assert found.flagged == (scores >= found.score).sum() == 35


def test_impossible_wishes_are_refused() -> None:
    scores = np.arange(30.0)
    for wish, problem in (
        (lambda: budget(scores, 0), "a budget of 0 images"),
        (lambda: budget(np.empty(0), 3), "no images to flag"),
        (lambda: expected_share(scores, 1.0), "share of 1.0: has to be between"),
        (lambda: expected_share(scores, float("nan")), "share of nan: has to be between"),
        (lambda: false_discovery_rate(scores, scores, 0.0), "rate of 0.0: has to be between"),
        (lambda: false_discovery_rate(scores, np.empty(0), 0.1), "no images to calibrate with"),
    ):
        with pytest.raises(UserError, match=problem):
            wish()


def test_ties_are_counted_as_they_are_flagged() -> None:
    assert "the 50 oddest images (more than asked for" in budget(np.zeros(50), 5).promise
    assert expected_share(np.zeros(50), 0.1).promise.startswith("50 of 50 images are flagged")


def test_few_images_have_no_groups() -> None:
    assert gap(np.arange(1.0, 11), np.arange(1.0, 11)).promise.startswith("Can't tell: 10 images")


def test_what_is_missing_for_a_flag_is_said() -> None:
    calibration = np.arange(999.0)
    found = false_discovery_rate(np.append(np.zeros(99), 980.5), calibration, 0.1)
    assert "has a p-value of 0.019; 0.001 would do" in found.promise
    # Equal but for rounding: 0.1 of 3 images at a rate of 0.3.
    assert false_discovery_rate(np.array([8.5, 0, 0]), np.arange(9.0), 0.3).flagged == 1


@pytest.mark.parametrize("share", [0.05, 0.03, 0.01, 0.001, 0.2])
def test_an_image_is_shown_with_the_limit_if_and_only_if_it_reaches_it(share: float) -> None:
    scores = np.linspace(0, 4, 40_001)
    limit = training_share(scores, share)
    shown = np.array([float(shown_score(score, None)) for score in scores])
    assert limit.score is not None
    assert f"score {limit.score:.2f} or more" in limit.promise
    assert ((shown >= round(limit.score, 2)) == limit.flags(scores)).all()
    assert 0.98 * share < 10**-limit.score < 1.03 * share
