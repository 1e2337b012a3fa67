"""What `test_distributed` has several processes do: ``python -m tests.training.ranks FOLDER PORT SIZE FORMS``.

The functions do the same in one process, with ``ALONE``.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from anowild.data import ImageSet
from anowild.device import configure_process
from anowild.presets import preset
from anowild.signals import Interrupted
from anowild.training import transforms
from anowild.training.distributed import World, joined
from anowild.training.loop import TrainedGan, train_gan
from anowild.training.networks import Networks
from anowild.training.noise import StepNoise
from anowild.training.step import Step

CPU = torch.device("cpu")
#: Iterations, and images for each process: two groups of minibatch stddev, one of them for half the penalty.
ITERATIONS, SHARE = 20, 8
SIDE = 8
#: Forms of the step, by the settings that they differ in.
STEPS: dict[str, dict[str, Any]] = {
    "in turn": {"cycle_weight": 0.1, "gradient_target": 1.0, "differentiable_augmentation": True},
    "at once": {"simultaneous": True, "penalty_share": 0.5},
    "r1": {"regularizer": "r1", "shared_fakes": True, "encoder_reals": 0.5},
}
#: Of a run of a few maps through 8x8, a fade and 16x16, by the paper's step.
SETTINGS = (
    preset("laptop")
    .settings()
    .replace(
        precision="float32",
        resolution=16,
        fmap_base=64,
        fmap_max=8,
        kimg=0.35,
        initial_resolution=8,
        stable_kimg=0.1,
        fade_kimg=0.1,
        minibatch=16,
        minibatch_repeats=2,
        tick_kimg=0.1,
        simultaneous=False,
        penalty_share=1.0,
        learning_rate=0.001,
        transforms_kimg=0.3,
        transforms_maps=4,
        transforms_minibatch=32,
    )
)


def steps(
    world: World, form: str, count: int, iterations: int = ITERATIONS, broken: int | None = None
) -> tuple[list[dict[str, float]], Step]:
    """Run the first iterations in float64, each process with its share; return the losses of all.

    Args:
        world: the processes.
        form: of ``STEPS``.
        count: images of a minibatch.
        iterations: how many, half of them in a fade.
        broken: number of an image that is not finite, in the third iteration.
    """
    settings = SETTINGS.replace(**STEPS[form])
    networks = Networks.build(settings, SIDE, 1).to(CPU)
    for network in networks.named().values():
        network.double()
    step = Step(networks, settings, world)
    losses = []
    for i in range(iterations):
        rng = torch.Generator().manual_seed(i)
        noise = StepNoise.new(
            count,
            networks.generator.latent_size,
            settings.differentiable_augmentation,
            CPU,
            rng,
        )
        noise = StepNoise(*(tensor.double() for tensor in noise))
        reals = torch.rand(count, 1, SIDE, SIDE, generator=rng).double() * 2 - 1
        if i == 2 and broken is not None:
            reals[broken] = torch.nan
        lod = 0.5 if i < iterations // 2 else 0.0
        report = step(world.share(reals), noise.share(world), lod, 0.002, 0.9)
        found = {name: value.mean() for name, value in report.items()}
        world.average_([*found.values()])
        losses.append({name: float(value) for name, value in found.items()})
    return losses, step


def state(step: Step) -> dict[str, Tensor]:
    """All that the next iteration depends on."""
    found = {
        f"{name}/{key}": value
        for name, network in step.networks.named().items()
        for key, value in network.state_dict().items()
    }
    for name, optimizer in step.optimizers.items():
        found |= {f"optimizer/{name}/{key}": value for key, value in optimizer.tensors().items()}
    return found | {"skipped": torch.tensor([step.skipped, step.skipped_in_a_row])}


def digest(tensors: dict[str, Tensor]) -> str:
    """Tell tensors from any that differ in a bit."""
    found = hashlib.blake2b()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def stopped(world: World, images: ImageSet, folder: Path) -> int:
    """Train until the last process gets a signal in its fifth iteration; return the signal."""
    original, count = Step.__call__, 0

    def counted(self: Step, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 5 and world.rank == world.size - 1:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "__call__", counted)
        try:
            train_gan(images, SETTINGS, folder, world=world)
        except Interrupted as stop:
            assert count == 5
            return stop.signum
    return 0


def trained_classifier(world: World, images: ImageSet, folder: Path) -> dict[str, Tensor]:
    """Train R for a few iterations; return its state."""
    network, _ = transforms.train(0, images, SETTINGS, folder, CPU, world)
    return network.state_dict()


@contextmanager
def counted_messages() -> Iterator[list[int]]:
    """Count how many numbers each message has."""
    original: Any = dist.all_reduce
    sizes: list[int] = []

    def counted(values: Tensor, *arguments: Any) -> Any:
        sizes.append(values.numel())
        return original(values, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "all_reduce", counted)
        yield sizes


def main(folder: Path, forms: list[str]) -> None:
    images = ImageSet.load(folder / "images.npy", SETTINGS)
    with joined("cpu") as world:
        found: dict[str, Any] = {"states": {}}
        count = SHARE * world.size
        for form in forms:
            with counted_messages() as sizes:
                found[form], step = steps(world, form, count)
            found["states"][form] = digest(state(step))
            # Beside the one of the losses.
            found["messages"] = len(sizes) // ITERATIONS - 1
        _, step = steps(world, "in turn", count, iterations=6, broken=1)
        found["skipped"] = step.skipped
        found["states"]["broken"] = digest(state(step))
        found["stopped"] = stopped(world, images, folder / "parts")
        trained: TrainedGan = train_gan(images, SETTINGS, folder / "parts", world=world)
        networks = trained.networks.named()
        found["states"]["loop"] = digest(
            {f"{n}/{k}": v for n, m in networks.items() for k, v in m.state_dict().items()}
        )
        train_gan(images, SETTINGS, folder / "whole", world=world)
        classifier = trained_classifier(world, images, folder / "classifier")
        found["states"]["classifier"] = digest(classifier)
        if world.first:
            torch.save(classifier, folder / "classifier.pt")
        (folder / f"{world.rank}.json").write_text(json.dumps(found))


def fork(size: int, folder: Path, port: str, forms: list[str]) -> int:
    """Do the same in several processes, which share what is imported; return the worst exit status."""
    import torch._dynamo  # noqa: F401 - an optimizer loads it

    configure_process(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    processes = []
    for rank in range(size):
        process = os.fork()
        if process == 0:
            os.environ["RANK"] = str(rank)
            main(folder, forms)
            os._exit(0)
        processes.append(process)
    return max(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes)


if __name__ == "__main__":
    sys.exit(fork(int(sys.argv[3]), Path(sys.argv[1]), sys.argv[2], sys.argv[4:]))
