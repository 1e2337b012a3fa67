"""Small but real inputs: scikit-learn's 8x8 digits, and the smallest training that does all."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from anowild import api
from anowild.__main__ import main
from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.device import configure_process
from anowild.files import exclusive_lock
from anowild.presets import preset
from anowild.scoring import Detector
from anowild.settings import Settings

#: Nothing here is large enough for two threads, and on a busy machine they wait for each other.
THREADS = 1
configure_process(THREADS)

#: Seconds until a test gives up on another process: a guard against hangs, not a limit of speed.
PATIENCE = 600.0

# The same examples on every machine, and no example fails because the machine is busy.
hypothesis.settings.register_profile(
    "anowild",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("anowild")

#: Image sets that a fresh clone does not have: tests marked `shared` read them.
SHARED = Path(
    os.environ.get("ANOWILD_SHARED") or Path(__file__).parents[2] / "shared" / "data"
).resolve()
#: Where the sets should be, a missing file is a failure, not a skip.
SHARED_EXPECTED = SHARED.is_dir() or bool(os.environ.get("ANOWILD_SHARED"))


#: Files that take longest; they are dealt out first, so that no process has a long one left at the end.
LONGEST = (
    "test_find", "test_loop", "test_browser_pages", "test_browser_detail", "test_browser_grid", "test_cli",
    "test_methods", "test_side_by_side", "test_photographs", "test_detector",
)  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal out long files first; deselect tests marked `shared` where nobody promised the sets or asked."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))
    if SHARED_EXPECTED or "shared" in config.option.markexpr:
        return
    without = [item for item in items if item.get_closest_marker("shared")]
    config.hook.pytest_deselected(items=without)
    items[:] = [item for item in items if item not in without]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not SHARED_EXPECTED:
        terminalreporter.write_line(
            f"tests marked `shared` did not run: {SHARED} is missing; set ANOWILD_SHARED to the sets"
        )


def tiny_settings(**changes: Any) -> Settings:
    """16x16 networks of a few maps that grow from 8x8 within 0.7 kimg, by the paper's step."""
    growing = {
        "views": ("gan",),
        "precision": "float32",
        "resolution": 16,
        "fmap_base": 64,
        "fmap_max": 8,
        "kimg": 0.7,
        "initial_resolution": 8,
        "stable_kimg": 0.2,
        "fade_kimg": 0.2,
        "minibatch": 16,
        "minibatch_repeats": 2,
        "transforms_kimg": 0.3,
        "transforms_maps": 4,
        "tick_kimg": 0.1,
        # The paper's step; tests of the fast one ask for it.
        "simultaneous": False,
        "penalty_share": 1.0,
        "learning_rate": 0.001,
    }
    return preset("laptop").settings().replace(**(growing | changes))


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """Restore the numbers of threads: rounding depends on them, and a command may set them."""
    yield
    if torch.get_num_threads() != THREADS:
        configure_process(THREADS)


@pytest.fixture(autouse=True)
def _same_seeds() -> None:
    """Seed all global generators before each test."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


def reading_threads() -> list[threading.Thread]:
    """Threads that read ahead (`anowild.data.prefetch`)."""
    return [thread for thread in threading.enumerate() if thread.name == "anowild-prefetch"]


def wait_until(
    condition: Callable[[], object], process: subprocess.Popen[Any] | None = None
) -> None:
    """Wait until ``condition`` holds; fail if ``process`` ends before it does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        ended = process is not None and process.poll() is not None
        assert not ended or condition(), f"the process ended with {process and process.returncode}"
        assert time.monotonic() < end, "the process hangs"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def digits() -> Array:
    """300 real digits, enlarged to 16x16: uint8 [N, 16, 16]."""
    small = load_digits().images[:300] / 16.0 * 255
    return np.kron(small.round().astype(np.uint8), np.ones((1, 2, 2), np.uint8))


@pytest.fixture(scope="session")
def image_set(digits: Array) -> ImageSet:
    return ImageSet.load(digits, tiny_settings())


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[..., Path]:
    """Write images [N, H, W] or [N, H, W, 3] as PNG files into a folder."""

    def write(images: Array, name: str = "images") -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{i:04d}.png")
        return folder

    return write


@contextmanager
def shared_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """Lock a folder that the processes of one run have in common, for what takes long to make."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with exclusive_lock(shared, "is locked", PATIENCE):
        yield shared


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, digits: Array) -> Path:
    """A detector trained for a moment, saved; the processes of one run train it once."""
    with shared_folder(tmp_path_factory, "trained") as shared:
        if not (shared / "model" / "model.json").exists():
            # Long enough that noise is odd to it.
            longer = tiny_settings(kimg=1.4, stable_kimg=0.4, fade_kimg=0.4, tick_kimg=0.2)
            api.train(digits, shared / "model", longer)
    return shutil.copytree(shared / "model", tmp_path_factory.mktemp("trained") / "model")


@pytest.fixture(scope="session")
def detector(model_folder: Path) -> Detector:
    return Detector.load(model_folder)


#: Runs a command in this process: exit code, stdout, stderr.
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def anowild(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["anowild", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run
