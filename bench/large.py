"""A table of ten million scored images: ranks, report, and the first pages of a review.

    python -m bench large [--rows 10000000] [--folder DIR]

The table is made up (seed 0): four views, ten cues, reasons, and paths that all exist, as each folder of a thousand
is a link to the same one. Each step runs in a process of its own, whose peak memory is its own: `finish` ranks,
`report` writes the page, and `review` is asked for what a browser asks for. With --folder the table is kept, and found
again by the next run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from anowild.data import Preprocess
from anowild.progress import bar
from anowild.scoring.partitions import CueFacts, PartWriter, TableFacts
from anowild.scoring.scores import Scores

#: Images of a part, and of a folder; the files in the one folder that there really is, and their size in pixels.
PART, IN_FOLDER, SIZE = 100_000, 1000, (160, 120)
VIEWS = ("pixels", "transforms", "pretrained", "gan")
CUES = (
    "brightness", "contrast", "sharpness", "edges", "turns", "embedding_distance", "patch_distance", "residual",
    "feature_distance", "latent_norm",
)  # fmt: skip
#: What reasons are made of.
_WHY = (
    "much darker", "a little brighter", "richer in edges", "harder to redraw from what is usual",
    "less sure which way is up", "unlike the rest in what it shows", "lower in contrast",
)  # fmt: skip
#: One image in so many is odd.
ODD = 200


def facts(folder: Path) -> TableFacts:
    """Return what the table says of itself."""
    cues = tuple(
        CueFacts(name, f"The {name.replace('_', ' ')}.", name.replace("_", " "), "upper")
        for name in CUES
    )
    return TableFacts(
        base=str(folder.absolute()),
        sources=("images",),
        views=VIEWS,
        cues=cues,
        model="made up",
        model_folder=None,
        training_images=100_000,
        preprocess=Preprocess(64, 3),
    )


def write_images(folder: Path, rows: int) -> None:
    """Write a folder of small photographs, and links to it until there is a path for each row."""
    real = folder / "real"
    real.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(IN_FOLDER):
        blots = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        blots.resize(SIZE, Image.Resampling.BICUBIC).save(real / f"image-{i:04}.jpg", quality=85)
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for i in range(-(-rows // IN_FOLDER)):
        link = images / f"batch-{i:06}"
        if not link.is_symlink():
            link.symlink_to(real.absolute(), target_is_directory=True)


def write_part(writer: PartWriter, number: int, count: int) -> None:
    """Write a part of made-up scores."""
    rng = np.random.default_rng([0, number])
    views = rng.exponential(size=(len(VIEWS), count)) / np.log(10)
    views += (rng.random(count) < 1 / ODD) * rng.exponential(2.0, (len(VIEWS), count))
    score = np.sort(views, axis=0)[-2:].sum(axis=0) * 0.6
    cues = dict(zip(CUES, rng.lognormal(size=(len(CUES), count)), strict=True))
    names = [
        f"images/batch-{i // IN_FOLDER:06}/image-{i % IN_FOLDER:04}.jpg"
        for i in range(number * PART, number * PART + count)
    ]
    shares = (99.9 * (1 - 10.0 ** -score.clip(0.3))).round(1).tolist()
    kinds = rng.integers(0, len(_WHY), (count, 2)).tolist()
    why = [
        f"{_WHY[a]} than {share} % of the training images; {_WHY[b]} than {share / 1.1:.1f} %"
        for (a, b), share in zip(kinds, shares, strict=True)
    ]
    left_out = [(f"images/broken-{number}.jpg", "cannot identify it as an image")] * (
        number % 10 == 0
    )
    writer.write(
        number, names, Scores(score, cues, dict(zip(VIEWS, views, strict=True))), why, left_out
    )


def make(folder: Path, rows: int) -> int:
    """Write the parts that are not there yet, and return how many there have to be."""
    write_images(folder, rows)
    writer = PartWriter(folder / "table", facts(folder))
    parts = -(-rows // PART)
    there = set(writer.parts())
    with bar("making up, parts", parts, len(there)) as shown:
        for number in range(parts):
            if number not in there:
                write_part(writer, number, min(PART, rows - number * PART))
            shown.update(number + 1)
    return parts


def main(arguments: list[str]) -> int:
    """Make the table and measure each step in a process."""
    parser = argparse.ArgumentParser(
        prog="python -m bench large", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the table is kept")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        folder = given.folder or Path(temporary)
        started = time.perf_counter()
        parts = make(folder, given.rows)
        print(f"made up in {time.perf_counter() - started:.0f} s: {parts} parts")
    return 0
