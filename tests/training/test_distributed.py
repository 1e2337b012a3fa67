"""Several processes train what one does: the same losses, the same bits in each, the same end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.errors import UserError
from anowild.training import checkpoint
from anowild.training.distributed import ALONE, World
from anowild.training.fitting import check_shares
from anowild.training.loop import train_gan
from tests.conftest import tiny_settings, wait_until
from tests.training import ranks
from tests.training.test_loop import assert_same_bits, final_state

ROOT = Path(__file__).parents[2]


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start(size: int, *arguments: object) -> list[subprocess.Popen[str]]:
    """Start processes of a world, as torchrun does, of ``python -m`` with the arguments."""
    common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [
        subprocess.Popen(
            [sys.executable, "-m", *map(str, arguments)], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(size)
    ]  # fmt: skip


def ends(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Wait for processes: exit code, stdout and stderr of each."""
    found = []
    for process in processes:
        out, err = process.communicate()
        found.append((process.returncode, out, err))
    return found


def run_ranks(
    size: int, folder: Path, images: ImageSet, forms: Sequence[str]
) -> list[dict[str, Any]]:
    """Have processes do what `ranks` lists; return what each found."""
    np.save(folder / "images.npy", images.images[:, 0])
    command = [sys.executable, "-m", "tests.training.ranks", folder, free_port(), size, *forms]
    subprocess.run([*map(str, command)], cwd=ROOT, check=True)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]


