"""The view `transforms`: can a network tell what was done to the image?

R is trained to tell which of several transformations was applied to an image. It learns that of the many
alike images and hardly of the few others, so it is unsure about these (Golan and El-Yaniv 2018; E3Outlier,
Wang et al. 2019). Two networks are each trained on half of the images, so that a training image is judged
by the one that has not seen it; a new image by both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, Self

import torch
from torch import Tensor

from anowild.arrays import Array
from anowild.checked import Range, checked
from anowild.device import full_float32
from anowild.networks.inputs import downsample, process_reals
from anowild.networks.residual import TransformClassifier
from anowild.views.base import Cue, Precision, View, register_view
from anowild.views.batches import batch_size, by_batches
from anowild.views.gaussian import GaussianReference
from anowild.views.loading import check_networks_input, loaded

#: Probabilities are no nearer to 0 or 1 than this.
LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Task:
    """A set of transformations that R tells apart."""

    classes: int  # number of transformations
    #: Images [N, C, R, R] -> [classes * N, C, R, R]: all of them by each transformation in turn, of which
    #: the first leaves them as they are.
    apply: Callable[[Tensor], Tensor]
    cue: Cue  # how unsure R is which of them an image was given


def turns(x: Tensor) -> Tensor:
    """Turn by 0 to 3 quarters."""
    return torch.cat([x.rot90(k, (2, 3)) for k in range(4)])


#: Orders of an image's quarters: as they are, and those that exchange two pairs of them.
ORDERS = ((0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0))


def quarters(x: Tensor) -> Tensor:
    """Put the quarters of an image into 4 orders."""
    half = x.shape[-1] // 2
    parts = [x[..., i : i + half, j : j + half] for i in (0, half) for j in (0, half)]
    found = []
    for order in ORDERS:
        a, b, c, d = (parts[place] for place in order)
        found.append(torch.cat([torch.cat([a, b], -1), torch.cat([c, d], -1)], -2))
    return torch.cat(found)


def rings(x: Tensor) -> Tensor:
    """Turn the middle, half as wide as the image, by 0 to 3 quarters, and leave the rim."""
    side = x.shape[-1]
    quarter = side // 4
    middle = x[..., quarter : side - quarter, quarter : side - quarter]
    found = []
    for k in range(4):
        turned = x.clone()
        turned[..., quarter : side - quarter, quarter : side - quarter] = middle.rot90(k, (2, 3))
        found.append(turned)
    return torch.cat(found)


TASKS: dict[str, Task] = {
    "turns": Task(
        4,
        turns,
        Cue(
            name="turns",
            meaning="1 - the mean probability that R gives to the true quarter turn.",
            higher="less clear about which way is up",
            lower="clearer about which way is up",
            noun="which way is up",
        ),
    ),
    "quarters": Task(
        len(ORDERS),
        quarters,
        Cue(
            name="quarters",
            meaning="1 - the mean probability that R gives to the true order of the image's quarters.",
            higher="less clear about how its quarters fit together",
            lower="clearer about how its quarters fit together",
            noun="how the quarters fit together",
        ),
    ),
    "rings": Task(
        4,
        rings,
        Cue(
            name="rings",
            meaning="1 - the mean probability that R gives to the true turn of the image's middle.",
            higher="less clear about how its middle fits into its rim",
            lower="clearer about how its middle fits into its rim",
            noun="how the middle fits into the rim",
        ),
    ),
}
FEATURES = Cue(
    name="transform_features",
    meaning="Trimmed Mahalanobis distance of R's last features from those of the training images.",
    higher="less like the rest in shape and texture",
    lower="more like the rest in shape and texture",
    noun="shape and texture",
    weight=0.5,  # docs/choosing.md
    gated_beside="pretrained",  # whose features are learned from a million photographs
)

#: Total deviation of the features beside those of `pixels`, which have 1 (docs/review.md).
FEATURES_DEVIATION = 2.0


@dataclass(frozen=True)
class Architecture:
    """The arguments that a network R is made with."""

    resolution: Annotated[int, Range(8, 512)]
    channels: Annotated[int, Range(1, 4096)]
    maps: Annotated[int, Range(1, 4096)]
    classes: Mapping[str, int]

    def __post_init__(self) -> None:
        wrong = [t for t, k in self.classes.items() if t not in TASKS or k != TASKS[t].classes]
        if wrong or not self.classes:
            raise ValueError(
                f"classes are {dict(self.classes)}: some of {', '.join(TASKS)}, 4 each"
            )


@dataclass(frozen=True)
class TransformsFacts:
    """What a model says of this view."""

    networks: Architecture
    count: Annotated[int, Range(1, 16)]  # of networks
    shrink: Annotated[int, Range(0, 7)]


@register_view
class TransformsView(View):
    """What two networks R say of an image: how sure they are of its transformations, and their features.

    Args:
        networks: trained, of one architecture, on one device.
        references: of the features of each network.
        architecture: the arguments that the networks were made with.
        shrink: how often stored images are halved for the networks.
        dtype: type of the convolutions; None: that of the weights.
    """

    name = "transforms"
    likeness = 1

    def __init__(
        self,
        networks: Sequence[TransformClassifier],
        references: Sequence[GaussianReference],
        architecture: Mapping[str, Any],
        shrink: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.networks, self.references = [n.eval() for n in networks], list(references)
        self.architecture, self.shrink, self.dtype = dict(architecture), shrink, dtype
        self.tasks = {name: TASKS[name] for name in self.architecture["classes"]}
        self.cues = (*(task.cue for task in self.tasks.values()), FEATURES)
        self.device = next(self.networks[0].parameters()).device
        for reference in self.references:
            reference.to(self.device)
        self.batch_size = batch_size(self.device, cpu=16, gpu=512)

    @classmethod
    def known_cues(cls) -> tuple[Cue, ...]:
        """Return the cues of all tasks, and that of the features."""
        return (*(task.cue for task in TASKS.values()), FEATURES)

    def look(self, stored: Tensor) -> dict[str, Tensor]:
        """Measure all cues; see :meth:`View.look`."""
        parts = []
        for number, reference in enumerate(self.references):
            answers = self.answers(stored, number)
            found = {self.tasks[t].cue.name: doubt(answers[t]) for t in self.tasks}
            parts.append(found | {FEATURES.name: reference(answers["features"])})
        return {name: torch.stack([p[name] for p in parts]).mean(dim=0) for name in parts[0]}

    @contextmanager
    def _in_its_precision(self) -> Iterator[None]:
        as_set = (
            nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)
        )
        with as_set, full_float32(self.device):
            yield

    @torch.no_grad()
    def answers(self, stored: Tensor, number: int) -> dict[str, Tensor]:
        """Return what one network says of stored images, float32.

        Returns:
            For each task [N, classes, classes]: the probabilities, axis 2, of each transformation of an
            image, axis 1. ``features``: [N, D].
        """
        network = self.networks[number]
        x = process_reals(downsample(stored, self.shrink), 0.0)
        found: dict[str, Tensor] = {}
        with self._in_its_precision():
            for name, task in self.tasks.items():
                logits, features = network.with_features(task.apply(x), name)
                chances = logits.float().softmax(dim=1).view(task.classes, -1, task.classes)
                found[name] = chances.transpose(0, 1)
                found["features"] = features.view(task.classes, -1, features.shape[1])[
                    0
                ]  # untransformed
        return found

    def features(self, images: Array) -> Array:
        """Return the features of all networks, the deviation of each in total the same: float64 [N, D]."""
        scales = [
            FEATURES_DEVIATION / math.sqrt(len(self.networks)) / reference.total_deviation()
            for reference in self.references
        ]

        def look(stored: Tensor) -> dict[str, Tensor]:
            parts = [self._features(stored, i) * scale for i, scale in enumerate(scales)]
            return {"x": torch.cat(parts, dim=1)}

        return by_batches(images, self.batch_size, self.device, look)["x"]

    @torch.no_grad()
    def _features(self, stored: Tensor, number: int) -> Tensor:
        """Return the features of one network of images that are not transformed: float64 [N, D], of mean 0."""
        x = process_reals(downsample(stored, self.shrink), 0.0)
        with self._in_its_precision():
            _, features = self.networks[number].with_features(x, next(iter(self.tasks)))
        return features.double() - self.references[number].mean

    def tensors(self) -> dict[str, Tensor]:
        """Return parameters and statistics of the networks and references, by name."""
        return {
            f"{kind}{number}/{key}": value.detach().cpu().contiguous()
            for kind, modules in (("network", self.networks), ("reference", self.references))
            for number, module in enumerate(modules)
            for key, value in module.state_dict().items()
        }

    def facts(self) -> dict[str, Any]:
        """Return the architecture and how often images are halved."""
        return {"networks": self.architecture, "count": len(self.networks), "shrink": self.shrink}

    @classmethod
    def load(
        cls,
        facts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        cues: Sequence[str],
        device: torch.device,
        precision: Precision,
    ) -> Self:
        """Rebuild the view; see :meth:`View.load`."""
        known = checked(TransformsFacts, facts, "facts")
        make = partial(TransformClassifier, **asdict(known.networks))
        networks, references = [], []
        for number in range(known.count):
            network = loaded(make, tensors, f"network{number}/")
            networks.append(network.to(device=device, memory_format=torch.channels_last))  # type: ignore[call-overload]
            state = [tensors[f"reference{number}/{key}"] for key in ("mean", "whitening")]
            references.append(GaussianReference.of(*state))
        dtype = torch.bfloat16 if precision == "bfloat16" else None
        return cls(networks, references, asdict(known.networks), known.shrink, dtype).with_cues(
            cues
        )

    def check_input(self, channels: int, resolution: int) -> None:
        """Raise ValueError if the networks cannot look at such images."""
        check_networks_input(self.architecture, self.shrink, channels, resolution)
        for network, reference in zip(self.networks, self.references, strict=True):
            width = network.features
            if len(reference.mean) != width:
                raise ValueError(f"a reference has {len(reference.mean)} features, not {width}")


def doubt(chances: Tensor) -> Tensor:
    """Return the mean probability of all but the true transformation: [N, k, k] -> float64 [N]."""
    # Summed, not 1 less that of the true one, of which few digits would be left where R is sure.
    others = 1 - torch.eye(chances.shape[1], dtype=torch.float64, device=chances.device)
    return (chances.double() * others).sum(dim=2).mean(dim=1).clamp_min(LEAST_PROBABILITY)


def accuracy(chances: Tensor) -> Tensor:
    """Return the share of an image's transformations that are told right: [N, k, k] -> [N]."""
    right = chances.argmax(dim=2) == torch.arange(chances.shape[1], device=chances.device)
    return right.double().mean(dim=1)


def gate(accuracy: float, classes: int) -> float:
    """Return how far an accuracy is above chance, from 0 (chance) to 1 (all right)."""
    return max(0.0, (accuracy - 1 / classes) / (1 - 1 / classes))
