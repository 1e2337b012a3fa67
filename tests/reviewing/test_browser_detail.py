"""Map, detail, limit and exports of the review's page in a real browser, by keys and by pointer."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from anowild.finding.job import Job
from anowild.reviewing.app import Review
from anowild.reviewing.query import Query
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.store import MARKS, Store
from anowild.scoring.saved_limit import load_limit
from tests.browser import new_page, served
from tests.conftest import tiny_settings
from tests.reviewing.browsing import (
    DESKTOP,
    LARGE,
    PAGES,
    Scene,
    Site,
    address,
    box_of,
    broken_pictures,
    eventually,
    open_detail,
    open_review,
    original_of,
    page_limit,
    place,
    shows,
    stage_of,
    tile,
)

# The map


def test_map(page: Page, site: Site) -> None:
    page.keyboard.press("m")
    canvas = page.locator("#map-canvas")
    expect(canvas).to_be_visible()
    eventually(lambda: site.ranking.layout() is not None, True)
    layout = site.ranking.layout()
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
    name = Path(site.ranking.session.names[lonely]).name
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


def test_the_heat_map_has_a_button_once_it_is_there(page: Page, site: Site) -> None:
    held: list[Route] = []
    page.route("**/api/explain?*", lambda route: held.append(route))
    open_detail(page, site, "large-2.jpg")
    button = page.locator("#heat-button")
    expect(page.locator("#pictures")).to_have_text("looking …")
    expect(button).to_be_disabled()
    button.click(force=True)
    expect(button).to_have_attribute("aria-pressed", "false")
    held.pop().continue_()
    expect(button).to_be_enabled()
    button.click()
    expect(page.locator("#heat")).to_be_visible()
    page.keyboard.press("ArrowRight")  # the focus stays where it was
    expect(button).to_be_disabled()
    expect(button).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#detail-name")).to_contain_text("large-2.jpg")


def test_tiles_of_a_large_image(browser: Browser, photos: Scene, tmp_path: Path) -> None:
    settings = tiny_settings(views=("gan", "pixels"), kimg=0.3, initial_resolution=None, tiles=250)
    summer = photos.images / "summer"
    sources = [str(path) for path in (*sorted(summer.glob("large-*")), *sorted(summer.glob("03*")))]
    detector, session = Job(sources, tmp_path / "out", settings, threads=1).run()
    store = Store(tmp_path / MARKS)
    review = Review(Ranking(session, detector), store, "photos")
    with served(review) as url, new_page(browser, url, viewport=DESKTOP) as page:
        site = Site(url, review, store)
        open_review(page, url)
        # The grid frames the oddest tile.
        number = site.number("large-2.jpg")
        shown = page.locator(f'.tile[data-number="{number}"]')
        picture, seen = (box_of(shown.locator(name)) for name in (".picture", ".seen"))
        y, x, tall, wide = detector.preprocess.boxes(LARGE[1], LARGE[0])[session.tile(number) or 0]
        part = picture["width"] / LARGE[0]
        assert seen["width"] == pytest.approx(wide * part, abs=1)
        assert seen["height"] == pytest.approx(tall * part, abs=1)
        assert seen["x"] - picture["x"] == pytest.approx(x * part, abs=1)
        margin = (LARGE[0] - LARGE[1]) / 2
        assert seen["y"] - picture["y"] == pytest.approx((margin + y) * part, abs=1)
        open_detail(page, site, "large-2.jpg")
        expect(page.locator("#detail")).to_contain_text("24 tiles of 250x250, each seen as 16x16")
        expect(page.locator("#detail")).to_contain_text("its oddest tile: ")
        page.keyboard.press("h")
        expect(page.locator("#heat")).to_be_visible()
        assert broken_pictures(page, "#sheet") == []
        sheet, heat, box = (box_of(page.locator(name)) for name in ("#sheet", "#heat", "#box"))
        assert heat == pytest.approx(sheet, abs=1)
        boxes = detector.preprocess.boxes(LARGE[1], LARGE[0])
        top, left, _, _ = boxes[session.tile(site.number("large-2.jpg")) or 0]
        scale = sheet["width"] / LARGE[0]
        assert box["width"] == pytest.approx(250 * scale, abs=3)
        assert box["x"] - sheet["x"] == pytest.approx(left * scale, abs=3)
        assert box["y"] - sheet["y"] == pytest.approx(top * scale, abs=3)
    store.close()


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
