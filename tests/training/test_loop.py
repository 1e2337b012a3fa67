"""Runs that stop and go on, runs that must not, and what they leave behind."""

from __future__ import annotations

import errno
import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from anowild.data import ImageSet
from anowild.errors import UserError
from anowild.files import exclusive_lock
from anowild.presets import FAST
from anowild.settings import Settings
from anowild.signals import Interrupted
from anowild.training import checkpoint
from anowild.training.loop import TrainedGan, train_gan
from anowild.training.step import Step
from tests.conftest import tiny_settings


def final_state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.checkpoints(folder)[0])


def assert_same_bits(a: Path, b: Path) -> None:
    first, second = final_state(a), final_state(b)
    assert first.keys() == second.keys()
    different = [key for key in first if not torch.equal(first[key], second[key])]
    assert different == []


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, image_set: ImageSet) -> Path:
    """A run that nothing interrupted: through 8x8, a fade, and 16x16."""
    folder = tmp_path_factory.mktemp("whole")
    trained = train_gan(image_set, tiny_settings(), folder)
    assert trained.lod == 0
    return folder


def interrupt_at(monkeypatch: pytest.MonkeyPatch, iteration: int, signum: int) -> None:
    """Send this process a signal in the middle of an iteration."""
    original, count = Step.__call__, 0

    def counted(self: Step, *args: Any) -> Any:
        nonlocal count
        count += 1
        if count == iteration:
            signal.raise_signal(signum)  # to this thread: os.kill may reach another one
        return original(self, *args)

    monkeypatch.setattr(Step, "__call__", counted)


