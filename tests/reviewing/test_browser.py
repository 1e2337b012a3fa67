"""Report and review in a real browser, by keys and by pointer, with a server that is killed during the review."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, FloatRect, Locator, Page, expect
from sklearn.datasets import load_sample_image

from anowild import api
from anowild.reviewing.app import Review, Status
from anowild.reviewing.ranking import Query, Ranking
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import MARKS, Store
from anowild.scoring import Detector
from anowild.scoring.saved_limit import load_limit
from anowild.study.datasets import cells64
from tests.browser import PATIENCE, browser_of_tests, new_page, served
from tests.conftest import SHARED, Run, tiny_settings
from tests.reviewing.conftest import HOSTILE

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


# A review of small photographs


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

    def numbers(self, query: Query) -> list[int]:
        """Return what the page has to show."""
        return [int(n) for n in self.review.ranking.select(query, self.store.marks())]

    def number(self, name: str) -> int:
        """Return the number of the image whose name ends so."""
        names = self.review.ranking.session.names
        return next(i for i, known in enumerate(names) if known.endswith(name))

    def marks(self, reviewer: str = "me") -> dict[int, str | None]:
        """Return the stored verdicts of a reviewer by the numbers of images."""
        known = self.review.ranking.session.numbers
        return {
            known[mark.image]: mark.verdict
            for mark in self.store.marks()
            if mark.reviewer == reviewer and mark.verdict is not None
        }

    def tags(self) -> dict[int, tuple[str, ...]]:
        """Return the stored tags by the numbers of images."""
        known = self.review.ranking.session.numbers
        return {known[mark.image]: mark.tags for mark in self.store.marks() if mark.tags}

    def mark(self, numbers: Sequence[int], reviewer: str, verdict: str) -> None:
        """Store marks that were made before the page is opened."""
        names = self.review.ranking.session.names
        self.store.mark([names[i] for i in numbers], reviewer, verdict)


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


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("photos")
    images, model = folder / "images", folder / "model"
    write_images(images)
    settings = tiny_settings(views=("gan", "pixels"), kimg=0.5, stable_kimg=0.2, fade_kimg=0.1)
    detector = api.train(str(images), model, settings, threads=1)
    session = ReviewSession.make(folder / "review", detector, str(images))
    return Scene(images, model, folder / "review", detector, Ranking(session, detector))


@pytest.fixture
def site(photos: Scene, tmp_path: Path) -> Iterator[Site]:
    """Serve the review without any marks."""
    store = Store(tmp_path / MARKS)
    model = tmp_path / "model"
    model.mkdir()
    shutil.copyfile(photos.model / "model.json", model / "model.json")
    review = Review(photos.ranking, store, "photos", model, local=True)
    with served(review) as url:
        yield Site(url, review, store)
    store.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from browser_of_tests()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    with new_page(browser, site.url, viewport=DESKTOP, accept_downloads=True) as page:
        open_review(page, site.url)
        yield page


# What is on the page


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


# The grid


def test_grid_shows_thumbnails_names_and_reasons(page: Page, site: Site, photos: Scene) -> None:
    shows(page, site.numbers(Query()))
    assert broken_pictures(page, ".tile") == []
    count = len(photos.ranking.session)
    expect(page.locator("#summary")).to_have_text(f"{count} images, oddest first")
    assert page.locator(".tile").count() >= 20
    first = site.numbers(Query())[0]
    name = Path(photos.ranking.session.names[first]).name
    expect(tile(page, 0).locator(".name")).to_have_text(name)
    expect(tile(page, 0).locator(".score")).to_contain_text("▲")
    assert len(tile(page, 0).locator(".score").inner_text()) > 15
    expect(page.locator("#left-out summary")).to_have_text("2 files were passed over")
    assert "16x16 pixels" in page.locator("#seen").inner_text()
    # A screen reader hears each tile in one line.
    said = tile(page, 0).locator(".said").inner_text()
    assert said.startswith(f"1 of {count}, ")
    assert "above the limit, not marked" in said


def test_moving_and_selecting_by_keys(page: Page, photos: Scene) -> None:
    press, last = page.keyboard.press, len(photos.ranking.session) - 1
    top = box_of(tile(page, 0))
    boxes = [box_of(found) for found in page.locator(".tile").all()]
    columns = sum(box["y"] == top["y"] for box in boxes)
    for key, expected in [
        ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowDown", 1 + columns),
        ("ArrowUp", 1), ("End", last), ("ArrowRight", last), ("Home", 0), ("ArrowLeft", 0),
    ]:  # fmt: skip
        press(key)
        assert place(page) == expected, key
    press("PageDown")
    assert place(page) >= 2 * columns
    press("PageUp")
    assert place(page) == 0
    for key in ("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown"):
        press(key)
    assert chosen(page) == list(range(3 + columns))
    press("Shift+ArrowUp")
    assert chosen(page) == [0, 1, 2]
    expect(page.locator("#chosen")).to_contain_text("3 image")
    press("Control+ArrowRight")
    press("Control+ArrowRight")
    press("Space")
    assert chosen(page) == [0, 1, 2, 4]
    press("Escape")
    assert chosen(page) == []
    assert place(page) == 4


def test_moving_and_selecting_by_pointer(page: Page) -> None:
    tile(page, 3).click()
    assert place(page) == 3
    tile(page, 7).click(modifiers=["Shift"])
    assert chosen(page) == [3, 4, 5, 6, 7]
    tile(page, 5).click(modifiers=["Control"])
    assert chosen(page) == [3, 4, 6, 7]
    page.click("#choose-none")
    assert chosen(page) == []
    tile(page, 2).click()
    tile(page, 4).click(modifiers=["Control"])
    assert chosen(page) == [2, 4]
    tile(page, 1).click()
    assert chosen(page) == []
    # The list scrolls, and shows what comes then.
    page.locator("#grid").hover()
    page.mouse.wheel(0, 3000)
    expect(tile(page, 0)).to_have_count(0)
    expect(page.locator(".tile.loading")).to_have_count(0)
    assert broken_pictures(page, ".tile") == []
    # A second click opens.
    page.keyboard.press("Home")
    tile(page, 0).click()
    expect(page.locator("#detail")).to_be_visible()


@pytest.mark.parametrize("how", ["keys", "pointer"])
def test_marks(page: Page, site: Site, how: str) -> None:
    order = site.numbers(Query())

    def act(key: str, selector: str) -> None:
        if how == "keys":
            page.keyboard.press(key)
        else:
            page.click(f"#bar {selector}")

    given = [("k", "keep"), ("r", "remove"), ("i", "interesting"), ("u", "unsure")]
    for i, (key, verdict) in enumerate(given):
        act(key, f'[data-verdict="{verdict}"]')
        expect(tile(page, i).locator(".mark")).to_have_text(verdict)
        assert place(page) == i + 1
    eventually(site.marks, dict(zip(order, [verdict for _, verdict in given], strict=False)))
    expect(page.locator("#progress")).to_contain_text("4 of")
    for _, verdict in given:
        chip = page.locator(f'#filter-mark [data-value="{verdict}"] .count')
        expect(chip).to_have_text("1")
    # A selection is marked as one step, and undone as one.
    tile(page, 2).click()
    tile(page, 6).click(modifiers=["Shift"])
    act("r", '[data-verdict="remove"]')
    eventually(lambda: len(site.marks()), 7)
    expect(page.locator("#toast")).to_have_text("5 images marked remove.")
    for i in range(1, 7):
        expect(tile(page, i).locator(".mark")).to_have_text("remove")
    act("z", '[data-action="undo"]')
    eventually(site.marks, dict(zip(order, [verdict for _, verdict in given], strict=False)))
    expect(page.locator("#toast")).to_have_text("Undone: 5 images.")
    expect(tile(page, 2).locator(".mark")).to_have_text("interesting")
    act("z", '[data-action="undo"]')
    expect(tile(page, 3).locator(".mark")).to_be_hidden()
    assert place(page) == 3
    for _ in range(4):
        act("z", '[data-action="undo"]')
    expect(page.locator("#toast")).to_have_text("There is nothing to undo.")
    assert site.marks() == {}


@pytest.mark.parametrize("how", ["keys", "pointer"])
def test_all_above_the_limit(page: Page, site: Site, how: str) -> None:
    def ask() -> None:
        if how == "keys":
            page.keyboard.press("a")
        else:
            page.click('#bar [data-action="all"]')

    above = site.numbers(Query(above=page_limit(page)))
    page.keyboard.press("k")
    eventually(lambda: len(site.marks()), 1)
    ask()
    expect(page.locator("#all-text")).to_contain_text(f"{len(above) - 1} images of those shown")
    page.keyboard.press("Escape")  # asked only
    expect(page.locator("#all-dialog")).to_be_hidden()
    assert len(site.marks()) == 1
    ask()
    page.click("#all-unmarked")
    expect(page.locator("#all-text")).to_contain_text(f"{len(above)} images of those shown")
    page.click("#all-unmarked")
    expect(page.locator("#all-text")).to_contain_text(f"{len(above) - 1} images of those shown")
    button = page.locator('#all-verdicts [data-choice="remove"]')
    if how == "keys":
        button.focus()
        page.keyboard.press("Enter")
    else:
        button.click()
    expected = dict.fromkeys(above, "remove") | {above[0]: "keep"}
    eventually(site.marks, expected)
    page.keyboard.press("z")
    eventually(site.marks, {above[0]: "keep"})


def page_limit(page: Page) -> float:
    limit: float = page.evaluate("async () => (await import('/static/state.js')).state.limit")
    return limit


def test_tags(page: Page, site: Site) -> None:
    order = site.numbers(Query())
    page.keyboard.press("t")
    page.keyboard.type("dust")
    page.keyboard.press("Enter")
    expect(tile(page, 0).locator(".tag")).to_have_text("#dust")
    eventually(site.tags, {order[0]: ("dust",)})
    # The number that the list of tags shows, for a selection.
    for key in ("ArrowRight", "Shift+ArrowRight", "1"):
        page.keyboard.press(key)
    expect(page.locator("#toast")).to_have_text("Tagged #dust: 2 images.")
    eventually(site.tags, dict.fromkeys(order[:3], ("dust",)))
    page.keyboard.press("z")
    eventually(site.tags, {order[0]: ("dust",)})
    expect(page.locator("#toast")).to_have_text("Undone: 2 images.")
    page.keyboard.press("Escape")
    tile(page, 0).click()
    page.keyboard.press("1")
    eventually(site.tags, {})
    expect(page.locator("#toast")).to_have_text("No longer tagged #dust.")
    # By pointer.
    tile(page, 4).click()
    page.click('#bar [data-action="tag"]')
    page.fill("#tag-input", "#scratch")
    page.click('#tag-dialog [value="add"]')
    eventually(site.tags, {order[4]: ("scratch",)})
    page.click('#bar [data-action="tag"]')
    page.fill("#tag-input", "nothing")
    page.click('#tag-dialog [value="cancel"]')
    expect(page.locator("#tag-dialog")).to_be_hidden()
    assert site.tags() == {order[4]: ("scratch",)}
    page.click('#filter-tag [data-value="scratch"]')
    shows(page, [order[4]])


# Orders and filters


def test_every_order_by_pointer_and_reversed(page: Page, site: Site) -> None:
    sorts = [sort["name"] for sort in site.review.ranking.sorts()]
    assert {"score", "marks", "view_gan", "view_pixels", "check_sharpness", "name"} <= set(sorts)
    assert len(sorts) > 10
    for sort in sorts:
        page.select_option("#sort", sort)
        shows(page, site.numbers(Query(sort=sort)))
        page.click("#reverse")
        shows(page, site.numbers(Query(sort=sort, reverse=True)))
        expect(page.locator("#summary")).to_contain_text("reversed")
        page.click("#reverse")
    eventually(lambda: place(page), 0)


def test_orders_by_keys(page: Page, site: Site) -> None:
    sorts = [sort["name"] for sort in site.review.ranking.sorts()]
    page.focus("#sort")
    page.keyboard.press("End")
    shows(page, site.numbers(Query(sort=sorts[-1])))
    page.focus("#reverse")
    page.keyboard.press("Enter")
    shows(page, site.numbers(Query(sort=sorts[-1], reverse=True)))


@pytest.mark.parametrize("how", ["keys", "pointer"])
def test_filters(browser: Browser, site: Site, how: str) -> None:
    order = site.numbers(Query())
    site.mark(order[:6], "Ada", "remove")
    site.mark(order[4:8], "Bo", "keep")
    site.store.tag([site.review.ranking.session.names[order[9]]], "Bo", "dust", True)
    limit = site.review.ranking.session.score[order[10]]

    with new_page(browser, site.url, viewport=DESKTOP) as page:

        def press(selector: str) -> None:
            if how == "keys":
                page.focus(selector)
                page.keyboard.press("Space")
            else:
                page.click(selector)

        def only(query: Query) -> None:
            """Check what is shown, and show all again."""
            numbers = site.numbers(query)
            assert 0 < len(numbers) < len(order), query
            shows(page, numbers)
            expect(page.locator("#summary")).to_contain_text(f"{len(numbers)} of {len(order)}:")
            press("#show-all")
            shows(page, order)

        def select(selector: str, label: str) -> None:
            if how == "pointer":
                page.select_option(selector, label=label)
                return
            page.focus(selector)
            page.keyboard.type(label)

        open_review(page, f"{site.url}#limit={limit}")
        shows(page, order)
        for mark in ("unmarked", "marked", "keep", "remove", "unsure"):
            press(f'#filter-mark [data-value="{mark}"]')
            only(Query(mark=mark))
        press('#filter-mark [data-value="interesting"]')
        shows(page, [])
        expect(page.locator("#empty")).to_contain_text("No image is like this.")
        press("#show-all")
        press("#disagree")
        only(Query(disagree=True))
        press('#filter-side [data-value="above"]')
        only(Query(above=float(page_limit(page))))
        press('#filter-side [data-value="below"]')
        only(Query(below=float(page_limit(page))))
        kinds = [finding.kind for finding in site.review.ranking.session.images.findings]
        assert {"dark", "duplicate", "odd size"} <= set(kinds)
        for kind in kinds:
            press(f'#filter-finding [data-value="{kind}"]')
            only(Query(finding=kind))
        press('#filter-tag [data-value="dust"]')
        only(Query(tag="dust"))
        folder = site.review.ranking.folders[0]
        select("#folder", folder)
        only(Query(folder=folder))
        for view in ("gan", "pixels"):
            select("#view", view)
            only(Query(view=view))
        select("#by", "Bo")
        press('#filter-mark [data-value="marked"]')
        only(Query(mark="marked", reviewer="Bo"))
        if how == "keys":
            page.focus("#grid")
            page.keyboard.press("/")
            page.keyboard.type("EMPTY")
            shows(page, site.numbers(Query(text="empty")))
            page.keyboard.press("Enter")
            page.keyboard.press("ArrowRight")
            assert place(page) == 1
            page.keyboard.press("/")
            page.keyboard.press("Escape")
            shows(page, order)
        else:
            page.fill("#search", "empty")
            only(Query(text="empty"))
        # Several at once.
        press('#filter-mark [data-value="unmarked"]')
        select("#folder", folder)
        only(Query(mark="unmarked", folder=folder))


def test_groups(page: Page, site: Site) -> None:
    ranking = site.review.ranking
    grouped = site.numbers(Query(group=True))
    assert len(grouped) < len(ranking.session)
    number = max(grouped, key=lambda n: int(ranking.group_sizes[n]))
    members = [int(n) for n in ranking.members(number)]
    assert len(members) >= EMPTY - 2
    page.keyboard.press("g")
    shows(page, grouped)
    at = grouped.index(number)
    for _ in range(at):
        page.keyboard.press("ArrowRight")
    expect(tile(page, at).locator(".badge")).to_have_text(str(len(members)))
    # One mark for all of a group, and one undo.
    page.keyboard.press("r")
    eventually(site.marks, dict.fromkeys(members, "remove"))
    page.keyboard.press("z")
    eventually(site.marks, {})
    eventually(lambda: place(page), at)
    page.keyboard.press("Enter")
    shows(page, members)
    expect(page.locator("#summary")).to_have_text(f"{len(members)} images that look alike")
    page.keyboard.press("Escape")
    shows(page, grouped)
    tile(page, at).locator(".badge").click()
    shows(page, members)
    expect(page.locator("#show-all")).to_have_text("back to the groups")
    page.click("#show-all")
    shows(page, grouped)
    page.click("#groups")
    shows(page, site.numbers(Query()))


def test_more_like_this(page: Page, site: Site) -> None:
    order = site.numbers(Query())
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    shows(page, site.numbers(Query(like=order[1])))
    expect(page.locator("#summary")).to_contain_text("most like")
    assert place(page) == 0
    page.keyboard.press("Escape")
    shows(page, order)
    tile(page, 3).click()
    page.click('#bar [data-action="like"]')
    shows(page, site.numbers(Query(like=order[3])))
    page.click("#show-all")
    shows(page, order)


def test_state_in_the_address_survives_a_reload(page: Page, site: Site) -> None:
    page.select_option("#sort", "view_pixels")
    page.click("#reverse")
    page.select_option("#folder", index=2)
    page.locator("#limit").fill("400")
    page.locator("#size").fill("232")
    folder = page.input_value("#folder")
    order = site.numbers(Query(sort="view_pixels", reverse=True, folder=folder))
    shows(page, order)
    page.focus("#grid")
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    counts, width = page.inner_text("#counts"), box_of(tile(page, 3))["width"]
    page.keyboard.press("Enter")
    original_of(page, order[3])
    expect(page.locator("#detail-name")).not_to_be_empty()
    name = page.inner_text("#detail-name")

    def is_as_before(page: Page) -> None:
        original_of(page, order[3])
        expect(page.locator("#detail-name")).to_have_text(name)
        page.go_back()
        expect(page.locator("#detail")).to_be_hidden()
        shows(page, order)
        assert place(page) == 3
        assert page.inner_text("#counts") == counts
        assert box_of(tile(page, 3))["width"] == width
        assert page.input_value("#sort") == "view_pixels"

    eventually(lambda: "detail=1" in address(page) and f"image={order[3]}" in address(page), True)
    page.reload()
    is_as_before(page)
    page.go_forward()
    original_of(page, order[3])
    # The address, sent to somebody else.
    sent = address(page)
    page.evaluate("localStorage.clear()")
    page.goto("about:blank")
    page.goto(sent)
    is_as_before(page)


def test_learned_order_begins_with_the_first_unmarked_image_and_ranks_again(
    browser: Browser, site: Site
) -> None:
    order = site.numbers(Query())
    site.mark(order[:3], "me", "remove")
    site.mark(order[-3:], "me", "keep")
    learned = Query(sort="marks", mark="unmarked")
    with new_page(browser, site.url, viewport=DESKTOP) as page:
        open_review(page, site.url)
        before = site.numbers(learned)
        page.select_option("#sort", "marks")
        shows(page, before)
        assert place(page) == 0
        assert not set(before) & set(order[:3] + order[-3:])
        for i in range(19):
            page.keyboard.press("kr"[i % 2])
        eventually(lambda: len(site.marks()), 25)
        shows(page, before)
        page.keyboard.press("k")
        expect(page.locator("#toast")).to_have_text("Re-ranked with your marks.")
        eventually(lambda: len(site.marks()), 26)
        after = site.numbers(learned)
        assert len(after) == len(before) - 20
        # The image that was the current one stays it, and the new order follows.
        shows(page, [before[20], *(number for number in after if number != before[20])])
        assert place(page) == 0
        page.keyboard.press("u")
        page.click("#rerank")
        eventually(lambda: len(site.marks()), 27)
        shows(page, site.numbers(learned))
        page.select_option("#sort", "score")
        shows(page, order)


# The map


def test_map(page: Page, site: Site) -> None:
    page.keyboard.press("m")
    canvas = page.locator("#map-canvas")
    expect(canvas).to_be_visible()
    eventually(lambda: site.review.ranking.layout() is not None, True)
    layout = site.review.ranking.layout()
    assert layout is not None
    expect(page.locator("#map-text")).to_be_empty()
    page.wait_for_function(
        """() => {
          const canvas = document.getElementById("map-canvas");
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return data.some((value) => value);
        }"""
    )
    box = box_of(canvas)
    scale = 0.94 * min(box["width"], box["height"])
    shift = [(box[side] - scale) / 2 for side in ("width", "height")]

    def at(number: int) -> tuple[float, float]:
        x, y = layout[number] * scale + shift
        return box["x"] + x, box["y"] + y

    # The image that lies farthest from all others: a click goes there, a second one opens it.
    distances = np.linalg.norm(layout[:, None] - layout, axis=2) + 9 * np.eye(len(layout))
    lonely = int(distances.min(axis=1).argmax())
    page.mouse.move(*at(lonely))
    expect(page.locator("#map-hover")).to_be_visible()
    name = Path(site.review.ranking.session.names[lonely]).name
    expect(page.locator("#map-hover figcaption")).to_contain_text(name.split("[")[0])
    page.mouse.click(*at(lonely))
    eventually(lambda: f"image={lonely}" in address(page), True)
    page.mouse.click(*at(lonely))
    original_of(page, lonely)
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    # A lasso around it selects it; marks and tags apply.
    x, y = at(lonely)
    reach = 0.4 * scale * float(distances.min(axis=1).max())
    page.mouse.move(x - reach, y - reach)
    page.mouse.down()
    for dx, dy in ((1, -1), (1, 1), (-1, 1), (-1, -1)):
        page.mouse.move(x + dx * reach, y + dy * reach, steps=3)
    page.mouse.up()
    expect(page.locator("#map-text")).to_have_text("1 image in the lasso.")
    page.keyboard.press("r")
    eventually(site.marks, {lonely: "remove"})
    # A lasso around all.
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    for right, down in ((1, 0), (1, 1), (0, 1), (0, 0)):
        page.mouse.move(
            box["x"] + 2 + right * (box["width"] - 4), box["y"] + 2 + down * (box["height"] - 4)
        )
    page.mouse.up()
    expect(page.locator("#chosen")).to_contain_text(f"{len(layout)} images selected")
    page.keyboard.press("Escape")
    # Zoom, and back.
    page.click("#map-in")
    page.mouse.wheel(0, -200)
    page.click("#map-fit")
    other = int(distances.min(axis=1).argsort()[-2])
    page.mouse.click(*at(other))
    eventually(lambda: f"image={other}" in address(page), True)
    page.click("#map-button")
    expect(page.locator("#grid")).to_be_visible()
    expect(canvas).to_be_hidden()


# The detail


def test_original_at_full_size_within_a_second(page: Page, site: Site) -> None:
    number = site.number("large-0.jpg")
    open_review(page, f"{site.url}#image={number}")
    started = time.perf_counter()
    page.keyboard.press("Enter")
    original_of(page, number)
    seconds = time.perf_counter() - started
    print(f"original of {LARGE[0]}x{LARGE[1]} pixels after {seconds:.2f} s")
    assert seconds < 5  # a second on a machine with nothing else to do
    size = page.evaluate("() => { const o = original; return [o.naturalWidth, o.naturalHeight]; }")
    assert tuple(size) == LARGE
    expect(page.locator("#file-facts")).to_contain_text("1500 × 1000 pixels")
    expect(page.locator("#detail-seen")).to_contain_text("the middle 1000x1000")
    assert page.locator("#why li").count() >= 1
    expect(page.locator("#box")).to_be_visible()
    expect(page.locator("#pictures img")).to_have_count(4)
    assert broken_pictures(page, "#pictures") == []


def test_zoom_and_pan(page: Page, site: Site) -> None:
    open_detail(page, site, "large-1.jpg")
    zoom, press = page.locator("#zoom"), page.keyboard.press
    whole = stage_of(page)
    fitted = zoom.inner_text()
    press("0")
    expect(zoom).to_have_text("100 %")
    assert stage_of(page)["width"] == LARGE[0]
    press("+")
    expect(zoom).to_have_text("125 %")
    press("-")
    expect(zoom).to_have_text("100 %")
    press("f")
    expect(zoom).to_have_text(fitted)
    assert stage_of(page) == whole
    # By pointer: buttons, wheel, double click, dragging.
    page.click('[data-action="actual"]')
    expect(zoom).to_have_text("100 %")
    before = stage_of(page)
    box = box_of(page.locator("#stage"))
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=4)
    page.mouse.up()
    moved = stage_of(page)
    assert (moved["x"] - before["x"], moved["y"] - before["y"]) == (60, 40)
    page.mouse.wheel(0, -300)
    assert stage_of(page)["width"] > 1.5 * LARGE[0]
    page.click('[data-action="fit"]')
    assert stage_of(page) == whole
    page.click('[data-action="larger"]')
    assert stage_of(page)["width"] > whole["width"]
    page.click('[data-action="smaller"]')
    assert stage_of(page) == whole
    page.mouse.dblclick(x, y)
    expect(zoom).to_have_text("100 %")


def test_heat_map_lies_over_what_the_networks_saw(page: Page, site: Site) -> None:
    open_detail(page, site, "large-2.jpg")
    heat = page.locator("#heat")
    expect(page.locator("#pictures img")).to_have_count(4)
    expect(heat).to_be_hidden()
    page.keyboard.press("h")
    expect(heat).to_be_visible()
    expect(page.locator("#heat-button")).to_have_attribute("aria-pressed", "true")
    assert broken_pictures(page, "#sheet") == []
    sheet, shown = box_of(page.locator("#sheet")), box_of(heat)
    assert shown["width"] == pytest.approx(shown["height"], abs=1)
    assert shown["height"] == pytest.approx(sheet["height"], abs=1)
    page.locator("#heat-opacity").fill("0.3")
    expect(heat).to_have_css("opacity", "0.3")
    page.click("#heat-button")
    expect(heat).to_be_hidden()


def test_marks_and_moves_inside_the_detail(page: Page, site: Site) -> None:
    order = site.numbers(Query())
    names = [tile(page, i).locator(".name").inner_text() for i in range(2)]

    def at(i: int) -> None:
        expect(page.locator("#detail-place")).to_have_text(f"{i + 1} of {len(order)}")
        original_of(page, order[i])

    page.keyboard.press("Enter")
    at(0)
    page.keyboard.press("ArrowRight")
    at(1)
    expect(page.locator("#detail-name")).to_contain_text(names[1])
    page.click('[data-action="next"]')
    at(2)
    page.click('[data-action="previous"]')
    page.keyboard.press("ArrowLeft")
    at(0)
    page.keyboard.press("k")
    at(1)
    page.click('#detail-bar [data-verdict="remove"]')
    at(2)
    eventually(site.marks, {order[0]: "keep", order[1]: "remove"})
    page.keyboard.press("z")
    at(1)
    expect(page.locator("#detail-mark")).to_have_text("Not marked")
    page.click('#detail-bar [data-action="undo"]')
    at(0)
    eventually(site.marks, {})
    page.keyboard.press("i")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#detail-mark")).to_have_text("Your mark: interesting")
    # Tags.
    page.keyboard.press("t")
    page.keyboard.type("dust")
    page.keyboard.press("Enter")
    expect(page.locator("#detail-tags")).to_contain_text("#dust")
    eventually(site.tags, {order[0]: ("dust",)})
    page.keyboard.press("1")
    eventually(site.tags, {})
    page.fill("#detail-tag", "film")
    page.click("#detail-tag-form button")
    eventually(site.tags, {order[0]: ("film",)})
    page.click('#detail-tags [data-tag="film"]')
    eventually(site.tags, {})
    # More like this, inside as well.
    page.click('#detail-bar [data-action="like"]')
    expect(page.locator("#detail-place")).to_have_text(f"1 of {len(order)}")
    shows(page, site.numbers(Query(like=order[0])))


@pytest.mark.parametrize("how", ["Escape", "button", "backdrop", "back"])
def test_ways_out_of_the_detail(page: Page, how: str) -> None:
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()
    eventually(lambda: "detail=1" in address(page), True)
    if how == "Escape":
        page.keyboard.press("Escape")
    elif how == "button":
        page.click("#close")
    elif how == "backdrop":
        page.mouse.click(3, 3)
    else:
        page.go_back()
    expect(page.locator("#detail")).to_be_hidden()
    eventually(lambda: "detail" in address(page), False)
    page.keyboard.press("ArrowRight")
    assert place(page) == 1


def test_duplicates_are_a_click_away(page: Page, site: Site) -> None:
    open_detail(page, site, "summer/copy.png")
    expect(page.locator("#detail-findings")).to_contain_text("010.png")
    page.locator("#duplicates button").first.click()
    original_of(page, site.number("spring/010.png"))


def test_sixteen_bits_and_pages(page: Page, site: Site) -> None:
    stack = site.number("stack.tif[1]")
    open_detail(page, site, "stack.tif[1]")
    expect(page.locator("#page")).to_have_text("page 2 of 3")

    def gray() -> list[int]:
        """Return the darkest and the brightest pixel that is shown."""
        found: list[int] = page.evaluate(
            """() => {
              const canvas = document.createElement("canvas"), { original } = window;
              canvas.width = original.naturalWidth; canvas.height = original.naturalHeight;
              const pen = canvas.getContext("2d");
              pen.drawImage(original, 0, 0);
              const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
              const values = data.filter((_, i) => i % 4 === 0);
              return [Math.min(...values), Math.max(...values)];
            }"""
        )
        return found

    assert gray() == [0, 255]
    expect(page.locator("#levels-text")).to_be_visible()
    low, high = (float(page.input_value(f"#{end}")) for end in ("low", "high"))
    assert (low, high) == pytest.approx(PAGES[1], rel=0.02)
    # Everything up to the middle is black, and the rest is dark.
    page.locator("#low").fill("2500")
    eventually(lambda: "low=" in page.evaluate("original.src"), True)
    original_of(page, stack)
    eventually(lambda: gray(), [0, 255])
    page.locator("#low").fill("1000")
    eventually(lambda: "low=1" in page.evaluate("original.src"), True)
    # Other pages of the same file, by keys and by pointer.
    source = page.evaluate("original.src")
    page.keyboard.press("]")
    expect(page.locator("#page")).to_have_text("page 3 of 3")
    eventually(lambda: page.evaluate("original.src") != source, True)
    original_of(page, stack)
    page.click('[data-action="page-back"]')
    page.click('[data-action="page-back"]')
    expect(page.locator("#page")).to_have_text("page 1 of 3")
    page.keyboard.press("[")
    expect(page.locator("#page")).to_have_text("page 1 of 3")


def test_copy_path_and_open_file(
    page: Page, site: Site, photos: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        "anowild.reviewing.app.subprocess.Popen", lambda command, **_: opened.append(command[1])
    )
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    number = site.number("large-0.jpg")
    open_review(page, f"{site.url}#image={number}")
    expected = str(photos.images / "summer" / "large-0.jpg")
    page.keyboard.press("c")
    expect(page.locator("#toast")).to_have_text(f"Copied: {expected}")
    assert page.evaluate("navigator.clipboard.readText()") == expected
    page.keyboard.press("e")
    eventually(lambda: opened, [expected])
    page.keyboard.press("Enter")
    page.click("#open-file")
    eventually(lambda: opened, [expected, expected])


def test_help_lists_every_key(page: Page) -> None:
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    keys = page.locator("#keys kbd").all_inner_texts()
    assert {"k", "r", "i", "u", "z", "t", "s", "g", "m", "/", "a", "c", "e", "h", "0", "?"} <= set(
        keys
    )
    assert page.locator("#terms dt").count() > 5
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.click("#help-button")
    page.click("#help-close")
    expect(page.locator("#help")).to_be_hidden()


# The limit, and what leaves the page


def test_limit_is_dragged_and_kept_with_the_model(page: Page, site: Site) -> None:
    def above() -> int:
        return int(page.inner_text("#counts").split()[0])

    page.locator("#limit").fill("300")
    before = above()
    box = box_of(page.locator("#limit"))
    handle = float(page.input_value("#limit")) / 1000
    x, y = box["x"] + 8 + handle * (box["width"] - 16), box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 0.5 * (box["x"] + box["width"] - x), y, steps=5)
    page.mouse.up()
    dragged = above()
    assert 0 < dragged < before
    assert dragged == len(site.numbers(Query(above=page_limit(page))))
    page.focus("#limit")
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
    assert above() >= dragged
    limit = page_limit(page)
    assert page.locator(".tile.above").count() == min(above(), page.locator(".tile").count())
    page.click("#keep-limit")
    expect(page.locator("#keep-limit")).to_have_text("Kept with the model")
    expect(page.locator("#keep-limit")).to_be_disabled()
    assert site.review.model is not None
    kept = load_limit(site.review.model)
    assert kept is not None
    assert kept.score == limit
    open_review(page, site.url)
    assert page_limit(page) == limit
    # Images above the limit follow it.
    page.click('#filter-side [data-value="above"]')
    shows(page, site.numbers(Query(above=limit)))
    page.locator("#limit").fill("900")
    eventually(lambda: page_limit(page) != limit, True)
    shows(page, site.numbers(Query(above=page_limit(page))))


def test_exports(page: Page, site: Site) -> None:
    for key in ("k", "r", "i"):
        page.keyboard.press(key)
    eventually(lambda: len(site.marks()), 3)
    expected = [(mark.image, mark.verdict) for mark in site.store.marks()]

    def rows(data: bytes, kind: str) -> list[dict[str, Any]]:
        if kind == "csv":
            text = data.decode("utf-8", "surrogateescape")
            return list(csv.DictReader(io.StringIO(text, newline="")))
        if kind == "json":
            found: list[dict[str, Any]] = json.loads(data)
            return found
        table: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
        return table

    for kind in ("csv", "json", "parquet"):
        page.click("#exports summary")
        with page.expect_download() as download:
            page.click(f"#{kind}")
        assert download.value.suggested_filename == f"marks.{kind}"
        found = rows(Path(download.value.path()).read_bytes(), kind)
        assert [row["verdict"] for row in found] == [verdict for _, verdict in expected]
        if kind == "csv":
            assert [row["path"] for row in found] == [image for image, _ in expected]
        page.click("#exports summary")


def test_hostile_names_are_text(page: Page) -> None:
    for start in ("<script>", 'a" onmouseover', "two"):
        page.fill("#search", start)
        expect(page.locator(".tile")).to_have_count(1)
        expect(tile(page, 0)).not_to_have_class("loading")
        expect(tile(page, 0).locator(".name")).to_contain_text(start)
        tile(page, 0).hover()
        page.focus("#grid")
        page.keyboard.press("Enter")
        expect(page.locator("#detail-name")).to_contain_text(start)
        expect(page.locator("#path")).to_contain_text(start)
        page.keyboard.press("Escape")
    assert page.locator("script").count() == 1
    assert page.locator("[onmouseover]").count() == 0


def test_two_reviewers(page: Page, site: Site) -> None:
    order = site.numbers(Query())
    page.keyboard.press("k")
    page.keyboard.press("r")
    expect(page.locator("#progress")).to_contain_text("(2 by you)")
    page.fill("#reviewer", "Bo")
    page.keyboard.press("Tab")
    expect(page.locator("#progress")).to_contain_text("(0 by you)")
    expect(tile(page, 0).locator(".mark")).to_have_text("others: keep")
    page.focus("#grid")
    page.keyboard.press("Home")
    page.keyboard.press("r")
    eventually(lambda: site.marks("Bo"), {order[0]: "remove"})
    expect(tile(page, 0).locator(".mark")).to_have_text("remove")
    expect(page.locator('#filter-mark [data-value="unsure"] .count')).to_have_text("1")
    page.keyboard.press("z")  # takes back one's own marks only
    expect(tile(page, 0).locator(".mark")).to_have_text("others: keep")
    page.keyboard.press("z")
    expect(page.locator("#toast")).to_have_text("There is nothing to undo.")
    assert site.marks() == {order[0]: "keep", order[1]: "remove"}
    page.reload()
    expect(page.locator("#grid")).to_be_focused()
    expect(page.locator("#reviewer")).to_have_value("Bo")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.locator("#detail-marks")).to_have_text("me: keep")


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
        review.rerank(photos.ranking, None)
        expect(page.locator("#toast")).to_have_text("Re-ranked with the views so far.")
        shows(page, site.numbers(Query()))
        eventually(lambda: place(page), site.numbers(Query()).index(current))
        assert "view_gan" in page.locator("#sort option").evaluate_all(
            "all => all.map(o => o.value)"
        )
        # Marks are being made: the page asks.
        page.keyboard.press("k")
        eventually(lambda: len(site.marks()), 1)
        before = site.numbers(Query())
        review.rerank(first, None)
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
            [*map(str, command), "--port", str(port), "--threads", "1"],
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
        return int(self.url.rpartition(":")[2].strip("/"))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


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
