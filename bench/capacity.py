"""Images a second of every step from files to a table, on one core or GPU, and what a million or a billion would take.

    python -m bench capacity [--preset laptop] [--sides 64 256 1024] [--device cpu] [--seconds 3] [-o FILE.json]

A model of the preset is made from 1,000 crops of scikit-learn's two photographs, its trainings cut to a moment: cost is
measured, not quality. Reading is `ImageStream` over files of these crops, from the listing to the model's input, by
side and format. Each view is `View.measure` of 512 images or more. "verdict" is what `Detector.score` does beside
them, "reasons and table" what `anowild score` does with its results. One thread, but for a GPU. Bytes an image are those
of the model's own table, as Parquet, of the packed set that `anowild prepare` writes, and of memory for the listing of a folder, from
50,000 empty files. The plan at the end is
arithmetic from these figures: nobody has scored a billion images.
"""

from __future__ import annotations

import argparse
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from anowild import api
from anowild.arrays import Array
from anowild.data import ImageStream, open_all
from anowild.device import configure_process, select_device
from anowild.files import write_json
from anowild.presets import PRESETS, preset
from anowild.scoring import Detector, Scores
from anowild.scoring.table import Table

#: Images of the model, and of a folder that is read.
TRAINING, FILES = 1000, 400
#: Files of the folder that is only listed.
LISTED = 50_000
#: Images that a step works on at a time, at least.
CHUNK = 512
SCALES = (10**6, 10**8, 10**9)
#: Formats by ending: the arguments of Pillow.
FORMATS: dict[str, dict[str, Any]] = {"png": {"compress_level": 3}, "jpg": {"quality": 90}}


@dataclass(frozen=True)
class Capacity:
    """What was measured."""

    machine: str
    threads: int
    reading: dict[str, float]  # images/s by format and side
    views: dict[str, float]  # images/s by view
    verdict: float  # images/s
    table: float  # images/s
    whole: float  # images/s of all, from the smallest files
    model_bytes: int
    table_bytes: float  # per image
    packed_bytes: float  # per image
    listing: float  # files/s
    listing_bytes: float  # of memory, per file

    @property
    def scoring(self) -> float:
        """Images/s of everything but reading."""
        return 1 / sum(1 / rate for rate in (*self.views.values(), self.verdict, self.table))


def crops(count: int, side: int) -> Iterable[Array]:
    """Yield crops of the photographs, uint8 [side, side, 3]; sides beyond 256 are enlarged."""
    rng, photographs, cut = np.random.default_rng(0), load_sample_images().images, min(side, 256)
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        top, left = (int(rng.integers(0, length - cut)) for length in photograph.shape[:2])
        crop = Image.fromarray(photograph[top : top + cut, left : left + cut])
        yield np.asarray(crop.resize((side, side), Image.Resampling.BICUBIC))


def rate(work: Callable[[], int], seconds: float) -> float:
    """Return the images a second of ``work``, which returns how many it did; the first call does not count."""
    work()
    started, done = time.perf_counter(), 0
    while not done or time.perf_counter() - started < seconds:
        done += work()
    return done / (time.perf_counter() - started)


def make_model(name: str, folder: Path, device: str) -> Detector:
    """Train a model of a preset for a moment."""
    moment = {"kimg": 0.1, "transforms_kimg": 0.1, "resolution": 32, "channels": 3, "seed": 0}
    settings = preset(name).settings().replace(**moment)
    api.train(np.stack(list(crops(TRAINING, 40))), folder, settings, device, 1)
    return Detector.load(folder, torch.device(device))


def read(detector: Detector, folder: Path) -> int:
    """Read a folder as the scoring pass does, and return how many images it has."""
    stream = ImageStream(open_all(str(folder)), detector.preprocess, quiet=True)
    return sum(len(batch.images) for batch in stream.batches(128))


def varied(scores: Scores, factor: float) -> Scores:
    """Return scores, views and cues times a factor."""
    cues = {name: values * factor for name, values in scores.cues.items()}
    views = {name: values * factor for name, values in scores.views.items()}
    return Scores(scores.score * factor, cues, views)


def list_files(folder: Path) -> tuple[float, float]:
    """Return the files a second, and the bytes of memory a file, that the listing of a folder takes."""
    for number in range(LISTED):
        path = folder / f"{number // 1000:04}" / f"{number:07}.image.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    before, started = resident_bytes(), time.perf_counter()
    (reader,) = open_all(str(folder))
    assert reader.count() == LISTED
    seconds = time.perf_counter() - started
    return LISTED / seconds, (resident_bytes() - before) / LISTED


