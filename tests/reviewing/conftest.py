from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.reviewing.app import Review
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import MARKS, Store
from anowild.scoring import Detector

#: File names that try to inject markup or are no valid text.
HOSTILE = ("<script>alert(1).png", 'a" onmouseover="alert(1).png', "two\nlines.png", "\udcff.png")


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
