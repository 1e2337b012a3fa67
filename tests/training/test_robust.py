"""Robust training: what is left out, within which bounds, and that it resumes."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from anowild import api
from anowild.data import ImageSet
from anowild.training.gan import anomaly_scorer
from anowild.training.loop import train_gan
from anowild.training.networks import Networks
from anowild.training.robust import Suspects, estimate_anomaly_rate, is_reassessment_due
from tests.conftest import tiny_settings

ROBUST = {"robust": True, "initial_resolution": None, "kimg": 0.8, "tick_kimg": 0.1}


def gamma(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.gamma(3.0, 1.0, count)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1])
def test_anomaly_rate_is_found_where_the_rest_is_gamma_distributed(rate: float) -> None:
    rng = np.random.default_rng(0)
    odd = round(20_000 * rate)
    oddness = np.concatenate([gamma(rng, 20_000 - odd), 12 + gamma(rng, odd)])
    assert estimate_anomaly_rate(oddness) == pytest.approx(rate, abs=0.02)


def test_anomaly_rate_of_constant_scores_is_zero() -> None:
    assert estimate_anomaly_rate(np.ones(100)) == 0
    assert estimate_anomaly_rate(np.zeros(100)) == 0


def test_reassess_drops_the_highest_scores_within_the_limit() -> None:
    rng = np.random.default_rng(1)
    oddness = np.concatenate([gamma(rng, 700), 12 + gamma(rng, 300)])
    suspects = Suspects.empty(1000)
    suspects.reassess(oddness, 100, max_dropped=0.1)
    assert suspects.dropped.sum() == 100
    assert suspects.dropped[700:].sum() >= 95
    # One reassessment that differs does not outweigh those before.
    for _ in range(3):
        suspects.reassess(oddness, 200, max_dropped=0.1)
    suspects.reassess(oddness[::-1].copy(), 300, max_dropped=0.1)
    assert suspects.dropped[700:].sum() > 80
    assert suspects.reassessments == 5
    assert suspects.times_dropped.max() == 5


def test_suspects_round_trip_through_tensors() -> None:
    suspects = Suspects.empty(50)
    suspects.reassess(np.random.default_rng(2).gamma(3, 1, 50), 123, 0.2)
    again = Suspects.from_tensors(suspects.tensors(), 50)
    assert (again.reassessments, again.reassessed_nimg, again.rate) == (1, 123, suspects.rate)
    assert np.array_equal(again.oddness, suspects.oddness)
    assert np.array_equal(again.dropped, suspects.dropped)


def test_reassessments_start_late_and_keep_an_interval() -> None:
    reassessments, last = [], -1
    for nimg in range(0, 10_000, 100):
        if is_reassessment_due(nimg, 10_000, images=2000, start=0.5, last=last):
            reassessments.append(nimg)
            last = nimg
    assert reassessments == [5000, 6000, 7000, 8000, 9000]
    assert not is_reassessment_due(10_000, 10_000, 10, 0.5, -1)


def weights(networks: Networks) -> torch.Tensor:
    return torch.cat([p.flatten() for n in networks.named().values() for p in n.parameters()])


def test_robust_run_resumes_in_the_same_bits(image_set: ImageSet, tmp_path: Path) -> None:
    settings = tiny_settings(**ROBUST)
    scorer = anomaly_scorer(image_set, settings)
    part = train_gan(image_set, settings.replace(kimg=0.5), tmp_path / "first", scorer=scorer)
    plain = train_gan(image_set, settings.replace(kimg=0.5, robust=False), tmp_path / "plain")
    assert part.suspects is not None
    assert part.suspects.reassessments > 0
    assert not torch.equal(weights(part.networks), weights(plain.networks))

    # Longer, from where another one ended: what was left out stays so, and the rest is the same.
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    first, second = (
        train_gan(image_set, settings, tmp_path / folder, scorer=scorer)
        for folder in ("first", "second")
    )
    assert first.suspects is not None
    assert first.suspects.reassessments >= 2
    assert first.suspects.dropped.any()
    assert torch.equal(weights(first.networks), weights(second.networks))


def test_the_scorer_leaves_the_networks_as_they_were(image_set: ImageSet) -> None:
    settings = tiny_settings(**ROBUST)
    networks = Networks.build(settings, 16, 1).to(torch.device("cpu"))
    modes = {name: network.training for name, network in networks.named().items()}
    before = weights(networks)
    oddness = anomaly_scorer(image_set, settings)(networks, 0.0)
    assert oddness.shape == (len(image_set),)
    assert np.isfinite(oddness).all()
    assert oddness.std() > 0
    assert {name: network.training for name, network in networks.named().items()} == modes
    assert torch.equal(weights(networks), before)


def test_robust_training_without_a_scorer_is_refused(image_set: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="requires `scorer`"):
        train_gan(image_set, tiny_settings(**ROBUST), tmp_path)


def test_trim_rate_changes_the_training(image_set: ImageSet, tmp_path: Path) -> None:
    settings = tiny_settings(kimg=0.3, initial_resolution=None)
    plain = train_gan(image_set, settings, tmp_path / "plain")
    refined = train_gan(image_set, settings.replace(trim_rate=0.1), tmp_path / "refined")
    assert not torch.equal(weights(plain.networks), weights(refined.networks))


def test_the_list_of_suspects(digits: np.ndarray, tmp_path: Path) -> None:
    api.train(digits, tmp_path / "model", tiny_settings(**ROBUST | {"kimg": 0.5}))
    lines = (tmp_path / "model" / "suspects.csv").read_text().splitlines()
    assert len(lines) == len(digits) + 1
    rows = list(csv.DictReader(lines))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert all(float(row["oddness"]) >= 0 for row in rows)
    assert any(row["left_out"] == "1" for row in rows)
    assert all(" than " in row["why"] for row in rows[:5])
