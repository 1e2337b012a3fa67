"""A sweep over data sets x rates x methods x seeds, each trial in a folder and process of its own.

Trials that are done are skipped, and trials that were stopped go on. The cost is estimated first.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from anowild.data import ImageSet
from anowild.errors import UserError
from anowild.files import exclusive_lock, read_json
from anowild.networks.inputs import downsample, process_reals
from anowild.progress import bar
from anowild.settings import Settings
from anowild.signals import Interrupted, stop_request
from anowild.study import methods
from anowild.study.datasets import BUNDLED, DATASETS
from anowild.study.trial import RESULT, TRIAL, Trial, write
from anowild.training import transforms
from anowild.training.flops import encoder_flops_per_image, flops_per_image
from anowild.training.networks import Networks
from anowild.training.noise import StepNoise
from anowild.training.schedule import Schedule
from anowild.training.sizes import network_halvings
from anowild.training.step import Step
from anowild.workers import environment, python_command

#: Iterations that are timed to estimate the cost.
TIMED = 3
#: Seconds between checks of the processes.
POLL = 0.2
#: Fields of a trial that its result does not depend on.
_FREE = {"data"}


def plan(
    data: Path | None,
    sets: Sequence[str],
    rates: Sequence[float],
    names: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    search_steps: int = 0,
) -> list[Trial]:
    """Return the trials of a study, seed by seed, so that an unfinished study is balanced.

    Raises:
        UserError: a set or method is unknown, or its package or folder is missing; a rate is
            impossible.
    """
    for name in sets:
        if name not in DATASETS:
            raise UserError(f"set '{name}': unknown; take some of {', '.join(DATASETS)}")
        if data is None and name not in BUNDLED:
            raise UserError(
                f"set '{name}': needs --data; without it, take some of {', '.join(BUNDLED)}"
            )
    methods.check(list(names))
    for rate in rates:
        if not 0 <= rate <= 0.5:
            raise UserError(
                f"rate {rate:g}: impossible; give a share of the training set from 0 to 0.5"
            )
    return [
        Trial(
            name, rate, method, seed, str(data or ""), settings.to_json(),
            search_steps if method == "joint" else 0,
        )
        for seed, rate, name, method in itertools.product(seeds, rates, sets, names)
    ]  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Estimated cost of the trials that are not done."""

    trials: int
    done: int
    hours: float  # of one process, training alone

    def __str__(self) -> str:
        return (
            f"{self.trials} trials, {self.done} of them done; the training of the others takes about "
            f"{self.hours:.1f} hours of one process here (networks alone: scoring, baselines and "
            "pretrained networks not counted)"
        )


def cost(trials: Sequence[Trial], out: Path, device: torch.device) -> Cost:
    """Estimate the cost from a few iterations of each set and method on this machine."""
    left = [trial for trial in trials if not (out / trial.place / RESULT).exists()]
    costs: dict[tuple[str, str], float] = {}
    seconds = 0.0
    for trial in left:
        if not isinstance(methods.METHODS[trial.method], methods.Baseline):
            key = trial.set, trial.method
            if key not in costs:
                costs[key] = _seconds(trial, device)
            seconds += costs[key]
    return Cost(len(trials), len(trials) - len(left), seconds / 3600)


def _seconds(trial: Trial, device: torch.device) -> float:
    """Estimate the seconds that a trial trains networks."""
    settings = trial.full_settings()
    views = settings.views if trial.method in methods.ENSEMBLES else ("gan",)
    seconds = 0.0
    if "gan" in views and settings.kimg:
        seconds += _seconds_per_kimg(trial, device) * settings.kimg
    if "transforms" in views and settings.transforms_kimg:
        seconds += _transforms_seconds_per_kimg(trial, device) * settings.transforms_kimg
    return seconds


def _transforms_seconds_per_kimg(trial: Trial, device: torch.device) -> float:
    """Time a few steps of one of the networks R, and count both."""
    settings = trial.full_settings()
    images = ImageSet.load(trial.experiment().training[:64], settings)
    kimg = TIMED * settings.transforms_minibatch / 1000
    for length in (kimg / TIMED, kimg):  # the first step takes longer: it is done before
        with tempfile.TemporaryDirectory() as folder:
            short = settings.replace(transforms_kimg=length)
            _, seconds = transforms.train(0, images, short, Path(folder), device)
    return transforms.NETWORKS * seconds / kimg


