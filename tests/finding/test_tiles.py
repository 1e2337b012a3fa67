"""Images that are scored by their oddest tiles: training, scoring, the page's heat map, resuming."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anowild import api
from anowild.data import ImageSet, Preprocess
from anowild.errors import UserError
from anowild.finding.job import IMAGES, MODEL, Job
from anowild.reviewing import details
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.session import ReviewSession
from anowild.scoring import Detector
from anowild.scoring.explain import one_line
from anowild.scoring.heat_map import MAP_SIDE, heat_map
from tests.conftest import Run, tiny_settings

#: Side of the tiles; of the pictures, some of which are smaller; the odd one, and where its spot is.
TILE, SIDES, ODD, SPOT = 16, (48, 40), 7, (35, 20)
SETTINGS = tiny_settings(views=("pixels",), tiles=TILE, resolution=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 striped pictures with grain; one has a checkered spot of 10 pixels."""
    folder = tmp_path_factory.mktemp("striped")
    rng = np.random.default_rng(0)
    for number in range(24):
        side = SIDES[number % 2 if number != ODD else 0]
        stripes = 120 + 60 * np.sin(np.arange(side) * 0.9 + rng.uniform(0, 6))
        image = np.tile(stripes, (side, 1)) + rng.normal(0, 8, (side, side))
        if number == ODD:
            y, x = SPOT
            image[y : y + 10, x : x + 10] = 255 * (np.indices((10, 10)).sum(axis=0) // 2 % 2)
        Image.fromarray(image.round().clip(0, 255).astype(np.uint8)).save(
            folder / f"{number:02}.png"
        )
    return folder


@pytest.fixture(scope="module")
def ranked(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ranking]:
    out = tmp_path_factory.mktemp("found") / "out"
    detector, session = Job(str(folder), out, SETTINGS).run()
    return out, Ranking(session, detector)


@given(st.integers(4, 300), st.integers(4, 300), st.integers(8, 100))
def test_tiles_cover_an_image_and_lie_within_it(height: int, width: int, side: int) -> None:
    covered = np.zeros((height, width), int)
    boxes = Preprocess(8, 1, tiles=side).boxes(height, width)
    for top, left, tall, wide in boxes:
        assert (tall, wide) == (min(side, height), min(side, width))
        assert 0 <= top <= height - tall
        assert 0 <= left <= width - wide
        covered[top : top + tall, left : left + wide] += 1
    assert covered.min() == 1
    assert len(boxes) == -(-height // side) * -(-width // side)


def test_an_image_with_one_odd_tile_is_the_oddest(ranked: tuple[Path, Ranking]) -> None:
    session = ranked[1].session
    assert np.argmax(session.score) == ODD
    y, x, tall, wide = ranked[1].detector.preprocess.boxes(48, 48)[session.tile(ODD) or 0]
    assert y - 5 <= SPOT[0] < y + tall
    assert x - 5 <= SPOT[1] < x + wide
    (why,) = ranked[1].detector.reasons(session.scores.select(np.array([ODD])))
    assert "its oddest tile: " in one_line(why)
    assert "of the training tiles" in one_line(why)


def test_seen_whole_the_spot_is_lost(folder: Path, tmp_path: Path) -> None:
    detector = api.train(str(folder), tmp_path / "model", SETTINGS.replace(tiles=0))
    table = api.score(detector, str(folder))
    assert table.scores.ranks()[ODD] > 1


def test_a_score_depends_on_the_image_alone(folder: Path, ranked: tuple[Path, Ranking]) -> None:
    out = ranked[0]
    detector = Detector.load(out / MODEL)
    together = api.score(detector, str(folder)).scores
    packed = api.score(detector, str(out / IMAGES)).scores
    assert np.array_equal(packed.score, together.score)
    for number in (0, 1, ODD):
        alone = api.score(detector, str(folder / f"{number:02}.png")).scores
        assert np.allclose(alone.score, together.score[number], atol=1e-6)
    images = ImageSet.load(str(folder), preprocess=detector.preprocess)
    assert len(images) == 24 * 9
    assert len(images.names) == 24
    scores = detector.score(images)
    assert np.allclose(scores.score, together.score, atol=1e-6)
    assert scores.tile is not None
    assert scores.tile[ODD] == ranked[1].session.tile(ODD)


def test_the_page_shows_the_oddest_tile_and_a_map_of_all(ranked: tuple[Path, Ranking]) -> None:
    ranking = ranked[1]
    facts = details.facts(ranking, ODD)
    assert facts["tiled"]
    assert facts["seen"] == "9 tiles of 16x16, each seen as 16x16"
    left, top, width, height = facts["box"]
    assert width == height == pytest.approx(16 / 48)
    assert top <= SPOT[0] / 48 < top + height + 0.1
    assert left <= SPOT[1] / 48 < left + width + 0.1
    pictures = ranking.session.images
    assert pictures.squares_of(ODD).shape == (9, 1, 16, 16)
    assert np.array_equal(
        ranking.session.deciding(np.array([ODD]))[0],
        pictures.squares_of(ODD)[ranking.session.tile(ODD) or 0],
    )


def test_tiles_that_are_smaller_than_a_pixel_of_the_heat_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    preprocess = Preprocess(channels=1, resolution=16, tiles=8)
    maps = np.ones((len(preprocess.boxes(8, 20_000)), 4, 4), np.float32)
    detector = SimpleNamespace(
        preprocess=preprocess, explain=lambda _: SimpleNamespace(heat_map=lambda: maps)
    )
    found = heat_map(cast(Detector, detector), maps, 20_000, 8)
    assert found is not None
    assert found.shape == (1, MAP_SIDE)
    assert (found == 1).all()


def test_a_heat_map_lays_the_maps_of_tiles_over_the_picture(folder: Path, tmp_path: Path) -> None:
    settings = SETTINGS.replace(views="gan", kimg=0.3, initial_resolution=None)
    detector, session = Job(str(folder), tmp_path / "out", settings).run()
    heat = details.heat_of(Ranking(session, detector), ODD)
    assert heat is not None
    assert heat.shape == (48, 48)
    made = detector.explain(session.images.squares_of(ODD)).heat_map()
    assert made is not None
    assert np.array_equal(heat[16:32, 32:48], made[5])
    assert details.explanation(Ranking(session, detector), ODD)["heat"]


def test_the_same_command_finds_everything_done(folder: Path, ranked: tuple[Path, Ranking]) -> None:
    detector, session = Job(str(folder), ranked[0], SETTINGS).run()
    assert detector.checksum == ranked[1].detector.checksum
    assert np.array_equal(session.score, ranked[1].session.score)
    assert session.tile(ODD) == ranked[1].session.tile(ODD)


def test_a_review_of_a_tiled_model_agrees_with_its_scores(
    folder: Path, ranked: tuple[Path, Ranking], tmp_path: Path
) -> None:
    detector = Detector.load(ranked[0] / MODEL)
    session = ReviewSession.make(tmp_path / "review", detector, str(folder))
    scores = api.score(detector, str(folder)).scores
    assert np.allclose(session.score, scores.score, atol=1e-6)
    assert session.features.shape[0] == 24


def test_tiles_of_one_image_are_never_measured_by_each_other() -> None:
    from anowild.training.references import folds_of
    from anowild.training.transforms import split

    groups = np.repeat(np.arange(30), 7)
    folds = folds_of(groups, 0)
    assert all(len({*folds[groups == g].tolist()}) == 1 for g in range(30))
    assert len({*folds.tolist()}) == 5
    first, second = split(groups, 0)
    assert not {*groups[first].tolist()} & {*groups[second].tolist()}
    assert sorted([*first, *second]) == list(range(210))


def test_a_data_set_holds_no_tiles(folder: Path, tmp_path: Path, anowild: Run) -> None:
    code, _, said = anowild("prepare", folder, "-o", tmp_path / "set", "--set", "tiles=16")
    assert code == 1
    assert "tiles" in said
    with pytest.raises(UserError, match="at least 8"):
        tiny_settings(tiles=4)
