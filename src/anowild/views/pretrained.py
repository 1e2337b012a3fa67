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
from anowild.views.batches import filled_batches
from anowild.views.features import PLACES, Extractor, Features, load_extractor

#: The neighbor whose distance is measured: so many alike anomalies are still found odd.
NEIGHBOR = 10
#: Cosine distance below which a neighbor is the image itself.
ITSELF = 1e-6

CUES: tuple[Cue, ...] = (
    Cue(
        name="pretrained_blocks",
        meaning="Mahalanobis distance of the pretrained network's early features, means over the image.",
        higher="less like the rest in texture (to a network trained on photographs)",
        lower="more like the rest in texture (to a network trained on photographs)",
        noun="texture, to a network trained on photographs",
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
        centered = features.double() - self.mean
        return torch.einsum("npm,pmk->npk", centered, self.whitening).square().sum(dim=2).sqrt()

    def to(self, device: torch.device) -> Gaussians:
        return Gaussians(self.mean.to(device), self.whitening.to(device))


@register_view
class PretrainedView(View):
    """Distances from the training images in the vectors of a pretrained network.

    Args:
        extractor: makes the vectors.
        gaussians: by cue; a cue without one is not measured.
        neighbors: vectors of training images, of length 1, float32 [M, D].
    """

    name = "pretrained"
    likeness = 2
    known_cues = CUES
    cues: tuple[Cue, ...] = CUES

    def __init__(
        self, extractor: Extractor, gaussians: Mapping[str, Gaussians], neighbors: Tensor
    ) -> None:
        self.extractor = extractor
        self.gaussians = dict(gaussians)
        self.neighbors = neighbors
        self.batch_size = extractor.batch_size
        measured = {*gaussians, "pretrained_neighbors"}
        self.cues = tuple(cue for cue in CUES if cue.name in measured)

    def measure(self, images: Array) -> dict[str, Array]:
        """Measure all cues: by name, float64 [N]."""
        return self.measure_batches(self.batches(images), len(images))

    def measure_batches(self, batches: Iterable[Features], count: int) -> dict[str, Array]:
        """Measure all cues of the first ``count`` images of some batches: by name, float64 [N]."""
        parts = [self.distances(features) for features in batches]
        return {
            cue.name: np.concatenate(
                [np.empty(0), *(part[cue.name].max(dim=1).values.cpu().numpy() for part in parts)]
            )[:count]
            for cue in self.cues
        }

    def distances(self, features: Features) -> dict[str, Tensor]:
        """Return distances by cue, float64 [n, P]; a cue is the largest over its places."""
        self._check(features)
        measured = {name: g(features.compared[name]) for name, g in self.gaussians.items()}
        measured["pretrained_neighbors"] = self.neighbor_distance(features.near)[:, None]
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

    def neighbor_distance(self, vectors: Tensor) -> Tensor:
        """Cosine distance from the 10th nearest training image, float64: [n, D] -> [n].

        One training image that is nearer than ``ITSELF`` is not counted: so a training image has the
        distance that it would have if it had been left out.
        """
        count = min(NEIGHBOR + 4, len(self.neighbors))
        found = (vectors @ self.neighbors.T).topk(count, dim=1).indices
        # Once more in float64: of near vectors, float32 keeps few digits of the distance.
        difference = vectors[:, None].double() - self.neighbors[found].double()
        distances = (difference.square().sum(dim=2) / 2).sort(dim=1).values
        itself = (distances[:, 0] < ITSELF).long()
        wanted = (NEIGHBOR - 1 + itself).clamp_max(count - 1)
        return distances.gather(1, wanted[:, None])[:, 0]

    def batches(self, images: Array) -> Iterator[Features]:
        """Yield the vectors of stored images in batches of one size; the last is filled up."""
        for part in filled_batches(images, self.batch_size):
            yield self.extractor(part)

    def features(self, images: Array) -> Array:
        """Return the vectors by which neighbors are found, of length 1: float64 [N, D]."""
        parts = [features.near.cpu().double() for features in self.batches(images)]
        return torch.cat(parts)[: len(images)].numpy()

    def explain(self, images: Array) -> Explanation | None:
        """Return a heat map of the distances place by place, above what is usual; None without places."""
        if "pretrained_places" not in self.gaussians:
            return None
        gaussian = self.gaussians["pretrained_places"]
        usual = gaussian.mean.shape[1] ** 0.5
        side = images.shape[-1]
        parts = []
        for features in self.batches(images):
            distances = gaussian(features.compared["pretrained_places"])
            heat = (distances - usual).clamp_min(0).float()
            square = heat.view(-1, 1, PLACES, PLACES)
            parts.append(F.interpolate(square, side, mode="bilinear", align_corners=False)[:, 0])
        seen = to_unit(torch.from_numpy(np.ascontiguousarray(images))).numpy()
        return Explanation(seen, heat={"places": torch.cat(parts)[: len(images)].cpu().numpy()})

    def tensors(self) -> dict[str, Tensor]:
        """Return the extractor's tensors, the Gaussians and the neighbors, by name."""
        found = {f"extractor/{key}": value for key, value in self.extractor.tensors().items()}
        for name, gaussian in self.gaussians.items():
            found[f"{name}/mean"] = gaussian.mean.cpu()
            found[f"{name}/whitening"] = gaussian.whitening.cpu()
        return found | {"neighbors": self.neighbors.cpu()}

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
        view = cls(extractor, gaussians, neighbors.to(place))
        view.cues = tuple(cue for cue in view.cues if cue.name in cues)
        return view
