"""A browser for tests of pages: the system's Chromium, or the one that Playwright has downloaded.

`python -m tests.browser` says which one it is, and fails where there is none; `make browser` installs one.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Error,
    Page,
    expect,
    sync_playwright,
)

from anowild.reviewing.app import Review
from anowild.reviewing.serve import Server

#: Milliseconds until a test gives up on a page: a guard against hangs, not a limit of speed.
PATIENCE = 120_000
#: Where this environment variable is "required", tests fail without a browser; elsewhere they are skipped.
VARIABLE = "ANOWILD_BROWSER"

expect.set_options(timeout=PATIENCE)


def find_chromium() -> str | None:
    """Return the path of the system's browser; None: only Playwright may have one."""
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, found), None)


@contextmanager
def launch() -> Iterator[Browser]:
    """Start a browser without a window.

    Raises:
        Error: there is no browser, or it does not start.
    """
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox"], timeout=PATIENCE
        )
        yield browser
        browser.close()


def browser_of_tests() -> Iterator[Browser]:
    """Yield a browser; skip the tests where there is none and none is required."""
    launched = launch()
    try:
        browser = launched.__enter__()
    except Error as error:
        missing = "Executable doesn't exist" in str(error)
        if missing and os.environ.get(VARIABLE) != "required":
            pytest.skip("no browser: `make browser` installs one")
        raise
    try:
        yield browser
    finally:
        launched.__exit__(None, None, None)


@contextmanager
def new_page(browser: Browser, url: str, expected: str = "", **options: Any) -> Iterator[Page]:
    """Open an empty page that may only ask ``url`` for anything, and that nothing may go wrong on.

    Args:
        url: start of all addresses that the page may load.
        expected: part of messages that are no fault.
        options: of the browser's context, as ``viewport``.
    """
    wrong: list[str] = []
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)

    def judge(message: ConsoleMessage) -> None:
        still_computed = "/api/map" in message.location["url"] and "503" in message.text
        if not still_computed and not (expected and expected in message.text):
            wrong.append(message.text)

    def refuse(dialog: Dialog) -> None:
        wrong.append(dialog.message)
        dialog.dismiss()

    page.on("console", judge)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", refuse)
    page.on(
        "request",
        lambda r: (
            None
            if r.url.startswith((url.partition("?")[0], "data:"))
            else wrong.append(f"asked for {r.url}")
        ),
    )
    yield page
    context.close()
    assert wrong == []


@contextmanager
def served(review: Review) -> Iterator[str]:
    """Serve a review from a thread of this process; yield the address of its page, with its token."""
    with Server("127.0.0.1", 0) as server:
        running = server.of(review)
        thread = threading.Thread(target=running.run, args=[[server.listening]], daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            running.should_exit = True
            thread.join()


def main() -> int:
    """Start a browser, and say which version it is."""
    try:
        with launch() as browser:
            print(f"{find_chromium() or 'downloaded Chromium'}, version {browser.version}")
    except Error as error:
        print(f"no browser: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
