"""The view `pretrained`: what a network that was trained on other images makes of these.

Gaussians as in Rippel et al. 2021 (means over the image) and Defard et al. 2021 (PaDiM, by place), but fitted to
the nearest part of the training images; neighbors as in Bergman et al. 2020.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.networks.inputs import to_unit
from anowild.views.base import Cue, Explanation, Precision, View, register_view
from anowild.views.batches import by_batches, filled, filled_batches, product
from anowild.views.features import PLACES, Extractor, Features, load_extractor
from anowild.views.loading import check_tensors

#: The neighbor whose distance is measured: so many alike anomalies are still found odd.
NEIGHBOR = 10
#: Cosine distance below which a neighbor is the image itself.
ITSELF = 1e-6
#: Training images that an image is most like: so many; of few images one in so many, but `NEIGHBOR`.
LOOKALIKES, ONE_IN = 60, 8

CUES: tuple[Cue, ...] = (
    Cue(
        name="pretrained_blocks",
        meaning="Mahalanobis distance of the pretrained network's early features, means over the image.",
        higher="less like the rest in texture (to a network trained on photographs)",
        lower="more like the rest in texture (to a network trained on photographs)",
        noun="texture, to a network trained on photographs",
        weight=0.2,  # docs/choosing.md
    ),
    Cue(
        name="pretrained_distance",
        meaning="Mahalanobis distance of the pretrained network's late features, means over the image.",
        higher="less like the rest (to a network trained on photographs)",
        lower="more like the rest (to a network trained on photographs)",
        noun="look, to a network trained on photographs",
    ),
    Cue(
        name="pretrained_neighbors",
        meaning=f"Cosine distance of the pretrained network's last features from the {NEIGHBOR}th nearest "
        "training image.",
        higher="farther from the images most like it",
        lower="nearer to the images most like it",
        noun="images most like it",
    ),
    Cue(
        name="pretrained_places",
        meaning="Largest Mahalanobis distance of the pretrained network's early features, place by place.",
        higher="less like the rest in one place (to a network trained on photographs)",
        lower="more like the rest in every place (to a network trained on photographs)",
        noun="oddest place",
        counts=False,
    ),
    Cue(
        name="lookalikes",
        meaning="How odd the training images are that are most like it to the pretrained network: the mean of their "
        f"scores, over at most {LOOKALIKES}.",
        higher="more like training images that are odd themselves",
        lower="less like training images that are odd themselves",
        noun="what the images most like it are",
        weight=0.5,  # docs/choosing.md
        voice="lookalikes",
    ),
)


@dataclass(frozen=True)
class Gaussians:
    """Mean and whitening of features at each of P places, float64; P may be 1."""

    mean: Tensor  # [P, M]
    whitening: Tensor  # [P, M, K]

    def __post_init__(self) -> None:
        for tensor, dimensions in ((self.mean, 2), (self.whitening, 3)):
            if tensor.ndim != dimensions or tensor.dtype != torch.float64:
                raise ValueError(f"a Gaussian has {tensor.dtype} {list(tensor.shape)}")
        if self.whitening.shape[:2] != self.mean.shape:
            raise ValueError(
                f"a Gaussian has a mean {list(self.mean.shape)}, but a whitening {list(self.whitening.shape)}"
            )

    def __call__(self, features: Tensor) -> Tensor:
        """Mahalanobis distances, float64: [n, P, M] -> [n, P]."""
        centered = (features.double() - self.mean).transpose(0, 1)
        return product(centered, self.whitening).square().sum(dim=2).sqrt().T

    def to(self, device: torch.device) -> Gaussians:
        return Gaussians(self.mean.to(device), self.whitening.to(device))


@register_view
class PretrainedView(View):
    """Distances from the training images in the vectors of a pretrained network.

    Args:
        extractor: makes the vectors.
        gaussians: by cue; a cue without one is not measured.
        neighbors: vectors of training images, of length 1, float32 [M, D].
        oddness: how odd these images are to all views, float64 [M]; None: `lookalikes` is not measured.
    """

    name = "pretrained"
    likeness = 2
    cues: tuple[Cue, ...] = CUES

    def __init__(
        self,
        extractor: Extractor,
        gaussians: Mapping[str, Gaussians],
        neighbors: Tensor,
        oddness: Tensor | None = None,
    ) -> None:
        self.extractor = extractor
        self.gaussians = dict(gaussians)
        self.neighbors = neighbors
        self._unit = filled(F.normalize(neighbors.double(), dim=-1))
        self.oddness = oddness
        self.batch_size, self.device = extractor.batch_size, extractor.device
        measured = {*gaussians, "pretrained_neighbors"}
        if oddness is not None:
            measured.add("lookalikes")
        self.cues = tuple(cue for cue in CUES if cue.name in measured)

    def look(self, stored: Tensor) -> dict[str, Tensor]:
        """Measure all cues; see :meth:`View.look`."""
        return _largest(self.distances(self.extractor(stored)))

    def check_export(self) -> None:
        """Raise UserError if the vectors do not come from a network in PyTorch."""
        if not self.extractor.in_pytorch:
            raise UserError(
                "the features of this model come from a file (--features) that cannot become part of its graph; train "
                "with --features efficientnet-lite0 to export it"
            )

    def look_closely(self, stored: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Measure all cues, and a map of the distances place by place, above what is usual."""
        distances = self.distances(self.extractor(stored))
        if "pretrained_places" not in distances:
            return _largest(distances), {}
        usual = self.gaussians["pretrained_places"].mean.shape[1] ** 0.5
        above = (distances["pretrained_places"] - usual).clamp_min(0).float()
        square, side = above.view(-1, 1, PLACES, PLACES), stored.shape[-1]
        heat = F.interpolate(square, side, mode="bilinear", align_corners=False)[:, 0]
        return _largest(distances), {"places": heat}

    def measure_batches(self, batches: Iterable[Features], count: int) -> dict[str, Array]:
        """Measure all cues of the first ``count`` images of some batches: by name, float64 [N]."""
        parts = [_largest(self.distances(features)) for features in batches]
        return {
            cue.name: np.concatenate(
                [np.empty(0), *(part[cue.name].cpu().numpy() for part in parts)]
            )[:count]
            for cue in self.cues
        }

    def distances(self, features: Features) -> dict[str, Tensor]:
        """Return values by cue, float64 [n, P]; a cue is the largest over its places."""
        self._check(features)
        measured = {name: g(features.compared[name]) for name, g in self.gaussians.items()}
        # Only models that ask for lookalikes pay for them.
        wanted = NEIGHBOR if self.oddness is None else self.lookalikes_sought
        distances, rows = self.nearest(features.near, wanted)
        measured["pretrained_neighbors"] = distances[:, NEIGHBOR - 1, None]
        if self.oddness is not None:
            measured["lookalikes"] = self.oddness[rows].mean(dim=1, keepdim=True)
        return measured

    def _check(self, features: Features) -> None:
        fitted = {name: g.mean.shape for name, g in self.gaussians.items()}
        for name, shape in fitted.items():
            found = features.compared.get(name)
            if found is None or found.shape[1:] != shape:
                given = None if found is None else list(found.shape[1:])
                raise UserError(
                    f"the view 'pretrained': the model was fitted to features {list(shape)} of {name}, "
                    f"its network gives {given}; train again"
                )
        if features.near.shape[1:] != self.neighbors.shape[1:]:
            raise UserError(
                f"the view 'pretrained': the model has neighbors of length {self.neighbors.shape[-1]}, "
                f"its network gives {features.near.shape[-1]}; train again"
            )

    @property
    def lookalikes_sought(self) -> int:
        """How many of the training images count as most like an image."""
        return max(NEIGHBOR, min(LOOKALIKES, len(self.neighbors) // ONE_IN))

    def nearest(self, vectors: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
        """Find the ``wanted`` training images nearest to vectors [n, D], the nearest first.

        One that is nearer than ``ITSELF`` is not counted: so a training image has the neighbors that it would
        have if it had been left out. Where there are too few, the last is repeated.

        Returns:
            Cosine distances, float64 [n, wanted], and rows of ``neighbors``, int [n, wanted].
        """
        count = min(wanted + 4, len(self.neighbors))
        # In float64: of a product of near vectors, float32 keeps few digits of the distance.
        unit = F.normalize(vectors.double(), dim=1)
        found = product(unit, self._unit.T)[:, : len(self.neighbors)].topk(count, dim=1)
        distances = (1 - found.values).clamp_min(0)
        itself = (distances[:, :1] < ITSELF).long()
        places = torch.arange(wanted, device=vectors.device) + itself
        places = places.clamp_max(count - 1)
        return distances.gather(1, places), found.indices.gather(1, places)

    def set_oddness(self, oddness: Array) -> Cue:
        """Take how odd the images of ``neighbors`` are to all views, [M]; return the cue that tells it."""
        self.oddness = torch.from_numpy(oddness).to(self.neighbors.device)
        (told,) = (cue for cue in CUES if cue.name == "lookalikes")
        self.cues = (*(cue for cue in self.cues if cue != told), told)
        return told

    def batches(self, images: Array) -> Iterator[Features]:
        """Yield the vectors of stored images in batches of one size; the last is filled up."""
        for part in filled_batches(images, self.batch_size):
            yield self.extractor(torch.from_numpy(np.ascontiguousarray(part)).to(self.device))

    def features(self, images: Array) -> Array:
        """Return the vectors by which neighbors are found, of length 1: float64 [N, D]."""
        parts = [features.near.cpu().double() for features in self.batches(images)]
        return torch.cat(parts)[: len(images)].numpy()

    def explain(self, images: Array) -> Explanation | None:
        """Return a heat map of the distances place by place, above what is usual; None without places."""
        heat = by_batches(images, self.batch_size, self.device, lambda x: self.look_closely(x)[1])
        seen = to_unit(torch.from_numpy(np.ascontiguousarray(images))).numpy()
        return Explanation(seen, heat=heat) if heat else None

    def tensors(self) -> dict[str, Tensor]:
        """Return the extractor's tensors, the Gaussians and the neighbors, by name."""
        found = {f"extractor/{key}": value for key, value in self.extractor.tensors().items()}
        for name, gaussian in self.gaussians.items():
            found[f"{name}/mean"] = gaussian.mean.cpu()
            found[f"{name}/whitening"] = gaussian.whitening.cpu()
        found["neighbors"] = self.neighbors.cpu()
        return found if self.oddness is None else found | {"oddness": self.oddness.cpu()}

    def facts(self) -> dict[str, Any]:
        """Return the kind of features."""
        return self.extractor.facts()

    @classmethod
    def load(
        cls,
        facts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        cues: Sequence[str],
        device: torch.device,
        precision: Precision,
    ) -> Self:
        """Rebuild the view; see :meth:`View.load`. It always computes in float32."""
        prefix = "extractor/"
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        extractor = load_extractor(facts, own, device)
        place = extractor.device
        gaussians = {
            cue.name: Gaussians(tensors[f"{cue.name}/mean"], tensors[f"{cue.name}/whitening"]).to(
                place
            )
            for cue in CUES
            if f"{cue.name}/mean" in tensors
        }
        neighbors = tensors["neighbors"]
        if neighbors.ndim != 2 or not len(neighbors) or neighbors.dtype != torch.float32:
            raise ValueError(f"neighbors are {neighbors.dtype} {list(neighbors.shape)}")
        oddness = tensors.get("oddness")
        if oddness is not None:
            check_tensors({"oddness": oddness}, {"oddness": ((len(neighbors),), torch.float64)})
            oddness = oddness.to(place)
        return cls(extractor, gaussians, neighbors.to(place), oddness).with_cues(cues)


def _largest(distances: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: values.max(dim=1).values for name, values in distances.items()}
