from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from anowild import api
from anowild.arrays import Array
from anowild.reviewing.app import Review
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import MARKS, Store
from anowild.scoring import Detector
from tests.browser import browser_of_tests, new_page, served
from tests.conftest import tiny_settings
from tests.reviewing.browsing import DESKTOP, HOSTILE, Scene, Site, open_review, write_images


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, digits: Array) -> Path:
    """Return a folder of 120 digits, some with hostile names."""
    folder = tmp_path_factory.mktemp("images")
    for i, image in enumerate(digits[:120]):
        name = HOSTILE[i] if i < len(HOSTILE) else f"{i:03}.png"
        Image.fromarray(image).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def scored_folder(
    tmp_path_factory: pytest.TempPathFactory, detector: Detector, images: Path
) -> Path:
    """Return the folder of a review that is scored and has no marks."""
    folder = tmp_path_factory.mktemp("scored")
    ReviewSession.make(folder, detector, str(images))
    return folder


@pytest.fixture
def review(scored_folder: Path, detector: Detector, tmp_path: Path) -> Review:
    ranking = Ranking(ReviewSession.load(scored_folder), detector)
    return Review(ranking, Store(tmp_path / MARKS), "digits")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Photographs, a barely trained model of them, and their scores."""
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
