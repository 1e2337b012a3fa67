"""The grid of the review's page in a real browser, by keys and by pointer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from anowild.reviewing.query import Query
from tests.browser import new_page
from tests.reviewing.browsing import (
    DESKTOP,
    EMPTY,
    Scene,
    Site,
    address,
    box_of,
    broken_pictures,
    chosen,
    eventually,
    open_review,
    original_of,
    page_limit,
    place,
    shows,
    tile,
)

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
    said = tile(page, 0).get_attribute("aria-label") or ""
    assert said.startswith(f"1 of {count}, ")
    assert "above the limit, not marked" in said


def test_long_names_show_their_ends(page: Page) -> None:
    long = "folder/plate 7, many words that all images have in their names, e\u0301 0\n1_0042.png"

    def renamed(route: Route) -> None:
        answer = route.fetch()
        rows = answer.json()
        route.fulfill(response=answer, json=rows | {"names": [long] * len(rows["names"])})

    page.route("**/api/rows?*", renamed)
    page.reload()
    name = tile(page, 0).locator(".name")
    expect(name).to_have_text(long.removeprefix("folder/"))
    beginning, end = name.locator("span").all()
    widths = [span.evaluate("e => [e.clientWidth, e.scrollWidth]") for span in (beginning, end)]
    assert widths[0][0] < widths[0][1]  # it is cut, and the end is not
    assert widths[1][0] == widths[1][1] > 0
    assert (end.text_content() or "").endswith("1_0042.png")
    inner, outer = box_of(end), box_of(tile(page, 0))
    assert inner["x"] + inner["width"] <= outer["x"] + outer["width"]
    assert long in (tile(page, 0).get_attribute("title") or "")


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
    ask()
    expect(page.locator("#all-text")).to_have_text("All images above the limit are marked already.")
    page.keyboard.press("Escape")
    page.keyboard.press("z")
    eventually(site.marks, {above[0]: "keep"})


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


def test_all_that_is_shown_is_selected_by_a_key(page: Page, site: Site) -> None:
    page.click('#filter-finding [data-value="duplicate"]')
    found = site.numbers(Query(finding="duplicate"))
    shows(page, found)
    page.keyboard.press("Control+a")
    assert chosen(page) == list(range(len(found)))
    page.keyboard.press("k")
    eventually(site.marks, dict.fromkeys(found, "keep"))
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_contain_text("Ctrl+A")


@pytest.mark.parametrize(
    "selector",
    [
        "#groups",
        "#map-button",
        "#reverse",
        '#filter-mark [data-value="marked"]',
        '[data-verdict="keep"]',
    ],
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_button_can_be_read_under_the_pointer(page: Page, selector: str, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    button = page.locator(selector).first
    button.click()
    colors = "found => [getComputedStyle(found).color, getComputedStyle(found).backgroundColor]"
    under = button.evaluate(colors)
    page.mouse.move(0, 0)
    assert under == button.evaluate(colors)
    assert under[0] != under[1]


def test_keys_work_on_the_grid_after_a_click_on_a_control(page: Page, site: Site) -> None:
    page.click('#filter-mark [data-value="unmarked"]')
    expect(page.locator("#summary")).to_contain_text("unmarked")
    for selector in ("#reverse", "#rerank", '#filter-finding [data-value="any"]'):
        page.click(selector)
        expect(page.locator("#grid")).to_be_focused()
    shows(page, site.numbers(Query(mark="unmarked", finding="any", reverse=True)))
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()
    expect(page.locator("#summary")).to_contain_text("unmarked")


# Orders and filters


def test_every_order_by_pointer_and_reversed(page: Page, site: Site) -> None:
    sorts = [sort["name"] for sort in site.ranking.sorts()]
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
    sorts = [sort["name"] for sort in site.ranking.sorts()]
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
    site.store.tag([site.ranking.session.names[order[9]]], "Bo", "dust", True)
    limit = site.ranking.session.score[order[10]]

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
        kinds = [finding.kind for finding in site.ranking.session.images.findings]
        first = page.locator("#filter-finding .chip").first
        expect(first).to_have_text(f"any finding{len(site.numbers(Query(finding='any')))}")
        press('#filter-finding [data-value="any"]')
        only(Query(finding="any"))
        assert {"dark", "duplicate", "odd size"} <= set(kinds)
        for kind in kinds:
            press(f'#filter-finding [data-value="{kind}"]')
            only(Query(finding=kind))
        press('#filter-tag [data-value="dust"]')
        only(Query(tag="dust"))
        folder = site.ranking.folders[0]
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
    ranking = site.ranking
    grouped = site.numbers(Query(group=True))
    assert len(grouped) < len(ranking.session)
    number = max(grouped, key=lambda n: int(ranking.group_sizes[n]))
    members = [int(n) for n in ranking.members([number])]
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
    # What a filter leaves out is not marked with the group.
    site.mark(members[:1], "me", "keep")
    page.click('#filter-mark [data-value="unmarked"]')
    left = [other for other in members if other != members[0]]
    at = site.numbers(Query(group=True, mark="unmarked")).index(left[0])
    shows(page, site.numbers(Query(group=True, mark="unmarked")))
    expect(tile(page, at).locator(".badge")).to_have_text("group")
    page.keyboard.press("Home")
    for _ in range(at):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("r")
    eventually(site.marks, {members[0]: "keep", **dict.fromkeys(left, "remove")})
    expect(page.locator("#toast")).to_have_text(f"{len(left)} images marked remove.")
    page.keyboard.press("z")
    eventually(site.marks, {members[0]: "keep"})
    page.click("#show-all")
    page.click("#groups")
    shows(page, site.numbers(Query()))


def test_a_selection_of_groups_marks_all_their_images(page: Page, site: Site) -> None:
    page.keyboard.press("g")
    shows(page, site.numbers(Query(group=True)))
    page.keyboard.press("Control+a")
    page.keyboard.press("r")  # most of the tiles were never shown
    eventually(site.marks, dict.fromkeys(range(len(site.ranking.session)), "remove"))


def test_all_above_the_limit_is_of_what_is_shown(page: Page, site: Site) -> None:
    ranking, limit = site.ranking, page_limit(page)
    above = site.numbers(Query(above=limit))
    site.mark(above[:2], "me", "keep")
    page.click('#filter-mark [data-value="keep"]')
    shows(page, above[:2])
    page.keyboard.press("a")
    expect(page.locator("#all-text")).to_have_text("All images above the limit are marked already.")
    page.click("#all-unmarked")
    expect(page.locator("#all-text")).to_contain_text("2 images of those shown")
    page.keyboard.press("Escape")
    page.click("#show-all")
    # In a group, of the group.
    page.keyboard.press("g")
    grouped = site.numbers(Query(group=True))
    number = max(
        (n for n in grouped if ranking.group_sizes[n] > 1),
        key=lambda n: float(ranking.session.score[ranking.members([n])].max()),
    )
    members = [int(n) for n in ranking.members([number])]
    tile(page, grouped.index(number)).locator(".badge").click()
    shows(page, members)
    page.locator("#limit").fill(f"{ranking.session.score[members[1]] - 0.01:.2f}")
    page.locator("#grid").focus()
    within = [n for n in members if ranking.session.score[n] >= page_limit(page)]
    assert len(within) >= 2
    page.keyboard.press("a")
    page.click("#all-unmarked")
    expect(page.locator("#all-text")).to_contain_text(f"{len(within)} images of those shown")


def test_more_like_this(page: Page, site: Site) -> None:
    order = site.numbers(Query())
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    shows(page, site.numbers(Query(like=order[1])))
    expect(page.locator("#summary")).to_contain_text("most like")
    expect(page.locator("#sort option:checked")).to_contain_text("most like")
    assert place(page) == 0
    page.keyboard.press("Escape")
    shows(page, order)
    tile(page, 3).click()
    page.click('#bar [data-action="like"]')
    shows(page, site.numbers(Query(like=order[3])))
    page.click("#show-all")
    shows(page, order)
    assert page.input_value("#sort") == "score"
    # Also among those with other names.
    found = site.numbers(Query(text="empty"))
    page.fill("#search", "empty")
    shows(page, found)
    page.focus("#grid")
    page.keyboard.press("Home")
    page.keyboard.press("s")
    shows(page, site.numbers(Query(like=found[0])))
    expect(page.locator("#search")).to_have_value("")
    page.select_option("#sort", "name")
    shows(page, site.numbers(Query(sort="name")))
    expect(page.locator("#sort-like")).to_have_count(0)


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


@pytest.mark.parametrize(
    "part", ["finding=none", "view=none", "like=9999", "members=9999", "sort=none", "start=-3", "image=1.5"]
)  # fmt: skip
def test_an_address_that_asks_for_what_is_gone_shows_all(
    browser: Browser, site: Site, part: str
) -> None:
    with new_page(browser, site.url, viewport=DESKTOP) as page:
        open_review(page, f"{site.url}#{part}")
        shows(page, site.numbers(Query()))
        page.keyboard.press("r")
        eventually(lambda: [*site.marks().values()], ["remove"])


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
        page.click("#rerank")
        shows(page, site.numbers(learned))
        expect(page.locator("#toast")).to_have_text("Re-ranked with your marks.")


def test_learned_order_says_which_marks_it_needs(page: Page, site: Site) -> None:
    order, learned = site.numbers(Query()), Query(sort="marks", mark="unmarked")
    page.select_option("#sort", "marks")
    expect(page.locator("#untaught")).to_have_text(
        "Mark at least 2 images to keep and 2 odd ones (remove or interesting) first."
    )
    expect(page.locator("#untaught")).to_be_visible()
    expect(page.locator("#summary")).to_contain_text("unmarked, oddest first")
    shows(page, order)
    for key in "kri":
        page.keyboard.press(key)
    eventually(lambda: len(site.marks()), 3)
    expect(page.locator("#untaught")).to_be_visible()
    page.keyboard.press("k")
    expect(page.locator("#untaught")).to_be_hidden()
    expect(page.locator("#summary")).to_contain_text("what your marks teach")
    after = site.numbers(learned)
    shows(page, [order[4], *(number for number in after if number != order[4])])
    # A name is looked for among the marked images, too.
    page.fill("#search", "empty")
    shows(page, site.numbers(Query(sort="marks", text="empty")))
