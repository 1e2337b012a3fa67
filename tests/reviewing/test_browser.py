"""Report and review in a real browser, with a server that is killed during the review."""

from __future__ import annotations

import csv
import io
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anowild import api
from anowild.demo import run_demo
from anowild.study.datasets import cells64
from tests.conftest import PATIENCE, SHARED, Run, tiny_settings

playwright = pytest.importorskip("playwright.sync_api")


def find_chromium() -> str | None:
    """Return the path of the system's browser, or of the one that Playwright has downloaded."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    with playwright.sync_playwright() as driver:
        downloaded = str(driver.chromium.executable_path)
    return downloaded if Path(downloaded).exists() else None


CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no browser: `playwright install chromium` downloads one"
)


class Server:
    """A process that runs `anowild review`."""

    def __init__(self, model: Path, images: Path, out: Path, port: int = 0) -> None:
        command = [sys.executable, "-m", "anowild", "review", model, images, "-o", out]
        self.process = subprocess.Popen(
            [*map(str, command), "--port", str(port), "--threads", "1"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = line.rpartition("open ")[2].strip()
        assert self.url.startswith("http://127.0.0.1:"), line

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].strip("/"))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE * 1000
        )
        yield chromium
        chromium.close()


def new_page(browser: Any, **options: Any) -> Any:
    """Open a page that waits for as long as a busy machine needs."""
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE * 1000)
    return page


@dataclass(frozen=True)
class Scene:
    """A model and the folder of its training images."""

    model: Path
    images: Path

    @property
    def count(self) -> int:
        return len(list(self.images.iterdir()))


@pytest.fixture(
    scope="module",
    params=["digits", "demo", pytest.param("cells64, 5 %", marks=pytest.mark.shared)],
)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Return a barely trained model; the tests are about the pages."""
    if request.param == "digits":
        return Scene(request.getfixturevalue("model_folder"), request.getfixturevalue("images"))
    folder = tmp_path_factory.mktemp("scene")
    if request.param == "demo":
        run_demo(folder, rate=0.05, seed=0, kimg=0.3, threads=1)
        return Scene(folder / "model", folder / "digits" / "training")
    images = folder / "cells"
    images.mkdir()
    for i, image in enumerate(cells64(SHARED, 0.05, 0).training):
        Image.fromarray(image[0]).save(images / f"{i:04}.png")
    api.train(str(images), folder / "model", tiny_settings(), threads=1)
    return Scene(folder / "model", images)


def reviewed(page: Any) -> str:
    return str(page.inner_text("#progress"))


def verdicts(page: Any) -> list[str]:
    return [str(text) for text in page.locator(".tile .mark").all_inner_texts() if text]


