"""Models on the Hub: against a stand-in on this machine that speaks the part of its interface that is used."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anowild
from anowild.arrays import Array
from anowild.errors import UserError
from anowild.hub import read_evaluation
from anowild.hub.names import HubName, parse_name, snapshot_name
from anowild.scoring import Detector
from anowild.scoring.saved_limit import save_limit
from tests.conftest import Run
from tests.hub.stand_in import TOKEN, Repository, StandIn

hf = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")

NAME = "somebody/digits"
WITHOUT_IMAGES = ["README.md", "model.json", "model.safetensors"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A Hub without models, to which the owner is logged in, and an empty cache."""
    server = StandIn()
    # What HF_ENDPOINT, HF_HUB_CACHE, HF_HUB_DISABLE_XET and HF_TOKEN set where they come before the import.
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    yield server
    server.close()


@pytest.fixture
def pushed(hub: StandIn, detector: Detector) -> StandIn:
    """A Hub that has the model of digits, public, and whose visitor is not logged in."""
    anowild.push_to_hub(detector, NAME, public=True)
    hub.requests.clear()
    return hub


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))


def test_a_model_comes_back_with_the_same_scores(
    hub: StandIn, detector: Detector, digits: Array, caplog: pytest.LogCaptureFixture
) -> None:
    done = anowild.push_to_hub(detector, NAME)
    assert done.private
    assert hub.repositories[NAME].private
    assert sorted(done.files) == WITHOUT_IMAGES
    files = hub.repositories[NAME].commits[done.commit]
    assert sorted(files) == sorted([".gitattributes", *WITHOUT_IMAGES])

    with caplog.at_level(logging.INFO, "anowild"):
        loaded = anowild.from_pretrained(f"hf://{NAME}")
    assert f"hf://{NAME}: commit {done.commit}" in caplog.text
    assert loaded.folder is not None
    assert snapshot_name(loaded.folder) == HubName(NAME, done.commit)
    assert loaded.checksum == detector.checksum
    x = np.repeat(digits[:20, None], detector.preprocess.channels, axis=1)
    np.testing.assert_array_equal(loaded.score(x).score, detector.score(x).score)
    # Without its images it can do all but show them.
    assert len(detector.reference_images.images)
    assert not len(loaded.reference_images.images)
    assert loaded.trained_on is None
    assert all(not len(found) for found in loaded.neighbors(x[:2], 3))


def test_training_images_come_along_only_where_asked_for_and_go_away_again(
    hub: StandIn, detector: Detector
) -> None:
    anowild.push_to_hub(detector, NAME, with_images=True)
    loaded = anowild.from_pretrained(NAME)
    np.testing.assert_array_equal(loaded.reference_images.images, detector.reference_images.images)
    assert loaded.trained_on is not None
    anowild.push_to_hub(detector, NAME)
    files = hub.repositories[NAME].commits[hub.repositories[NAME].newest]
    assert sorted(files) == sorted([".gitattributes", *WITHOUT_IMAGES])


def test_an_upload_that_broke_off_leaves_nothing_half_and_can_be_repeated(
    hub: StandIn, detector: Detector
) -> None:
    hub.break_uploads = 1
    with pytest.raises(UserError, match=rf"^hf://{NAME}: "):
        anowild.push_to_hub(detector, NAME, with_images=True)
    repository = hub.repositories[NAME]
    assert [*repository.commits[repository.newest]] == [".gitattributes"]
    with pytest.raises(UserError, match=r"is no AnoWild model \(model.json is missing\)"):
        anowild.from_pretrained(NAME)

    hub.requests.clear()
    arrived = len(hub.large)
    anowild.push_to_hub(detector, NAME, with_images=True)
    assert hub.count("PUT /large/") == 3 - arrived  # what had arrived is not sent again
    assert anowild.from_pretrained(NAME).checksum == detector.checksum

    # Once more: nothing has changed, and there is no empty commit.
    commits = len(repository.commits)
    again = anowild.push_to_hub(detector, NAME, with_images=True)
    assert len(repository.commits) == commits
    assert again.commit == repository.newest


