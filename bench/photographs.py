"""A camera's folder of 63 photographs with ten planted oddities, to look through.

    python -m bench photographs -o FOLDER [--seed 0]

Writes JPEG files of 1500x1000 pixels into two subfolders, made of pictures that scikit-image,
scikit-learn and matplotlib ship: other crops, light and grain, all sharp. Ten are odd: two blurred, a
dark, a black and an over-exposed one, two turned by a quarter, a copy, a smaller copy of another
quality, and a page of text; FOLDER/planted.csv lists them. A JPEG that breaks off, a .heic file and
notes.txt lie between them. The same seed gives the same pictures.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import skimage.data
import sklearn.datasets
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.process import exit_status

SIZE = (1500, 1000)
FOLDERS = ("2026-05", "2026-06")
#: Files that cannot be read, or are no images.
TRUNCATED, HEIC, NOTES = "2026-05/DSC_4199.jpg", "2026-06/IMG_0007.heic", "2026-06/notes.txt"
#: Photographs before three of them are copied or replaced by a page: 30 + 30.
TAKEN = 60
#: Numbers of the photographs that are made odd, and how.
PLANTED = {
    4: "blurred",
    9: "dark",
    15: "turned",
    21: "overexposed",
    33: "blurred",
    38: "turned",
    46: "black",
}
#: Numbers of the photographs that are there twice.
COPIED, SMALLER = 12, 27
#: Radius of the blur, in pixels of 1500, of the two blurred photographs: strongly, moderately.
BLUR = {4: 12.0, 33: 5.0}

#: Least width of a crop, so that its details are still sharp when the photograph is 384 pixels wide.
_LEAST_WIDTH = 384
_MOTIFS = {
    Path(skimage.data.__file__).parent: (
        "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png",
        "gravel.png", "motorcycle_left.png", "rocket.jpg",
    ),
    Path(sklearn.datasets.__file__).parent / "images": ("china.jpg", "flower.jpg"),
    Path(mpl.get_data_path()) / "sample_data": ("grace_hopper.jpg",),
}  # fmt: skip
#: Colors of gray motifs.
_TINTS = {
    "brick.png": (1.1, 0.78, 0.62),
    "grass.png": (0.82, 1.0, 0.5),
    "gravel.png": (1.05, 1.0, 0.9),
}
_TEXT = (
    "the light of an image is measured before anything is said about it and what was measured is kept "
    "beside its name so that nobody has to look twice at a picture that was found to be dark or blurred "
)


def make(folder: Path, seed: int = 0) -> dict[str, str]:
    """Write the photographs and the other files.

    Returns:
        What was planted: path in the folder -> blurred, dark, black, overexposed, turned, duplicate,
        near duplicate or page.

    Raises:
        UserError: the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty; give a new folder")
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    grain = rng.normal(0, 2.5, (SIZE[1], SIZE[0], 1)).astype(np.float32)
    planted = {}
    for number, view in enumerate(_views(rng)):
        path = _path(number)
        photograph = _developed(view, BLUR.get(number, 0.0), PLANTED.get(number), grain, rng)
        photograph.save(folder / path, quality=92)
        if number in PLANTED:
            planted[path] = PLANTED[number]
        if number == COPIED:
            copy = f"{FOLDERS[1]}/{Path(path).name}"
            (folder / copy).write_bytes((folder / path).read_bytes())
            planted[copy] = "duplicate"
        elif number == SMALLER:
            copy = f"{FOLDERS[1]}/{Path(path).stem}-small.jpg"
            photograph.resize((1380, 920), Image.Resampling.BICUBIC).save(folder / copy, quality=60)
            planted[copy] = "near duplicate"
    _page().save(folder / FOLDERS[1] / "scan.jpg", quality=92)
    planted[f"{FOLDERS[1]}/scan.jpg"] = "page"
    whole = (folder / _path(0)).read_bytes()
    (folder / TRUNCATED).write_bytes(whole[: len(whole) // 3])
    (folder / HEIC).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + rng.bytes(200_000))
    (folder / NOTES).write_text("June: the second camera.\n")
    with (folder / "planted.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "kind"), *sorted(planted.items())])
    return planted


def _path(number: int) -> str:
    return f"{FOLDERS[number * 2 // TAKEN]}/DSC_{4101 + number}.jpg"


def _motif(path: Path) -> Image.Image:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")) * np.array(_TINTS.get(path.name, 1.0))
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def _views(rng: np.random.Generator) -> Iterator[Image.Image]:
    """Yield other crops of the motifs in turn, SIZE each; no two of a motif are near duplicates."""
    motifs = [_motif(folder / name) for folder, names in _MOTIFS.items() for name in names]
    for number in range(TAKEN):
        motif, turn = motifs[number % len(motifs)], number // len(motifs)
        most = min(motif.width, motif.height * SIZE[0] // SIZE[1])
        width = min(most, max(_LEAST_WIDTH, round(most * rng.uniform(0.66, 0.9))))
        height = width * SIZE[1] // SIZE[0]
        # The corners in turn, and the middle; then mirrored.
        across, down = ((0, 0), (1, 1), (1, 0), (0, 1), (0.5, 0.5))[turn % 5]
        left, top = round((motif.width - width) * across), round((motif.height - height) * down)
        box = (left, top, left + width, top + height)
        view = motif.resize(SIZE, Image.Resampling.LANCZOS, box)
        yield view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if turn % 2 else view


def _developed(
    view: Image.Image, blur: float, kind: str | None, grain: Array, rng: np.random.Generator
) -> Image.Image:
    """Return a view as a camera would give it: blurred or sharp, in some light, with grain."""
    if blur:
        view = view.filter(ImageFilter.GaussianBlur(blur))
    else:
        view = view.filter(ImageFilter.UnsharpMask(radius=3, percent=60, threshold=0))
    light = rng.uniform(0.88, 1.12) * rng.uniform(0.97, 1.03, 3)
    light *= {"dark": 0.09, "black": 0.0, "overexposed": 3.2}.get(kind or "", 1.0)
    pixels = np.asarray(view, np.float32) * light.astype(np.float32)
    pixels += np.roll(grain, rng.integers(SIZE[1]), axis=0) * (0.3 if kind == "black" else 1.0)
    photograph = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    return photograph.transpose(Image.Transpose.ROTATE_90) if kind == "turned" else photograph


def _page() -> Image.Image:
    """Return a scan of a page of text."""
    page = Image.new("RGB", SIZE, (236, 233, 226))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(26)
    words = (_TEXT * 12).split()
    for row in range(22):
        line = " ".join(words[row * 17 : row * 17 + 17])
        draw.text((110, 70 + 40 * row), line, fill=(38, 36, 40), font=font)
    return page.filter(ImageFilter.GaussianBlur(0.7))


def main(arguments: list[str]) -> int:
    """Parse the command line and write the folder."""
    parser = argparse.ArgumentParser(
        prog="python -m bench photographs", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)

    def work() -> int:
        for path, kind in sorted(make(given.out, given.seed).items()):
            print(f"{given.out / path}: {kind}")
        return 0

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