def check(size: int, folder: Path, image_set: ImageSet, forms: Sequence[str]) -> None:
    first, *others = found = run_ranks(size, folder, image_set, forms)
    for form in forms:
        expected, _ = ranks.steps(ALONE, form, ranks.SHARE * size)
        for got, one in zip(first[form], expected, strict=True):
            assert got == pytest.approx(one, rel=1e-7, abs=1e-7), form
    # Averages of G and E, all else that the next iteration depends on, and what `train_gan` returns.
    assert all(other["states"] == first["states"] for other in others)
    # D's update, for the one image, and later none; and all stop where one is told to.
    assert {one["skipped"] for one in found} == {1}
    assert {one["stopped"] for one in found} == {signal.SIGTERM}
    # D, G, E, and the statistics of minibatch stddev: not one for each parameter.
    assert first["messages"] == 4
    assert_same_bits(folder / "whole", folder / "parts")
    assert len(checkpoint.checkpoints(folder / "whole")) == 2

    train_gan(image_set, ranks.SETTINGS, folder / "alone")
    alone, many = final_state(folder / "alone"), final_state(folder / "whole")
    assert alone.keys() == many.keys()
    for name, values in alone.items():
        assert (many[name] - values).abs().max() <= 1e-3 * values.abs().max(), name
    ticks = [
        [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
        for name in ("alone", "whole")
    ]
    for a, b in zip(*ticks, strict=True):
        for name in ("D_loss", "G_loss", "E_loss", "gradient_norm"):
            assert b[name] == pytest.approx(a[name], rel=1e-3, abs=1e-4)
    # R: batch norm looks at a share, so the networks are alike, no more.
    begun = ranks.trained_classifier(ALONE, image_set, folder / "one classifier")
    several = torch.load(folder / "classifier.pt", weights_only=True)
    for name in ("norm.bias", "norm.running_mean"):
        assert torch.nn.functional.cosine_similarity(
            begun[name].flatten(), several[name].flatten(), dim=0
        ) > 0.98  # fmt: skip


def test_two_processes_train_what_one_does(image_set: ImageSet, tmp_path: Path) -> None:
    check(2, tmp_path, image_set, ["at once", "in turn"])


@pytest.mark.slow
def test_four_processes_train_what_one_does(image_set: ImageSet, tmp_path: Path) -> None:
    check(4, tmp_path, image_set, [*ranks.STEPS])


def test_shares_hold_whole_groups_of_minibatch_stddev() -> None:
    whole = {frozenset(range(g, 32, 8)) for g in range(8)}
    found = set()
    for rank in range(4):
        share = World(rank, 4).share(np.arange(32))
        found |= {frozenset(share[g :: len(share) // 4].tolist()) for g in range(len(share) // 4)}
    assert found == whole


def test_every_image_is_in_one_share() -> None:
    images = torch.arange(24).view(2, 12)
    parts = [World(rank, 3).share(images, axis=1) for rank in range(3)]
    assert sorted(torch.cat(parts, dim=1).flatten().tolist()) == list(range(24))
    assert ALONE.share(images) is images


@pytest.mark.parametrize(
    ("changes", "processes", "message"),
    [
        ({"minibatch": 12}, 2, r"minibatch of 12 at 16x16 .* 2 processes.*minibatch=16:16\)"),
        ({"minibatch": "8:8,16:16"}, 4, "minibatch of 8 at 8x8 cannot be dealt out to 4"),
        ({"views": ("transforms",), "transforms_minibatch": 32}, 3, "transforms_minibatch=33"),
    ],
)
def test_a_minibatch_that_cannot_be_dealt_out_is_refused(
    image_set: ImageSet, changes: dict[str, Any], processes: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_shares(image_set, tiny_settings(**changes), processes)
    check_shares(image_set, tiny_settings(**changes), 1)


def test_processes_do_not_share_a_gpu() -> None:
    with pytest.raises(UserError, match="give cuda, or cpu"):
        World(0, 2).device("cuda:1")
    assert World(0, 2).device("cpu") == "cpu"
    assert ALONE.device("cuda:1") == "cuda:1"


def given(tmp_path: Path, digits: Array, name: str, **changes: Any) -> list[object]:
    """Return the arguments of a training into the folder ``name``."""
    np.save(tmp_path / "images.npy", digits)
    settings = tiny_settings(**{"views": ("gan", "transforms", "pixels"), **changes})
    sets = [
        f"--set={key}={','.join(value) if isinstance(value, tuple) else value}"
        for key, value in settings.to_json().items()
        if value is not None and not isinstance(value, dict)
    ]
    sets += ["--set=minibatch=16", "--set=tick_kimg=0.1"]
    return ["anowild", "train", tmp_path / "images.npy", "-o", tmp_path / name, *sets]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_killed_processes_end_all_and_go_on_in_the_same_bits(
    digits: Array, tmp_path: Path, killed: int
) -> None:
    torchrun = ["torch.distributed.run", "--nproc-per-node", 2, "-m"]
    whole = subprocess.run(
        [sys.executable, "-m", *map(str, torchrun + given(tmp_path, digits, "whole"))],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.count("oddest first") == 1

    folder = tmp_path / "parts"
    arguments = given(tmp_path, digits, "parts")
    for place in (folder / "training" / "log.jsonl", folder / "training" / "transforms" / "0"):
        processes = start(2, *arguments)
        wait_until(place.exists, processes[0])
        processes[killed].kill()
        found = ends(processes)
        assert [code for code, _, _ in found] == [-9, 1][:: 1 if killed == 0 else -1]
        err = found[1 - killed][2]
        assert err.count("another process of this training has ended") == 1
        assert "Traceback" not in err
    shutil.copytree(folder, tmp_path / "other number")
    assert [code for code, _, _ in ends(start(2, *arguments))] == [0, 0]
    for part in ("model.safetensors", "suspects.csv"):
        assert (tmp_path / "whole" / part).read_bytes() == (folder / part).read_bytes()


@pytest.mark.slow
def test_another_number_of_processes_goes_on(
    digits: Array, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = given(tmp_path, digits, "model", views=("gan",))
    processes = start(2, *arguments)
    wait_until((tmp_path / "model" / "training" / "log.jsonl").exists, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    found = ends(processes)
    assert [code for code, _, _ in found] == [143, 143]
    assert found[0][2].count("the same command goes on") == 1
    assert found[1][2] == ""
    ((code, _, err),) = ends(start(1, *arguments))
    assert code == 0
    assert "was trained by 2 process(es), and goes on with 1" in err


@pytest.mark.slow
def test_a_mistake_is_said_once(digits: Array, tmp_path: Path) -> None:
    arguments = given(tmp_path, digits, "model", views=("gan",))
    for wrong, sentence in (
        ([*arguments[:2], tmp_path / "missing", *arguments[3:]], "no such file or folder"),
        ([*arguments, "--set=minibatch=4"], "cannot be dealt out to 2 processes"),
        (["anowild", "score", tmp_path, tmp_path], "torchrun is for `anowild train` alone"),
    ):
        found = ends(start(2, *wrong))
        assert [code for code, _, _ in found] == [1, 1]
        assert "".join(err for _, _, err in found).count(sentence) == 1
