"""What tests of the review's page share: a scene, a served review, and what is read from the page."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, expect
from sklearn.datasets import load_sample_image

from anowild.reviewing.app import Review
from anowild.reviewing.query import Query
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.store import Store
from anowild.scoring import Detector
from tests.browser import PATIENCE

#: File names that try to inject markup or are no valid text.
HOSTILE = ("<script>alert(1).png", 'a" onmouseover="alert(1).png', "two\nlines.png", "\udcff.png")
#: Photographs of usual size, nearly empty ones, and the size of the large ones.
USUAL, EMPTY, LARGE = 90, 8, (1500, 1000)
#: Values of the pages of a file of 16 bits: from, to.
PAGES = ((100, 900), (1000, 4000), (200, 60000))
DESKTOP = {"width": 1200, "height": 900}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
}


@dataclass(frozen=True)
class Scene:
    """A folder of images, a barely trained model of it, and its scores; the tests are about the page."""

    images: Path
    model: Path
    review: Path
    detector: Detector
    ranking: Ranking


@dataclass(frozen=True)
class Site:
    """A review that is served, with marks of its own."""

    url: str
    review: Review
    store: Store

    @property
    def ranking(self) -> Ranking:
        """What is served, with scores in memory."""
        return ranking_of(self.review)

    def numbers(self, query: Query) -> list[int]:
        """Return what the page has to show."""
        return [int(n) for n in self.ranking.select(query, self.store.marks())]

    def number(self, name: str) -> int:
        """Return the number of the image whose name ends so."""
        names = self.ranking.session.names
        return next(i for i, known in enumerate(names) if known.endswith(name))

    def marks(self, reviewer: str = "me") -> dict[int, str | None]:
        """Return the stored verdicts of a reviewer by the numbers of images."""
        known = self.ranking.session.numbers
        return {
            known[mark.image]: mark.verdict
            for mark in self.store.marks()
            if mark.reviewer == reviewer and mark.verdict is not None
        }

    def tags(self) -> dict[int, tuple[str, ...]]:
        """Return the stored tags by the numbers of images."""
        known = self.ranking.session.numbers
        return {known[mark.image]: mark.tags for mark in self.store.marks() if mark.tags}

    def mark(self, numbers: Sequence[int], reviewer: str, verdict: str) -> None:
        """Store marks that were made before the page is opened."""
        names = self.ranking.session.names
        self.store.mark([names[i] for i in numbers], reviewer, verdict)


def ranking_of(review: Review) -> Ranking:
    """Return what a review of packed images serves."""
    assert isinstance(review.catalog, Ranking)
    return review.catalog


def write_images(folder: Path) -> None:
    """Write crops of two photographs, nearly empty images, large ones, and a file of three pages of 16 bits."""
    rng = np.random.default_rng(0)
    motifs = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    for part in ("spring", "summer"):
        (folder / part).mkdir(parents=True)
    for i in range(USUAL):
        top, left = rng.integers(427 - 72), rng.integers(640 - 96)
        crop = motifs[i % 2][top : top + 72, left : left + 96]
        part = "spring" if i < USUAL // 3 else "summer"
        name = HOSTILE[i] if i < len(HOSTILE) else f"{i:03}.png"
        Image.fromarray(crop).save(folder / part / name)
    for i in range(EMPTY):
        flat = (200 + rng.normal(0, 4, (72, 96, 3))).astype(np.uint8)
        Image.fromarray(flat).save(folder / "summer" / f"empty-{i}.png")
    black = (rng.random((72, 96, 3)) * 6).astype(np.uint8)
    Image.fromarray(black).save(folder / "summer" / "black.png")
    shutil.copyfile(folder / "spring" / "010.png", folder / "summer" / "copy.png")
    for i in range(3):
        crop = Image.fromarray(motifs[0]).crop((40 * i, 20 * i, 40 * i + 480, 20 * i + 320))
        crop.resize(LARGE).save(folder / "summer" / f"large-{i}.jpg", quality=90)
    ramp = np.linspace(0, 1, 72 * 96).reshape(72, 96)
    pages = [(low + (high - low) * ramp).astype(np.uint16) for low, high in PAGES]
    tifffile.imwrite(folder / "spring" / "stack.tif", np.stack(pages), photometric="minisblack")
    (folder / "spring" / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image either")


def open_review(page: Page, url: str) -> None:
    """Open an address of the review, and wait until its images are there."""
    page.goto("about:blank")
    page.goto(url)
    expect(page.locator("#grid")).to_be_focused()  # from then on it listens to keys
    expect(page.locator(".tile.loading")).to_have_count(0)


def address(page: Page) -> str:
    """Return the address of the page, with the state behind its #."""
    found: str = page.evaluate("location.href")
    return found


