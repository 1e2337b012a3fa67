"""The documentation site: built strictly, complete, usable without other hosts and with a screen reader."""

from __future__ import annotations

import functools
import importlib.util
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, expect

import anowild
from anowild.settings import Settings
from tests.browser import browser_of_tests, new_page
from tests.reviewing.browsing import serious_faults

pytest.importorskip("mkdocs", reason="the site is built with `pip install -e '.[docs]'`")

ROOT = Path(__file__).parents[1]
#: Attributes by which a page makes the browser load something at once.
LOADING = {
    "script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data",
}  # fmt: skip


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site: a link, an anchor or a file of the navigation that leads nowhere ends this."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder))
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Address of the site on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from browser_of_tests()


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks_of_docs", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Assets(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        value = given.get(LOADING.get(tag, ""))
        if value and given.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(value)


def pages(site: Path) -> list[Path]:
    return sorted(page for page in site.rglob("*.html") if page.name != "404.html")


def test_every_asset_is_in_the_site(site: Path) -> None:
    assert len(pages(site)) >= 20
    for page in pages(site):
        assets = Assets()
        assets.feed(page.read_text(encoding="utf-8"))
        assert assets.found
        for value in assets.found:
            parts = urlsplit(value)
            assert (parts.scheme, parts.netloc) == ("", ""), f"{page.name} loads {value}"
            assert (page.parent / unquote(parts.path)).is_file(), f"{page.name} loads {value}"
    for style in site.rglob("*.css"):
        elsewhere = re.findall(
            r"url\(\s*['\"]?(?:https?:)?//[^)]*\)|@import[^;]*", style.read_text()
        )
        assert elsewhere == [], style.name


def test_reference_names_every_command_setting_and_public_name(site: Path) -> None:
    import typer

    from anowild.cli import app

    line = (site / "cli.html").read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    commands = group.list_commands(typer.Context(group))  # type: ignore[attr-defined]
    assert "find" in commands
    for command in commands:
        assert f'id="anowild-{command}"' in line, command
    assert 'id="anowild-study-run"' in line
    assert "--copy-flagged FOLDER" in line
    settings = (site / "settings.html").read_text(encoding="utf-8")
    for name in Settings.__dataclass_fields__:
        assert f"<code>{name}</code>" in settings, name
    described = (site / "api.html").read_text(encoding="utf-8")
    for name in anowild.__all__:
        if not name.startswith("_"):
            assert f'id="anowild.{name}"' in described, name


@pytest.mark.parametrize(
    ("text", "made", "warning"),
    [
        ("see [limits](thresholds.md)", "see [limits](thresholds.md)", ""),
        ("see [the list](../CITATION.cff)", "see the list (`CITATION.cff`)", ""),
        ("see [files.py](../src/anowild/files.py)", "see `src/anowild/files.py`", ""),
        ("see [x](../src/x.py)", "see x (`src/x.py`)", "links to ../src/x.py, which is not there"),
        ("<!-- made from the code: magic -->", "", "there is no part 'magic'"),
    ],
)
def test_hook_turns_links_out_of_the_site_into_paths(
    hooks: ModuleType, caplog: pytest.LogCaptureFixture, text: str, made: str, warning: str
) -> None:
    page = SimpleNamespace(file=SimpleNamespace(abs_src_path=str(ROOT / "docs" / "page.md")))
    assert hooks.on_page_markdown(text, page) == made
    assert warning in caplog.text
    assert bool(caplog.text) == bool(warning)


def check_page(browser: Browser, address: str, name: str, scheme: str = "light") -> None:
    """Nothing goes wrong, nothing is asked of others, all images show, axe finds no serious fault."""
    with new_page(browser, address, color_scheme=scheme) as page:
        page.goto(address + name, wait_until="networkidle")
        for image in page.locator("article img").all():
            image.scroll_into_view_if_needed()
            assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert serious_faults(page) == []


def test_a_page_has_no_serious_fault(browser: Browser, address: str) -> None:
    check_page(browser, address, "first_minutes.html")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_fault(
    browser: Browser, site: Path, address: str, scheme: str
) -> None:
    for page in pages(site):
        check_page(browser, address, page.relative_to(site).as_posix(), scheme)


@pytest.mark.slow
def test_search_finds_a_page(browser: Browser, address: str) -> None:
    with new_page(browser, address) as page:
        page.goto(f"{address}index.html?q=quarantine")
        expect(page.locator(".md-search-result__item").first).to_contain_text("quarantine")
