"""The pictures of the documents: a page, an original, and a report.

    python -m bench pictures [-o docs] [--preset quick]

Needs a browser (`make browser`). Finds the odd ones among the photographs of `python -m bench photographs`, and writes
find.png (the page), detail.png (a photograph at full size, with its reasons) and report.png (the start of the report).
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from anowild.errors import UserError
from anowild.finding.job import MODEL, REPORT, Job
from anowild.presets import preset
from anowild.process import exit_status
from anowild.reviewing.app import Review
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.store import MARKS, Store
from bench.photographs import make
from tests.browser import launch, new_page, served

#: Sizes of the window and of the part of the report that is shown, in pixels.
WINDOW, SHEET = (1400, 820), (1240, 1560)
#: What is planted in the photograph that is shown at full size.
OPENED = "turned"
#: Whether the first two rows of tiles have their pictures.
_SHOWN = """() => [...document.querySelectorAll(".tile img")].filter((image) => image.naturalWidth).length > 11"""


def draw(out: Path, preset_name: str) -> None:
    """Make photographs in the working directory, find the odd ones, and write the pictures into ``out``."""
    images = Path("photos")
    planted = make(images)
    job = Job(str(images), Path("found"), preset(preset_name).settings())
    detector, session = job.run()
    with _opened((job.out / REPORT).resolve().as_uri(), SHEET) as page:
        _save(page, out / "report.png")
    name = Path(min(path for path, kind in planted.items() if kind == OPENED)).name
    store = Store(job.out / MARKS)
    review = Review(Ranking(session, detector), store, images.name, job.out / MODEL)
    with served(review) as url, _opened(url, WINDOW) as page:
        page.wait_for_function(_SHOWN)
        _save(page, out / "find.png")
        page.fill("#search", name)
        page.locator(".tile", has_text=name).dblclick()
        page.get_by_text("Most similar ordinary images").wait_for()
        page.locator("#spinner").wait_for(state="hidden")
        page.wait_for_load_state("networkidle")
        _save(page, out / "detail.png")
    store.close()


@contextmanager
def _opened(address: str, size: tuple[int, int]) -> Iterator[Page]:
    """Open an address in a browser's window of a size; nothing may go wrong there."""
    viewport = {"width": size[0], "height": size[1]}
    with launch() as browser, new_page(browser, address, viewport=viewport) as page:
        page.goto(address)
        page.wait_for_load_state("networkidle")
        yield page


def _save(page: Page, path: Path) -> None:
    """Write what a window shows in 256 colors, a third of the size."""
    with Image.open(io.BytesIO(page.screenshot())) as image:
        image.convert("RGB").quantize(256).save(path, optimize=True)
    print(path)


def main(arguments: list[str]) -> int:
    """Parse the command line and write the pictures."""
    parser = argparse.ArgumentParser(prog="python -m bench pictures", description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("docs"))
    parser.add_argument("--preset", default="quick")
    given = parser.parse_args(arguments)

    def work() -> int:
        out = given.out.resolve()
        if not out.is_dir():
            raise UserError(f"{given.out}: is no folder; name one with -o")
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            draw(out, given.preset)
        return 0

    return exit_status(work)