def test_a_revision_stays_what_it_was(hub: StandIn, detector: Detector) -> None:
    first = anowild.push_to_hub(detector, NAME).commit
    repository = hub.repositories[NAME]
    files = dict(repository.commits[first])
    files["model.json"] = b"{}"
    repository.commit(files)
    assert anowild.from_pretrained(f"hf://{NAME}@{first}").checksum == detector.checksum
    assert anowild.from_pretrained(NAME, revision=first).checksum == detector.checksum
    with pytest.raises(
        UserError, match=r"is not of format 4 to \d.*delete .*models--somebody--digits"
    ):
        anowild.from_pretrained(NAME)
    with pytest.raises(UserError, match="there is no such revision"):
        anowild.from_pretrained(NAME, revision="v9")
    files["model.json"] = b'{"format": 99}'
    repository.commit(files)
    with pytest.raises(
        UserError, match=r"was written by a later version of AnoWild; update anowild$"
    ):
        anowild.from_pretrained(NAME)


def test_the_cache_is_enough_without_a_network(
    pushed: StandIn,
    detector: Detector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    anowild.from_pretrained(NAME)
    sent = pushed.count("GET /large/")
    assert sent == 1
    anowild.from_pretrained(NAME)
    assert pushed.count("GET /large/") == sent  # it is in the cache
    assert not caplog.records

    pushed.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert anowild.from_pretrained(NAME).checksum == detector.checksum
    assert pushed.requests == []
    assert not caplog.records  # it was asked for
    with pytest.raises(UserError, match=r"switched off|not whole in the cache"):
        anowild.from_pretrained("somebody/else")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert anowild.from_pretrained(NAME).checksum == detector.checksum
    assert "the Hub cannot be reached; a copy in the cache is used" in caplog.text
    with pytest.raises(UserError, match=r"^hf://somebody/else: the Hub cannot be reached"):
        anowild.from_pretrained("somebody/else")


def test_mistakes_and_refusals_get_one_sentence(
    pushed: StandIn, detector: Detector, stranger: None
) -> None:
    pushed.repositories["somebody/secret"] = Repository(True)
    pushed.repositories["somebody/poems"] = Repository(False)
    pushed.repositories["somebody/poems"].commit({"README.md": b"roses"})
    for name, sentence in (
        ("somebody/nothing", "there is no such model, or you have no access"),
        ("somebody/secret", "there is no such model, or you have no access"),
        ("somebody/poems", r"is no AnoWild model \(model.json is missing\)"),
    ):
        with pytest.raises(UserError, match=rf"^hf://{name}: {sentence}"):
            anowild.from_pretrained(name)
    pushed.repositories[NAME].gated = True
    with pytest.raises(UserError, match=r"its owner gives access on request"):
        anowild.from_pretrained(NAME)
    with pytest.raises(UserError, match=r"the Hub refuses that to you|you have no access"):
        anowild.push_to_hub(detector, NAME)
    pushed.fail_with = 503
    with pytest.raises(UserError, match=r"cannot be reached|out of order"):
        anowild.from_pretrained("somebody/new")
    for name in ("digits", "a/b/c", "hf://../x", "a/b@", "hf://a"):
        with pytest.raises(UserError, match="no name of a model on the Hub"):
            anowild.from_pretrained(name)


def test_a_damaged_copy_in_the_cache_is_named(pushed: StandIn, detector: Detector) -> None:
    folder = anowild.from_pretrained(NAME).folder
    assert folder is not None
    weights = (folder / "model.safetensors").resolve()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(
        UserError, match=r"model.safetensors: is damaged .* to download it again\)$"
    ):
        anowild.from_pretrained(NAME)
    shutil.rmtree(folder.parents[1])
    assert anowild.from_pretrained(NAME).checksum == detector.checksum


def test_a_full_disk_is_one_sentence(
    pushed: StandIn, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hf, "snapshot_download", full)
    with pytest.raises(UserError, match=rf"^hf://{NAME}: the disk is full; free some space"):
        anowild.from_pretrained(NAME)


def test_a_model_for_the_hub_says_what_is_known_and_nothing_else(
    model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    save_limit(folder, 2.5)
    detector = Detector.load(folder)
    detector.training_info["failed"] = {"pixels": "/home/me/private: failed"}
    detector.training_info["settings"]["features"] = "/home/me/network.onnx"
    out = tmp_path / "out"
    quality = anowild.Quality(
        anowild.Estimate(0.9, 0.8, 1.0), anowild.Estimate(0.5, 0.4, 0.6), None
    )
    measured = anowild.Evaluation({"score": quality}, 1.3, 1234, 20, 30, 0, 0)
    anowild.save_pretrained(detector, out, license="cc-by-4.0", evaluation=measured)
    assert sorted(path.name for path in out.iterdir()) == sorted([*WITHOUT_IMAGES, "limit.json"])
    assert not [path for path in out.rglob("*") if b"/home/me" in path.read_bytes()]
    card = (out / "README.md").read_text()
    head = card.split("---\n")[1]
    assert head.startswith(
        'library_name: anowild\npipeline_tag: image-classification\nlicense: "cc-by-4.0"\n'
    )
    for fact in (
        "300, without labels", "16 x 16, 1 channel, uint8", "uint8 with 1 channel, values from 0 to 255",
        "those of the preset `laptop` with ", "kimg=1.4", "- **gan** (kimg 1.4", "`relative_residual`",
        "Kept with the model: 2.50 (chosen on 20", "views that could not be used | pixels",
        "On 1,234 normal images and 20 anomalies", "| score | 0.900 [0.800, 1.000] | 0.500 [0.400, 0.600] |",
    ):  # fmt: skip
        assert fact in card, fact

    plain = tmp_path / "plain"
    anowild.save_pretrained(anowild.from_pretrained(model_folder), plain)
    card = (plain / "README.md").read_text()
    assert "license" not in card.split("---\n")[1]
    assert "No limit is kept" in card
    assert "No evaluation was given." in card
    assert Detector.load(plain).checksum == detector.checksum

    with pytest.raises(UserError, match="holds something already"):
        anowild.save_pretrained(detector, plain)
    with pytest.raises(UserError, match="license 'All rights reserved': give an identifier"):
        anowild.save_pretrained(detector, tmp_path / "x", license="All rights reserved")
    assert not (tmp_path / "x").exists()
    with pytest.raises(UserError, match="is a folder, which has no revision"):
        anowild.from_pretrained(plain, revision="v1")


def test_evaluations_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"columns": {}, "threshold": "high"}))
    with pytest.raises(UserError, match="is not what `anowild evaluate"):
        read_evaluation(path)


