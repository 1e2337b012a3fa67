"""The training loop: from a set of images to trained networks, resumable at any point."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anowild.data.image_set import ImageSet
from anowild.device import matrix_product_peak, peak_memory_mb, training_dtype
from anowild.errors import UserError
from anowild.files import atomic_write, exclusive_lock, read_json, write_json
from anowild.networks.inputs import downsample, process_reals, to_unit
from anowild.progress import bar
from anowild.settings import Settings
from anowild.signals import Interrupted, stop_request
from anowild.training import checkpoint
from anowild.training.checkpoint import Counters
from anowild.training.cuda_graphs import GraphedStep
from anowild.training.flops import encoder_flops_per_image, flops_per_image
from anowild.training.losses import worst_rebuilt
from anowild.training.robust import Judge, Suspects, due
from anowild.training.sample_grids import grid, save_picture, save_training_grids, to_uint8
from anowild.training.sampler import MinibatchSampler
from anowild.training.schedule import Schedule, ScheduleState, changes_level
from anowild.training.step import Networks, Step, StepNoise

log = logging.getLogger("anowild")

#: Fewest images that training accepts.
MIN_IMAGES = 16
#: A run may be taken up with other values of these.
CHANGEABLE = {
    "kimg", "checkpoint_ticks", "tick_kimg", "nonfinite_limit", "max_resolution", "scoring_weights",
    "reference_images", "views",
}  # fmt: skip

# Streams of random numbers, apart from each other and from the data's (1, 2 and 5).
_DRAWS, _GRID = 3, 4


@dataclass
class Trained:
    """What a finished run hands to scoring."""

    networks: Networks
    lod: float  # level of detail at the end: 0 unless the run was too short to grow
    kimg: float
    seconds: float
    skipped: int  # updates left out because a gradient was not finite
    suspects: Suspects | None  # of robust training


def train(
    images: ImageSet,
    settings: Settings,
    folder: Path,
    device: torch.device | None = None,
    judge: Judge | None = None,
) -> Trained:
    """Train G, D and E, or go on with a run that ``folder`` holds.

    Args:
        images: the training set, anomalies and all.
        settings: a run that is taken up must have the same, but for ``CHANGEABLE``.
        folder: receives settings.json, log.jsonl, state-*.safetensors and grids/.
        judge: says how odd each training image is; robust training needs one.

    Raises:
        UserError: too few images; another run in the folder; too many steps in a row without
            a finite gradient.
        Interrupted: by Ctrl-C or SIGTERM, after the state was saved.
    """
    if len(images) < MIN_IMAGES:
        raise UserError(f"{len(images)} images are too few to train on: {MIN_IMAGES} is the least")
    if settings.robust and judge is None:
        raise ValueError("robust training needs somebody to say what is odd")
    device = device or torch.device("cpu")
    with exclusive_lock(folder, "another process is training there now"):
        _agree_on_settings(folder, images, settings)
        return _Run(images, settings, folder, device, judge).run()


class _Run:
    def __init__(
        self,
        images: ImageSet,
        settings: Settings,
        folder: Path,
        device: torch.device,
        judge: Judge | None,
    ) -> None:
        self.images, self.settings, self.folder, self.device = images, settings, folder, device
        self.judge = judge
        resolution, channels = images.preprocess.resolution, images.preprocess.channels
        self.schedule = Schedule(settings, resolution)
        self.batches = MinibatchSampler(
            images.images, settings.seed, mirror=settings.mirror, rotate=settings.rotate,
            device=device,
        )  # fmt: skip
        self.networks = Networks.build(settings, resolution, channels).to(device)
        self.step = Step(self.networks, settings)
        graphs = settings.cuda_graphs and device.type == "cuda"
        self.iteration = GraphedStep(self.step) if graphs else self.step
        dtype = training_dtype(settings.precision, device) or torch.float32
        self.peak_flops = matrix_product_peak(device, dtype)

        # In sequential training the encoder follows the GAN, for as many images again.
        self.gan_nimg = round(settings.kimg * 1000)
        self.total_nimg = self.gan_nimg * (2 if settings.encoder == "sequential" else 1)

        loaded = checkpoint.load_latest(folder, self.step)
        self.counters, self.suspects = loaded or (Counters(), None)
        if settings.robust and self.suspects is None:
            self.suspects = Suspects.none(len(images))
        if self.suspects is not None:
            self.batches.leave_out(self.suspects.dropped)
        self.log = _TickLog(folder / "log.jsonl", self.counters.nimg)
        self.sums: dict[str, list[Tensor]] = defaultdict(list)
        self.tick_started = self.clock = time.perf_counter()

    def run(self) -> Trained:
        c, total = self.counters, self.total_nimg
        if c.nimg:
            log.info("going on from %.1f kimg", c.nimg / 1000)
        if not (self.folder / "grids" / "reals.png").exists():
            shown_reals = to_uint8(to_unit(self._shown(64)))
            save_picture(grid(shown_reals, 8), self.folder / "grids" / "reals.png")
        with stop_request() as stop, bar("training, kimg", total / 1000, c.nimg / 1000) as shown:
            last_shown = 0.0
            # The reference looks at its counters only after all the repeats of an iteration.
            while c.nimg < total or c.repeats > 0:
                if c.repeats == 0:
                    c.held_nimg = c.nimg
                point = self._point()
                # Right after a log line, and before what the checkpoint there will go on with.
                if self.suspects is not None and c.nimg == c.tick_nimg:
                    self._look(self.suspects, point)
                self._iterate(point)
                c.repeats = (c.repeats + 1) % self.settings.minibatch_repeats
                if self.device.type == "cpu":  # to ask a GPU is to wait for it: at ticks only
                    self._check_finite()
                if time.perf_counter() - last_shown > 1:
                    last_shown = time.perf_counter()
                    shown.update(c.nimg / 1000, self._note(point))
                due = c.tick_nimg + point.tick_kimg * 1000
                if c.repeats == 0 and c.nimg >= min(due, total):
                    self._tick(point)
                    if c.ticks % self.settings.checkpoint_ticks == 0 or c.nimg >= total:
                        self._save(point.lod)
                if stop.signum is not None:
                    self._save(point.lod)
                    raise Interrupted(stop.signum, f"{c.nimg / 1000:.1f} kimg")
        if not checkpoint.checkpoints(self.folder):
            self._save(self._point().lod)  # a run of length 0: the untrained networks
        lod = c.lod if c.lod >= 0 else self.schedule.at(0).lod
        return Trained(
            self.networks, lod, c.nimg / 1000, c.seconds, self.step.skipped, self.suspects
        )

    def _point(self) -> ScheduleState:
        # The encoder of a sequential run stays at the level that the GAN ended with.
        return self.schedule.at(min(self.counters.held_nimg, self.gan_nimg))

    def _iterate(self, point: ScheduleState) -> None:
        """One update of all networks, and of the counters."""
        s, c = self.settings, self.counters
        if s.reset_optimizers and (c.lod < 0 or changes_level(c.lod, point.lod)):
            for optimizer in self.step.optimizers.values():
                optimizer.reset()
        draws = self._draws(point.minibatch)
        decay = self._decay(point.minibatch)
        if c.nimg >= self.gan_nimg:
            reals = self._reals(point) if s.encoder_reals else None
            report = self.step.encoder_alone(reals, draws, point.lod, point.learning_rate, decay)
        else:
            report = self.iteration(
                self._reals(point), draws, point.lod, point.learning_rate, decay
            )
        for name, value in report.items():
            self.sums[name].append(value.mean())
        c.lod = point.lod
        c.nimg += point.minibatch
        now = time.perf_counter()
        c.seconds += now - self.clock
        self.clock = now

    def _reals(self, point: ScheduleState) -> Tensor:
        s, c, count = self.settings, self.counters, point.minibatch
        if not s.trim_rate or c.nimg < s.robust_start_fraction * self.gan_nimg:
            return self.batches.reals(c.nimg, count, point.lod)
        # More than are wanted, and of them the best rebuilt. Image numbers beyond the minibatch
        # come again in the next one, where they are candidates as well.
        candidates = round(count / (1 - s.trim_rate))
        reals = self.batches.reals(c.nimg, candidates, point.lod)
        n = self.networks
        worst = worst_rebuilt(n.average_generator, n.average_encoder, reals, point.lod)
        return reals[worst[candidates - count :].sort().values]

    def _look(self, suspects: Suspects, point: ScheduleState) -> None:
        """Judge all training images where that is due, and leave the oddest out from now on."""
        s, c = self.settings, self.counters
        if not due(
            c.nimg, self.gan_nimg, len(self.images), s.robust_start_fraction, suspects.look_nimg
        ):
            return
        assert self.judge is not None
        suspects.look(self.judge(self.networks, point.lod), c.nimg, s.robust_max_dropped)
        self.batches.leave_out(suspects.dropped)
        log.info(
            "look %d at %.1f kimg: %d of %d images left out; about %.1f %% look like anomalies",
            suspects.looks, c.nimg / 1000, suspects.dropped.sum(), len(self.images),
            100 * suspects.rate,
        )  # fmt: skip

    def _draws(self, count: int) -> StepNoise:
        """The iteration's random numbers: a function of (seed, rank, images seen)."""
        rng = _generator(self.device, self.settings.seed, 0, _DRAWS, self.counters.nimg)
        latent_size = self.networks.generator.latent_size
        augmented = self.settings.differentiable_augmentation
        return StepNoise.new(count, latent_size, augmented, self.device, rng)

    def _decay(self, minibatch: int) -> float:
        half_life_kimg = self.settings.ema_half_life_kimg
        if half_life_kimg is None:
            return self.settings.ema_decay
        half_life = min(half_life_kimg * 1000, self.counters.nimg / 10)
        return float(0.5 ** (minibatch / half_life)) if half_life > 0 else 0.0

    def _tick(self, point: ScheduleState) -> None:
        self._check_finite()
        c = self.counters
        now = time.perf_counter()
        kimg = (c.nimg - c.tick_nimg) / 1000
        seconds = now - self.tick_started
        if c.nimg > self.gan_nimg:
            work = encoder_flops_per_image(self.networks, self.settings, point.lod)
        else:
            work = flops_per_image(self.networks, self.settings, point.lod, point.minibatch)
        flops = work * kimg * 1000 / seconds
        c.ticks += 1
        c.tick_nimg = c.nimg
        self.log.write(
            {
                "tick": c.ticks,
                "kimg": c.nimg / 1000,
                "lod": round(point.lod, 6),
                "resolution": point.resolution,
                "minibatch": point.minibatch,
                **self._means(),
                "s_per_kimg": round(seconds / max(kimg, 1e-9), 4),
                "gflops": round(flops / 1e9, 1),
                "of_peak": round(flops / self.peak_flops, 3),
                "seconds": round(c.seconds, 2),
                "skipped": self.step.skipped,
                "peak_memory_mb": round(peak_memory_mb(self.device)),
            }
        )
        self.sums.clear()
        self.tick_started = now

    def _check_finite(self) -> None:
        """Raise where the training has diverged."""
        if self.step.skipped_in_a_row >= self.settings.nonfinite_limit:
            raise UserError(
                f"{self.folder}: gradients were not finite in {self.step.skipped_in_a_row} steps "
                f"in a row, at {self.counters.nimg / 1000:.1f} kimg: the training has diverged; "
                "start again with a lower learning_rate (the last checkpoint is kept)"
            )

    def _means(self) -> dict[str, float]:
        return {name: round(float(torch.stack(v).mean()), 6) for name, v in self.sums.items() if v}

    def _note(self, point: ScheduleState) -> str:
        latest = {k: float(v[-1]) for k, v in self.sums.items() if k.endswith("_loss") and v}
        losses = "  ".join(f"{name[0]} {value:.3g}" for name, value in latest.items())
        done = self.counters.nimg - self.counters.tick_nimg
        pace = (time.perf_counter() - self.tick_started) / max(done / 1000, 1e-9)
        return f"{point.resolution}x{point.resolution}  {pace:.2f} s/kimg  {losses}"

    def _save(self, lod: float) -> None:
        c = self.counters
        path = checkpoint.save(self.folder, c, self.step, self.suspects)
        log.debug("saved %s", path)
        shown = downsample(self._shown(32).to(self.device), math.floor(lod))
        reals = process_reals(shown, lod)
        rng = _generator(self.device, self.settings.seed, 0, _GRID, 0)
        latents = torch.randn(
            (64, self.networks.generator.latent_size), generator=rng, device=self.device
        )
        save_training_grids(
            self.folder / "grids", self.networks, reals,
            latents * self.settings.latent_scale, lod, c.nimg / 1000,
        )  # fmt: skip

    def _shown(self, count: int) -> Tensor:
        """The same few training images in every picture; repeated where there are too few."""
        rng = np.random.default_rng([self.settings.seed, 0, _GRID])
        chosen = np.resize(rng.permutation(len(self.images)), count)
        return torch.from_numpy(self.images.images[chosen])


