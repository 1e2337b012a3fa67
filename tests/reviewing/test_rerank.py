from __future__ import annotations

import numpy as np
import pytest

from anowild.arrays import Array
from anowild.evaluation.metrics import auroc
from anowild.reviewing.rerank import FEATURES_DEVIATION, rerank, reranking_features


def problem(seed: int, shift: float) -> tuple[Array, Array, Array]:
    """Return informative scores, features of which the first shifts by ``shift`` for odd images, and labels."""
    rng = np.random.default_rng(seed)
    odd = np.arange(1000) < 50
    score = rng.exponential(size=1000) / np.log(10) + 0.4 * odd
    x = rng.normal(size=(1000, 8))
    x[:, 0] += shift * odd
    return score, x, odd


def top(score: Array, count: int) -> Array:
    return np.argsort(-score, kind="stable")[:count]


def test_rerank_needs_both_kinds_of_marks() -> None:
    score, x, odd = problem(0, 3.0)
    normal = np.flatnonzero(~odd)[:20]
    assert rerank(score, x, normal, odd[normal]) is None
    assert rerank(score, x, np.empty(0, int), np.empty(0, bool)) is None


def gain(seed: int, shift: float, marks: int) -> float | None:
    """Return how much marking the oddest images improves the AUROC of the others; None: no reranking."""
    score, x, odd = problem(seed, shift)
    marked = top(score, marks)
    found = rerank(score, x, marked, odd[marked])
    if found is None:
        return None
    rest = np.setdiff1d(np.arange(1000), marked)
    return auroc(odd[rest], found[rest]) - auroc(odd[rest], score[rest])


def test_rerank_uses_informative_feature() -> None:
    gains = [gain(seed, 3.0, 40) for seed in range(5)]
    better = [g for g in gains if g is not None]
    assert len(better) == len(gains)
    assert np.mean(better) > 0.1


def test_rerank_loses_little_with_uninformative_features() -> None:
    gains = [gain(seed, 0.0, 20) for seed in range(10)]
    worse = [-g for g in gains if g is not None]
    assert np.mean(worse) < 0.01
    assert max(worse) < 0.04


def test_rerank_samples_many_unmarked_images(monkeypatch: pytest.MonkeyPatch) -> None:
    score, x, odd = problem(0, 3.0)
    marked = top(score, 40)
    everyone = rerank(score, x, marked, odd[marked])
    monkeypatch.setattr("anowild.reviewing.rerank.MAX_UNMARKED", 500)
    some = rerank(score, x, marked, odd[marked])
    assert everyone is not None
    assert some is not None
    assert np.corrcoef(everyone, some)[0, 1] > 0.99
    assert not np.array_equal(everyone, some)


def test_cues_are_standardized_and_features_evened() -> None:
    rng = np.random.default_rng(0)
    cues = {"a": rng.lognormal(3, 2, 500), "b": np.full(500, 7.0)}
    features = rng.normal(5, [16, 4, 4, 0], (500, 4)).astype(np.float32)
    features *= [16, 4, 4, 0] / np.maximum(features.std(axis=0), 1e-9)
    x = reranking_features(cues, features)
    assert x.shape == (500, 6)
    assert x.mean(axis=0) == pytest.approx(0, abs=1e-5)
    deviations = x.std(axis=0)
    assert deviations[:2] == pytest.approx([1, 0], abs=1e-5)
    # As the roots of 16, 4, 4 and 0.
    assert deviations[2:] / deviations[3] == pytest.approx([2, 1, 1, 0], abs=1e-5)
    assert np.square(deviations[2:]).sum() == pytest.approx(FEATURES_DEVIATION**2)


def test_without_features_there_are_cues_alone() -> None:
    x = reranking_features({"a": np.arange(1.0, 9.0)}, np.empty((8, 0), np.float32))
    assert x.shape == (8, 1)
    assert x.std(axis=0) == pytest.approx([1.0])
