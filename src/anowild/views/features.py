"""Where the view `pretrained` has its vectors from: a network, or a table of known images."""

from __future__ import annotations

import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anowild.arrays import Array
from anowild.checked import checked
from anowild.device import full_float32
from anowild.errors import UserError, ViewUnavailable
from anowild.networks.efficientnet import EfficientNetLite0
from anowild.views.batches import batch_size
from anowild.views.loading import check_tensors, loaded

LITE0, ONNX, TIMM, VECTORS = "efficientnet-lite0", "onnx", "timm:", "vectors"

#: Stages of EfficientNet-Lite0, counted from 0: textures (24 and 40 maps), parts (192), objects (320).
TEXTURES, PARTS, OBJECTS = (1, 2), 5, 6

#: Sides of the images that EfficientNet-Lite0 sees: smaller ones are enlarged, larger ones reduced. On the
#: sets for choosing (32 and 28 pixels), the mean AUROC of the score is 0.94 at 96 and 0.93 at 64.
LEAST_SIDE, LARGEST_SIDE = 96, 128
#: Places of an image, in a row and in a column, whose features are compared.
PLACES = 8

#: Of ImageNet, red, green and blue in [0, 1]: what most networks were trained with.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Features:
    """Vectors of some images, float32."""

    near: Tensor  # [N, D], of length 1, by which neighbors are found
    compared: Mapping[str, Tensor]  # each [N, P, M], of P places: compared with Gaussians; by cue

    def rows(self, start: int, stop: int) -> Features:
        """Return the vectors of some of the images."""
        compared = {name: vectors[start:stop] for name, vectors in self.compared.items()}
        return Features(self.near[start:stop], compared)

    def select(self, chosen: Tensor) -> Features:
        """Return the vectors of some of the images, by their numbers or a mask."""
        compared = {name: vectors[chosen] for name, vectors in self.compared.items()}
        return Features(self.near[chosen], compared)

    @staticmethod
    def join(parts: Sequence[Features]) -> Features:
        """Join the vectors of batches."""
        names = parts[0].compared
        compared = {name: torch.cat([part.compared[name] for part in parts]) for name in names}
        return Features(torch.cat([part.near for part in parts]), compared)


class Extractor(ABC):
    """Makes vectors of stored images, uint8 or uint16 [n, C, R, R] on its device; company never matters."""

    #: Images that are computed at a time; the view fills batches up to it.
    batch_size: int = 32
    #: Whether the vectors are computed by PyTorch alone.
    in_pytorch: bool = True
    #: Where the vectors are.
    device: torch.device = torch.device("cpu")

    @abstractmethod
    def __call__(self, stored: Tensor) -> Features:
        """Return the vectors of a batch."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what :func:`load_extractor` needs, as JSON values."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return the other things that :func:`load_extractor` needs, on the CPU."""


class Lite0(Extractor):
    """EfficientNet-Lite0, in float32."""

    def __init__(self, network: EfficientNetLite0, device: torch.device) -> None:
        self.device = device
        self.network = network.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batch_size = batch_size(device, cpu=16, gpu=256)

    def __call__(self, stored: Tensor) -> Features:
        side = min(max(stored.shape[-1], LEAST_SIDE), LARGEST_SIDE)
        x = (255 * as_rgb(stored, side) - 127) / 128
        with torch.no_grad(), full_float32(self.device):
            maps = self.network(x.contiguous(memory_format=torch.channels_last))
        placed = torch.cat([F.adaptive_avg_pool2d(maps[i], PLACES) for i in TEXTURES], dim=1)
        textures = torch.cat([maps[i].mean(dim=(2, 3)) for i in TEXTURES], dim=1)
        compared = {
            "pretrained_blocks": textures[:, None],
            "pretrained_distance": maps[PARTS].mean(dim=(2, 3))[:, None],
            "pretrained_places": placed.flatten(2).transpose(1, 2),
        }
        return Features(F.normalize(maps[OBJECTS].mean(dim=(2, 3))), compared)

    def facts(self) -> dict[str, Any]:
        return {"features": LITE0}

    def tensors(self) -> dict[str, Tensor]:
        return {key: value.cpu().contiguous() for key, value in self.network.state_dict().items()}


