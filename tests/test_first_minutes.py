"""The page "First five minutes", followed as somebody does who has never seen AnoWild."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from anowild.arrays import Array
from tests.browser import browser_of_tests, new_page
from tests.conftest import PATIENCE
from tests.test_docs import ROOT, commands, reason_not_to_run

pytestmark = pytest.mark.slow


@pytest.fixture
def browser() -> Iterator[Browser]:
    yield from browser_of_tests()


def start(command: str, folder: Path) -> subprocess.Popen[str]:
    """Start a command of the page in a process of its own."""
    words = [sys.executable, "-m", *shlex.split(command)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out
    return out


def test_the_page_is_enough(browser: Browser, digits: Array, tmp_path: Path) -> None:
    images = tmp_path / "my_images"
    images.mkdir()
    for i, image in enumerate(digits):
        Image.fromarray(image if i else 0 * image).save(images / f"{i:03}.png")
    page = ROOT / "docs" / "first_minutes.md"
    find, clean, quarantine, undo, again = [
        c for c in commands(page) if reason_not_to_run(c) is None and "--version" not in c
    ]
    assert find == again
    # The page is opened here, and on any port that is free.
    process = start(f"{find} --no-browser --port 0", tmp_path)
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if "Ctrl-C" in line:
            break
    assert [words in line for words, line in zip(
        ("300 images, gray, 16x16 pixels.", "first ranking by pixels", "300 images; open http://", "Ctrl-C"),
        said, strict=True,
    )] == [True] * 4  # fmt: skip
    url = said[2].rpartition("open ")[2].strip()
    with new_page(browser, url) as shown:
        shown.goto(url)
        expect(shown.locator("#grid img").first).to_be_visible()
        shown.keyboard.press("r")
        shown.keyboard.press("k")
        shown.keyboard.press("i")
        expect(shown.locator("body")).to_contain_text("3 of 300 marked")
        shown.get_by_role("button", name="Keep this limit with the model").click()
        expect(shown.locator("#keep-limit")).to_have_text("Kept with the model")
        shown.keyboard.press("a")
        shown.get_by_role("button", name="Cancel").click()
    process.send_signal(signal.SIGINT)
    assert "the training is saved; the same command goes on from there" in finish(process)

    cleaned = finish(start(clean, tmp_path))
    for words in ("1  goes: marked remove", "1  stays: marked interesting", "1  stays: marked keep",
                  "297  stays: not decided", "cleaned/clean.csv: each image, and why"):  # fmt: skip
        assert words in cleaned
    assert len(list((tmp_path / "cleaned" / "images").rglob("*.png"))) == 299
    finish(start(quarantine, tmp_path))
    assert len(list(images.iterdir())) == 299
    finish(start(undo, tmp_path))
    assert len(list(images.iterdir())) == 300