@pytest.mark.parametrize(
    ("iteration", "signum"),
    [
        pytest.param(7, signal.SIGINT, marks=pytest.mark.slow),
        (14, signal.SIGTERM),  # in the fade
        pytest.param(21, signal.SIGINT, marks=pytest.mark.slow),
        (27, signal.SIGINT),
    ],
)
def test_a_stopped_run_ends_in_the_same_bits(
    whole_run: Path, image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    iteration: int, signum: int,
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        interrupt_at(patch, iteration, signum)
        with pytest.raises(Interrupted, match="same command goes on"):
            train_gan(image_set, tiny_settings(), tmp_path)
    # Nothing was lost, and nothing more was done than the iteration under way.
    (counters,) = [json.loads(_metadata(checkpoint.checkpoints(tmp_path)[0]))["counters"]]
    assert counters["nimg"] == 16 * iteration
    train_gan(image_set, tiny_settings(), tmp_path)
    assert_same_bits(whole_run, tmp_path)


@pytest.mark.parametrize("iteration", [pytest.param(15, marks=pytest.mark.slow), 22])
@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bfloat16"},
        pytest.param(
            {"differentiable_augmentation": True, "regularizer": "r1"}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_stopped_fast_run_ends_in_the_same_bits(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, iteration: int,
    changes: dict[str, Any],
) -> None:  # fmt: skip
    settings = tiny_settings(**{**FAST, **changes, "kimg": 0.4})
    train_gan(image_set, settings, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_at(patch, iteration, signal.SIGTERM)  # between two penalties
        with pytest.raises(Interrupted):
            train_gan(image_set, settings, tmp_path / "parts")
    train_gan(image_set, settings, tmp_path / "parts")
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")


def _metadata(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = file.metadata()
        return metadata["anowild"]


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_at_random_points_ends_in_the_same_bits(
    whole_run: Path, image_set: ImageSet, tmp_path: Path, kills: int
) -> None:
    script = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from anowild.data import ImageSet\n"
        "from anowild.training.loop import train_gan\n"
        "from anowild.training.step import Step\n"
        "from tests.conftest import tiny_settings  # which sets the number of threads\n"
        "images = ImageSet.load(np.load(sys.argv[1]), tiny_settings())\n"
        "original = Step.__call__\n"
        "def told(*arguments):\n"
        "    print('step', flush=True)\n"
        "    return original(*arguments)\n"
        "Step.__call__ = told\n"
        "train_gan(images, tiny_settings(), Path(sys.argv[2]))\n"
    )
    np.save(tmp_path / "images.npy", image_set.images)
    folder = tmp_path / "run"
    command = [sys.executable, "-c", script, str(tmp_path / "images.npy"), str(folder)]
    rng = random.Random(0)
    reached = []
    for _ in range(kills):  # of 43 steps or more, at most 3 x 13 are done before the last kill
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        for _ in range(rng.randint(4, 13)):
            assert process.stdout.readline() == b"step\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        reached += [path.name for path in checkpoint.checkpoints(folder)[:1]]
    train_gan(image_set, tiny_settings(), folder)
    assert_same_bits(whole_run, folder)
    assert list(folder.glob("*.part")) == []
    kimgs = [json.loads(line)["kimg"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert kimgs == sorted(set(kimgs)), reached


def test_a_run_may_be_made_longer(whole_run: Path, image_set: ImageSet, tmp_path: Path) -> None:
    train_gan(image_set, tiny_settings(kimg=0.32), tmp_path)
    train_gan(image_set, tiny_settings(), tmp_path)
    assert_same_bits(whole_run, tmp_path)


def test_the_seed_decides(whole_run: Path, image_set: ImageSet, tmp_path: Path) -> None:
    train_gan(image_set, tiny_settings(seed=1), tmp_path)
    a, b = final_state(whole_run), final_state(tmp_path)
    assert not torch.equal(a["generator/conv.weight"], b["generator/conv.weight"])


def test_sequential_training_goes_on_as_well(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(encoder="sequential", kimg=0.2, initial_resolution=None)
    trained = train_gan(image_set, settings, tmp_path / "whole")
    assert trained.kimg >= 2 * settings.kimg
    original, count = Step.encoder_alone, 0

    def counted(self: Step, *args: Any) -> Any:
        nonlocal count
        count += 1
        if count == 5:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Step, "encoder_alone", counted)
        with pytest.raises(Interrupted):
            train_gan(image_set, settings, tmp_path / "parts")
    train_gan(image_set, settings, tmp_path / "parts")
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")
    with pytest.raises(UserError, match="other settings: kimg"):
        train_gan(image_set, settings.replace(kimg=0.4), tmp_path / "parts")


def test_a_run_leaves_a_log_and_pictures(whole_run: Path) -> None:
    ticks = [json.loads(line) for line in (whole_run / "log.jsonl").read_text().splitlines()]
    assert [t["tick"] for t in ticks] == list(range(1, len(ticks) + 1))
    assert {t["resolution"] for t in ticks} == {8, 16}
    assert {
        "kimg",
        "D_loss",
        "G_loss",
        "E_loss",
        "s_per_kimg",
        "of_peak",
        "seconds",
        "skipped",
    } <= ticks[0].keys()
    for kind in ("reals", "samples-*", "reconstructions-*"):
        found = sorted((whole_run / "grids").glob(f"{kind}.png"))
        assert found
        assert np.asarray(Image.open(found[-1])).std() > 0
    assert len(checkpoint.checkpoints(whole_run)) == 2


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 0.002}, {"seed": 3}, {"encoder": "sequential"}]
)
def test_other_settings_are_refused(
    whole_run: Path, image_set: ImageSet, changes: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=f"other settings: {next(iter(changes))}"):
        train_gan(image_set, tiny_settings(**changes), whole_run)


def test_other_images_are_refused(whole_run: Path, image_set: ImageSet) -> None:
    fewer = ImageSet(image_set.images[:-1], image_set.names[:-1], image_set.preprocess)
    with pytest.raises(UserError, match="other images"):
        train_gan(fewer, tiny_settings(), whole_run)


def test_a_second_process_is_refused(image_set: ImageSet, tmp_path: Path) -> None:
    with exclusive_lock(tmp_path, ""), pytest.raises(UserError, match="another process"):
        train_gan(image_set, tiny_settings(), tmp_path)


def _copy_of(whole_run: Path, tmp_path: Path) -> Path:
    for path in whole_run.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    whole_run: Path, image_set: ImageSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _copy_of(whole_run, tmp_path)
    newest = checkpoint.checkpoints(folder)[0]
    newest.write_bytes(newest.read_bytes()[:1000])
    train_gan(image_set, tiny_settings(), folder)
    assert newest.name in caplog.text
    assert_same_bits(whole_run, folder)


def test_damaged_checkpoints_alone_are_refused(
    whole_run: Path, image_set: ImageSet, tmp_path: Path
) -> None:
    folder = _copy_of(whole_run, tmp_path)
    for path in checkpoint.checkpoints(folder):
        path.write_bytes(b"no")
    with pytest.raises(UserError, match="delete the folder to start again"):
        train_gan(image_set, tiny_settings(), folder)


def test_divergence_stops_the_run_with_a_sentence(image_set: ImageSet, tmp_path: Path) -> None:
    settings = tiny_settings(learning_rate=1e30, nonfinite_limit=6)
    with pytest.raises(UserError, match="not finite in 6 steps"):
        train_gan(image_set, settings, tmp_path)


def test_a_full_disk_leaves_the_last_checkpoint(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = save_file
    calls = 0

    def full(tensors: Any, path: Path, metadata: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        original(tensors, path, metadata=metadata)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match="the disk is full"):
        train_gan(image_set, tiny_settings(), tmp_path)
    assert len(checkpoint.checkpoints(tmp_path)) == 2
    assert list(tmp_path.glob("*.part")) == []


def test_too_few_images_are_refused(image_set: ImageSet, tmp_path: Path) -> None:
    few = ImageSet(image_set.images[:5], image_set.names[:5], image_set.preprocess)
    with pytest.raises(UserError, match="5 images are too few"):
        train_gan(few, tiny_settings(), tmp_path)


def test_minibatch_may_be_larger_than_the_training_set(image_set: ImageSet, tmp_path: Path) -> None:
    few = ImageSet(image_set.images[:17], image_set.names[:17], image_set.preprocess)
    trained: TrainedGan = train_gan(few, tiny_settings(minibatch=32, kimg=0.1), tmp_path)
    assert trained.kimg >= 0.1


def test_a_run_of_no_length_gives_the_untrained_networks(
    image_set: ImageSet, tmp_path: Path
) -> None:
    settings: Settings = tiny_settings(kimg=0)
    trained = train_gan(image_set, settings, tmp_path)
    again = train_gan(image_set, settings, tmp_path)
    assert trained.kimg == 0
    assert trained.lod == 1
    a, b = trained.networks.generator.state_dict(), again.networks.generator.state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)
