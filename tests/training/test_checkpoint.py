"""A training state is checked before it is used; one that cannot be falls back to the one before."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from anowild.data import ImageSet
from anowild.errors import UserError
from anowild.training import checkpoint
from anowild.training.loop import train_gan
from anowild.training.networks import Networks
from anowild.training.robust import Suspects
from anowild.training.step import Step
from anowild.training.tick_log import TickLog
from anowild.training.transforms import STATE
from anowild.training.transforms import train as train_transforms
from tests.conftest import tiny_settings

Tensors = dict[str, torch.Tensor]
CPU = torch.device("cpu")
SETTINGS = tiny_settings(kimg=0.1, tick_kimg=0.05, fmap_max=4)
NAN = float("nan")


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory, image_set: ImageSet) -> Path:
    """A run of two checkpoints."""
    folder = tmp_path_factory.mktemp("short")
    train_gan(image_set, SETTINGS, folder)
    assert len(checkpoint.checkpoints(folder)) == 2
    return folder


def new_step() -> Step:
    return Step(Networks.build(SETTINGS, 16, 1).to(CPU), SETTINGS)


def edit(path: Path, change: Callable[[dict[str, Any], Tensors], Any]) -> None:
    with safe_open(path, framework="pt") as file:
        plain = json.loads(file.metadata()["anowild"])
    tensors = load_file(path)
    plain = change(plain, tensors) or plain
    save_file(tensors, path, metadata={"anowild": json.dumps(plain)})


def counter(name: str, value: Any) -> Any:
    return lambda plain, _: plain["counters"].__setitem__(name, value)


def plain(name: str, value: Any) -> Any:
    return lambda plain, _: plain.__setitem__(name, value)


def tensor(part: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    def apply(_: Any, tensors: Tensors) -> None:
        for name in tensors:
            if part in name:
                tensors[name] = change(tensors[name]).contiguous()

    return apply


def without(part: str) -> Any:
    def apply(_: Any, tensors: Tensors) -> None:
        del tensors[next(name for name in tensors if part in name)]

    return apply


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (tensor("/exp_avg", lambda t: t.reshape(-1)[:1].clone()), r"exp_avg(_sq)? is torch.float32 \[1\]"),
        (tensor("/exp_avg", lambda t: torch.full((1000,), 0.5)), r"\[1000\]"),
        (tensor("/exp_avg", lambda t: t.to(torch.int32)), "torch.int32"),
        (tensor("/exp_avg", lambda t: torch.full_like(t, NAN)), "impossible values"),
        (tensor("/exp_avg_sq", lambda t: -torch.ones_like(t)), "impossible values"),
        (tensor("/step", lambda t: torch.zeros(3)), r"step is torch.float32 \[3\]"),
        (lambda _, t: t.update({"optimizer/generator/999/exp_avg": torch.zeros(2)}), "no parameter for '999"),
        (lambda _, t: t.update({"optimizer/generator/x": torch.zeros(2)}), "no parameter for 'x'"),
        (without("/exp_avg_sq"), "is not whole"),
        (tensor("generator/", lambda t: t.half()), "torch.float16"),
        (without("encoder/"), "is missing"),
        (lambda _, t: t.update({"zz": torch.zeros(2)}), "zz is not known"),
        (lambda _, t: t.update({f"suspects/{k}": v for k, v in Suspects.empty(3).tensors().items()}),
         r"oddness is torch.float64 \[3\]"),
        (counter("nimg", "x"), "counters.nimg is 'x'"),
        (counter("nimg", -5), "counters.nimg is -5"),
        (counter("nimg", 1.5), "counters.nimg is 1.5"),
        (counter("nimg", 0), "larger than nimg"),
        (counter("lod", NAN), "counters.lod is nan"),
        (counter("lod", 1e9), "from -1 to 7"),
        (counter("repeats", 99), "counters.repeats is 99"),
        (counter("seconds", None), "counters.seconds is None"),
        (counter("zz", 1), "counters.zz is not known"),
        (plain("counters", []), r"counters is \[\]"),
        (plain("adam_counts", {}), "adam_counts.discriminator is missing"),
        (plain("adam_counts", {"generator": 10**400}), "adam_counts.generator is"),
        (plain("skipped", "x"), "skipped is 'x'"),
        (lambda *_: [1], "must be an object"),
    ],
)  # fmt: skip
def test_an_unusable_state_changes_nothing_and_falls_back(
    short_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Any, said: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(short_run, folder)
    newest, before = checkpoint.checkpoints(folder)
    edit(newest, change)
    step = new_step()
    loaded = checkpoint.load_latest(folder, step, 300)
    assert loaded is not None
    assert f"state-{loaded[0].nimg:012d}" in before.name
    assert newest.name in caplog.text
    assert re.search(said, caplog.text), caplog.text
    # What was restored is the one before, with nothing of the newest.
    stored = load_file(before)
    for name, network in step.networks.named().items():
        for key, own in network.state_dict().items():
            assert torch.equal(own, stored[f"{name}/{key}"])


def test_suspects_belong_to_the_images() -> None:
    suspects = Suspects.empty(3)
    with pytest.raises(ValueError, match=r"oddness is torch.float64"):
        Suspects.from_tensors(suspects.tensors(), 4)
    suspects.oddness[0] = NAN
    with pytest.raises(ValueError, match="not finite"):
        Suspects.from_tensors(suspects.tensors(), 3)


def test_a_damaged_state_of_a_transforms_network_is_trained_from_the_start(
    image_set: ImageSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = tiny_settings(views=("transforms",), transforms_kimg=0.064)
    trained, _ = train_transforms(0, image_set, settings, tmp_path, CPU)
    state = tmp_path / "transforms" / "0" / STATE
    edit(state, lambda _, t: t.update({"momentum/stem.weight": torch.zeros(1)}))
    again, _ = train_transforms(0, image_set, settings, tmp_path, CPU)
    assert "momentum/stem.weight is torch.float32 [1]" in caplog.text
    assert "trained from the start" in caplog.text
    ours, theirs = trained.state_dict(), again.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    "text", ["[]", "null", "{", '{"settings": "x", "images": {}}', '{"settings": {"zz": 1}, "images": 1}',
             '{"settings": {"kimg": "x"}, "images": 1}']
)  # fmt: skip
def test_damaged_settings_of_a_run_are_told(
    short_run: Path, image_set: ImageSet, tmp_path: Path, text: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(short_run, folder)
    (folder / "settings.json").write_text(text)
    with pytest.raises(UserError, match=r"settings.json: is damaged") as caught:
        train_gan(image_set, SETTINGS, folder)
    assert str(folder) in str(caught.value)


def test_lines_of_a_log_that_cannot_be_read_are_dropped_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.jsonl"
    good = [b'{"kimg": 0.1}', b'{"kimg": 0.2}']
    odd = [b"\xff\xfe", b"[]", b"5", b'{"kimg": "x"}', b'{"kimg": 1%s}' % (b"0" * 400), b"[" * 9999]
    path.write_bytes(b"\n".join([good[0], *odd, good[1], b'{"ki']))
    TickLog(path, 1000)
    assert path.read_bytes() == b"\n".join(good) + b"\n"
    assert f"{len(odd)} lines cannot be read and are dropped" in caplog.text
    caplog.clear()
    path.write_bytes(good[0] + b'\n{"ki')  # as a process that was killed leaves it
    with caplog.at_level(logging.WARNING):
        TickLog(path, 1000)
    assert caplog.text == ""
    assert path.read_bytes() == good[0] + b"\n"


def test_pictures_that_a_killed_run_had_not_drawn_are_drawn_on_resuming(
    short_run: Path, image_set: ImageSet, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(short_run, folder)
    newest = sorted((folder / "grids").glob("*0000000.1.png"))
    assert len(newest) == 2
    pixels = [path.read_bytes() for path in newest]
    for path in newest:
        path.unlink()
    state = checkpoint.checkpoints(folder)[0].read_bytes()
    train_gan(image_set, SETTINGS, folder)
    assert [path.read_bytes() for path in newest] == pixels
    assert checkpoint.checkpoints(folder)[0].read_bytes() == state
