from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from anowild.arrays import Array
from anowild.scoring.calibration import (
    Calibration,
    CueCalibration,
    Tail,
    agreement,
    contradictions,
    loudest_sum,
    lower_side,
    standing_apart,
)
from anowild.views.base import Cue
from anowild.views.gan import CUES

COMBINED = [name for name, cue in CUES.items() if cue.counts]


def test_a_tail_follows_the_distribution() -> None:
    tail = Tail.fit(np.random.default_rng(0).normal(size=20_000))
    x = np.linspace(-3, 3, 25)
    assert np.allclose(np.exp(tail.log_upper(x)), norm.sf(x), rtol=0.2, atol=0.01)
    assert np.allclose(np.exp(tail.log_lower(x)), norm.cdf(x), rtol=0.2, atol=0.01)


@given(
    st.lists(st.floats(-50, 50), min_size=3, max_size=200),
    st.sampled_from(["as they are", "few values"]),
)
def test_a_tail_is_a_monotone_probability(values: list[float], kind: str) -> None:
    sample = np.array(values)
    if kind == "few values":
        sample = sample.round(-1)
    tail = Tail.fit(sample)
    x = np.linspace(sample.min() - 5, sample.max() + 5, 200)
    upper, lower = tail.log_upper(x), tail.log_lower(x)
    assert np.isfinite(upper).all()
    assert np.isfinite(lower).all()
    assert (upper <= 1e-12).all()
    assert (lower <= 1e-12).all()
    assert (np.diff(upper) <= 1e-9).all()
    assert (np.diff(lower) >= -1e-9).all()


def test_values_beyond_the_sample_stay_in_order() -> None:
    tail = Tail.fit(np.random.default_rng(0).normal(size=500))
    beyond = tail.log_upper(np.array([4.0, 5.0, 6.0, 50.0]))
    assert (np.diff(beyond) < 0).all()


def cues(rng: np.random.Generator, count: int, shift: float) -> dict[str, Array]:
    """Cues of images whose rebuilding is off by ``shift`` deviations of a log-normal."""
    common = rng.normal(size=count) + shift
    found = {name: np.exp(0.2 * (common + 0.5 * rng.normal(size=count))) for name in CUES}
    # It says nothing.
    return found | {"latent_norm": np.exp(0.1 * rng.normal(size=count))}


def joined(a: dict[str, Array], b: dict[str, Array]) -> dict[str, Array]:
    return {name: np.concatenate([a[name], b[name]]) for name in CUES}


@pytest.mark.parametrize("sign", [1, -1])
def test_the_odd_side_of_contrast_is_found_without_labels(sign: int) -> None:
    rng = np.random.default_rng(1)

    def images(count: int, shift: float) -> dict[str, Array]:
        found = cues(rng, count, shift)
        return found | {"contrast": found["contrast"] ** sign}

    training = joined(images(1800, 0), images(200, 4))
    calibration = Calibration.fit({"gan": CUES.values()}, training)
    assert calibration.cues["contrast"].side == ("upper" if sign > 0 else "lower")
    assert {calibration.cues[n].side for n in COMBINED if n != "contrast"} == {"upper"}
    test = joined(images(500, 0), images(500, 4))
    labels = np.repeat([0, 1], 500)
    best = max(max(a := roc_auc_score(labels, test[n]), 1 - a) for n in CUES)
    assert roc_auc_score(labels, calibration.score(test)) > best - 0.01


def test_a_known_side_stays_whatever_the_skewness() -> None:
    rng = np.random.default_rng(1)
    training = cues(rng, 2000, 0)
    training["relative_residual"] = np.exp(-rng.exponential(1, 2000))
    calibration = Calibration.fit({"gan": CUES.values()}, training)
    assert calibration.cues["relative_residual"].skewness < -1
    assert calibration.cues["relative_residual"].side == "upper"


def test_far_lower_values_count_as_well() -> None:
    rng = np.random.default_rng(2)
    calibration = Calibration.fit({"gan": CUES.values()}, cues(rng, 20_000, 0))
    for shift in (3, -9):
        test = joined(cues(rng, 300, 0), cues(rng, 300, shift))
        assert roc_auc_score(np.repeat([0, 1], 300), calibration.score(test)) > 0.95


def test_the_likely_side_changes_gradually() -> None:
    likely = [lower_side(skew) for skew in np.linspace(-3, 3, 61)]
    assert likely[0] == pytest.approx(0.999)
    assert likely[-1] == pytest.approx(0.001)
    assert lower_side(-0.5) == pytest.approx(0.5)
    assert max(np.abs(np.diff(likely))) < 0.2


