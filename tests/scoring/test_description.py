"""A model is checked before it is believed: whatever is wrong with its files is told by field."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import anowild
from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.errors import UserError
from anowild.reporting.sections import loss_curves
from anowild.scoring import Detector
from anowild.scoring.persistence import _digest as digest
from anowild.scoring.reference_images import REFERENCE_IMAGES
from anowild.scoring.saved_limit import LIMIT, load_limit
from anowild.scoring.trained_on import TRAINED_ON
from anowild.training.fitting import fit_detector
from tests.conftest import Run, tiny_settings

NAN = float("nan")


@pytest.fixture(scope="session")
def quick_folder(tmp_path_factory: pytest.TempPathFactory, image_set: ImageSet) -> Path:
    """A model of the views `pixels` and `transforms`."""
    folder = tmp_path_factory.mktemp("quick")
    settings = tiny_settings(views=("pixels", "transforms"), transforms_kimg=0.1)
    fit_detector(image_set, settings, folder / "training", torch.device("cpu")).detector.save(
        folder / "model"
    )
    return folder / "model"


@pytest.fixture
def copies(
    model_folder: Path, quick_folder: Path, tmp_path: Path
) -> Callable[[str], tuple[Path, dict[str, Any]]]:
    def copy(kind: str) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path / "model"
        source = {"gan": model_folder, "quick": quick_folder}[kind]
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("training"))
        return folder, json.loads((folder / "model.json").read_text())

    return copy


def changed(value: dict[str, Any], place: str, new: Any) -> None:
    """Change the entry ``place`` of nested objects and lists, "views/0/facts"; DEL removes it."""
    *path, last = [int(key) if key.isdigit() else key for key in place.split("/")]
    inner: Any = value
    for key in path:
        inner = inner[key]
    if new is DEL:
        del inner[last]
    else:
        inner[last] = new


DEL: Any = object()
GAN, TRANSFORMS = "views/0/facts/networks", "views/1/facts/networks"


@pytest.mark.parametrize(
    ("kind", "place", "value", "said"),
    [
        ("gan", f"{GAN}/latent_size", 10**9, "facts.networks.latent_size is 1000000000"),
        ("gan", f"{GAN}/latent_size", 10**5, "dense.* not"),
        ("gan", f"{GAN}/latent_size", -1, "facts.networks.latent_size is -1: it must be from 1"),
        ("gan", f"{GAN}/channels", True, "facts.networks.channels is True"),
        ("gan", f"{GAN}/channels", 3, "from_rgb|to_rgb"),
        ("gan", f"{GAN}/fmap_base", "64", "facts.networks.fmap_base is '64'"),
        ("gan", f"{GAN}/extra", 1, "facts.networks.extra is not known"),
        ("gan", f"{GAN}/resolution", 10**30, "facts.networks.resolution is 1000"),
        ("gan", "views/0/facts/lod", math.inf, "facts.lod is inf: it must be a finite number"),
        ("gan", "views/0/facts/lod", 3.0, "lod is 3.0: it must be from 0 to 2"),
        ("gan", "views/0/facts/shrink", 1, "networks see images of resolution 32"),
        ("gan", "views/0/name", 5, r"views\[0\].name is 5: it must be a text"),
        ("gan", "views", {}, "views is {}: it must be a list"),
        ("gan", "views", [], "knows none of the model's cues"),
        ("gan", "preprocess/resolution", 32768, "no such preprocessing"),
        ("gan", "preprocess/resolution", 24, "preprocess.resolution is 24"),
        ("gan", "preprocess/resolution", 8, "preprocess gives 8"),
        ("gan", "preprocess/channels", 3, "preprocess gives 3"),
        ("gan", "preprocess/fit", "zzz", "no such preprocessing"),
        ("gan", "preprocess/contrast", "zz", "no such preprocessing"),
        ("gan", "preprocess/black", 5, "no such preprocessing"),
        ("gan", "preprocess/white", NAN, "preprocess.white is nan"),
        ("gan", "calibration", [], "calibration is .*: it must be an object"),
        ("gan", "calibration/combined/knots", ["a"], r"combined.knots\[0\] is 'a'"),
        ("gan", "calibration/combined/knots", [], "0 knots and"),
        ("gan", "calibration/combined/upper_rate", 10**400, "combined.upper_rate is"),
        ("gan", "calibration/combined/lower_rate", -1, "it must be at least 0"),
        ("gan", "calibration/cues/residual/lower", 2, "cues.residual.lower is 2: it must be from 0 to 1"),
        ("gan", "calibration/cues/residual/training/laplace", [1.0], "values of laplace"),
        ("gan", "calibration/views/gan/cues", ["zz"], "views.gan.cues names 'zz'"),
        ("gan", "calibration/views", {}, "knows none of the model's cues"),
        ("gan", "training", None, "training is None"),
        ("gan", "training/images", "many", "training.images is 'many'"),
        ("gan", "training/settings", 5, "training.settings is 5"),
        ("gan", "calibration/combined", DEL, "calibration.combined is missing"),
        ("gan", "training/views/gan/seconds", "x", "views.gan.seconds is 'x'"),
        ("gan", "weights_id", None, "weights_id is None"),
        ("quick", f"{TRANSFORMS}/classes", {"turns": 10**9}, "classes are"),
        ("quick", f"{TRANSFORMS}/maps", 4000, "network0/stem.weight is"),
        ("quick", "views/1/facts/count", 3, "network2/.* is missing"),
        ("quick", "preprocess/resolution", 32, "mean is|preprocess gives 32"),
    ],
)  # fmt: skip
def test_a_wrong_description_is_told_by_field(
    copies: Any, kind: str, place: str, value: Any, said: str
) -> None:
    folder, description = copies(kind)
    changed(description, place, value)
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=said) as caught:
        Detector.load(folder)
    assert str(folder / "model.json") in str(caught.value)


def test_description_of_huge_networks_takes_no_memory(copies: Any) -> None:
    folder, description = copies("gan")
    changed(description, f"{GAN}/fmap_max", 1 << 14)
    changed(description, f"{GAN}/fmap_base", 1 << 20)
    (folder / "model.json").write_text(json.dumps(description))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KB; the networks need 50 GB
    with pytest.raises(UserError, match="does not fit"):
        Detector.load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change tensors of a model and let its checksum fit them."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    checksum = digest(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"id": checksum})
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"weights_id": checksum}))


def first(tensors: dict[str, torch.Tensor], part: str) -> str:
    return next(name for name in sorted(tensors) if part in name)


@pytest.mark.parametrize("kind", ["gan", "quick"])
def test_weights_are_those_that_were_saved(copies: Any, kind: str) -> None:
    folder, description = copies(kind)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[min(tensors)].view(-1)[0] += 1
    save_file(tensors, path, metadata={"id": description["weights_id"]})
    with pytest.raises(UserError, match=r"model.safetensors: is damaged \(its values are not"):
        Detector.load(folder)


@pytest.mark.parametrize(
    ("kind", "part", "change", "said"),
    [
        ("gan", "generator/", lambda t: t.to(torch.int8), "of type torch.int8"),
        ("gan", "generator/", lambda t: t.double(), "not torch.float32"),
        ("gan", "encoder/", lambda t: t.reshape(-1, 1), "in the weights, not"),
        ("gan", "hidden/mean", lambda t: t[:1].clone(), "hidden/mean is"),
        ("quick", "pixels/whitening", lambda t: t[0].clone(), "whitening is"),
        ("quick", "pixels/center", lambda t: t.float(), "center is torch.float32"),
        ("quick", "reference1/mean", lambda t: torch.zeros(3).double(), "whitening is"),
    ],
)
def test_weights_of_another_shape_or_type(
    copies: Any, kind: str, part: str, change: Callable[[torch.Tensor], torch.Tensor], said: str
) -> None:
    folder, _ = copies(kind)

    def apply(tensors: dict[str, torch.Tensor]) -> None:
        name = first(tensors, part)
        tensors[name] = change(tensors[name]).contiguous()

    rewritten(folder, apply)
    with pytest.raises(UserError, match=said):
        Detector.load(folder)


def test_a_score_that_is_no_number_names_image_and_model(
    copies: Any, folder_of: Callable[..., Path], digits: Array, anowild: Run, tmp_path: Path
) -> None:
    folder, _ = copies("gan")
    rewritten(folder, lambda t: t[first(t, "encoder/")].fill_(NAN))
    images = folder_of(digits[:3])
    code, _, said = anowild("score", folder, images, "-o", tmp_path / "scores.csv")
    assert code == 1
    assert f"{images}/0000.png: " in said
    assert f"the model {folder} is damaged" in said
    assert not (tmp_path / "scores.csv").exists()
    with pytest.raises(UserError, match=r"image 0: .* is nan"):
        Detector.load(folder).score(np.zeros((2, 1, 16, 16), np.uint8))


def test_pipes_in_the_folder_of_a_model_are_not_waited_for(
    copies: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder, _ = copies("gan")
    expected = Detector.load(folder).checksum
    for name in (REFERENCE_IMAGES, TRAINED_ON, LIMIT, "log.jsonl"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    detector = Detector.load(folder)
    assert detector.checksum == expected
    assert detector.trained_on is None
    for name in (REFERENCE_IMAGES, TRAINED_ON):
        assert f"{name}: cannot be used ([Errno 22] it is no regular file" in caplog.text
    assert loss_curves(folder / "log.jsonl") == []
    with pytest.raises(UserError, match=r"limit.json: cannot be read \(it is no regular file"):
        load_limit(folder)
    for name in ("model.safetensors", "model.json"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(UserError, match=rf"{name} is missing"):
            Detector.load(folder)


def test_formats_5_and_6_load(copies: Any, digits: Array) -> None:
    folder, description = copies("gan")
    expected = anowild.score(folder, digits[:8]).scores.cues
    # As format 5 had it: no calibration of views, nothing said of halvings.
    del description["calibration"]["views"], description["views"][0]["facts"]["shrink"]
    (folder / "model.json").write_text(json.dumps(description | {"format": 5}))
    found = anowild.score(folder, digits[:8]).scores.cues
    assert all(np.array_equal(found[name], values) for name, values in expected.items())


def test_a_model_of_format_6_scores_as_before(copies: Any, digits: Array) -> None:
    """Its views speak with their largest surprise, and all views are added."""
    folder, description = copies("quick")
    found = description["calibration"]
    for cue in found["cues"].values():
        del cue["bulk"]
    for view in found["views"].values():
        del view["scale"]
    del found["loudest"]
    (folder / "model.json").write_text(json.dumps(description | {"format": 6}))
    scores = anowild.score(folder, digits[:30]).scores
    calibration = Detector.load(folder).calibration
    raw = np.zeros(30)
    for view in calibration.views.values():
        cues = [(calibration.cues[name], scores.cues[name]) for name in view.cues]
        largest = np.max([cue.weight * cue.surprise(values) for cue, values in cues], axis=0)
        assert view.training is not None
        raw -= view.weight * view.training.log_upper(largest)
    expected = -calibration.combined.log_upper(raw) / np.log(10)
    np.testing.assert_allclose(scores.score, expected)