class OnnxNetwork(Extractor):
    """A network of an ONNX file: [N, 3, S, S] -> [N, D], or maps [N, D, h, w], of which means are taken.

    Inputs are RGB in [0, 1], less ImageNet's mean and divided by its standard deviation. S is the file's,
    or 224 where the file leaves it open.

    Raises:
        ViewUnavailable: onnxruntime is not installed.
        UserError: the bytes are not such a network.
    """

    in_pytorch = False

    def __init__(self, content: bytes, name: str = "the model's ONNX network") -> None:
        try:
            runtime = importlib.import_module("onnxruntime")
        except ImportError:
            raise ViewUnavailable(f"{name}: needs ONNX Runtime: pip install onnxruntime") from None
        self.content, self.name = content, name
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what is wrong is raised
        try:
            self.session = runtime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime has one class for each status
            raise UserError(
                f"{name}: cannot be read as an ONNX network ({_first_line(error)}); export it again"
            ) from error
        inputs = self.session.get_inputs()
        shape = inputs[0].shape
        if (
            len(inputs) != 1
            or len(shape) != 4
            or shape[1] != 3
            or inputs[0].type != "tensor(float)"
        ):
            raise UserError(
                f"{name}: takes {[i.shape for i in inputs]}; it has to take float32 images [N, 3, S, S]"
            )
        self.side = shape[2] if isinstance(shape[2], int) else 224
        if isinstance(shape[0], int):
            self.batch_size = shape[0]

    def __call__(self, stored: Tensor) -> Features:
        x = imagenet_input(stored, self.side).numpy()
        (name,) = (given.name for given in self.session.get_inputs())
        try:
            output = torch.from_numpy(np.asarray(self.session.run(None, {name: x})[0], np.float32))
        except Exception as error:  # again
            raise UserError(f"{self.name}: cannot be run ({_first_line(error)})") from error
        return of_vectors(output, self.name)

    def facts(self) -> dict[str, Any]:
        return {"features": ONNX}

    def tensors(self) -> dict[str, Tensor]:
        return {"onnx": torch.from_numpy(np.frombuffer(self.content, np.uint8).copy())}


