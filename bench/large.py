"""A table of ten million scored images: ranks, report, and the first pages of a review.

    python -m bench large [--rows 10000000] [--folder DIR]

The table is made up (seed 0): four views, ten cues, reasons, and paths that all exist, as each folder of a thousand
is a link to the same one. Each step runs in a process of its own, whose peak memory is its own: `finish` ranks,
`report` writes the page, and `review` is asked for what a browser asks for. With --folder the table is kept, and found
again by the next run.
"""

from __future__ import annotations

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from anowild.data import Preprocess
from anowild.progress import bar
from anowild.scoring import thresholds
from anowild.scoring.partitions import CueFacts, PartWriter, TableFacts
from anowild.scoring.scores import Scores
from bench.data import peak_mb

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


def finish(folder: Path, parts: int) -> None:
    """Rank the table, and print the seconds and the peak memory of this process."""
    writer = PartWriter(folder / "table", facts(folder))
    before, started = peak_mb(), time.perf_counter()
    table = writer.finish(parts, lambda scored: thresholds.training_share(scored.score, 0.001))
    seconds = time.perf_counter() - started
    say("ranks and limit", seconds, peak_mb(), f"{before:.0f} MB before; {len(table):,} images")


def report(folder: Path) -> None:
    """Write the report as the command does, and print the seconds and the peak memory of this process."""
    started = time.perf_counter()
    from anowild import api

    out = folder / "report.html"
    api.report_table(folder / "table", out)
    say("report", time.perf_counter() - started, peak_mb(), f"{out.stat().st_size / 1e6:.1f} MB")


def say(what: str, seconds: float, megabytes: float | None = None, more: str = "") -> None:
    """Print a line of the result."""
    peak = "" if megabytes is None else f"{megabytes:8.0f} MB"
    print(f"{what:44}{seconds:8.2f} s{peak:>12}  {more}".rstrip(), flush=True)


def review(folder: Path) -> None:
    """Start the command, ask it for what a browser asks for, and print the seconds and its peak memory."""
    started = time.perf_counter()
    command = [
        "review",
        folder / "table",
        "-o",
        folder / "review",
        "--no-browser",
        "--no-token",
        "--port",
        "0",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "anowild", *map(str, command)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        url = next(line.split("open ")[1].strip() for line in process.stdout if "open http" in line)
        ready = time.perf_counter()
        shown = first_page(url)
        say("review: from start of the process to address", ready - started)
        say(
            "review: first page from request, pictures too",
            time.perf_counter() - ready,
            None,
            f"{shown} pictures",
        )
        say("review: first page from start of the process", time.perf_counter() - started)
        for what, order in QUESTIONS.items():
            asked = time.perf_counter()
            numbers, total = order_of(url, order)
            answered = time.perf_counter()
            tiles(url, numbers[:TILES])
            seconds = time.perf_counter() - asked
            more = f"order {answered - asked:.2f} s; {total:,} images"
            say(f"review: {what}", seconds, None, more)
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        (line,) = (row for row in status if row.startswith("VmHWM"))
        say("review: peak memory of the server", 0.0, int(line.split()[1]) / 1024)
    finally:
        process.terminate()
        process.wait()


#: Images of a screen.
TILES = 60
#: What is asked of the review after its first page: the order and its filters.
QUESTIONS = {
    "page 1,000 deep": "sort=score&start=60000",
    "filter: score from 2 to 3": "sort=score&above=2&below=3",
    "filter: text of the name": "sort=score&q=batch-004242",
    "sort by a view": "sort=view_gan",
    "sort by a view, a million images deep": "sort=view_gan&start=1000000",
    "sort by name, the last first": "sort=name&reverse=1",
}


def get(url: str, path: str) -> http.client.HTTPResponse:
    """Return an answer of the server."""
    answer: http.client.HTTPResponse = urllib.request.urlopen(url + path)
    return answer


def order_of(url: str, query: str) -> tuple[list[int], int]:
    """Return the numbers of the first images of a query, and how many there are."""
    with get(url, f"api/order?{query}") as answer:
        total = int(answer.headers["x-total"])
        return np.frombuffer(answer.read(), "<i4").tolist(), total


def tiles(url: str, numbers: Sequence[int]) -> int:
    """Fetch what the tiles of a screen show, six requests at a time as browsers do; return how many pictures."""
    get(url, f"api/rows?images={','.join(map(str, numbers))}&reviewer=me").read()
    with ThreadPoolExecutor(6) as pool:
        pictures = pool.map(lambda i: get(url, f"api/thumbnail/{i}?side=192").read(), numbers)
        return sum(picture.startswith((b"\xff\xd8", b"RIFF")) for picture in pictures)


def first_page(url: str) -> int:
    """Fetch the page as a browser does, with its first screen."""
    for path in ("", "static/main.js", "static/review.css", "api/info", "api/levels"):
        get(url, path).read()
    return tiles(url, order_of(url, "sort=score")[0][:TILES])


def main(arguments: list[str]) -> int:
    """Make the table and measure each step in a process; with ``--step``, be one of them."""
    parser = argparse.ArgumentParser(
        prog="python -m bench large", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the table is kept")
    parser.add_argument("--step", choices=["finish", "report"], help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.step == "finish":
        finish(given.folder, -(-given.rows // PART))
        return 0
    if given.step == "report":
        report(given.folder)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        started = time.perf_counter()
        parts = make(folder, given.rows)
        print(
            f"{datetime.now(UTC).date()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} when it began"
        )
        say("made up (0: it was there)", time.perf_counter() - started, None, f"{parts} parts")
        for step in ("finish", "report"):
            command = [
                "-m",
                "bench",
                "large",
                "--step",
                step,
                "--folder",
                str(folder),
                "--rows",
                str(given.rows),
            ]
            subprocess.run([sys.executable, *command], check=True)
        review(folder)
        print(f"load {os.getloadavg()[0]:.1f} when it ended")
    return 0