class _TickLog:
    """log.jsonl: one object a line; lines from beyond the checkpoint are dropped on resuming."""

    def __init__(self, path: Path, nimg: int) -> None:
        self.path = path
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _kimg_of(line) <= nimg / 1000]
            if kept != lines:
                with atomic_write(path) as temporary:
                    temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, values: dict[str, Any]) -> None:
        log.info("  ".join(f"{name} {value}" for name, value in values.items()))
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error


def _kimg_of(line: str) -> float:
    try:
        return float(json.loads(line)["kimg"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # half-written when the process was killed


def _generator(device: torch.device, *key: int) -> torch.Generator:
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(seed >> 1)


def _agree_on_settings(folder: Path, images: ImageSet, settings: Settings) -> None:
    """Save what the run depends on, or compare with what was saved.

    Raises:
        UserError: the folder holds a run with other settings or images.
    """
    path = folder / "settings.json"
    now = {
        "settings": settings.to_json(),
        "preprocess": asdict(images.preprocess),
        "images": {
            "count": len(images),
            "blake2b": images.digest,
        },
    }
    if path.exists():
        before = read_json(path)
        try:
            saved = Settings.from_json(before["settings"])
            # Where the encoder comes after the GAN, the length says when it is its turn.
            fixed = {"kimg"} if saved.encoder == "sequential" else set()
            differing = [
                f"{name} ({value!r}, now {getattr(settings, name)!r})"
                for name, value in vars(saved).items()
                if value != getattr(settings, name) and name not in CHANGEABLE - fixed
            ]
            other_images = before["images"] != now["images"]
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: is damaged; delete {folder} to start again") from error
        mend = f"give the same as before, or another output, or delete {folder}"
        if differing:
            raise UserError(
                f"{folder} holds a run with other settings: {', '.join(differing)}; {mend}"
            )
        if other_images:
            raise UserError(f"{folder} holds a run on other images; {mend}")
    write_json(path, now)
