"""Report and review in a real browser: servers that go away, phones, screen readers, paper."""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from anowild import api
from anowild.reviewing.app import Review, Status
from anowild.reviewing.query import Query
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import MARKS, Store
from anowild.study.datasets import cells64
from tests.browser import new_page, served
from tests.conftest import SHARED, Run, tiny_settings
from tests.reviewing.browsing import (
    DESKTOP,
    PHONE,
    Scene,
    Site,
    box_of,
    broken_pictures,
    eventually,
    open_detail,
    open_review,
    original_of,
    place,
    serious_faults,
    shows,
    tile,
)

# Servers that change, or go away


def test_ranked_again_while_the_page_is_open(
    browser: Browser, photos: Scene, tmp_path: Path
) -> None:
    session = photos.ranking.session
    quick = api.train(str(photos.images), tmp_path / "quick", tiny_settings(views=("pixels",)))
    pictures = np.array(session.images.squares)
    features = quick.features(pictures).astype(np.float32)
    first = Ranking(ReviewSession(session.images, quick.score(pictures), features), quick)
    training = Status("training", "The other views are being trained.", 0.5)
    store = Store(tmp_path / MARKS)
    review = Review(first, store, "photos")
    review.status = training
    with served(review) as url, new_page(browser, url, viewport=DESKTOP) as page:
        site = Site(url, review, store)
        open_review(page, url)
        expect(page.locator("#training-text")).to_have_text(training.text)
        assert page.evaluate("document.getElementById('training-progress').value") == 0.5
        shows(page, site.numbers(Query()))
        # Nothing is marked: the page is ranked again by itself, and the current image stays.
        page.keyboard.press("ArrowRight")
        current = site.numbers(Query())[1]
        review.show(photos.ranking, None)
        expect(page.locator("#toast")).to_have_text("Re-ranked with all views.")
        shows(page, site.numbers(Query()))
        eventually(lambda: place(page), site.numbers(Query()).index(current))
        assert "view_gan" in page.locator("#sort option").evaluate_all(
            "all => all.map(o => o.value)"
        )
        # Marks are being made: the page asks.
        page.keyboard.press("k")
        eventually(lambda: len(site.marks()), 1)
        before = site.numbers(Query())
        review.show(first, None)
        review.status = Status("done", "Ranked by all views.")
        expect(page.locator("#training-rerank")).to_have_text("Re-rank with all views")
        shows(page, before)
        page.click("#training-rerank")
        shows(page, site.numbers(Query()))
        expect(page.locator("#training")).to_be_hidden()
        assert len(site.marks()) == 1
    store.close()


