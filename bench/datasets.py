"""The image sets of the documents, built from their public sources.

    python -m bench.datasets -o FOLDER [--sets mnist2 cells64 ...] [--sources FOLDER]

Writes NAME.npz for each set (uint8 images [N, C, H, W], labels), as `anowild study run --data FOLDER`
reads it, and compares each array with its checksum in bench/datasets.json. Sources that are not in
``--sources`` (FOLDER/sources) are downloaded into it: MNIST and CIFAR-10 as by `anowild data fetch`,
the others from GitHub at a fixed commit. Where there is no network, put there the files of MNIST and
CIFAR-10, and checkouts named elpv-dataset, phenotypic_profiling and Usiigaci.
docs/image_sets.md tells what each set holds, and its license.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import shutil
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from anowild.arrays import Array
from anowild.data import download
from anowild.errors import UserError
from anowild.files import atomic_write, read_json
from anowild.process import exit_status
from anowild.study import public_sets

#: Arrays of a set, by name.
Arrays = dict[str, Array]
CHECKSUMS = Path(__file__).with_name("datasets.json")
CELLS = Path(__file__).with_name("cells64.csv")

#: Sets of images of Usiigaci whose crops are for testing.
CELLS_TEST = (5, 9, 12, 18, 25, 31, 33, 34, 42, 45)
#: Classes of MitoCheck that count as normal.
MITOCHECK_NORMAL = (
    "Interphase", "Prometaphase", "Metaphase", "MetaphaseAlignment", "Anaphase", "Large", "Elongated",
)  # fmt: skip
#: Share of each group of mitocheck64 and elpv64 that is for testing, and the seed of the draw.
TEST_SHARE, SPLIT_SEED = 0.3, 20261126


@dataclass(frozen=True)
class Repository:
    """A folder of a GitHub repository at one commit."""

    name: str
    archive: str  # URL of the .tar.gz
    folder: str

    def locate(self, sources: Path) -> Path:
        """Return the folder, downloaded if ``sources`` has no checkout.

        Raises:
            UserError: the download failed.
        """
        path = sources / self.name / self.folder
        if path.is_dir():
            return path
        sources.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=sources) as temporary:
            try:
                self._download(Path(temporary))
            except (OSError, tarfile.TarError, EOFError) as error:
                raise UserError(
                    f"{self.archive}: cannot be downloaded ({error}); give the same command again, or "
                    f"put a checkout into {sources / self.name}"
                ) from error
            shutil.move(Path(temporary) / self.folder, path)
        return path

    def _download(self, target: Path) -> None:
        """Extract the folder while the archive is read; nothing else of it is kept."""
        with (
            urllib.request.urlopen(self.archive, timeout=60) as response,
            tarfile.open(fileobj=response, mode="r|gz") as archive,
        ):
            for member in archive:
                name = PurePosixPath(member.name.partition("/")[2])
                content = archive.extractfile(member) if member.isfile() else None
                if content is None or ".." in name.parts or not name.is_relative_to(self.folder):
                    continue
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                with content, (target / name).open("wb") as file:
                    shutil.copyfileobj(content, file)
        if not (target / self.folder).is_dir():
            raise OSError(f"it has no folder {self.folder}")


def _github(owner: str, name: str, commit: str, folder: str) -> Repository:
    return Repository(name, f"https://codeload.github.com/{owner}/{name}/tar.gz/{commit}", folder)


USIIGACI = _github(
    "oist", "Usiigaci", "9501d80c747cf82870dd596818fcf5c28c94d733", "Mask R-CNN/train"
)
MITOCHECK = _github(
    "WayScience", "phenotypic_profiling", "92e4025d83b556194ebabf5d71f598b9b66a12a7",
    "6.single_cell_images/mitocheck_single_cell_sample_images",
)  # fmt: skip
ELPV = _github(
    "zae-bayern",
    "elpv-dataset",
    "411fd729dad19511883306aa85e52f1962cba581",
    "src/elpv_dataset/data",
)


def _fetched(name: str, find: Callable[[Path], Path | None], sources: Path) -> Path:
    """Return where a set of `anowild data fetch` lies, downloaded if it is not in ``sources``."""
    path = find(sources)
    if path is None:
        download.fetch(name, sources / name)
        path = find(sources)
        assert path is not None
    return path


def _mnist(sources: Path) -> public_sets.Labeled:
    return public_sets.read_mnist(_fetched("mnist", public_sets.find_mnist, sources))


def _cifar10(sources: Path) -> public_sets.Labeled:
    return public_sets.read_cifar10(_fetched("cifar10", public_sets.find_cifar10, sources))


def mnist2(sources: Path) -> Arrays:
    """Digit 2 of MNIST against the others, 32x32."""
    return public_sets.mnist2(_mnist(sources))


def mnist2_contaminants(sources: Path) -> Arrays:
    """Other training digits, to contaminate ``mnist2`` with."""
    return public_sets.mnist2_contaminants(_mnist(sources))


def cifar10_subset(sources: Path) -> Arrays:
    """Automobiles and horses of CIFAR-10, and a few of each other class."""
    return public_sets.cifar10_subset(_cifar10(sources))


def cifar10(sources: Path) -> Arrays:
    """All of CIFAR-10, ordered by class."""
    arrays: Arrays = {}
    for split, (images, labels) in _cifar10(sources).items():
        order = np.argsort(labels, kind="stable")
        arrays |= {split: images[order], f"{split}_label": labels[order]}
    return arrays


def mitocheck64(sources: Path) -> Arrays:
    """Single nuclei of the MitoCheck screen, 64x64, 16 classes by hand."""
    root = MITOCHECK.locate(sources)
    paths = sorted(root.glob("*/*.png"))
    classes = sorted({path.parent.name for path in paths})
    images = np.stack([_gray(path) for path in paths])
    numbers = np.array([classes.index(path.parent.name) for path in paths], np.uint8)
    odd = np.array([name not in MITOCHECK_NORMAL for name in classes], np.uint8)
    test = _test_share(numbers)
    order = np.random.RandomState(1).permutation(len(paths))
    arrays: Arrays = {}
    for split, index in (("train", order[~test[order]]), ("test", order[test[order]])):
        arrays |= {
            split: images[index, None],
            f"{split}_class": numbers[index],
            f"{split}_label": odd[numbers[index]],
        }
    return {**arrays, "classes": np.array(classes)}


def elpv64(sources: Path) -> Arrays:
    """Solar cells by electroluminescence, 64x64, with the probability of a defect."""
    root = ELPV.locate(sources)
    rows = [row.split() for row in (root / "labels.csv").read_text("utf-8").splitlines()]
    rows = [row for row in rows if row]
    images = np.stack([_gray(root / name, side=64) for name, _, _ in rows])
    probability = np.array([float(value) for _, value, _ in rows])
    mono = np.array([kind == "mono" for _, _, kind in rows])
    test = _test_share(2 * np.round(3 * probability).astype(int) + mono)
    arrays: Arrays = {}
    for split, chosen in (("train", ~test), ("test", test)):
        arrays |= {
            split: images[chosen, None],
            f"{split}_probability": probability[chosen],
            f"{split}_mono": mono[chosen],
        }
    return arrays


def cells64(sources: Path) -> Arrays:
    """Phase-contrast cells (label 0) and junk (1), 96x96 windows at the positions of cells64.csv."""
    root = USIIGACI.locate(sources)
    with CELLS.open(newline="", encoding="utf-8") as file:
        rows = np.array([[int(v) for v in row.values()] for row in csv.DictReader(file)])
    crops = np.empty((len(rows), 64, 64), np.uint8)
    for number in np.unique(rows[:, 0]):
        image = _to_8_bit(np.asarray(Image.open(root / f"set{number}" / "raw.tif")))
        for i in np.flatnonzero(rows[:, 0] == number):
            y, x = rows[i, 1:3]
            window = Image.fromarray(image[y - 48 : y + 48, x - 48 : x + 48])
            crops[i] = np.asarray(window.resize((64, 64), Image.Resampling.BOX))
    test = np.isin(rows[:, 0], CELLS_TEST)
    arrays: Arrays = {}
    for split, chosen in (("train", ~test), ("test", test)):
        arrays |= {
            split: crops[chosen, None],
            f"{split}_label": rows[chosen, 3].astype(np.uint8),
            f"{split}_image": rows[chosen, 0].astype(np.uint8),
            f"{split}_cy": rows[chosen, 1].astype(np.int16),
            f"{split}_cx": rows[chosen, 2].astype(np.int16),
        }
    return arrays


def _to_8_bit(image: Array) -> Array:
    """Map the percentiles 0.2 and 99.8 of an image to 0 and 255; halves are rounded up."""
    low, high = np.percentile(image, [0.2, 99.8])
    return np.clip((image - low) / (high - low) * 255 + 0.5, 0, 255).astype(np.uint8)


def _gray(path: Path, side: int | None = None) -> Array:
    """Read an image as gray [H, W], averaged over boxes to ``side`` x ``side`` if given."""
    with Image.open(path) as image:
        gray = image.convert("L")
        if side is not None:
            gray = gray.resize((side, side), Image.Resampling.BOX)
        return np.asarray(gray)


def _test_share(groups: Array) -> Array:
    """Draw ``TEST_SHARE`` of each group: bool [N]."""
    rng = np.random.RandomState(SPLIT_SEED)
    test = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        drawn = rng.permutation(np.flatnonzero(groups == group))
        test[drawn[: round(TEST_SHARE * len(drawn))]] = True
    return test


#: Builders by the set's name: the folder of the sources -> arrays.
SETS: dict[str, Callable[[Path], Arrays]] = {
    "mnist2": mnist2,
    "mnist2_contaminants": mnist2_contaminants,
    "cells64": cells64,
    "cifar10_subset": cifar10_subset,
    "cifar10": cifar10,
    "mitocheck64": mitocheck64,
    "elpv64": elpv64,
}


def checksums(name: str, arrays: Arrays) -> dict[str, str]:
    """Return the checksum (BLAKE2b) of each array's type, shape and bytes.

    The order of images within a class of ``cifar10`` matters to no protocol, and not here either.
    """
    if name == "cifar10":
        arrays = _without_order(arrays)
    found = {}
    for key, array in arrays.items():
        digest = hashlib.blake2b(f"{array.dtype.str} {array.shape} ".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(array).tobytes())
        found[key] = digest.hexdigest()
    return found


def _without_order(arrays: Arrays) -> Arrays:
    """Sort the images of each split by label and content."""
    found: Arrays = {}
    for split in ("train", "test"):
        images, labels = arrays[split], arrays[f"{split}_label"]
        order = sorted(range(len(images)), key=lambda i: (labels[i], images[i].tobytes()))
        found |= {split: images[order], f"{split}_label": labels[order]}
    return found


def build(name: str, sources: Path, out: Path) -> list[str]:
    """Build one set and write it; return the arrays that differ from their checksum.

    Raises:
        UserError: a source is missing or damaged, or the file cannot be written.
    """
    arrays = SETS[name](sources)
    path = out / f"{name}.npz"
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    expected = read_json(CHECKSUMS)[name]
    found = checksums(name, arrays)
    return [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]


def main(arguments: list[str]) -> int:
    """Build the sets asked for; 1 if an array is not the one of the documents."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.datasets", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the image sets")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="NAME")
    parser.add_argument("--sources", type=Path, help="folder of the sources (OUT/sources)")
    given = parser.parse_args(arguments)

    def work() -> int:
        wrong = []
        for name in given.sets:
            differing = build(name, given.sources or given.out / "sources", given.out)
            wrong += differing
            path = given.out / f"{name}.npz"
            print(f"{path}: {'as in the documents' if not differing else 'DIFFERS'}", flush=True)
            for key in sorted(differing):
                print(f"  {key}: another checksum than in {CHECKSUMS.name}", file=sys.stderr)
        return 1 if wrong else 0

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