def test_a_score_says_how_many_training_images_are_as_odd() -> None:
    rng = np.random.default_rng(3)
    training = cues(rng, 5000, 0)
    calibration = Calibration.fit({"gan": CUES.values()}, training)
    scores = calibration.score(training)
    for share in (0.5, 0.1, 0.01):
        assert (scores >= -np.log10(share)).mean() == pytest.approx(share, rel=0.15)
    fresh = calibration.score(cues(rng, 5000, 0))
    assert (fresh >= 1).mean() == pytest.approx(0.1, rel=0.25)


def test_a_cue_that_never_changes_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    training, test = cues(rng, 1000, 0), cues(rng, 50, 1)
    for each in (training, test):
        each["hidden_distance"] = np.full(len(each["residual"]), 2.0)
    calibration = Calibration.fit({"gan": CUES.values()}, training)
    scores = calibration.score(test)
    assert np.isfinite(scores).all()
    assert scores.std() > 0
    left = [name for name in COMBINED if name != "hidden_distance"]
    others = np.sum(
        [calibration.cues[n].weight * calibration.cues[n].evidence(test[n]) for n in left], 0
    )
    assert np.array_equal(np.argsort(others), np.argsort(scores))


def test_a_calibration_survives_json() -> None:
    rng = np.random.default_rng(5)
    calibration = Calibration.fit({"gan": CUES.values()}, cues(rng, 300, 0))
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    test = cues(rng, 50, 1)
    assert np.array_equal(calibration.score(test), again.score(test))


def test_a_view_speaks_with_all_its_cues_and_no_louder_for_many() -> None:
    rng = np.random.default_rng(6)
    names = [f"cue{i}" for i in range(5)]
    described = {n: Cue(name=n, meaning="M.", higher="h", lower="l", noun="n") for n in names}
    training = {name: np.exp(rng.normal(size=4000)) for name in names}
    views = {"one": [described["cue0"]], "many": [described[n] for n in names[1:]]}
    calibration = Calibration.fit(views, training)
    for surprise in calibration.view_surprises(training).values():
        assert surprise.mean() == pytest.approx(1, abs=0.1)  # exponential
        assert (surprise > np.log(100)).mean() == pytest.approx(0.01, abs=0.004)
    for evidence in calibration.view_evidence(training).values():
        assert np.median(evidence) == pytest.approx(1)
    far = {name: np.ones(1) for name in names} | {"cue3": np.full(1, 5000.0)}
    scores = calibration.scores(far)
    assert scores.views["many"][0] > 2 > 1 > scores.views["one"][0]


def test_a_cue_with_a_voice_of_its_own_is_not_added_to_its_view() -> None:
    rng = np.random.default_rng(11)
    own = Cue(name="own", meaning="M.", higher="h", lower="l", noun="n", voice="other")
    cue = Cue(name="cue", meaning="M.", higher="h", lower="l", noun="n")
    training = {name: np.exp(rng.normal(size=500)) for name in ("cue", "own")}
    calibration = Calibration.fit({"view": [cue, own]}, training)
    assert {name: view.cues for name, view in calibration.views.items()} == {
        "view": ("cue",),
        "other": ("own",),
    }


def test_both_sides_of_a_two_sided_cue_are_odd() -> None:
    rng = np.random.default_rng(7)
    cue = CueCalibration.fit(np.exp(rng.normal(size=3000)), "both")
    low, middle, high = cue.surprise(np.exp([-5.0, 0.0, 5.0]))
    assert low > 5 > 1 > middle
    assert high == pytest.approx(low, rel=0.1)
    shares, lower = cue.odd_tail(np.exp([-5.0, 5.0]))
    assert lower.tolist() == [True, False]
    assert max(shares) < 0.01


def test_a_lesser_cue_speaks_only_where_it_is_far_out() -> None:
    rng = np.random.default_rng(8)
    main = Cue(name="main", meaning="M.", higher="h", lower="l", noun="n")
    lesser = Cue(name="lesser", meaning="M.", higher="h", lower="l", noun="n", weight=0.5)
    training = {name: np.exp(rng.normal(size=3000)) for name in ("main", "lesser")}
    calibration = Calibration.fit({"view": [main, lesser]}, training)
    by_main = calibration.raw_score({"main": np.exp([2.3]), "lesser": np.ones(1)})
    by_lesser = calibration.raw_score({"main": np.ones(1), "lesser": np.exp([2.3])})
    beyond = calibration.raw_score({"main": np.ones(1), "lesser": np.exp([12.0])})
    assert beyond > by_main > by_lesser


