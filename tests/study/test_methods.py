"""Every method of a study learns, says something, and (slow) is better for having learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anowild.data import ImageSet
from anowild.errors import UserError, ViewUnavailable
from anowild.evaluation.metrics import auroc
from anowild.presets import preset
from anowild.study import cue_cache, methods, sweep
from anowild.study.fusion_rules import DEFAULT_RULE, RULES
from anowild.study.latent_search import search
from anowild.study.trial import Trial, run
from anowild.training import fitting
from anowild.training.fitting import fit_detector
from anowild.training.gan import anomaly_scorer, view_of
from anowild.training.loop import train_gan
from anowild.training.networks import Networks
from anowild.views.gan import GanView
from tests.conftest import SHARED, tiny_settings

CPU = torch.device("cpu")
LEARNING = [name for name, t in methods.TRAININGS.items() if "kimg" not in t.changes]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("joint", "sequential") else pytest.mark.slow)
        for name in LEARNING
    ],
)
def test_all_parameters_move_and_scores_differ(
    name: str, image_set: ImageSet, tmp_path: Path
) -> None:
    small = tiny_settings(kimg=0.2, initial_resolution=None, tick_kimg=0.1)
    settings = methods.settings_of(name, small, 0.1)
    scorer = anomaly_scorer(image_set, settings) if settings.robust else None
    trained = train_gan(image_set, settings, tmp_path, scorer=scorer)
    fresh = Networks.build(settings, 16, 1).named()
    for network, moved in trained.networks.named().items():
        for key, value in moved.named_parameters():
            # With one level there is one way to and from colors.
            if "rgb" in key and key.split(".")[1] != "2":
                continue
            before = dict(fresh[network].named_parameters())[key]
            assert not torch.equal(value, before), f"{network}: {key} did not move"
    view = view_of(trained.networks, trained.lod, settings)
    images = image_set.images
    measured = cue_cache.make(view, images, images[:50], settings.latent_scale, 0)
    for cue in cue_cache.cues(measured):
        assert np.isfinite(measured["test"][cue]).all(), cue
        assert measured["test"][cue].std() > 0, cue
    for title, rule in RULES.items():
        scores = rule(measured["training"], measured["test"])
        assert np.isfinite(scores).all(), title
        assert scores.std() > 0, title


@pytest.mark.parametrize("name", methods.DETECTORS)
def test_detectors_from_elsewhere_find_what_is_easy(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anowild.study.baselines.EPOCHS", 3)
    rng = np.random.default_rng(0)
    bars = np.where(np.arange(8) % 2, 200, 50)[None, None, None]
    normal = np.clip(bars + rng.normal(0, 12, (300, 1, 8, 8)), 0, 255).astype(np.uint8)
    odd = rng.integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)
    if name == "contrast":
        odd = np.full_like(odd, 120)
    if name == "compressed":
        normal = normal // 64 * 64
    if name == "brightness":
        odd = np.clip(normal[:60].astype(int) + 60, 0, 255).astype(np.uint8)
    test = np.concatenate([normal[:60], odd])
    scores = methods.DETECTORS[name].score(normal[60:], test, 0)
    least = 0.8 if methods.DETECTORS[name].needs else 0.95
    assert auroc(np.repeat([0, 1], 60), scores) > least


def test_an_unknown_method_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="method 'magic': unknown"):
        methods.check(["joint", "magic"])
    monkeypatch.setattr("anowild.study.methods.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"method 'ecod': pyod is not installed; pip install 'anowild\[study\]'"
    ):
        methods.check(["ecod"])
    with pytest.raises(UserError, match=r"method 'embedding-knn': .* 'anowild\[pretrained\]'"):
        methods.check(["embedding-knn"])


def test_the_settings_of_ensembles() -> None:
    settings = tiny_settings(kimg=3, transforms_kimg=2, resolution=8)
    assert methods.settings_of("ensemble", settings, 0.1) == settings
    untrained = methods.settings_of("ensemble-untrained", settings, 0.1)
    assert (untrained.kimg, untrained.transforms_kimg, untrained.resolution) == (0, 0, 8)
    assert untrained.views == tuple(v for v in settings.views if v != "pretrained")
    quick = methods.settings_of("quick", settings, 0.1)
    of_preset = preset("quick").settings()
    assert (quick.views, quick.transforms_kimg) == (of_preset.views, of_preset.transforms_kimg)
    assert (quick.resolution, quick.fmap_base) == (8, settings.fmap_base)


@pytest.mark.slow
def test_networks_that_see_halved_images_are_studied_at_their_size(tmp_path: Path) -> None:
    sides = {"resolution": None, "max_resolution": 16, "max_network_resolution": 8}
    settings = tiny_settings(**sides, kimg=0.1, initial_resolution=None)
    trial = Trial("digits_3", 0.1, "joint", 0, "", settings.to_json())
    assert sweep.cost([trial], tmp_path, CPU).hours > 0
    result = run(trial, tmp_path, CPU)
    assert result["resolution"] == 16
    assert all(0 <= row["auroc"] <= 1 for row in result["rows"])


def test_a_view_that_is_missing_ends_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> None:
        raise ViewUnavailable("no weights")

    monkeypatch.setitem(fitting._FITS, "pretrained", unavailable)
    settings = tiny_settings(resolution=8, views=("pixels", "pretrained"))
    trial = Trial("digits_3", 0.0, "ensemble", 0, "", settings.to_json())
    with pytest.raises(UserError, match="ensemble: no weights"):
        run(trial, tmp_path, CPU)


def test_the_rule_of_a_study_is_the_detector_s(image_set: ImageSet, tmp_path: Path) -> None:
    settings = tiny_settings(kimg=0.2, initial_resolution=None, views=("gan",))
    ours = fit_detector(image_set, settings, tmp_path, CPU).detector
    (view,) = ours.views
    assert isinstance(view, GanView)
    measured = cue_cache.make(view, image_set.images, image_set.images[:60], 0.1, settings.seed)
    found = RULES[DEFAULT_RULE](measured["training"], measured["test"])
    calibrated = ours.calibration.views["gan"]
    weights = {ours.calibration.cues[name].weight for name in calibrated.cues}
    assert weights == {calibrated.weight}  # one for all
    assert calibrated.scale is not None
    found *= calibrated.weight**2 / calibrated.scale
    expected = ours.calibration.raw_score(ours.measure(image_set.images[:60]))
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_bank_survives_being_saved(image_set: ImageSet, tmp_path: Path) -> None:
    networks = Networks.build(tiny_settings(), 16, 1).to(CPU)
    view = view_of(networks, 0.0, tiny_settings())
    measured = cue_cache.make(view, image_set.images[:40], image_set.images[40:60], 0.1, 0)
    cue_cache.save(tmp_path / "bank.npz", measured)
    again = cue_cache.load(tmp_path / "bank.npz")
    for group, cues in measured.items():
        for name, values in cues.items():
            assert np.allclose(again[group][name], values, rtol=1e-6), name
    (tmp_path / "bank.npz").write_bytes(b"no")
    with pytest.raises(UserError, match="is no cache of cues"):
        cue_cache.load(tmp_path / "bank.npz")


def test_more_search_comes_nearer(image_set: ImageSet) -> None:
    networks = Networks.build(tiny_settings(), 16, 1).to(CPU)
    view = view_of(networks, 0.0, tiny_settings())
    few, many = (search(view, image_set.images[:20], n, tiny_settings()) for n in (0, 60))
    assert few.shape == (20,)
    assert (many < few).mean() > 0.9
    # Not what company an image came in decides.
    alone = search(view, image_set.images[:3], 60, tiny_settings())
    assert np.allclose(alone, many[:3], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_what_was_trained_beats_what_was_not(name: str, tmp_path: Path) -> None:
    # Means over seeds: a single untrained network may rank well by luck.
    where = ("mnist2", SHARED) if SHARED.is_dir() else ("digits_3", tmp_path)
    settings = preset("laptop").settings().replace(resolution=16, kimg=10)
    found: dict[str, list[tuple[float, float]]] = {name: [], "untrained": []}
    for seed in range(3):
        for method, aurocs in found.items():
            trial = Trial(where[0], 0.05, method, seed, str(where[1]), settings.to_json())
            result = run(trial, tmp_path / method / str(seed), CPU)
            of = {r["score"]: r["auroc"] for r in result["rows"]}
            aurocs.append((of["relative_residual"], of["combined score"]))
    trained, untrained = (np.mean(aurocs, axis=0) for aurocs in found.values())
    # What is rebuilt has to be learnt; distances in features of random networks rank as well.
    assert trained[0] > untrained[0] + 0.05
    assert trained[1] > untrained[1]
    assert trained.min() > 0.75
