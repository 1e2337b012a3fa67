"""Speed and memory of the page of `anowild review` with many images.

    python -m bench page [--images 100000] [--side 32]

Needs Playwright and Chromium. Makes up images and scores, serves them as a review does, and opens
the page in a headless browser: seconds to the first view, frames a second while it scrolls for five
seconds and while the threshold is dragged, and the memory of the page (its process, and JavaScript's
heap within).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn

from anowild.data import ImageSet
from anowild.presets import preset
from anowild.reviewing.app import Review
from anowild.reviewing.security import access_rules
from anowild.reviewing.serve import listen
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import MARKS, Store
from anowild.training.fitting import fit_detector
from anowild.views.gan import CUES

#: Counts the frames that are drawn while the page scrolls, or the threshold moves, for ``ms`` milliseconds.
_FRAMES = """async ([kind, ms]) => {
  const scroller = document.querySelector("#scroller"), slider = document.querySelector("#threshold");
  const times = [], started = performance.now();
  await new Promise((done) => {
    const frame = (now) => {
      times.push(now);
      if (kind === "scroll") scroller.scrollTop += 90;
      else { slider.value = (slider.valueAsNumber + 7) % 1000; slider.dispatchEvent(new Event("input")); }
      if (now - started < ms) requestAnimationFrame(frame); else done();
    };
    requestAnimationFrame(frame);
  });
  const gaps = times.slice(1).map((t, i) => t - times[i]).sort((a, b) => a - b);
  return [1000 / (gaps.reduce((a, b) => a + b, 0) / gaps.length), gaps[Math.floor(gaps.length * 0.99)]];
}"""


def made_up(count: int, side: int, folder: Path) -> ReviewSession:
    """Make up images of soft blots, with scores distributed as a training set's."""
    rng = np.random.default_rng(0)
    pictures = np.lib.format.open_memmap(
        folder / "pictures.npy", mode="w+", dtype=np.uint8, shape=(count, 1, side, side)
    )
    few = rng.integers(0, 256, (1000, 1, side // 4, side // 4), dtype=np.uint8)
    blots = few.repeat(4, axis=2).repeat(4, axis=3)
    for start in range(0, count, 1000):
        part = pictures[start : start + 1000]
        part[:] = blots[: len(part)]
    score = rng.exponential(size=count) / np.log(10)
    return ReviewSession(
        [f"folder/sub/image {i:07}.png" for i in range(count)], score,
        {cue: rng.lognormal(size=count) for cue in CUES},
        rng.normal(size=(count, 32)).astype(np.float32), pictures,
    )  # fmt: skip


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
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1400, "height": 1000}, bypass_csp=True)
        page: Any = context.new_page()
        started = time.perf_counter()
        page.goto(url)
        page.wait_for_selector(".tile .text:has-text('score')")
        print(f"first view: {time.perf_counter() - started:.2f} s")
        for kind in ("scroll", "threshold"):
            rate, worst = page.evaluate(_FRAMES, [kind, 5000])
            print(f"{kind}: {rate:.1f} frames a second, 99th percentile of a frame {worst:.0f} ms")
        page.evaluate("document.querySelector('#scroller').scrollTop = 1e9")
        page.wait_for_timeout(1000)
        client = context.new_cdp_session(page)
        client.send("Performance.enable")
        metrics = {m["name"]: m["value"] for m in client.send("Performance.getMetrics")["metrics"]}
        print(
            f"memory of the page: {renderer_mb():.0f} MB, of which JavaScript "
            f"{metrics['JSHeapUsedSize'] / 2**20:.0f} MB; {metrics['Nodes']:.0f} nodes"
        )
        browser.close()


def main(arguments: list[str]) -> int:
    """Serve made-up images and scores, and measure the page."""
    parser = argparse.ArgumentParser(prog="python -m bench page", description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=32)
    given = parser.parse_args(arguments)
    settings = preset("laptop").settings().replace(resolution=given.side, kimg=0, views="gan")
    noise = np.random.default_rng(0).integers(0, 256, (64, given.side, given.side), dtype=np.uint8)
    training = ImageSet.load(noise, settings)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        device = torch.device("cpu")
        detector = fit_detector(training, settings, folder / "training", device).detector
        scored = made_up(given.images, given.side, folder)
        print(f"{given.images} images of {given.side}x{given.side}")
        with listen("127.0.0.1", 0) as listening:
            port = listening.getsockname()[1]
            app = Review(scored, detector, Store(folder / MARKS), "made up").app(
                *access_rules("127.0.0.1", port)
            )
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
            thread = threading.Thread(
                target=server.run, kwargs={"sockets": [listening]}, daemon=True
            )
            thread.start()
            try:
                measure(f"http://127.0.0.1:{port}/")
            finally:
                server.should_exit = True
                thread.join()
    return 0
