"""The page of a review of a table in parts, in a browser: windows of the order, and no buttons that do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from anowild.arrays import Array
from anowild.reviewing import table
from anowild.reviewing.app import Review
from anowild.reviewing.store import MARKS, Store
from anowild.reviewing.table import TableCatalog
from anowild.scoring import Detector
from anowild.scoring.threshold_rules import Budget
from tests.browser import new_page, served
from tests.parts import table_in_parts
from tests.reviewing.browsing import (
    DESKTOP,
    HOSTILE,
    broken_pictures,
    eventually,
    open_review,
    original_of,
    serious_faults,
    shows,
)

pytestmark = pytest.mark.slow

#: Images of the table, and of a window of its orders.
COUNT, WINDOW = 100, 40


@pytest.fixture
def review(
    tmp_path: Path, detector: Detector, digits: Array, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Review]:
    folder = tmp_path / "images"
    folder.mkdir()
    for i, image in enumerate(digits[:COUNT]):
        name = HOSTILE[i] if i < len(HOSTILE) - 1 else f"{i:03}.png"
        Image.fromarray(image).save(folder / name)
    parts = table_in_parts(
        tmp_path / "table", detector, str(folder), (30,), Budget(9).fit(detector)
    )
    Path(parts.rows([3])[0].path).unlink()
    monkeypatch.setattr(table, "WINDOW", WINDOW)
    catalog = TableCatalog(parts)
    catalog.window = WINDOW
    store = Store(tmp_path / MARKS)
    yield Review(catalog, store, "a table", local=True)
    store.close()


@pytest.fixture
def page(browser: Browser, review: Review) -> Iterator[Page]:
    with (
        served(review) as url,
        new_page(browser, url, "500 (Internal Server Error)", viewport=DESKTOP) as page,
    ):
        open_review(page, url)
        yield page


def test_a_table_is_paged_marked_and_filtered(page: Page, review: Review) -> None:
    shows(page, list(range(WINDOW)))
    assert broken_pictures(page, "#tiles") == []  # the missing original has a picture in its place
    for hidden in ("#groups", "#map-button", "#rerank", "#keep-limit", "#folder", "#view"):
        expect(page.locator(hidden)).to_be_hidden()
    for button in page.locator("[data-action=like]").all():
        expect(button).to_be_hidden()
    expect(page.locator("#summary")).to_have_text("100 images, oddest first")
    expect(page.locator("#counts")).to_contain_text("9 of 100 (9.0 %)")
    # Keys of what is not offered do nothing.
    for key in ("g", "m", "s"):
        page.keyboard.press(key)
    shows(page, list(range(WINDOW)))
    assert serious_faults(page) == []

    # Windows: by buttons, by a place, and beyond the last image by key.
    expect(page.locator("#window-text")).to_have_text("1 to 40 of 100")
    page.click("#window-on")
    shows(page, list(range(WINDOW, 2 * WINDOW)))
    page.fill("#window-place", "100")
    page.press("#window-place", "Enter")
    shows(page, list(range(2 * WINDOW, COUNT)))
    expect(page.locator(".tile.current")).to_have_attribute("data-number", str(COUNT - 1))
    expect(page.locator("#window-on")).to_be_disabled()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    shows(page, list(range(WINDOW, 2 * WINDOW)))
    expect(page.locator(".tile.current")).to_have_attribute("data-number", str(2 * WINDOW - 1))
    page.wait_for_url(f"**/*start={WINDOW}&*image={2 * WINDOW - 1}*")
    page.reload()
    shows(page, list(range(WINDOW, 2 * WINDOW)))
    expect(page.locator(".tile.current")).to_have_attribute("data-number", str(2 * WINDOW - 1))

    # Marks, and a filter by them.
    page.keyboard.press("r")
    names = review.catalog.names_of([2 * WINDOW - 1])
    eventually(lambda: [(m.image, m.verdict) for m in review.store.marks()], [(names[0], "remove")])
    page.click('#filter-mark [data-value="remove"]')
    shows(page, [2 * WINDOW - 1])
    expect(page.locator("#window")).to_be_hidden()
    page.click("#show-all")
    page.click('#filter-side [data-value="above"]')
    shows(page, list(range(9)))
    page.click("#show-all")
    page.select_option("#sort", "view_gan")
    expect(page.locator("#summary")).to_have_text("100 images, oddest to gan first")
    page.select_option("#sort", "score")
    shows(page, list(range(WINDOW)))

    # So many cannot be marked at once.
    page.evaluate("async () => { (await import('/static/state.js')).state.limit = 0; }")
    page.keyboard.press("a")
    expect(page.locator("#all-text")).to_contain_text("too many to mark at once")
    for button in page.locator("#all-verdicts button").all():
        expect(button).to_be_disabled()
    page.click("#all-cancel")


def test_the_detail_shows_the_original_or_says_that_it_is_missing(page: Page) -> None:
    page.keyboard.press("Enter")
    original_of(page, 0)
    expect(page.locator("#views")).to_contain_text("gan")
    for hidden in ("#heat-tools", "#networks", "#near-part", "#duplicates-part"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(page.locator("#file-facts")).to_have_text("16 × 16 pixels, uint8")
    assert serious_faults(page) == []
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#missing")).to_contain_text("is not there any more")
    page.keyboard.press("?")
    expect(page.locator("#keys")).not_to_contain_text("more like this")
    expect(page.locator("#keys")).to_contain_text("mark: remove")
