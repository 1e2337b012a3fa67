"""A cue and a view that are registered here, and nowhere else, show in every job."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import anowild
from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.errors import UserError
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.session import ReviewSession
from anowild.scoring import Detector
from anowild.training import fitting
from anowild.training.fitting import FittedView, register_fit
from anowild.training.loop import fixed_settings
from anowild.views import base, gan, register_view, view_class
from anowild.views.base import Cue, View
from tests.conftest import Run, tiny_settings

BRIGHTNESS = gan.GanCue(
    name="toy_brightness",
    meaning="Mean of the pixels.",
    higher="brighter",
    lower="darker",
    noun="brightness",
    odd_side="either",
    compute=lambda p: p.images.double().mean(dim=(1, 2, 3)) + 1,
)
EDGES = Cue(
    name="toy_edges",
    meaning="Mean absolute difference of neighboring pixels, above that of the training images.",
    higher="richer in edges",
    lower="poorer in edges",
    noun="edges",
)


class ToyView(View):
    """Edges, in units of the training images' mean."""

    name = "toy"
    cues = (EDGES,)

    def __init__(self, usual: float) -> None:
        self.usual = usual

    def look(self, stored: Tensor) -> dict[str, Tensor]:
        differences = stored.double().diff(dim=3).abs().mean(dim=(1, 2, 3))
        return {"toy_edges": differences / self.usual}

    def facts(self) -> dict[str, float]:
        return {"usual": self.usual}


def edges(images: Array) -> Array:
    return np.asarray(np.abs(np.diff(images.astype(np.float64))).mean(axis=(1, 2, 3)))