def test_a_view_in_which_images_stand_apart_counts_most() -> None:
    rng = np.random.default_rng(9)
    names = ("apart", "last", "heavy")
    views = {n: [Cue(name=n, meaning="M.", higher="h", lower="l", noun="n")] for n in names}
    training = {n: np.exp(rng.normal(size=2000)) for n in names}
    training["apart"][:100] *= np.exp(8)  # the oddest twentieth, far from all others
    training["heavy"][0] *= np.exp(500)  # a single image
    calibration = Calibration.fit(views, training)
    weights = {n: v.weight for n, v in calibration.views.items()}
    assert weights["apart"] == 1
    assert weights["last"] == pytest.approx(weights["heavy"], rel=0.4)
    stands = {n: standing_apart(e) for n, e in calibration.view_evidence(training).items()}
    assert stands["apart"] > 3 * stands["last"]
    assert weights["last"] == pytest.approx((stands["last"] / stands["apart"]) ** 1.5)
    # The same ranks as of the others, and more evidence.
    evidence = {n: e[:100].mean() for n, e in calibration.view_evidence(training).items()}
    last = np.sort(calibration.view_evidence(training)["last"])[-100:].mean()
    assert evidence["apart"] > 2 * last


def hidden(
    rng: np.random.Generator, count: int, odd: int
) -> tuple[dict[str, Array], dict[str, list[Cue]]]:
    """Make cues of images of which the last are plain, and so many and alike that "distance" finds them usual."""
    values = {name: np.exp(rng.normal(size=count)) for name in ("plainness", "distance")}
    values["plainness"][-odd:] *= np.exp(2)
    values["distance"][-odd:] *= np.exp(-4)
    views = {n: [Cue(name=n, meaning="M.", higher="h", lower="l", noun="n")] for n in values}
    return values, views


def test_a_cue_that_another_view_contradicts_loses_weight() -> None:
    rng = np.random.default_rng(12)
    values, views = hidden(rng, 2000, 200)
    odd = np.arange(2000) >= 1800
    plain = Calibration.fit(views, values, contradict=False)
    calibration = Calibration.fit(views, values)
    assert calibration.cues["plainness"].weight == 1
    # Most of the 100 plainest are among the nearest tenth; 5 images of a middle rank are added.
    low, high = (
        ((share * 0.05 + (100 - share) * 0.5 + 2.5) / 105 / 0.25) ** 2 for share in (100, 60)
    )
    assert low < calibration.cues["distance"].weight < high
    before, after = (roc_auc_score(odd, c.score(values)) for c in (plain, calibration))
    assert after > before + 0.02