def _seconds_per_kimg(trial: Trial, device: torch.device) -> float:
    settings = trial.full_settings()
    experiment = trial.experiment()
    images = ImageSet.load(experiment.training[:64], settings)
    shrink = network_halvings(images.preprocess.resolution, settings)
    resolution, channels = images.preprocess.resolution >> shrink, images.preprocess.channels
    networks = Networks.build(settings, resolution, channels).to(device)
    step = Step(networks, settings)
    point = Schedule(settings, resolution).at(round(settings.kimg * 1000))
    count, level = point.minibatch, int(point.lod)
    stored = torch.from_numpy(images.images).repeat(-(-count // 64), 1, 1, 1)[:count]
    reals = process_reals(downsample(stored.to(device), shrink + level), point.lod)
    latent_size, augmented = networks.generator.latent_size, settings.differentiable_augmentation
    for number in range(TIMED + 1):
        if number == 1:
            started = time.perf_counter()
        draws = StepNoise.new(count, latent_size, augmented, device)
        step(reals, draws, point.lod, point.learning_rate, 0.999)["D_loss"].item()
    pace = (time.perf_counter() - started) / TIMED / count * 1000
    if settings.encoder == "sequential":
        own = encoder_flops_per_image(networks, settings, point.lod)
        pace *= 1 + own / flops_per_image(networks, settings, point.lod, count)
    return pace


def run(
    trials: Sequence[Trial], out: Path, jobs: int, threads: int, devices: Sequence[str]
) -> list[Path]:
    """Run the trials that are not done, ``jobs`` at a time, on the devices in turn.

    Returns:
        The folders of trials that failed; each has the reason in ``error.txt``.

    Raises:
        UserError: a folder holds another trial, or another study runs there.
        Interrupted: by Ctrl-C or SIGTERM, after all trials have saved.
    """
    with exclusive_lock(
        out, "another study is running there now; wait for it, or give another output"
    ):
        left = []
        for trial in trials:
            folder = out / trial.place
            _agree(trial, folder)
            if not (folder / RESULT).exists():
                left.append(trial)
        done = len(trials) - len(left)
        running: dict[subprocess.Popen[bytes], tuple[Path, str]] = {}
        failed: list[Path] = []
        free = list(itertools.islice(itertools.cycle(devices), jobs))
        with (
            stop_request() as stop,
            bar("trials", len(trials), done) as shown,
            _stopped_at_the_end(running),
        ):
            while left or running:
                while left and free and stop.signum is None:
                    trial, device = left.pop(0), free.pop(0)
                    folder = out / trial.place
                    write(trial, folder)
                    running[_start(folder, device, threads)] = folder, device
                if stop.signum is not None:
                    raise Interrupted(stop.signum, f"{done} of {len(trials)} trials")
                time.sleep(POLL)
                for process in [p for p in running if p.poll() is not None]:
                    folder, device = running.pop(process)
                    free.append(device)
                    done += 1
                    if process.returncode:
                        failed.append(folder)
                shown.update(done, f"{len(failed)} failed" if failed else "")
        return failed


@contextmanager
def _stopped_at_the_end(running: Mapping[subprocess.Popen[bytes], object]) -> Iterator[None]:
    """Stop the processes that are left at the end, by an error as well, and wait until they have saved."""
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _start(folder: Path, device: str, threads: int) -> subprocess.Popen[bytes]:
    command = python_command("anowild.study.trial")
    command += [str(folder), "--device", device, "--threads", str(threads)]
    with (folder / "error.txt").open("wb") as log:
        # In a session of its own, so that Ctrl-C reaches this process alone, which then stops the others.
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True, env=environment(threads)
        )  # fmt: skip


def _agree(trial: Trial, folder: Path) -> None:
    """Check that the folder is empty or holds this very trial.

    Raises:
        UserError: it holds a trial of a study with other settings.
    """
    if not (folder / TRIAL).exists():
        return
    before = read_json(folder / TRIAL)
    for name, value in json.loads(json.dumps(asdict(trial))).items():
        found = before.get(name)
        if name == "settings":  # which may have the names of an earlier version
            found, value = Settings.from_json(found or {}), Settings.from_json(value)
        if name not in _FREE and found != value:
            raise UserError(
                f"{folder}: holds a trial of a study with other {name}; give the same as before, "
                "or another output"
            )
