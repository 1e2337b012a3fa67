"""Metrics and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from anowild.evaluation.metrics import auroc, auroc_interval, average_precision, estimate, f1_at


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=4, max_size=40))
def test_auroc_is_the_chance_of_the_right_order(pairs: list[tuple[bool, int]]) -> None:
    labels = np.array([0, 1] + [int(label) for label, _ in pairs])
    scores = np.array([1, 2] + [score for _, score in pairs], float)
    odd, normal = scores[labels == 1][:, None], scores[labels == 0][None]
    expected = (odd > normal).mean() + 0.5 * (odd == normal).mean()
    assert auroc(labels, scores) == pytest.approx(expected)
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    precision = average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(precision)


def test_metrics_of_a_perfect_and_a_reversed_ranking() -> None:
    labels, scores = np.repeat([0, 1], 50), np.arange(100.0)
    assert auroc(labels, scores) == average_precision(labels, scores) == 1
    assert auroc(labels, -scores) == 0
    assert f1_at(50)(labels, scores) == 1
    assert f1_at(1000)(labels, scores) == 0


@pytest.mark.parametrize(
    ("anomalies", "normal", "truth"),
    [(80, 80, 0.76), (20, 380, 0.95), (20, 380, 0.99), (15, 285, 0.998)],
)
def test_intervals_hold_the_auroc_as_often_as_they_say(
    anomalies: int, normal: int, truth: float
) -> None:
    """Of normal distributions so far apart that the AUROC is ``truth``."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [normal, anomalies])
    apart = np.sqrt(2) * norm.ppf(truth)
    held = 0
    for _ in range(300):
        scores = rng.normal(size=len(labels)) + apart * labels
        found = auroc_interval(labels, scores)
        assert found.value == auroc(labels, scores)
        assert found.low <= found.value <= found.high
        assert found.low < found.high
        held += found.low <= truth <= found.high
    assert held >= 0.93 * 300


def test_the_interval_of_a_perfect_ranking_has_a_width() -> None:
    labels = np.repeat([0, 1], [285, 15])
    perfect = auroc_interval(labels, labels.astype(float))
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert 0.92 < perfect.low < 0.94
    worst = auroc_interval(labels, -labels.astype(float))
    assert (worst.value, worst.low) == (0.0, 0.0)
    assert worst.high == pytest.approx(1 - perfect.low)


@pytest.mark.slow
def test_bootstrap_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    truth = 0.760  # of two normals one deviation apart: Phi(1 / sqrt 2)
    for i in range(60):
        scores = np.concatenate([rng.normal(size=80), rng.normal(size=80) + 1])
        e = estimate(auroc, np.repeat([0, 1], 80), scores, resamples=200, seed=i)
        assert e.low <= e.value <= e.high
        held += e.low <= truth <= e.high
    assert 50 <= held <= 60