def resident_bytes() -> int:
    """Return the memory that this process takes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure(detector: Detector, sides: Iterable[int], seconds: float, work: Path) -> Capacity:
    """Measure every step with a model, in a working folder."""
    listing = list_files(work / "listed")
    reading = {}
    folders = []
    for side in sides:
        for ending, options in FORMATS.items():
            folder = work / f"{ending}-{side}"
            folder.mkdir()
            folders.append(folder)
            for number, crop in enumerate(crops(FILES, side)):
                Image.fromarray(crop).save(folder / f"{number:04}.{ending}", **options)
            reading[f"{ending}, {side}x{side}"] = rate(lambda f=folder: read(detector, f), seconds)  # type: ignore[misc]
    assert detector.folder is not None
    squares = np.stack([detector.preprocess(crop) for crop in crops(CHUNK, 40)])
    names = [f"folder/{number:07}.png" for number in range(CHUNK)]

    def looked(view: Any) -> int:
        view.measure(squares)
        return CHUNK

    views = {view.name: rate(lambda v=view: looked(v), seconds) for view in detector.views}  # type: ignore[misc]
    cues = detector.measure(squares)

    def judged() -> int:
        detector.calibration.of_images(detector.calibration.scores(cues), np.arange(CHUNK))
        return CHUNK

    scores = detector.score(squares, names=names)
    # So that no two rows of the table are the same, which its file would need no space for.
    several = [varied(scores, 1 + 1e-6 * number) for number in range(8)]
    out = work / "scores.parquet"

    def written() -> int:
        table = Table(detector.cue_names, out, detector.view_names, detector.reasons)
        for number, one in enumerate(several):
            table.append([f"{number}/{name}" for name in names], one)
        table.write(out)
        return len(several) * CHUNK

    api.prepare(str(folders[0]), work / "packed", like=detector.folder)
    packed = sum(path.stat().st_size for path in (work / "packed").rglob("*") if path.is_file())
    verdict, table = rate(judged, seconds), rate(written, seconds)
    table_bytes = out.stat().st_size / (len(several) * CHUNK)

    def scored() -> int:
        return len(api.score(detector, str(folders[0]), out))

    model = sum(path.stat().st_size for path in detector.folder.rglob("*.safetensors"))
    on = detector.views[0].device
    gpu = torch.cuda.get_device_name(on) if on.type == "cuda" else platform.machine()
    return Capacity(
        gpu, torch.get_num_threads(), reading, views, verdict, table, rate(scored, seconds),
        model, table_bytes, packed / FILES, *listing,
    )  # fmt: skip


def lines(found: Capacity) -> Iterable[str]:
    """Yield the figures as a table, and the plan."""
    yield f"{found.machine}, {found.threads} thread(s), torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}"
    yield ""
    yield "step                                images/s   hours for a million"
    steps = {"listing of files": found.listing}
    steps |= {f"reading, {name}": value for name, value in found.reading.items()}
    steps |= {f"view {name}": value for name, value in found.views.items()}
    steps |= {"verdict": found.verdict, "reasons and table": found.table}
    first = next(iter(found.reading))
    steps |= {"all but reading": found.scoring, f"anowild score, {first}": found.whole}
    for name, value in steps.items():
        yield f"{name:34} {value:9.0f} {hours(10**6, value):12.2f}"
    yield ""
    yield f"model {found.model_bytes / 1e6:.1f} MB; an image: table {found.table_bytes:.0f} bytes, packed {found.packed_bytes:.0f} bytes"
    yield f"listing of a folder: {found.listing_bytes:.0f} bytes of memory a file"
    yield ""
    yield "images        " + "".join(f"{count:>14.0e}" for count in SCALES)
    for name, value in found.reading.items():
        together = 1 / (1 / value + 1 / found.scoring)
        yield f"{name:14}" + "".join(f"{hours(n, together):12,.0f} h" for n in SCALES)
    yield "table         " + "".join(f"{n * found.table_bytes / 1e9:11,.1f} GB" for n in SCALES)
    yield "packed set    " + "".join(f"{n * found.packed_bytes / 1e9:11,.1f} GB" for n in SCALES)
    yield "listing, memory" + "".join(f"{n * found.listing_bytes / 1e9:10,.2f} GB" for n in SCALES)
    yield "scores, memory" + "".join(f"{n * 8 / 1e9:11,.2f} GB" for n in SCALES)


def hours(count: int, per_second: float) -> float:
    """Return the hours that ``count`` images take."""
    return count / per_second / 3600


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench capacity", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--preset", default="laptop", choices=list(PRESETS))
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("-o", "--out", type=Path, help="write the figures as JSON, too")
    given = parser.parse_args(arguments)
    configure_process(threads=1)
    device = select_device(given.device)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        detector = make_model(given.preset, work / "model", str(device))
        found = measure(detector, given.sides, given.seconds, work)
    print("\n".join(lines(found)), flush=True)
    if given.out is not None:
        write_json(given.out, asdict(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