class Process:
    """A process that runs `anowild review`."""

    def __init__(self, scene: Scene, out: Path, port: int = 0) -> None:
        command = [sys.executable, "-m", "anowild", "review", scene.model, scene.images, "-o", out]
        self.process = subprocess.Popen(
            [*map(str, command), "--no-browser", "--port", str(port), "--threads", "1"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = ""
        while "open http" not in said:
            said = self.process.stdout.readline()
            assert said
        self.url = said.rpartition("open ")[2].strip()

    @property
    def port(self) -> int:
        found = urlsplit(self.url).port
        assert found
        return found

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


#: Whether nothing lies over the middle of an element.
_SEEN = """selector => {
  const box = document.querySelector(selector).getBoundingClientRect();
  const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return top !== null && top.closest(selector) !== null;
}"""


def test_a_killed_server_loses_no_mark(browser: Browser, photos: Scene, tmp_path: Path) -> None:
    out = tmp_path / "review"
    shutil.copytree(photos.review, out)
    server = Process(photos, out)
    try:
        refused = "ERR_CONNECTION_REFUSED"  # said by the browser
        with new_page(browser, server.url, refused, viewport=DESKTOP) as page:
            open_review(page, server.url)
            for key in "rkiur":
                page.keyboard.press(key)
            expect(page.locator("#progress")).to_contain_text("5 of")
            page.keyboard.press("z")
            expect(page.locator("#progress")).to_contain_text("4 of")
            server.kill()
            page.keyboard.press("r")
            expect(page.locator("#error")).to_contain_text("does not answer")
            # The mark that was not stored is not shown.
            expect(tile(page, 4).locator(".mark")).to_be_hidden()
            expect(page.locator(".tile .mark:not(:empty)")).to_have_count(4)
            # In the detail, which lies above all else, it is seen as well.
            page.keyboard.press("Enter")
            expect(page.locator("#detail")).to_be_visible()
            page.keyboard.press("k")
            expect(page.locator("#error")).to_contain_text("does not answer")
            assert page.evaluate(_SEEN, "#error")
            page.keyboard.press("Escape")
            expect(page.locator("#detail")).to_be_hidden()
            assert page.evaluate(_SEEN, "#error")
        server = Process(photos, out, server.port)
        with new_page(browser, server.url, viewport=DESKTOP) as page:
            open_review(page, server.url)
            found = [tile(page, i).locator(".mark").text_content() for i in range(5)]
            assert found == ["remove", "keep", "interesting", "unsure", ""]
            expect(page.locator("#progress")).to_contain_text("4 of")
            page.keyboard.press("z")
            expect(page.locator("#progress")).to_contain_text("3 of")
    finally:
        server.kill()


# Small windows, screen readers, paper


def test_no_serious_fault_for_screen_readers(page: Page, site: Site) -> None:
    found = {"grid": serious_faults(page)}
    page.emulate_media(color_scheme="dark")
    found["grid, dark"] = serious_faults(page)
    page.emulate_media(color_scheme="light")
    for key in ("r", "k", "i", "u", "Shift+ArrowRight"):
        page.keyboard.press(key)
    page.select_option("#folder", index=1)
    expect(page.locator("#show-all")).to_be_visible()
    found["grid with marks and filters"] = serious_faults(page)
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    found["help"] = serious_faults(page)
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(page.locator("#all-dialog")).to_be_visible()
    found["dialog"] = serious_faults(page)
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    found["tag"] = serious_faults(page)
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    expect(page.locator("#map-text")).to_be_empty()
    found["map"] = serious_faults(page)
    page.keyboard.press("m")
    open_detail(page, site, "stack.tif[1]")
    page.keyboard.press("h")
    expect(page.locator("#pictures img")).to_have_count(4)
    found["detail"] = serious_faults(page)
    page.emulate_media(color_scheme="dark")
    found["detail, dark"] = serious_faults(page)
    assert {part: faults for part, faults in found.items() if faults} == {}


def touch(page: Page, points: Sequence[tuple[float, float]], milliseconds: int = 0) -> None:
    """Put a finger on the first point, move it along the others, and lift it."""
    client = page.context.new_cdp_session(page)
    for i, (x, y) in enumerate(points):
        kind = "touchMove" if i else "touchStart"
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    page.wait_for_timeout(milliseconds)
    client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def middle(found: Locator) -> tuple[float, float]:
    box = box_of(found)
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def small_targets(page: Page, within: str) -> list[str]:
    """Return the controls of a part that are lower than 44 pixels."""
    found: list[str] = page.locator(
        f"{within} :is(button, select, summary, a, input)"
    ).evaluate_all(
        """all => all.filter((one) => one.checkVisibility({ visibilityProperty: true }))
          .filter((one) => (one.closest("label.check") ?? one).getBoundingClientRect().height < 43.5)
          .map((one) => one.outerHTML)"""
    )
    return found


def test_phone(browser: Browser, site: Site) -> None:
    order = site.numbers(Query())
    with new_page(browser, site.url, **PHONE) as page:

        def is_narrow() -> bool:
            width: int = page.evaluate("document.documentElement.scrollWidth")
            return width <= 390

        def in_window(selector: str) -> None:
            for found in page.locator(selector).all():
                box = box_of(found)
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= 390
                assert box["y"] + box["height"] <= 844

        open_review(page, site.url)
        assert is_narrow()
        assert broken_pictures(page, ".tile") == []
        in_window("#bar [data-verdict]")
        grid = box_of(page.locator("#grid"))
        assert grid["height"] > 844 / 2
        assert small_targets(page, "body") == []
        assert serious_faults(page) == []
        page.tap('#bar [data-verdict="remove"]')
        eventually(site.marks, {order[0]: "remove"})
        # A long press selects; more are added by a touch.
        touch(page, [middle(tile(page, 2))], 700)
        expect(page.locator("#chosen")).to_contain_text("1 image")
        tile(page, 3).tap()
        expect(page.locator("#chosen")).to_contain_text("2 image")
        page.tap('#bar [data-verdict="keep"]')
        eventually(lambda: len(site.marks()), 3)
        # Filters lie behind a button.
        page.tap("#toggle-side")
        assert is_narrow()
        assert small_targets(page, "#side") == []
        assert serious_faults(page) == []
        page.tap('#filter-mark [data-value="keep"]')
        page.tap("#toggle-side")
        shows(page, order[2:4])
        page.tap("#show-all")
        shows(page, order)
        # The detail: marked, swiped, closed.
        eventually(lambda: page.locator(".tile.current").count(), 1)
        page.locator(".tile.current").tap()
        at = order.index(int(page.locator(".tile.current").get_attribute("data-number") or -1))
        original_of(page, order[at])
        assert is_narrow()
        in_window("#close, #detail-bar [data-verdict], [data-action=previous], [data-action=next]")
        assert small_targets(page, "#detail") == []
        assert serious_faults(page) == []
        stage = box_of(page.locator("#stage"))
        assert stage["height"] > 844 / 4
        x, y = middle(page.locator("#stage"))
        touch(page, [(x + 100, y), (x + 50, y), (x - 50, y), (x - 100, y)])
        original_of(page, order[at + 1])
        touch(page, [(x - 100, y), (x - 50, y), (x + 50, y), (x + 100, y)])
        original_of(page, order[at])
        page.tap('#detail-bar [data-verdict="unsure"]')
        eventually(lambda: site.marks().get(order[at]), "unsure")
        page.tap("#close")
        expect(page.locator("#detail")).to_be_hidden()


def test_zoom_of_200_percent(browser: Browser, site: Site) -> None:
    small = {"width": 700, "height": 450}
    with new_page(browser, site.url, viewport=small, device_scale_factor=2) as page:
        open_review(page, site.url)
        grid = box_of(page.locator("#grid"))
        assert grid["height"] >= small["height"] / 3
        assert page.evaluate("document.documentElement.scrollWidth") <= small["width"]
        page.keyboard.press("Enter")
        stage, bar = (box_of(page.locator(s)) for s in ("#stage", "#detail-bar"))
        assert stage["height"] >= small["height"] / 3
        assert bar["y"] + bar["height"] <= small["height"]


def test_print_has_pictures(page: Page) -> None:
    assert broken_pictures(page, ".tile") == []
    shown = page.locator(".tile").count()
    assert page.pdf().count(b"/Subtype /Image") >= shown // 2
    page.emulate_media(media="print")
    expect(page.locator("#bar")).to_be_hidden()
    assert broken_pictures(page, ".tile") == []
    corners: list[list[int]] = page.locator(".tile").evaluate_all(
        "tiles => tiles.map((tile) => { const { x, y } = tile.getBoundingClientRect(); return [x, y]; })"
    )
    assert len({tuple(corner) for corner in corners}) == len(corners) >= shown  # side by side


# The report


@pytest.fixture(
    scope="module",
    params=["digits", pytest.param("cells64, 5 %", marks=pytest.mark.shared)],
)
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Return a barely trained model and the folder of its training images."""
    if request.param == "digits":
        return request.getfixturevalue("model_folder"), request.getfixturevalue("images")
    folder = tmp_path_factory.mktemp("scene")
    images = folder / "cells"
    images.mkdir()
    for i, image in enumerate(cells64(SHARED, 0.05, 0).training):
        Image.fromarray(image[0]).save(images / f"{i:04}.png")
    api.train(str(images), folder / "model", tiny_settings(), threads=1)
    return folder / "model", images


def test_report_in_browser(
    browser: Browser, scene: tuple[Path, Path], anowild: Run, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    model, images = scene
    code, _, err = anowild("report", model, images, "-o", out, "--budget", 20)
    assert code == 0, err
    assert out.stat().st_size < 10e6
    with new_page(browser, "file:") as page:
        check_report(page, out.as_uri())


def check_report(page: Page, url: str) -> None:
    for width in (390, 1200):
        page.set_viewport_size({"width": width, "height": 1600})
        page.goto(url)
        assert page.locator(".card").count() >= 10
        assert page.locator(".card.odd").count() >= 1
        assert page.locator(".strip li").count() == min(20, page.locator(".card").count())
        # The images come first, on a phone as well.
        first = box_of(page.locator(".strip svg").first)
        assert first["y"] < 500
        assert first["width"] >= 80
        broken = page.locator("img").evaluate_all(
            "all => all.filter(i => !i.complete || !i.naturalWidth || !i.alt).length"
        )
        assert broken == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_faults(page) == []
        pixels = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
        # Pictures and text on every quarter of the page.
        assert all(part.std() > 5 for part in np.array_split(pixels, 4))
        # Without a script: from the strip to the card, a larger picture, and back by Esc.
        page.locator(".strip a").first.click()
        card = page.locator(".card:target")
        card.locator("button.thumb").first.click()
        zoom = page.locator(".zoom:popover-open")
        assert box_of(zoom.locator("svg"))["width"] > 300
        shot = np.asarray(Image.open(io.BytesIO(zoom.locator("svg").screenshot())).convert("L"))
        assert shot.std() > 5
        page.keyboard.press("Escape")
        assert page.locator(".zoom:popover-open").count() == 0
        assert page.locator("details.part[open]").count() == 0