def test_few_images_contradict_nothing() -> None:
    rng = np.random.default_rng(13)
    for count in (4, 40, 100):
        values, views = hidden(rng, count, max(1, count // 10))
        weights = {name: cue.weight for name, cue in Calibration.fit(views, values).cues.items()}
        assert set(weights.values()) == {1}


def test_cues_that_know_nothing_of_each_other_are_not_contradicted() -> None:
    rng = np.random.default_rng(14)
    for count in (50, 300, 5000):
        evidence = {f"view{i}": {f"cue{i}": rng.exponential(size=count)} for i in range(12)}
        assert set(contradictions(evidence).values()) == {1}


def test_equal_values_contradict_nothing() -> None:
    rng = np.random.default_rng(15)
    low = np.sort(rng.exponential(size=1000))
    constant, many_alike = np.ones(1000), np.r_[np.ones(150), np.zeros(850)]
    for same in (constant, many_alike):
        assert contradictions({"a": {"same": same}, "b": {"other": low}})["other"] == 1
    few_alike = np.r_[np.ones(50), np.zeros(950)]
    assert contradictions({"a": {"same": few_alike}, "b": {"other": low}})["other"] < 0.1


def test_cues_of_one_view_do_not_contradict_each_other() -> None:
    x = np.linspace(0, 1, 1000)
    assert contradictions({"a": {"up": x, "down": 1 - x}}) == {"up": 1, "down": 1}


def test_standing_apart() -> None:
    rng = np.random.default_rng(10)
    assert standing_apart(rng.exponential(size=100_000)) == pytest.approx(4.6, abs=0.1)
    assert standing_apart(np.zeros(50)) == 1
    assert standing_apart(np.r_[rng.normal(size=950), rng.normal(100, 1, 50)]) == pytest.approx(25)
    one = np.r_[rng.exponential(size=999), 1e9]
    assert standing_apart(one) < 1.05 * standing_apart(one[:-1])


def test_a_view_that_agrees_with_the_others_counts_more() -> None:
    rng = np.random.default_rng(16)
    common, alone = rng.exponential(size=2000), rng.exponential(size=2000)
    found = agreement(np.stack([common, common + 0.1 * alone, alone, np.ones(2000)]))
    assert found == pytest.approx([1 / 3, 1 / 3, 0.2, 0.2], abs=0.05)
    assert agreement(np.stack([common, -common])).tolist() == [0.2, 0.2]
    assert agreement(common[None]).tolist() == [1]
    views = {n: [Cue(name=n, meaning="M.", higher="h", lower="l", noun="n")] for n in "abc"}
    training = {"a": np.exp(common), "b": np.exp(common), "c": np.exp(rng.permutation(common))}
    weights = {n: v.weight for n, v in Calibration.fit(views, training).views.items()}
    # Images stand apart in all alike; 0.5 and 0.2 are the agreements.
    assert weights["c"] / weights["a"] == pytest.approx((0.2 / 0.5) ** 0.5, rel=0.05)


def test_the_loudest_views_are_added() -> None:
    said = np.array([[1.0, 5.0], [2.0, 0.0], [4.0, 3.0]])
    assert loudest_sum(said, 2).tolist() == [6, 8]
    assert loudest_sum(said, None).tolist() == loudest_sum(said, 3).tolist() == [7, 8]
    assert loudest_sum(said[:1], 2).tolist() == [1, 5]


def test_evidence_goes_on_from_the_bulk_whatever_lies_beyond() -> None:
    rng = np.random.default_rng(11)
    usual = np.exp(rng.normal(size=2000))
    spoilt = usual.copy()
    top = np.argsort(usual)[-100:]
    spoilt[top] = spoilt[top] * np.exp(rng.uniform(1, 9, 100))
    for side in ("upper", "both"):
        plain, mixed = (CueCalibration.fit(x, side) for x in (usual, spoilt))
        within = (plain.surprise(usual) > np.log(2)) & (plain.surprise(usual) < np.log(4))
        inside, far = usual[within], np.exp([2.0, 4.0, 8.0, 16.0])
        np.testing.assert_allclose(plain.evidence(inside), plain.surprise(inside), atol=0.1)
        np.testing.assert_allclose(plain.evidence(far), mixed.evidence(far), rtol=0.05)
        assert (plain.surprise(far[1:]) > 2 * mixed.surprise(far[1:])).all()
        steps = np.diff(plain.evidence(np.exp([8.0, 12.0, 16.0])))
        assert steps[0] == pytest.approx(steps[1])


@pytest.mark.parametrize("share", [0.02, 0.1, 0.266, 0.4])
@pytest.mark.parametrize("side", [1, -1])
def test_equal_values_are_as_rare_as_all_of_them(share: float, side: int) -> None:
    """Blank frames at the end of a cue: a tenth of the images is no hundredth."""
    equal = round(share * 2000)
    sample = side * np.append(
        np.random.default_rng(0).normal(size=2000 - equal), np.full(equal, 9.0)
    )
    tail = Tail.fit(sample)
    found = (tail.log_upper if side > 0 else tail.log_lower)(np.array([side * 9.0]))
    assert 0.85 * share < np.exp(found[0]) <= share


@pytest.mark.parametrize("odd", [1, 3, 20, 45])
def test_what_differs_from_many_equal_values_is_odd(odd: int) -> None:
    """Blank frames of a belt: most images have one value of every cue."""
    values = np.ones(200)
    values[:odd] += np.linspace(1, 2, odd)
    cue = CueCalibration.fit(values)
    for said in (cue.evidence, cue.surprise):
        found = said(np.array([1.0, 1.5, 2.0, 3.0, 1e9]))
        assert (np.diff(found) > 0.01).all()
        assert np.isfinite(found).all()
    calibration = Calibration.fit(
        {"a": [Cue(name="a", meaning="A.", higher="a", lower="b", noun="c")]}, {"a": values}
    )
    score = calibration.score({"a": values})
    assert score[:odd].min() > 2 * score[odd:].max()


def test_weights_close_a_cue_and_its_view() -> None:
    rng = np.random.default_rng(10)
    views = {n: [Cue(name=n, meaning="M.", higher="h", lower="l", noun="n")] for n in ("a", "b")}
    training = {name: np.exp(rng.normal(size=500)) for name in ("a", "b")}
    calibration = Calibration.fit(views, training, {"b": 0.0})
    assert list(calibration.views) == ["a"]
    changed = training | {"b": training["b"] * 100}
    assert np.array_equal(calibration.score(training), calibration.score(changed))


def test_a_gate_counts_only_beside_the_view_that_it_yields_to() -> None:
    rng = np.random.default_rng(11)
    cue = Cue(name="a", meaning="M.", higher="h", lower="l", noun="n", gated_beside="better")
    views = {"plain": [cue], "better": [replace(cue, name="b", gated_beside=None)]}
    training = {name: np.exp(rng.normal(size=500)) for name in ("a", "b")}
    beside = Calibration.fit(views, training, {"a": 0.25})
    alone = Calibration.fit({"plain": views["plain"]}, training, {"a": 0.25})
    assert (beside.cues["a"].weight, alone.cues["a"].weight) == (0.25, 1.0)
