"""The fitting of the view `transforms`: two networks R, each trained on half of the images."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from anowild.arrays import Array
from anowild.checked import Amount, Count, checked
from anowild.data import ImageSet
from anowild.device import full_float32, training_dtype
from anowild.errors import UserError, ViewUnavailable
from anowild.files import atomic_write, read_tensors
from anowild.networks.residual import TransformClassifier
from anowild.progress import bar
from anowild.settings import Settings
from anowild.signals import Interrupted, stop_request
from anowild.training import trusted
from anowild.training.by_parts import by_parts
from anowild.training.distributed import ALONE, World
from anowild.training.fitting import FittedView, Piece
from anowild.training.references import chosen_for_fitting, fit_trimmed
from anowild.training.run_folder import run_folder
from anowild.training.sampler import MinibatchSampler
from anowild.training.sizes import MIN_IMAGES, network_halvings
from anowild.training.streams import Draw, torch_seed
from anowild.views.batches import by_batches
from anowild.views.loading import check_tensors
from anowild.views.transforms import FEATURES, TASKS, TransformsView, accuracy, doubt, gate

log = logging.getLogger("anowild")

NETWORKS = 2
MOMENTUM = 0.9
#: Largest shift of a training image, as a share of its side.
MAX_SHIFT = 0.1
#: Seconds between saves.
SAVE_EVERY = 20.0
#: Settings that have to be as they were when a training goes on.
FIXED_SETTINGS = {
    "transforms", "transforms_kimg", "transforms_maps", "transforms_minibatch",
    "transforms_learning_rate", "transforms_weight_decay", "max_network_resolution", "resolution",
    "left_out", "mirror", "precision", "seed",
}  # fmt: skip
STATE = "state.safetensors"


def pieces(settings: Settings) -> Mapping[str, Piece]:
    """Return the trainings of the networks, which can run side by side."""
    return {f"transforms {i + 1}/{NETWORKS}": partial(train, i) for i in range(NETWORKS)}


def check_shares(images: ImageSet, settings: Settings, processes: int) -> None:
    """Check that a minibatch can be dealt out to processes that train together; see `fitting.check_shares`."""
    count = settings.transforms_minibatch
    if count % processes:
        raise UserError(
            f"transforms_minibatch={count} cannot be dealt out to {processes} processes; start fewer, or make it "
            f"a multiple (--set transforms_minibatch={-(-count // processes) * processes})"
        )


def fit(images: ImageSet, settings: Settings, folder: Path, device: torch.device) -> FittedView:
    """Train the networks, or go on, then fit the references of their features; see `fitting.Fit`."""
    halves = split(images.groups, settings.seed)
    trained = [train(i, images, settings, folder, device) for i in range(NETWORKS)]
    shrink = network_halvings(images.preprocess.resolution, settings)
    view = TransformsView([n for n, _ in trained], [], architecture(images, settings), shrink)
    cues = {cue.name: np.empty(len(images)) for cue in view.cues}
    right: dict[str, list[float]] = {task: [] for task in view.tasks}
    for i in range(NETWORKS):
        # Network i has seen half i: it judges the other.
        others = halves[1 - i]
        title = f"calibrating transforms {i + 1}/{NETWORKS}, images"
        found = by_parts(title, images.images, others, partial(_held_out, view, i))
        for task in view.tasks:
            cues[TASKS[task].cue.name][others] = found[task]
            right[task].append(float(found[f"right {task}"].mean()))
        features = found["features"]
        fitted = chosen_for_fitting(len(others), settings.seed)
        reference, distances = fit_trimmed(
            features[fitted], settings.seed, images.groups[others[fitted]]
        )
        rest = np.setdiff1d(np.arange(len(others)), fitted)
        cues[FEATURES.name][others[fitted]] = distances
        cues[FEATURES.name][others[rest]] = reference(torch.from_numpy(features[rest])).numpy()
        view.references.append(reference.to(device))
    accuracies = {task: float(np.mean(values)) for task, values in right.items()}
    info = {
        "kimg": settings.transforms_kimg,
        "seconds": round(sum(seconds for _, seconds in trained), 1),
        "accuracy": {task: round(value, 4) for task, value in accuracies.items()},
    }
    weights = {TASKS[t].cue.name: gate(value, TASKS[t].classes) for t, value in accuracies.items()}
    weights[FEATURES.name] = float(np.mean([*weights.values()]))
    return FittedView(view, info, cues, weights)


def _held_out(view: TransformsView, number: int, images: Array) -> dict[str, Array]:
    def compute(stored: Tensor) -> dict[str, Tensor]:
        look = view.answers(stored, number)
        found = {task: doubt(look[task]) for task in view.tasks}
        right = {f"right {task}": accuracy(look[task]) for task in view.tasks}
        return found | right | {"features": look["features"]}

    return by_batches(images, view.batch_size, view.device, compute)


def split(groups: Array, seed: int) -> tuple[Array, Array]:
    """Return the numbers of the squares that each network is trained on: int [n] twice, ascending.

    All tiles of an image are in the same half; those of a single image are divided.

    Args:
        groups: number of the image that each square is of, int [M].
    """
    names, places = np.unique(groups, return_inverse=True)
    if len(names) == 1:
        names, places = np.arange(len(groups)), np.arange(len(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    first = np.isin(places, order[: len(names) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)


def architecture(images: ImageSet, settings: Settings) -> dict[str, object]:
    """Return the arguments of the networks."""
    p = images.preprocess
    return {
        "resolution": p.resolution >> network_halvings(p.resolution, settings),
        "channels": p.channels,
        "maps": settings.transforms_maps,
        "classes": {task: TASKS[task].classes for task in settings.transforms},
    }


def train(
    number: int, images: ImageSet, settings: Settings, folder: Path, device: torch.device,
    world: World = ALONE,
) -> tuple[TransformClassifier, float]:  # fmt: skip
    """Train one of the networks on what is trusted of its half of the images, or go on with it.

    Of several processes each takes its share of every minibatch, also for the statistics of batch norm.

    Returns:
        The network, and the seconds that its training took.

    Raises:
        ViewUnavailable: there are too few images, or the training diverged.
        UserError: the folder holds another run.
        Interrupted: by Ctrl-C or SIGTERM, after the state was saved.
    """
    if len(images) < 2 * MIN_IMAGES:
        raise ViewUnavailable(
            f"{len(images)} images are too few for the view 'transforms'; give at least "
            f"{2 * MIN_IMAGES}, or leave it out with --views"
        )
    place = folder / "transforms" / str(number)
    owned = run_folder(place, images, settings, FIXED_SETTINGS) if world.first else nullcontext()
    with owned, full_float32(device):
        wanted = trusted.for_training(folder, images, settings, world)
        return _Run(number, images, wanted, settings, place, device, world).run()


@dataclass(frozen=True)
class _Plain:
    """What a saved state holds beside tensors."""

    nimg: Count
    seconds: Amount


class _Run:
    def __init__(
        self, number: int, images: ImageSet, wanted: Array, settings: Settings, folder: Path,
        device: torch.device, world: World,
    ) -> None:  # fmt: skip
        self.settings, self.folder, self.device, self.world = settings, folder, device, world
        self.seed = [settings.seed, number, Draw.SHIFT]
        self.title = f"transforms {number + 1}/{NETWORKS}, kimg"
        half = split(images.groups, settings.seed)[number]
        self.sampler = MinibatchSampler(
            images.images, settings.seed, stream=number, mirror=settings.mirror,
            shrink=network_halvings(images.preprocess.resolution, settings), chosen=half, device=device,
        )  # fmt: skip
        if wanted[half].any():  # but where images have few tiles, a half may have no other
            self.sampler.draw_only(wanted)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(*self.seed))
            network = TransformClassifier(**architecture(images, settings))  # type: ignore[arg-type]
        self.network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(
            network.parameters(), lr=settings.transforms_learning_rate, momentum=MOMENTUM,
            nesterov=True, weight_decay=settings.transforms_weight_decay,
        )  # fmt: skip
        self.dtype = training_dtype(settings.precision, device)
        self.total = round(settings.transforms_kimg * 1000)
        self.nimg, self.seconds = 0, 0.0
        if world.first:
            self._load()
        self._broadcast()

    def run(self) -> tuple[TransformClassifier, float]:
        """Train to the end; see :func:`train`."""
        size = self.settings.transforms_minibatch
        saved = clock = time.perf_counter()
        self.network.train()
        with stop_request() as stop, bar(self.title, self.total / 1000, self.nimg / 1000) as shown:
            while self.nimg < self.total:
                loss = self._step(size)
                self.nimg += size
                now = time.perf_counter()
                self.seconds, clock = self.seconds + now - clock, now
                signum, due = self.world.largest(stop.signum or 0, now - saved > SAVE_EVERY)
                if self.nimg >= self.total or signum or due:
                    self.world.average_([loss])
                    if not math.isfinite(loss.item()):
                        raise ViewUnavailable(
                            f"{self.folder}: the training has diverged at {self.nimg / 1000:.1f} kimg; "
                            "start again with a lower transforms_learning_rate"
                        )
                    self._save()
                    saved = now
                shown.update(self.nimg / 1000)
                if signum:
                    raise Interrupted(signum, f"{self.title} {self.nimg / 1000:.1f}")
        return self.network.eval(), self.seconds

    def _step(self, size: int) -> Tensor:
        """Update the network once; return the loss."""
        progress = self.nimg / self.total
        rate = self.settings.transforms_learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        self.optimizer.param_groups[0]["lr"] = rate
        x = self.sampler.reals(self.nimg, size, 0.0, self.world)
        rng = np.random.default_rng([*self.seed, self.nimg])
        losses = []
        for name in self.settings.transforms:
            task = TASKS[name]
            # Those of a task are [classes, images].
            offsets = shifts(rng, task.classes * size, x.shape[-1]).reshape(2, task.classes, size)
            own = self.world.share(offsets, axis=2).reshape(2, -1)
            shown = shifted(task.apply(x), own)
            labels = torch.arange(task.classes, device=self.device).repeat_interleave(len(x))
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                logits = self.network(shown, name)
            losses.append(F.cross_entropy(logits.float(), labels))
        loss = torch.stack(losses).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._average()
        self.optimizer.step()
        return loss.detach()

    def _average(self) -> None:
        """Average gradients and the running statistics of batch norm over all processes."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        statistics = [b for b in self.network.buffers() if b.is_floating_point()]
        self.world.average_([*gradients, *statistics])

    def _tensors(self) -> dict[str, Tensor]:
        found = {f"network/{key}": value for key, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                found[f"momentum/{name}"] = momentum
        return found

    def _broadcast(self) -> None:
        """Bring all processes to the state of the first one."""
        if self.world.size > 1:
            self.nimg, started = self.world.largest(self.nimg, bool(self.optimizer.state))
            tensors = self.world.broadcast(self._tensors)
            self._restore(tensors, momentum=bool(started))

    def _save(self) -> None:
        if not self.world.first:
            return
        plain = {"nimg": self.nimg, "seconds": self.seconds}
        with atomic_write(self.folder / STATE) as temporary:
            tensors = {k: v.detach().cpu().contiguous() for k, v in self._tensors().items()}
            save_file(tensors, temporary, metadata={"anowild": json.dumps(plain)})

    def _load(self) -> None:
        """Go on from the saved state; one that cannot be used is started again, with the same bits."""
        path = self.folder / STATE
        if not path.exists():
            return
        try:
            metadata, tensors = read_tensors(path, "pt")
            plain = checked(_Plain, json.loads(metadata["anowild"]), "the state")
            own = self.network.state_dict()
            parameters = dict(self.network.named_parameters())
            expected = {f"network/{name}": value for name, value in own.items()}
            if plain.nimg:
                expected |= {f"momentum/{name}": value for name, value in parameters.items()}
            check_tensors(tensors, {k: (tuple(v.shape), v.dtype) for k, v in expected.items()})
        except (KeyError, ValueError, RecursionError) as error:
            log.warning(
                "%s: cannot be used (%s); this network is trained from the start", path, error
            )
            return
        self._restore(tensors, momentum=plain.nimg > 0)
        self.nimg, self.seconds = plain.nimg, plain.seconds

    def _restore(self, tensors: Mapping[str, Tensor], momentum: bool) -> None:
        own = self.network.state_dict()
        self.network.load_state_dict({name: tensors[f"network/{name}"] for name in own})
        for name, parameter in self.network.named_parameters() if momentum else ():
            buffer = torch.empty_like(parameter).copy_(tensors[f"momentum/{name}"])
            self.optimizer.state[parameter]["momentum_buffer"] = buffer


def shifts(rng: np.random.Generator, count: int, side: int) -> Array:
    """Draw how far to shift images of a side, down and right: int64 [2, count], the middle for not at all."""
    furthest = round(MAX_SHIFT * side)
    drawn: Array = (
        rng.integers(0, 2 * furthest + 1, (2, count))
        if furthest
        else np.zeros((2, count), np.int64)
    )
    return drawn


def shifted(x: Tensor, drawn: Array) -> Tensor:
    """Shift each image by its own offset of :func:`shifts`, reflecting at the edges: [N, C, R, R]."""
    count, _, side, _ = x.shape
    furthest = round(MAX_SHIFT * side)
    if not furthest:
        return x
    offsets = torch.from_numpy(drawn).to(x.device)
    places = torch.arange(side, device=x.device)
    padded = F.pad(x, (furthest,) * 4, mode="reflect").permute(0, 2, 3, 1)
    numbers = torch.arange(count, device=x.device)
    rows, columns = (offsets[axis, :, None] + places for axis in (0, 1))
    return padded[numbers[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