class TimmNetwork(Extractor):
    """A network of the library timm, whose weights the model does not hold: scoring needs timm, too.

    Raises:
        ViewUnavailable: timm is not installed.
        UserError: timm has no such network, or not its weights.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        try:
            timm = importlib.import_module("timm")
        except ImportError:
            raise ViewUnavailable(
                f"the features {TIMM}{name} need the library timm, also to score: pip install timm"
            ) from None
        try:
            network = timm.create_model(name, pretrained=True, num_classes=0)
        except Exception as error:  # of timm, or of a download
            raise UserError(
                f"timm:{name}: cannot be made ({_first_line(error)}); "
                "load its weights once with timm.create_model(NAME, pretrained=True)"
            ) from error
        self.name, self.device = name, device
        self.network = network.eval().to(device)
        self.side = int(network.default_cfg["input_size"][-1])

    def __call__(self, stored: Tensor) -> Features:
        cfg = self.network.default_cfg
        x = imagenet_input(stored, self.side, cfg["mean"], cfg["std"])
        with torch.no_grad(), full_float32(self.device):
            return of_vectors(self.network(x), f"{TIMM}{self.name}")

    def facts(self) -> dict[str, Any]:
        return {"features": f"{TIMM}{self.name}"}

    def tensors(self) -> dict[str, Tensor]:
        return {}


class KnownVectors(Extractor):
    """A table of vectors of known images, which are found by a digest of their pixels.

    Args:
        digests: uint8 [N, 16], BLAKE2b of each image's preprocessed pixels.
        vectors: float32 [N, D].
    """

    in_pytorch = False

    def __init__(self, digests: Tensor, vectors: Tensor) -> None:
        self.digests, self.vectors = digests, vectors
        self.rows: dict[bytes, int] = {}
        for row, digest in enumerate(digests.numpy()):
            self.rows.setdefault(digest.tobytes(), row)

    @staticmethod
    def of(images: Array, vectors: Array) -> KnownVectors:
        """Make the table of images, [N, C, R, R], and their vectors, [N, D]."""
        digests = b"".join(_digest(image) for image in images)
        table = np.frombuffer(digests, np.uint8).reshape(-1, 16).copy()
        return KnownVectors(torch.from_numpy(table), torch.from_numpy(vectors.astype(np.float32)))

    def __call__(self, stored: Tensor) -> Features:
        rows = [self.rows.get(_digest(image)) for image in stored.numpy()]
        if None in rows:
            raise UserError(
                "no vector is known for this image: this model was trained with vectors of a file, and scores "
                "only the images that it was trained on; train with --features efficientnet-lite0 to score others"
            )
        return of_vectors(self.vectors[rows], VECTORS)

    def facts(self) -> dict[str, Any]:
        return {"features": VECTORS}

    def tensors(self) -> dict[str, Tensor]:
        return {"digests": self.digests, "vectors": self.vectors}


def load_extractor(
    facts: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device
) -> Extractor:
    """Rebuild an extractor from what its ``facts`` and ``tensors`` gave.

    Raises:
        KeyError, ValueError: they do not fit together.
        UserError: a library that it needs is missing.
    """
    kind = checked(str, facts["features"], "facts.features")
    if kind == LITE0:
        return Lite0(loaded(EfficientNetLite0, tensors), device)
    if kind == ONNX:
        content = tensors["onnx"]
        check_tensors(tensors, {"onnx": ((content.numel(),), torch.uint8)})
        return OnnxNetwork(content.numpy().tobytes())
    if kind == VECTORS:
        count, size = tensors["vectors"].shape
        check_tensors(
            tensors,
            {"digests": ((count, 16), torch.uint8), "vectors": ((count, size), torch.float32)},
        )
        return KnownVectors(tensors["digests"], tensors["vectors"])
    if not kind.startswith(TIMM):
        raise ValueError(
            f"facts.features is {kind!r:.40}: this version does not know such features"
        )
    return TimmNetwork(kind.removeprefix(TIMM), device)


def as_rgb(stored: Tensor, side: int) -> Tensor:
    """Scale stored images to [0, 1], to three channels and to a side.

    Gray is repeated. Two channels, or more than three, are averaged to gray: they are no red, green and blue.

    Args:
        stored: uint8 or uint16 [n, C, R, R].

    Returns:
        float32 [n, 3, side, side]; enlarged bilinearly, or reduced by means over areas.
    """
    full = 65535.0 if stored.dtype == torch.uint16 else 255.0
    x = stored.float() / full
    if x.shape[1] != 3:
        x = x.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    if side > x.shape[-1]:
        x = F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
    elif side < x.shape[-1]:
        x = F.interpolate(x, (side, side), mode="area")
    return x


def imagenet_input(
    stored: Tensor,
    side: int,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> Tensor:
    """Make the input of a network from stored images: see :func:`as_rgb`, less mean, divided by std."""
    center, scale = (torch.tensor(v, device=stored.device).view(1, 3, 1, 1) for v in (mean, std))
    return (as_rgb(stored, side) - center) / scale


def of_vectors(output: Tensor, name: str) -> Features:
    """Make features of a network's output, [N, D] or maps [N, D, h, w].

    Raises:
        UserError: it has another shape.
    """
    if output.ndim == 4:
        output = output.mean(dim=(2, 3))
    if output.ndim != 2:
        raise UserError(
            f"{name}: gives {tuple(output.shape)}; it has to give [N, D] or [N, D, h, w]"
        )
    vectors = output.float()
    return Features(F.normalize(vectors), {"pretrained_distance": vectors[:, None]})


def _digest(image: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