def fit_toy(
    images: ImageSet, settings: anowild.Settings, folder: Path, device: torch.device
) -> FittedView:
    return FittedView(ToyView(float(edges(images.images).mean())))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy view and the toy cue of the GAN, for one test."""
    base._import_all()
    monkeypatch.setattr(base, "_VIEWS", dict(base._VIEWS))
    monkeypatch.setattr(fitting, "_FITS", dict(fitting._FITS))
    monkeypatch.setattr(gan, "CUES", dict(gan.CUES))
    gan.register_cue(BRIGHTNESS)
    register_view(ToyView)
    register_fit("toy")(fit_toy)


@pytest.mark.usefixtures("registered")
def test_settings_of_another_view_may_change_while_the_gan_is_trained() -> None:
    names = ["latent_scale", "kimg", "toy", "toy_length", "toys", "transforms_kimg"]
    assert fixed_settings(tiny_settings(), names) == {"latent_scale", "toys"}
    later = tiny_settings(encoder="sequential")
    assert fixed_settings(later, names) == {"latent_scale", "toys", "kimg"}


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("views", ["gan,toy", "toy"])
def test_registered_cue_and_view_show_in_every_job(
    anowild: Run, digits: Array, tmp_path: Path, views: str
) -> None:
    np.save(tmp_path / "x.npy", digits[:120])
    changes = {**tiny_settings(kimg=0.2, initial_resolution=None).to_json(), "views": views}
    given = [f"--set={name}={_spelled(value)}" for name, value in changes.items()]
    code, out, err = anowild("train", tmp_path / "x.npy", "-o", tmp_path / "model", *given)
    assert code == 0, err
    assert "trained toy" in out
    current = [name for name, cue in gan.CUES.items() if not cue.retired]
    expected = ["toy_edges"] if views == "toy" else [*current, "toy_edges"]
    assert expected[-2:] in (["toy_edges"], ["toy_brightness", "toy_edges"])

    model, images = tmp_path / "model", tmp_path / "x.npy"
    described = json.loads((model / "model.json").read_text())["views"]
    assert [cue for view in described for cue in view["cues"]] == expected
    code, _, err = anowild("score", model, images, "-o", tmp_path / "s.csv")
    assert code == 0, err
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scored = [f"view_{name}" for name in views.split(",")]
    assert list(rows[0]) == ["path", "score", "rank", *scored, "why", *expected]
    assert all(row["why"] for row in rows)
    assert np.std([float(row["toy_edges"]) for row in rows]) > 0

    code, _, err = anowild("report", model, images, "-o", tmp_path / "report.html")
    assert code == 0, err
    page = (tmp_path / "report.html").read_text()
    assert "toy edges" in page
    assert "richer in edges than" in page
    assert ("toy brightness" in page) == ("gan" in views)

    detector = Detector.load(model)
    session = ReviewSession.make(tmp_path / "review", detector, str(images))
    assert list(session.scores.cues) == expected
    assert sorted(Ranking(session, detector).order("cue_toy_edges", [])) == list(range(120))
    marks = {name: "remove" if i < 5 else "keep" for i, name in enumerate(session.names[:20])}
    assert session.reranked_scores(marks).shape == (120,)


def _spelled(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}:{item}" for key, item in value.items())
    return ",".join(value) if isinstance(value, tuple) else str(value)


def test_model_without_a_known_cue_scores_as_before(
    detector: Detector, image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = detector.score(image_set)
    detector.save(tmp_path)
    monkeypatch.setattr(gan, "CUES", dict(gan.CUES))
    gan.register_cue(BRIGHTNESS)
    found = Detector.load(tmp_path).score(image_set)
    assert list(found.cues) == list(expected.cues)
    assert np.array_equal(found.score, expected.score)


@pytest.mark.parametrize(("cue", "warned"), [("latent_norm", False), ("hidden_distance", True)])
def test_model_with_an_unknown_cue_loads_and_scores(
    detector: Detector, image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, cue: str, warned: bool,
) -> None:  # fmt: skip
    expected = detector.score(image_set)
    detector.save(tmp_path)
    known = {name: value for name, value in gan.CUES.items() if name != cue}
    monkeypatch.setattr(gan, "CUES", known)
    with caplog.at_level(logging.WARNING, "anowild"):
        again = Detector.load(tmp_path)
    assert (f"does not know the model's {cue}" in caplog.text) == warned
    found = again.score(image_set)
    assert list(found.cues) == [name for name in expected.cues if name != cue]
    assert np.array_equal(found.score, expected.score) != warned
    assert np.isfinite(found.score).all()
    assert cue not in {reason.cue for image in again.reasons(found) for reason in image}


@pytest.mark.usefixtures("registered")
def test_model_with_an_unknown_view_scores_with_the_others(
    digits: Array, image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    settings = tiny_settings(kimg=0.2, initial_resolution=None, views=("gan", "toy"))
    anowild.train(digits, tmp_path / "model", settings)
    monkeypatch.delitem(base._VIEWS, "toy")
    with caplog.at_level(logging.WARNING, "anowild"):
        detector = Detector.load(tmp_path / "model")
    assert "does not know the model's toy_edges" in caplog.text
    assert np.isfinite(detector.score(image_set).score).all()


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("counts", "usual", "weight", "sentence"),
    [
        (False, 1.0, 1.0, "no cue of the views toy counts"),
        (True, 1.0, 0.0, "no cue of the views toy counts"),
        (True, np.nan, 1.0, "the view 'toy' gives values of toy_edges that are not finite"),
    ],
)
def test_unusable_cues_get_a_sentence(
    digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    counts: bool, usual: float, weight: float, sentence: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(ToyView, "cues", (dataclasses.replace(EDGES, counts=counts),))
    register_fit("toy")(lambda *_: FittedView(ToyView(usual), weights={"toy_edges": weight}))
    with pytest.raises(UserError, match=sentence):
        anowild.train(digits, tmp_path / "model", tiny_settings(views=("toy",)))


def test_unknown_views_get_a_sentence(anowild: Run, digits: Array, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", digits[:20])
    with pytest.raises(UserError, match="there is no view 'magic'; take some of gan"):
        view_class("magic")
    arguments = ("train", tmp_path / "x.npy", "-o", tmp_path / "model")
    for views, sentence in (
        ("magic", "there is no view 'magic'"), ("gan,gan", "each once"), ("", "there is no view ''"),
    ):  # fmt: skip
        code, _, err = anowild(*arguments, "--views", views)
        assert (code, sentence in err) == (1, True), err
    assert not (tmp_path / "model" / "model.json").exists()


@pytest.mark.parametrize("command", ["train", "find"])
def test_unknown_views_are_refused_before_any_image_is_read(
    anowild: Run, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "out"
    code, _, err = anowild(command, tmp_path / "none", "-o", out, "--views", "pixels,magic")
    assert (code, "there is no view 'magic'" in err) == (1, True), err
    assert not out.exists()