def test_report_in_browser(browser: Any, scene: Scene, anowild: Run, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    code, _, err = anowild("report", scene.model, scene.images, "-o", out, "--budget", 20)
    assert code == 0, err
    assert out.stat().st_size < 10e6
    wrong: list[str] = []
    page = new_page(browser)
    page.on("console", lambda message: wrong.append(message.text))
    page.on(
        "request",
        lambda r: wrong.append(r.url) if not r.url.startswith(("file:", "data:")) else None,
    )
    for width in (390, 1200):
        page.set_viewport_size({"width": width, "height": 1600})
        page.goto(out.as_uri())
        assert page.locator(".card").count() >= 10
        assert page.locator(".card.odd").count() >= 1
        assert page.locator(".strip li").count() == min(20, page.locator(".card").count())
        # The images come first, on a phone as well.
        first = page.locator(".strip svg").first.bounding_box()
        assert first["y"] < 500
        assert first["width"] >= 80
        broken = page.locator("img").evaluate_all(
            "all => all.filter(i => !i.complete || !i.naturalWidth || !i.alt).length"
        )
        assert broken == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        pixels = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
        # Pictures and text on every quarter of the page.
        assert all(part.std() > 5 for part in np.array_split(pixels, 4))
        # Without a script: from the strip to the card, a larger picture, and back by Esc.
        page.locator(".strip a").first.click()
        card = page.locator(".card:target")
        card.locator("button.thumb").first.click()
        zoom = page.locator(".zoom:popover-open")
        assert zoom.locator("svg").bounding_box()["width"] > 300
        shot = np.asarray(Image.open(io.BytesIO(zoom.locator("svg").screenshot())).convert("L"))
        assert shot.std() > 5
        page.keyboard.press("Escape")
        assert page.locator(".zoom:popover-open").count() == 0
        assert page.locator("details.part[open]").count() == 0
    assert wrong == []


def test_review_in_browser(browser: Any, scene: Scene, tmp_path: Path) -> None:
    count = scene.count
    server = Server(scene.model, scene.images, tmp_path / "review")
    wrong: list[str] = []
    try:
        page = new_page(browser, viewport={"width": 1200, "height": 900})
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(server.url)
        # The grid shows pictures.
        page.wait_for_selector(".tile .text:has-text('score')")
        assert page.locator(".tile").count() >= 30
        assert "url(" in page.locator(".tile .picture").first.evaluate(
            "element => element.style.backgroundImage"
        )
        # Dragging the threshold to the right leaves fewer images above it.
        before = int(page.inner_text("#counts").split()[0])
        box = page.locator("#threshold").bounding_box()
        handle = float(page.input_value("#threshold")) / 1000
        x, y = box["x"] + 8 + handle * (box["width"] - 16), box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 0.8 * (box["x"] + box["width"] - x), y, steps=5)
        page.mouse.up()
        after = int(page.inner_text("#counts").split()[0])
        assert 0 < after < before
        # Thirty marks by keyboard, one of them undone.
        page.focus("#scroller")
        for key in "okuoo" * 6:
            page.keyboard.press(key)
        page.wait_for_selector(f"#progress:has-text('30 of {count}')")
        assert "18 odd, 6 keep, 6 unsure" in reviewed(page)
        page.keyboard.press("z")
        page.wait_for_selector(f"#progress:has-text('29 of {count}')")
        assert "17 odd" in reviewed(page)
        # The detail view of an image.
        page.keyboard.press("Home")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open]")
        assert page.locator("#detail-pictures img").count() == 4
        page.keyboard.press("Escape")
        # Export.
        with page.expect_download() as download:
            page.click("#csv")
        rows = list(
            csv.DictReader(
                io.StringIO(Path(download.value.path()).read_text(errors="surrogateescape"))
            )
        )
        assert len(rows) == 29
        marked = [(row["path"], row["verdict"]) for row in rows]

        server.kill()
        page.keyboard.press("o")
        page.wait_for_selector("#error:not([hidden])")
        assert "does not answer" in page.inner_text("#error")
        assert [text for text in wrong if "ERR_CONNECTION" not in text] == []
        wrong.clear()

        server = Server(scene.model, scene.images, tmp_path / "review", server.port)
        page.goto(server.url)
        page.wait_for_selector(".tile .mark:not(:empty)")
        page.wait_for_selector(f"#progress:has-text('29 of {count}')")
        with page.expect_download() as download:
            page.click("#csv")
        rows = list(
            csv.DictReader(
                io.StringIO(Path(download.value.path()).read_text(errors="surrogateescape"))
            )
        )
        assert [(row["path"], row["verdict"]) for row in rows] == marked
        # The learned order, another reviewer, and the width of a phone.
        page.select_option("#sort", "marks")
        page.fill("#reviewer", "Bo")
        page.press("#reviewer", "Tab")
        page.wait_for_selector("#progress:has-text('(0 by you)')")
        page.wait_for_selector(".tile .mark:has-text('others: odd')")
        # After undoing an own mark, the marks of the others are shown again.
        shown = verdicts(page)[:3]
        page.focus("#scroller")
        page.keyboard.press("Home")
        page.keyboard.press("k")
        page.wait_for_selector("#progress:has-text('(1 by you)')")
        page.keyboard.press("z")
        page.wait_for_selector("#progress:has-text('(0 by you)')")
        assert verdicts(page)[:3] == shown
        page.set_viewport_size({"width": 390, "height": 800})
        page.wait_for_selector(".tile .text:has-text('score')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert wrong == []
    finally:
        server.kill()


def test_review_shows_hostile_names_as_text(
    browser: Any, model_folder: Path, images: Path, tmp_path: Path
) -> None:
    server = Server(model_folder, images, tmp_path / "review")
    wrong: list[str] = []
    try:
        page = new_page(browser, viewport={"width": 1600, "height": 2400})
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("console", lambda message: wrong.append(message.text))
        page.goto(server.url)
        page.wait_for_selector(".tile .text:has-text('score')")
        page.wait_for_selector(".tile[title]:nth-child(120)")
        titles = page.locator(".tile").evaluate_all("tiles => tiles.map(tile => tile.title)")
        assert any("<script>alert(1).png" in title for title in titles)
        assert any('onmouseover="alert(1).png' in title for title in titles)
        page.locator(".tile").first.hover()
        assert page.locator("script").count() == 1
        assert wrong == []
    finally:
        server.kill()