def eventually(found: Callable[[], object], expected: object) -> None:
    """Wait until a function returns a value; fail with what it returned instead."""
    end = time.monotonic() + PATIENCE / 1000
    while (value := found()) != expected:
        if time.monotonic() > end:
            assert value == expected
        time.sleep(0.02)


def order_of(page: Page) -> list[int] | str:
    """Return the numbers of the images in the order of the page, of which the tiles show some."""
    found: list[int] | str = page.evaluate(
        """async () => {
          const { review } = await import("/static/state.js");
          const tiles = [...document.querySelectorAll(".tile")];
          if (!tiles.length && review.order.length && !document.getElementById("grid").hidden) return "no tiles";
          const other = tiles.some((tile) => Number(tile.dataset.number) !== review.order[tile.dataset.place]);
          return other ? "other tiles" : Array.from(review.order);
        }"""
    )
    return found


def shows(page: Page, numbers: list[int]) -> None:
    eventually(lambda: order_of(page), numbers)


def tile(page: Page, place: int) -> Locator:
    return page.locator(f'.tile[data-place="{place}"]')


def place(page: Page) -> int:
    """Return the place of the current image, which its tile and the list say alike; -1: they do not."""
    found: int = page.evaluate(
        """() => {
          const current = document.querySelector(".tile.current");
          const said = document.getElementById("grid").getAttribute("aria-activedescendant");
          return current?.id === said ? Number(current.dataset.place) : -1;
        }"""
    )
    return found


def box_of(found: Locator) -> FloatRect:
    """Return where an element is in the window."""
    box = found.bounding_box()
    assert box is not None
    return box


def chosen(page: Page) -> list[int]:
    """Return the places of the selected images."""
    found: list[int] = page.locator('.tile[aria-selected="true"]').evaluate_all(
        "tiles => tiles.map((tile) => Number(tile.dataset.place)).sort((a, b) => a - b)"
    )
    return found


def broken_pictures(page: Page, selector: str) -> list[str]:
    """Wait until all pictures are there; return the addresses of those that do not show anything."""
    found: list[str] = page.wait_for_function(
        """selector => {
          const pictures = [...document.querySelectorAll(`${selector} img`)];
          if (pictures.some((image) => !image.src || !image.complete)) return null;
          return pictures.filter((image) => !image.naturalWidth).map((image) => image.src);
        }""",
        arg=selector,
    ).json_value()
    return found


def open_detail(page: Page, site: Site, name: str) -> None:
    """Open the detail of the image whose name ends so, and wait for its original."""
    open_review(page, f"{site.url}#image={site.number(name)}")
    page.keyboard.press("Enter")
    original_of(page, site.number(name))


def original_of(page: Page, number: int) -> None:
    """Wait until the original of an image is shown at its full size."""
    page.wait_for_function(
        """number => {
          const original = document.getElementById("original");
          return original.dataset.number === String(number) && !original.hidden && original.complete
            && original.naturalWidth > 0 && document.getElementById("spinner").hidden;
        }""",
        arg=number,
    )


def stage_of(page: Page) -> dict[str, float]:
    """Return where the original lies on its stage, and how large, in pixels of the screen."""
    found: dict[str, float] = page.evaluate(
        """() => {
          const sheet = document.getElementById("sheet").getBoundingClientRect();
          const stage = document.getElementById("stage").getBoundingClientRect();
          return { x: sheet.x - stage.x, y: sheet.y - stage.y, width: sheet.width, room: stage.width };
        }"""
    )
    return found


def serious_faults(page: Page) -> list[str]:
    """Return what axe finds of serious or critical impact."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']} ({fault['impact']}): {fault['nodes'][0]['html']}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]


def page_limit(page: Page) -> float:
    limit: float = page.evaluate("async () => (await import('/static/state.js')).state.limit")
    return limit
