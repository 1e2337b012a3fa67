"""The detector: what a finished training leaves, and all that scoring needs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from anowild.arrays import Array
from anowild.data.image_set import ImageSet
from anowild.data.preprocessing import Preprocess
from anowild.device import select_device
from anowild.errors import UserError
from anowild.files import atomic_write, read_json, write_json
from anowild.networks import Discriminator, Encoder, Generator
from anowild.progress import bar
from anowild.scoring.calibration import Calibration
from anowild.scoring.cues import CUES, CueComputer, GaussianReference
from anowild.scoring.explain import Explained, explain, reasons
from anowild.scoring.reference_images import ReferenceImages
from anowild.settings import Settings
from anowild.training.loop import Trained
from anowild.training.step import Networks
from anowild.version import VERSION

FORMAT = 4  # 3 scored by other cues
DESCRIPTION, WEIGHTS = "model.json", "model.safetensors"
#: Samples of G that calibration looks at.
SAMPLES = 2048
#: Training images that calibration looks at, at most.
MOST_CALIBRATED = 20_000
#: Share of training images as odd or odder at which an image is flagged unless told otherwise.
FLAGGED_SHARE = 0.05

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


@dataclass
class Scores:
    """Scores of some images and the cues they come from, each float64 [N]."""

    score: Array
    cues: dict[str, Array]

    @staticmethod
    def concatenate(parts: Sequence[Scores]) -> Scores:
        """The scores of several batches as one; there has to be one at least."""
        cues = {cue: np.concatenate([part.cues[cue] for part in parts]) for cue in parts[0].cues}
        return Scores(np.concatenate([part.score for part in parts]), cues)

    def part(self, chosen: Array) -> Scores:
        """Those of some of the images."""
        return Scores(self.score[chosen], {cue: v[chosen] for cue, v in self.cues.items()})

    def ranks(self) -> Array:
        """1 for the oddest image; equal scores are ranked in the order they came in."""
        order = oddest_first(self.score)
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(1, len(order) + 1)
        return ranks

    def columns(self) -> dict[str, Array]:
        """``score`` and the cues by name."""
        return {"score": self.score, **self.cues}


def oddest_first(score: Array) -> Array:
    """Numbers of the images by falling score; equal scores stay in the order they came in."""
    return np.argsort(-score, kind="stable")


class Detector:
    """Scores images one by one: the same image always gets the same score.

    Made by :meth:`from_training` or :meth:`load`.

    >>> detector = Detector.load("model")                   # doctest: +SKIP
    >>> detector.score(ImageSet.load("images", preprocess=detector.preprocess)).score
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        preprocess: Preprocess,
        calibration: Calibration,
        lod: float,
        facts: dict[str, Any],
        examples: ReferenceImages,
        precision: Precision = "float32",
    ) -> None:
        self.networks = dict(networks)
        self.preprocess = preprocess
        self.calibration = calibration
        self.lod = lod
        self.facts = facts  # how it was trained: for reports, not needed for scoring
        self.examples = examples  # likewise
        self._cues = cue_computer(networks, lod, precision)

    @staticmethod
    def from_training(trained: Trained, images: ImageSet, settings: Settings) -> Detector:
        """Freeze the networks and learn what is usual, from training images and G's samples."""
        networks = scoring_networks(trained.networks, settings)
        computer = cue_computer(networks, trained.lod)
        chosen = calibrated_on(images, settings)
        with bar("calibrating, images", len(chosen)) as shown:
            passes = shown.counting(computer.passes(chosen), computer.size)
            training, usual = fit_reference_statistics(computer, passes, len(chosen), settings)
        networks |= usual
        facts = {
            "kimg": trained.kimg,
            "seconds": round(trained.seconds, 1),
            "skipped_steps": trained.skipped,
            "images": len(images),
            "settings": settings.to_json(),
        }
        calibration = Calibration.fit(training)
        examples = ReferenceImages.choose(
            chosen, calibration.score(training), settings.reference_images, settings.seed
        )
        return Detector(networks, images.preprocess, calibration, trained.lod, facts, examples)

    @property
    def pass_size(self) -> int:
        """Images that are computed at a time; fewer cost as much."""
        return self._cues.size

    def cues(self, images: Array) -> dict[str, Array]:
        """Cues by name, float64 [N], of preprocessed images [N, C, R, R]."""
        return self._cues(images)

    def score(self, images: Array | ImageSet) -> Scores:
        """Score preprocessed images [N, C, R, R], of the preprocessing's type (uint8 or uint16)."""
        array = images.images if isinstance(images, ImageSet) else images
        expected = (
            self.preprocess.channels,
            self.preprocess.resolution,
            self.preprocess.resolution,
        )
        dtype = self.preprocess.dtype
        if array.dtype != dtype or array.shape[1:] != expected:
            raise ValueError(f"expected {dtype} [N, {expected}], not {array.dtype} {array.shape}")
        cues = self.cues(array)
        return Scores(self.calibration.score(cues), cues)

    def rebuild(self, images: Array) -> tuple[Array, Array]:
        """The images as the networks see them, and G(E(x)): float32 [N, C, r, r] in about [-1, 1]."""
        return self._cues.rebuild(images)

    def explain(self, images: Array) -> Explained:
        """Maps of where preprocessed images [N, C, R, R] are odd; one at least."""
        return explain(self._cues, images)

    def why(self, scores: Scores) -> list[str]:
        """One line for each image: what is unusual about it, with its percentile."""
        return reasons(self.calibration, scores.cues)

    def whitened_latents(self, images: Array) -> Array:
        """E's latents of preprocessed images, in units of their spread over G's: float64 [N, latent]."""
        latents = self._cues.measured(self._cues.passes(images), len(images), ("latent",))["latent"]
        usual = self._cues.latents
        white = (torch.from_numpy(latents).double() - usual.mean.cpu()) @ usual.whitening.cpu()
        return white.numpy()

    def neighbors(self, images: Array, count: int) -> list[Array]:
        """Ordinary training images that are most like each of some others, the nearest first.

        Near is what is near in E's latents, in units of their spread over generated images.

        Args:
            images: preprocessed, [N, C, R, R].

        Returns:
            For each what the networks see of at most ``count`` of ``examples``, float32
            [K, C, r, r] in about [-1, 1]; an image is not like itself.
        """
        known = self.examples.images
        none = [np.empty((0, *known.shape[1:]), np.float32) for _ in images]
        if not len(known) or not len(images):
            return none
        here, there = self.whitened_latents(images), self._example_latents
        found = []
        for image, latent in zip(images, here, strict=True):
            distances = np.square(there - latent).sum(axis=1)
            itself = (known == image).all(axis=(1, 2, 3))
            nearest = np.argsort(np.where(itself, np.inf, distances), kind="stable")
            found.append(nearest[: min(count, int((~itself).sum()))])
        wanted, places = np.unique(np.concatenate(found), return_inverse=True)
        if not len(wanted):
            return none
        seen = self.rebuild(known[wanted])[0][places]
        return np.split(seen, np.cumsum([len(nearest) for nearest in found])[:-1])

    @cached_property
    def _example_latents(self) -> Array:
        return self.whitened_latents(self.examples.images)

    @staticmethod
    def threshold(share: float = FLAGGED_SHARE) -> float:
        """The score that about ``share`` of the training images reach."""
        return -math.log10(share)

    # Files

    @property
    def weights_id(self) -> str:
        """Tells these weights from any others."""
        return _digest(self._tensors())

    def _tensors(self) -> dict[str, Tensor]:
        return {
            f"{name}/{key}": value.detach().cpu().contiguous()
            for name, network in self.networks.items()
            for key, value in network.state_dict().items()
        }

    def save(self, folder: Path) -> None:
        """Write examples.safetensors, model.safetensors and model.json into ``folder``."""
        tensors = self._tensors()
        weights_id = _digest(tensors)
        self.examples.save(folder, weights_id)
        with atomic_write(folder / WEIGHTS) as temporary:
            save_file(tensors, temporary, metadata={"id": weights_id})
        generator = self.networks["generator"]
        assert isinstance(generator, Generator)
        settings = self.facts["settings"]
        write_json(
            folder / DESCRIPTION,
            {
                "format": FORMAT,
                "anowild": VERSION,
                "weights_id": weights_id,
                "networks": {
                    "resolution": generator.resolution,
                    "channels": generator.channels,
                    "fmap_base": settings["fmap_base"],
                    "fmap_max": settings["fmap_max"],
                    "latent_size": generator.latent_size,
                },
                "lod": self.lod,
                "preprocess": self.preprocess.to_json(),
                "calibration": self.calibration.to_json(),
                "training": self.facts,
            },
        )

    @staticmethod
    def load(
        folder: str | Path,
        device: torch.device | str = "auto",
        precision: Precision = "float32",
    ) -> Detector:
        """Read a detector that :meth:`save` wrote.

        Args:
            precision: what its convolutions compute in; ``bfloat16`` is faster where the device
                has instructions for it, and ranks nearly as ``float32`` does.

        Raises:
            UserError: a file is missing, damaged, of another kind, or the two do not belong
                together; the message names it.
        """
        if precision not in PRECISIONS:
            raise UserError(f"precision '{precision}': has to be {' or '.join(PRECISIONS)}")
        folder = Path(folder)
        description, weights = folder / DESCRIPTION, folder / WEIGHTS
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such model folder")
        for path in (description, weights):
            if not path.is_file():
                begun = (folder / "training").is_dir() and not description.is_file()
                mend = (
                    "its training has not finished: give the same train command again"
                    if begun
                    else "it is not a whole model: copy the folder again, or train again"
                )
                raise UserError(f"{folder}: {path.name} is missing; {mend}")
        value = read_json(description)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise UserError(
                f"{description}: is not of format {FORMAT}, the only one this version reads"
            )
        device = select_device(str(device))  # of a device as well: it turns rounding to 10 bits off
        try:
            size = value["networks"]
            latent = {"latent_size": size.pop("latent_size")}
            networks: dict[str, nn.Module] = {
                "generator": Generator(**size, **latent),
                "discriminator": Discriminator(**size),
                "encoder": Encoder(**size, **latent),
            }
            encoder, discriminator = networks["encoder"], networks["discriminator"]
            assert isinstance(encoder, Encoder)
            assert isinstance(discriminator, Discriminator)
            networks["latents"] = GaussianReference(encoder.outputs)
            networks["hidden"] = GaussianReference(discriminator.outputs)
            _load_weights(networks, weights, value["weights_id"])
            for network in networks.values():
                network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            preprocess = Preprocess(**value["preprocess"])
            shape = preprocess.channels, preprocess.resolution, preprocess.resolution
            return Detector(
                networks,
                preprocess,
                Calibration.from_json(value["calibration"]),
                float(value["lod"]),
                value["training"],
                ReferenceImages.load(folder, value["weights_id"], shape, preprocess.dtype),
                precision,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{description}: is damaged ({error!r})") from error


def cue_computer(
    networks: Mapping[str, nn.Module], lod: float, precision: Precision = "float32"
) -> CueComputer:
    """A CueComputer from networks by name."""
    generator, discriminator, encoder = (
        networks[name] for name in ("generator", "discriminator", "encoder")
    )
    assert isinstance(generator, Generator)
    assert isinstance(discriminator, Discriminator)
    assert isinstance(encoder, Encoder)
    latents, hidden = networks.get("latents"), networks.get("hidden")
    assert latents is None or isinstance(latents, GaussianReference)
    assert hidden is None or isinstance(hidden, GaussianReference)
    dtype = torch.bfloat16 if precision == "bfloat16" else None
    return CueComputer(generator, discriminator, encoder, lod, dtype, latents, hidden)


def calibrated_on(images: ImageSet, settings: Settings) -> Array:
    """The training images that calibration looks at: all, or some of them by chance."""
    if len(images) <= MOST_CALIBRATED:
        return images.images
    rng = np.random.default_rng(settings.seed)
    return images.images[np.sort(rng.permutation(len(images))[:MOST_CALIBRATED])]


def scoring_networks(networks: Networks, settings: Settings) -> dict[str, nn.Module]:
    """Those of a training that score, by name."""
    averaged = settings.scoring_weights == "averaged"
    return {
        "generator": networks.average_generator if averaged else networks.generator,
        "discriminator": networks.discriminator,
        "encoder": networks.average_encoder if averaged else networks.encoder,
    }


def fit_reference_statistics(
    computer: CueComputer, passes: Iterable[Tensor], count: int, settings: Settings
) -> tuple[dict[str, Array], dict[str, nn.Module]]:
    """Fit what is usual, of the training images and of G's own, and measure the training images.

    Returns:
        The cues of the training images, float64 [N] by name; and by name as in ``networks``, what
        is usual of E's latents and of D's hidden layer.

    Raises:
        UserError: some are not finite.
    """
    training = computer.measured(passes, count)
    samples = computer.measured(
        computer.samples(SAMPLES, settings.latent_scale, settings.seed), SAMPLES
    )
    for name, values in [*training.items(), ("latent", samples["latent"])]:
        if not np.isfinite(values).all():
            raise UserError(
                f"the trained networks give {name} values that are not finite: the training "
                "has diverged; start again with a lower learning_rate"
            )
    usual = {
        "latents": GaussianReference.fit(samples["latent"]),
        "hidden": GaussianReference.fit(training["hidden"]),
    }
    for cue, name, feature in (
        ("latent_distance", "latents", "latent"),
        ("hidden_distance", "hidden", "hidden"),
    ):
        training[cue] = usual[name](torch.from_numpy(training[feature])).numpy()
    return {name: training[name] for name in CUES}, dict(usual)


def _load_weights(networks: Mapping[str, nn.Module], path: Path, weights_id: str) -> None:
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("id") != weights_id:
                raise UserError(
                    f"{path}: belongs to another model than {DESCRIPTION} beside it; "
                    "copy the folder again, or give the train command again"
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is damaged ({error})") from error
    try:
        for name, network in networks.items():
            prefix = f"{name}/"
            network.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
    except RuntimeError as error:
        raise UserError(f"{path}: does not fit the networks that {DESCRIPTION} names") from error


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
