"""Speed and memory of the page of a review with many images.

    python -m bench page [--images 100000] [--side 32]

Needs a browser (`make browser`). Makes up images with thumbnails of 320 pixels and scores, serves them as
a review does, and opens the page in a headless browser: seconds to the first view, frames a second
while it scrolls for five seconds and while the limit is dragged, and the memory of the page (its
process, and JavaScript's heap within).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from anowild.data import ImageSet, PackedSet
from anowild.presets import preset
from anowild.reviewing.app import Review
from anowild.reviewing.images import ReviewImages, prepare_images
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import MARKS, Store
from anowild.scoring import Detector, Scores
from anowild.training.fitting import fit_detector
from tests.browser import launch, served

#: Images that differ, and their size in pixels.
DIFFERENT, SIZE = 200, (480, 320)

#: Counts the frames that are drawn while the page scrolls, or the limit moves, for ``ms`` milliseconds.
_FRAMES = """async ([kind, ms]) => {
  const grid = document.querySelector("#grid"), slider = document.querySelector("#limit");
  const step = { scroll: 30, "fast scroll": 90 }[kind]; // pixels a frame
  const times = [], started = performance.now();
  await new Promise((done) => {
    const frame = (now) => {
      times.push(now);
      if (step) grid.scrollTop += step;
      else { slider.value = (slider.valueAsNumber + 7) % 1000; slider.dispatchEvent(new Event("input")); }
      if (now - started < ms) requestAnimationFrame(frame); else done();
    };
    requestAnimationFrame(frame);
  });
  const gaps = times.slice(1).map((t, i) => t - times[i]).sort((a, b) => a - b);
  return [1000 / (gaps.reduce((a, b) => a + b, 0) / gaps.length), gaps[Math.floor(gaps.length * 0.99)]];
}"""


class Repeated(ReviewImages):
    """The images of a small data set, again and again, with names of their own."""

    def __init__(self, packed: PackedSet, count: int) -> None:
        super().__init__(packed, Path())
        rows = np.arange(count) % len(self.names)
        self._table = self._table.take(rows)
        self._parts, self._positions = self._parts[rows], self._positions[rows]
        few = list(self.thumbnails)
        self.thumbnails = [few[row] for row in rows]
        self.names = [f"folder/sub/image {i:07}.png" for i in range(count)]


def write_images(folder: Path) -> None:
    """Write soft blots of color with grain, whose thumbnails are as large as those of photographs."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(DIFFERENT):
        blots = Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8))
        soft = np.asarray(blots.resize(SIZE, Image.Resampling.BICUBIC))
        grain = rng.normal(0, 6, (*soft.shape[:2], 1))
        image = Image.fromarray((soft + grain).round().clip(0, 255).astype(np.uint8))
        image.save(folder / f"{i:03}.jpg")


def made_up(count: int, packed: PackedSet, detector: Detector) -> ReviewSession:
    """Make up a review, with scores distributed as a training set's."""
    rng = np.random.default_rng(0)
    score = rng.exponential(size=count) / np.log(10)
    scores = Scores(
        score,
        {cue: rng.lognormal(size=count) for cue in detector.cue_names},
        dict.fromkeys(detector.view_names, score),
    )
    features = rng.normal(size=(count, 32)).astype(np.float32)
    return ReviewSession(Repeated(packed, count), scores, features)


def renderer_mb() -> float:
    """Return the memory of Chromium's largest renderer process in MB; shared pages count in part."""
    most = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"--type=renderer" in (process / "cmdline").read_bytes():
                lines = (process / "smaps_rollup").read_text().splitlines()
                pss = next(line for line in lines if line.startswith("Pss:"))
                most = max(most, int(pss.split()[1]) / 1024)
        except (OSError, StopIteration):
            continue
    return most


def measure(url: str) -> None:
    """Open the page, and print its speed and memory."""
    with launch() as browser:
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        page = context.new_page()
        started = time.perf_counter()
        page.goto(url)
        page.wait_for_function(
            "() => [...document.querySelectorAll('.tile img')].filter((i) => i.naturalWidth > 100).length > 20"
        )
        print(f"first view with its pictures: {time.perf_counter() - started:.2f} s")
        for kind in ("scroll", "fast scroll", "limit"):
            page.wait_for_timeout(1000)  # pictures that the scroll before asked for
            rate, worst = page.evaluate(_FRAMES, [kind, 5000])
            print(f"{kind}: {rate:.1f} frames a second, 99th percentile of a frame {worst:.0f} ms")
        page.evaluate("document.querySelector('#grid').scrollTop = 1e9")
        page.wait_for_timeout(1000)
        client = context.new_cdp_session(page)
        client.send("Performance.enable")
        metrics = {m["name"]: m["value"] for m in client.send("Performance.getMetrics")["metrics"]}
        print(
            f"memory of the page: {renderer_mb():.0f} MB, of which JavaScript "
            f"{metrics['JSHeapUsedSize'] / 2**20:.0f} MB; {metrics['Nodes']:.0f} nodes"
        )


def main(arguments: list[str]) -> int:
    """Serve made-up images and scores, and measure the page."""
    parser = argparse.ArgumentParser(prog="python -m bench page", description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=32)
    given = parser.parse_args(arguments)
    settings = preset("laptop").settings().replace(resolution=given.side, kimg=0, views="gan")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, device = folder / "images", torch.device("cpu")
        write_images(images)
        training = ImageSet.load(str(images), settings)
        detector = fit_detector(training, settings, folder / "training", device).detector
        packed = prepare_images(str(images), folder / "set", detector.preprocess)
        session = made_up(given.images, packed, detector)
        size = np.mean([len(data) for data in session.images.thumbnails[:DIFFERENT]])
        print(f"{given.images} images, thumbnails of {size / 1000:.1f} KB")
        store = Store(folder / MARKS)
        with served(Review(Ranking(session, detector), store, "made up")) as url:
            measure(url)
        store.close()
    return 0
