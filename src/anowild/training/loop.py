"""The training loop: from a set of images to trained networks, resumable at any state."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anowild.data.image_set import ImageSet
from anowild.device import full_float32, matrix_product_peak, peak_memory_mb, training_dtype
from anowild.errors import ViewUnavailable
from anowild.networks.inputs import downsample, process_reals, to_unit
from anowild.progress import bar
from anowild.settings import Settings
from anowild.signals import Interrupted, stop_request
from anowild.training import checkpoint, trusted
from anowild.training.checkpoint import Counters
from anowild.training.cuda_graphs import GraphedStep
from anowild.training.distributed import ALONE, World
from anowild.training.flops import encoder_flops_per_image, flops_per_image
from anowild.training.losses import rank_by_reconstruction_error
from anowild.training.networks import Networks
from anowild.training.noise import StepNoise
from anowild.training.robust import AnomalyScorer, Suspects, is_reassessment_due
from anowild.training.run_folder import run_folder
from anowild.training.sample_grids import grid, grid_paths, save_png, save_training_grids, to_uint8
from anowild.training.sampler import MinibatchSampler
from anowild.training.schedule import Schedule, ScheduleState, changes_level
from anowild.training.sizes import MIN_IMAGES, network_halvings
from anowild.training.step import Step
from anowild.training.streams import Draw, torch_seed
from anowild.training.tick_log import TickLog
from anowild.views import view_names
from anowild.views.gan import GanView

log = logging.getLogger("anowild")

#: Settings that may change when a run is resumed, beside those of other views.
CHANGEABLE_SETTINGS = {
    "kimg", "checkpoint_ticks", "tick_kimg", "nonfinite_limit", "max_resolution", "scoring_weights",
    "reference_images", "views", "features",
}  # fmt: skip


@dataclass
class TrainedGan:
    """The result of a training run."""

    networks: Networks
    lod: float  # level of detail at the end: 0 unless the run was too short to grow
    kimg: float  # thousands of images trained on
    seconds: float  # of training, over all processes that took part
    skipped: int  # updates skipped because a gradient was not finite
    suspects: Suspects | None  # state of robust training; None without it


def train_gan(
    images: ImageSet,
    settings: Settings,
    folder: Path,
    device: torch.device | None = None,
    scorer: AnomalyScorer | None = None,
    world: World = ALONE,
) -> TrainedGan:
    """Train G, D and E, or resume the run in ``folder``.

    Of several processes all return the same networks, and the first one alone reads and writes files.

    Args:
        images: the training set, which may contain anomalies.
        settings: of the run; on resuming only ``CHANGEABLE_SETTINGS`` and those of other views may differ.
        folder: receives settings.json, log.jsonl, state-*.safetensors and grids/.
        device: where to train; the CPU by default.
        scorer: scores the training images; required for robust training.
        world: processes that train together.

    Raises:
        ViewUnavailable: there are too few images, or the training diverged.
        UserError: the folder holds another run.
        Interrupted: Ctrl-C or SIGTERM; the state was saved first.
        ValueError: robust training without ``scorer``.
    """
    if len(images) < MIN_IMAGES:
        raise ViewUnavailable(
            f"{len(images)} images are too few to train the GAN on; give at least {MIN_IMAGES}, or leave the view out "
            "with --views"
        )
    if settings.robust and scorer is None:
        raise ValueError("robust training requires `scorer`")
    device = device or torch.device("cpu")
    fixed = fixed_settings(settings, (field.name for field in fields(Settings)))
    owned = run_folder(folder, images, settings, fixed) if world.first else nullcontext()
    with owned, full_float32(device):
        return _Run(images, settings, folder, device, scorer, world).run()


def fixed_settings(settings: Settings, names: Iterable[str]) -> set[str]:
    """Return the names of settings that have to be as they were when a run of the GAN is resumed.

    Settings of another view are its name, or begin with it and "_".
    """
    others = {name for name in view_names() if name != GanView.name}
    fixed = {
        name
        for name in names
        if name not in CHANGEABLE_SETTINGS
        and name not in others
        and not any(name.startswith(f"{other}_") for other in others)
    }
    # In sequential training the length decides when the encoder's part begins.
    return fixed | ({"kimg"} if settings.encoder == "sequential" else set())


class _Run:
    def __init__(
        self,
        images: ImageSet,
        settings: Settings,
        folder: Path,
        device: torch.device,
        scorer: AnomalyScorer | None,
        world: World,
    ) -> None:
        self.images, self.settings, self.folder, self.device = images, settings, folder, device
        self.scorer, self.world = scorer, world
        self.shrink = network_halvings(images.preprocess.resolution, settings)
        resolution, channels = (
            images.preprocess.resolution >> self.shrink, images.preprocess.channels
        )  # fmt: skip
        self.schedule = Schedule(settings, resolution)
        self.sampler = MinibatchSampler(
            images.images, settings.seed, mirror=settings.mirror, rotate=settings.rotate,
            shrink=self.shrink, device=device,
        )  # fmt: skip
        self.networks = Networks.build(settings, resolution, channels).to(device)
        self.step = Step(self.networks, settings, world)
        # Messages between processes are not captured: a replay could not tell that one of them has ended.
        graphs = settings.cuda_graphs and device.type == "cuda" and world.size == 1
        self.iteration = GraphedStep(self.step) if graphs else self.step
        dtype = training_dtype(settings.precision, device) or torch.float32
        # For the log, which the first process writes.
        self.peak_flops = (
            matrix_product_peak(device, dtype) * world.size if world.first else math.inf
        )

        # Sequential training continues with the encoder, for as many images as the GAN.
        self.gan_nimg = round(settings.kimg * 1000)
        self.total_nimg = self.gan_nimg * (2 if settings.encoder == "sequential" else 1)

        loaded = checkpoint.load_latest(folder, self.step, len(images)) if world.first else None
        self.counters, self.suspects = checkpoint.broadcast(
            world, self.step, *(loaded or (Counters(processes=world.size), None)), len(images)
        )
        if settings.robust and self.suspects is None:
            self.suspects = Suspects.empty(len(images))
        self.trusted = trusted.for_training(folder, images, settings, world)
        self._leave_out()
        self.log = TickLog(folder / "log.jsonl", self.counters.nimg) if world.first else None
        self.sums: dict[str, list[Tensor]] = defaultdict(list)
        self.tick_started = self.clock = time.perf_counter()

    def run(self) -> TrainedGan:
        c, total = self.counters, self.total_nimg
        if c.nimg:
            log.info("resuming at %.1f kimg", c.nimg / 1000)
        if self.world.first:
            self._complete_grids()
        if c.processes != self.world.size and c.nimg < total:
            log.warning(
                "%s: was trained by %d process(es), and goes on with %d: the images and the noise are the same, "
                "the rounding is not", self.folder, c.processes, self.world.size,
            )  # fmt: skip
            c.processes = self.world.size
        with stop_request() as stop, bar("GAN, kimg", total / 1000, c.nimg / 1000) as shown:
            last_shown = 0.0
            # As in the reference, a run ends only after all repeats of an iteration.
            while c.nimg < total or c.repeats > 0:
                if c.repeats == 0:
                    c.held_nimg = c.nimg
                state = self._schedule_state()
                # Right after a log line, so that a run resumed from the checkpoint there does it, too.
                if self.suspects is not None and c.nimg == c.tick_nimg:
                    self._reassess(self.suspects, state)
                self._iterate(state)
                c.repeats = (c.repeats + 1) % self.settings.minibatch_repeats
                if (
                    self.device.type == "cpu"
                ):  # on a GPU this would wait for it; `_tick` does it there
                    self._check_finite()
                if time.perf_counter() - last_shown > 1:
                    last_shown = time.perf_counter()
                    shown.update(c.nimg / 1000, self._progress_note(state))
                next_tick = c.tick_nimg + state.tick_kimg * 1000
                if c.repeats == 0 and c.nimg >= min(next_tick, total):
                    self._tick(state)
                    if c.ticks % self.settings.checkpoint_ticks == 0 or c.nimg >= total:
                        self._save(state.lod)
                (signum,) = self.world.largest(stop.signum or 0)
                if signum:
                    self._save(state.lod)
                    raise Interrupted(signum, f"{c.nimg / 1000:.1f} kimg")
        if not checkpoint.checkpoints(self.folder):
            self._save(self._schedule_state().lod)  # a run of length 0 saves untrained networks
        lod = c.lod if c.lod >= 0 else self.schedule.at(0).lod
        return TrainedGan(
            self.networks, lod, c.nimg / 1000, c.seconds, self.step.skipped, self.suspects
        )

    def _schedule_state(self) -> ScheduleState:
        # In the second part of a sequential run the level stays where the GAN ended.
        return self.schedule.at(min(self.counters.held_nimg, self.gan_nimg))

    def _iterate(self, state: ScheduleState) -> None:
        """Update all networks once, and the counters."""
        s, c = self.settings, self.counters
        if s.reset_optimizers and (c.lod < 0 or changes_level(c.lod, state.lod)):
            for optimizer in self.step.optimizers.values():
                optimizer.reset()
        noise = self._noise(state.minibatch).share(self.world)
        decay = self._ema_decay(state.minibatch)
        if c.nimg >= self.gan_nimg:
            reals = self._reals(state) if s.encoder_reals else None
            report = self.step.encoder_alone(reals, noise, state.lod, state.learning_rate, decay)
        else:
            report = self.iteration(
                self._reals(state), noise, state.lod, state.learning_rate, decay
            )
        for name, value in report.items():
            self.sums[name].append(value.mean())
        c.lod = state.lod
        c.nimg += state.minibatch
        now = time.perf_counter()
        c.seconds += now - self.clock
        self.clock = now

    def _reals(self, state: ScheduleState) -> Tensor:
        s, c, count = self.settings, self.counters, state.minibatch
        if not s.trim_rate or c.nimg < s.robust_start_fraction * self.gan_nimg:
            return self.sampler.reals(c.nimg, count, state.lod, self.world)
        # Take the best reconstructed of somewhat more images. Those beyond the minibatch are drawn
        # again for the next one.
        candidates = round(count / (1 - s.trim_rate))
        reals = self.sampler.reals(c.nimg, candidates, state.lod)
        n = self.networks
        ranked = rank_by_reconstruction_error(
            n.average_generator, n.average_encoder, reals, state.lod
        )
        return self.world.share(reals[ranked[candidates - count :].sort().values])

    def _reassess(self, suspects: Suspects, state: ScheduleState) -> None:
        """Score all training images, if that is due, and choose which to leave out from now on."""
        s, c = self.settings, self.counters
        if not is_reassessment_due(
            c.nimg,
            self.gan_nimg,
            len(self.images),
            s.robust_start_fraction,
            suspects.reassessed_nimg,
        ):
            return
        assert self.scorer is not None
        scorer = self.scorer
        oddness = self.world.broadcast_array(lambda: scorer(self.networks, state.lod))
        suspects.reassess(oddness, c.nimg, s.robust_max_dropped)
        self._leave_out()
        log.info(
            "reassessment %d at %.1f kimg: %d of %d images left out; estimated rate of anomalies %.1f %%",
            suspects.reassessments, c.nimg / 1000, suspects.dropped.sum(), len(self.images),
            100 * suspects.rate,
        )  # fmt: skip

    def _leave_out(self) -> None:
        """Draw only trusted images from now on, of which robust training suspects none."""
        wanted = self.trusted
        if self.suspects is not None:
            wanted = wanted & ~self.suspects.dropped
        self.sampler.draw_only(wanted)

    def _noise(self, count: int) -> StepNoise:
        """Draw the iteration's random numbers for the whole minibatch: a function of (seed, images shown)."""
        rng = _generator(self.device, self.settings.seed, 0, Draw.NOISE, self.counters.nimg)
        latent_size = self.networks.generator.latent_size
        augmented = self.settings.differentiable_augmentation
        return StepNoise.new(count, latent_size, augmented, self.device, rng)

    def _ema_decay(self, minibatch: int) -> float:
        half_life_kimg = self.settings.ema_half_life_kimg
        if half_life_kimg is None:
            return self.settings.ema_decay
        half_life = min(half_life_kimg * 1000, self.counters.nimg / 10)
        return float(0.5 ** (minibatch / half_life)) if half_life > 0 else 0.0

    def _tick(self, state: ScheduleState) -> None:
        self._check_finite()
        c = self.counters
        now = time.perf_counter()
        kimg = (c.nimg - c.tick_nimg) / 1000
        seconds = now - self.tick_started
        if c.nimg > self.gan_nimg:
            work = encoder_flops_per_image(self.networks, self.settings, state.lod)
        else:
            work = flops_per_image(self.networks, self.settings, state.lod, state.minibatch)
        flops = work * kimg * 1000 / seconds
        c.ticks += 1
        c.tick_nimg = c.nimg
        means = self._means()
        self.sums.clear()
        self.tick_started = now
        if self.log is None:
            return
        self.log.write(
            {
                "tick": c.ticks,
                "kimg": c.nimg / 1000,
                "lod": round(state.lod, 6),
                "resolution": state.resolution,
                "minibatch": state.minibatch,
                **means,
                "s_per_kimg": round(seconds / max(kimg, 1e-9), 4),
                "gflops": round(flops / 1e9, 1),
                "of_peak": round(flops / self.peak_flops, 3),
                "seconds": round(c.seconds, 2),
                "skipped": self.step.skipped,
                "peak_memory_mb": round(peak_memory_mb(self.device)),
            }
        )

    def _check_finite(self) -> None:
        """Raise ViewUnavailable if the training has diverged."""
        if self.step.skipped_in_a_row >= self.settings.nonfinite_limit:
            raise ViewUnavailable(
                f"{self.folder}: the training has diverged at {self.counters.nimg / 1000:.1f} kimg "
                f"(gradients were not finite in {self.step.skipped_in_a_row} steps in a row); "
                "start again with a lower learning_rate (the last checkpoint is kept)"
            )

    def _means(self) -> dict[str, float]:
        """Average what steps reported since the last tick, over all processes."""
        means = {name: torch.stack(values).mean() for name, values in self.sums.items() if values}
        self.world.average_([*means.values()])
        return {name: round(float(mean), 6) for name, mean in means.items()}

    def _progress_note(self, state: ScheduleState) -> str:
        latest = {k: float(v[-1]) for k, v in self.sums.items() if k.endswith("_loss") and v}
        losses = "  ".join(f"{name[0]} {value:.3g}" for name, value in latest.items())
        done = self.counters.nimg - self.counters.tick_nimg
        pace = (time.perf_counter() - self.tick_started) / max(done / 1000, 1e-9)
        return f"{state.resolution}x{state.resolution}  {pace:.2f} s/kimg  {losses}"

    def _save(self, lod: float) -> None:
        if not self.world.first:
            return
        c = self.counters
        path = checkpoint.save(self.folder, c, self.step, self.suspects)
        log.debug("saved %s", path)
        self._save_grids(lod)

    def _complete_grids(self) -> None:
        """Draw the pictures that a killed process had no time for."""
        c, folder = self.counters, self.folder / "grids"
        if c.nimg and not all(path.exists() for path in grid_paths(folder, c.nimg / 1000)):
            self._save_grids(max(c.lod, 0.0))
        if not (folder / "reals.png").exists():
            save_png(grid(to_uint8(to_unit(self._display_images(64))), 8), folder / "reals.png")

    def _save_grids(self, lod: float) -> None:
        c = self.counters
        shown = downsample(self._display_images(32).to(self.device), math.floor(lod))
        reals = process_reals(shown, lod)
        rng = _generator(self.device, self.settings.seed, 0, Draw.GRID, 0)
        latents = torch.randn(
            (64, self.networks.generator.latent_size), generator=rng, device=self.device
        )
        save_training_grids(
            self.folder / "grids", self.networks, reals,
            latents * self.settings.latent_scale, lod, c.nimg / 1000,
        )  # fmt: skip

    def _display_images(self, count: int) -> Tensor:
        """Return the training images to show in grids: always the same, repeated if there are too few."""
        rng = np.random.default_rng([self.settings.seed, 0, Draw.GRID])
        chosen = np.resize(rng.permutation(len(self.images)), count)
        return downsample(torch.from_numpy(self.images.images[chosen]), self.shrink)


def _generator(device: torch.device, *key: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(torch_seed(*key))