def test_names() -> None:
    assert parse_name("hf://a/b@v1") == HubName("a/b", "v1")
    assert parse_name("a/b", "v1") == HubName("a/b", "v1")
    assert parse_name("a/b@feature/x") == HubName("a/b", "feature/x")
    with pytest.raises(UserError, match="another revision"):
        parse_name("a/b@v1", "v2")
    assert snapshot_name(Path("models/snapshots/x")) is None


def test_commands_take_models_from_the_hub(
    anowild: Run,
    hub: StandIn,
    model_folder: Path,
    folder_of: Callable[..., Path],
    digits: Array,
    tmp_path: Path,
) -> None:
    images = folder_of(digits[:12])
    rows = [f"{path.name},{int(i < 4)}" for i, path in enumerate(sorted(images.iterdir()))]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    code, out, _ = anowild(
        "evaluate", model_folder, images, "--labels", tmp_path / "labels.csv", "--json"
    )
    assert code == 0
    (tmp_path / "evaluation.json").write_text(out)
    code, out, err = anowild(
        "push", model_folder, NAME, "--license", "mit", "--evaluation", tmp_path / "evaluation.json"
    )
    assert code == 0, err
    assert "only you and those you allow can see it" in out
    assert "training images, and hashes of them, were not uploaded" in out
    card = hub.repositories[NAME].commits[hub.repositories[NAME].newest]["README.md"].decode()
    assert "On 8 normal images and 4 anomalies" in card

    name = f"hf://{NAME}"
    assert anowild("score", name, images, "-o", tmp_path / "a.csv")[0] == 0
    assert anowild("score", model_folder, images, "-o", tmp_path / "b.csv")[0] == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert anowild("report", name, images, "-o", tmp_path / "r.html")[0] == 0
    code, out, _ = anowild("limit", name)
    assert (code, "no limit is kept" in out) == (0, True)
    code, _, err = anowild("limit", name, 2)
    assert code == 1
    assert "is a copy in the Hub's cache" in err
    code, _, err = anowild("score", f"hf://{NAME}@v9", images)
    assert code == 1
    assert "there is no such revision" in err


@pytest.mark.slow
def test_the_environment_points_elsewhere(
    pushed: StandIn, folder_of: Callable[..., Path], digits: Array, tmp_path: Path
) -> None:
    """As users have it: another process, and HF_... in its environment."""
    images = folder_of(digits[:4])
    environment = os.environ | {
        "HF_ENDPOINT": pushed.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "anowild", "-v", "score", f"hf://{NAME}", str(images)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "4 images" in done.stdout
    assert f"commit {pushed.repositories[NAME].newest}" in done.stderr
    pushed.requests.clear()
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    again = subprocess.run(command, env=offline, capture_output=True, text=True, check=True)
    assert again.stdout == done.stdout
    assert pushed.requests == []
