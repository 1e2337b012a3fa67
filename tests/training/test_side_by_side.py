"""Trainings side by side: they go on with the same bits, and say why one ended."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anowild import api, workers
from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.errors import UserError, ViewUnavailable
from anowild.scoring import Detector
from anowild.signals import Interrupted
from anowild.training import fitting, side_by_side
from anowild.training.fitting import FittedView, fit_detector, register_fit
from anowild.training.side_by_side import run_pieces
from anowild.views import base, register_view
from anowild.views.pixels import PixelsView
from tests.conftest import tiny_settings, wait_until

CPU = torch.device("cpu")
SETTINGS = tiny_settings(
    views=("gan", "transforms", "pixels"), kimg=0.4, transforms_kimg=0.4, initial_resolution=None
)
PIECES = ["gan", "transforms 1/2", "transforms 2/2"]
#: What trains in a process that is stopped: images, folder, settings.
SCRIPT = """
import json, sys, numpy as np, anowild
settings = anowild.Settings.from_json(json.loads(sys.argv[3]))
anowild.train(np.load(sys.argv[1]), sys.argv[2], settings, threads=2)
"""


@pytest.mark.parametrize(
    ("views", "moments"),
    [
        # Killed while the first process trains.
        (("transforms", "pixels"), [("transforms/0/settings.json", signal.SIGKILL)]),
        # Killed while both processes train; and stopped after the GAN, before the second network.
        pytest.param(
            SETTINGS.views,
            [
                ("settings.json", signal.SIGKILL),
                ("transforms/1/settings.json", signal.SIGTERM),
            ],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_killed_and_stopped_runs_end_in_the_same_bits(
    digits: Array, tmp_path: Path, views: tuple[str, ...], moments: list[tuple[str, int]]
) -> None:
    settings = SETTINGS.replace(views=views)
    whole, broken, images = (tmp_path / name for name in ("whole", "broken", "images.npy"))
    api.train(digits, whole, settings, threads=2)

    np.save(images, digits)
    given = [str(images), str(broken), json.dumps(settings.to_json())]
    training = broken / "training"
    for path, number in moments:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *given], stderr=subprocess.DEVNULL
        )
        wait_until((training / path).exists, process)
        process.send_signal(number)
        assert process.wait() == -number or number == signal.SIGTERM
        assert not (broken / "model.json").exists()
    api.train(digits, broken, settings, threads=2)

    assert not (training / side_by_side.IMAGES).exists()
    one, other = Detector.load(whole), Detector.load(broken)
    assert one.checksum == other.checksum
    seen = ImageSet.load(digits, preprocess=one.preprocess)
    assert np.array_equal(one.score(seen).score, other.score(seen).score)
    assert (whole / "suspects.csv").read_bytes() == (broken / "suspects.csv").read_bytes()


def test_images_of_a_killed_run_are_removed_by_a_run_that_needs_no_such_file(
    image_set: ImageSet, tmp_path: Path
) -> None:
    left = tmp_path / side_by_side.IMAGES
    left.write_bytes(b"of a killed run")
    fit_detector(image_set, SETTINGS.replace(views=("pixels",)), tmp_path, CPU)
    assert not left.exists()


@pytest.fixture
def two_threads() -> None:
    torch.set_num_threads(2)  # `_same_threads` restores it


@pytest.mark.usefixtures("two_threads")
def test_a_killed_piece_gets_a_sentence(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = workers.Worker.__init__

    def kill(self: Any, *job: Any) -> None:
        started(self, *job)
        os.kill(self.process.pid, signal.SIGKILL)

    monkeypatch.setattr(workers.Worker, "__init__", kill)
    with pytest.raises(UserError, match="was killed by signal 9; if memory ran out"):
        run_pieces(PIECES, image_set, SETTINGS, tmp_path, CPU)
    assert not (tmp_path / side_by_side.IMAGES).exists()


@pytest.mark.usefixtures("two_threads")
def test_a_piece_that_was_stopped_stops_the_others(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = workers.Worker.__init__

    def stop(self: Any, *job: Any) -> None:
        started(self, *job)
        wait_until((tmp_path / "settings.json").exists, self.process)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(workers.Worker, "__init__", stop)
    with pytest.raises(Interrupted, match="the same command goes on"):
        run_pieces(PIECES[:2], image_set, SETTINGS, tmp_path, CPU)


@pytest.mark.usefixtures("two_threads")
def test_a_mistake_in_a_piece_reaches_the_user(image_set: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"settings": {"kimg": "many"}}))
    with pytest.raises(UserError, match="setting 'kimg' cannot be 'many'"):
        run_pieces(PIECES[:2], image_set, SETTINGS, tmp_path, CPU)


class Broken(PixelsView):
    """A view whose fitting fails."""

    name = "broken"


@pytest.mark.parametrize(
    "error",
    [
        ViewUnavailable("the magic is missing"),
        RuntimeError("memory"),
        np.linalg.LinAlgError("Eigenvalues did not converge"),
    ],
)
def test_a_view_that_fails_leaves_the_others(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, error: Exception,
) -> None:  # fmt: skip
    base._import_all()
    monkeypatch.setattr(base, "_VIEWS", dict(base._VIEWS))
    monkeypatch.setattr(fitting, "_FITS", dict(fitting._FITS))
    register_view(Broken)

    @register_fit("broken")
    def fit(*_: object) -> FittedView:
        raise error

    with caplog.at_level(logging.WARNING, "anowild"):
        settings = tiny_settings(views=("broken", "pixels"))
        detector = fit_detector(image_set, settings, tmp_path, CPU).detector
    assert f"{error}" in caplog.text
    assert "the other views go on without it" in caplog.text
    assert [view.name for view in detector.views] == ["pixels"]
    assert str(error) in detector.training_info["failed"]["broken"]
    with pytest.raises(ViewUnavailable, match=str(error)):
        fit_detector(image_set, tiny_settings(views=("broken",)), tmp_path, CPU)
