"""The review server: responses and refusals."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from starlette.testclient import TestClient

from anowild.arrays import Array
from anowild.data.display import thumbnail
from anowild.errors import UserError
from anowild.http.security import access_rules
from anowild.reviewing.app import MAX_IMAGES, Review
from anowild.reviewing.details import facts
from anowild.reviewing.export import write_marks
from anowild.reviewing.folder import FACTS, SCORES
from anowild.reviewing.query import Query
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.serve import Server, serve
from anowild.reviewing.session import ReviewSession, warn_unmatched_marks
from anowild.reviewing.store import MARKS, VERDICTS, Store, consensus
from anowild.scoring import Detector
from tests.conftest import PATIENCE, Run
from tests.reviewing.browsing import HOSTILE, ranking_of

HERE = "http://127.0.0.1:8765"
HOSTS = frozenset({"127.0.0.1:8765"})


@pytest.fixture
def client(review: Review) -> TestClient:
    return TestClient(review.app(HOSTS), base_url=HERE)


def post(client: TestClient, review: Review, path: str, **body: Any) -> Any:
    answer = client.post(path, json=body, headers={"x-anowild": review.secret})
    assert answer.status_code == 200, answer.text
    return answer.json()


def numbers_of(client: TestClient, query: str) -> list[int]:
    answer = client.get(f"/api/order?{query}")
    assert answer.status_code == 200, answer.text
    return list(np.frombuffer(answer.content, "<i4").tolist())


def test_session_keeps_images_and_scores(scored_folder: Path, detector: Detector) -> None:
    session = ReviewSession.load(scored_folder)
    assert len(session) == 120
    assert {Path(name).name for name in session.names} >= set(HOSTILE)
    again = detector.score(np.array(session.images.squares))
    assert np.allclose(again.score, session.score, atol=1e-6)
    assert session.images.squares.shape == (120, 1, 16, 16)
    assert session.features.shape[0] == 120
    assert session.images.sizes.tolist() == [[16, 16]] * 120


def test_images_are_read_and_scored_once(
    detector: Detector, images: Path, scored_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = tmp_path / "review"
    shutil.copytree(scored_folder, folder)
    with monkeypatch.context() as patch:
        patch.setattr("anowild.reviewing.session.score_pass", None)
        ReviewSession.make(folder, detector, str(images))
    with pytest.raises(UserError, match="is given twice"):
        ReviewSession.make(folder, detector, [str(images), str(images)])


def test_original_of_every_image(client: TestClient, review: Review) -> None:
    names = ranking_of(review).session.names
    for number in [0, 1, 2, 3, 60]:
        answer = client.get(f"/api/original/{number}")
        assert answer.status_code == 200, answer.text
        with Image.open(names[number]) as original:
            expected = np.asarray(original)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), expected)
        shown = Image.open(io.BytesIO(client.get(f"/api/thumbnail/{number}").content))
        assert np.array_equal(np.asarray(shown.convert("L")), expected)


def test_original_that_is_gone_is_said(detector: Detector, images: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(images.iterdir())[20:40]:
        (few / path.name).write_bytes(path.read_bytes())
    session = ReviewSession.make(tmp_path / "review", detector, str(few))
    review = Review(Ranking(session, detector), Store(tmp_path / MARKS), "few")
    client = TestClient(review.app(HOSTS), base_url=HERE)
    Path(session.names[3]).unlink()
    detail = client.get("/api/detail?image=3&reviewer=me").json()
    assert "is not there any more" in detail["missing"]
    answer = client.get("/api/original/3")
    assert (answer.status_code, "cannot be read" in answer.text) == (500, True)
    assert client.get("/api/thumbnail/3").status_code == 200


@pytest.mark.parametrize("kind", ["array", "zip"])
def test_original_of_an_image_that_is_no_file(
    detector: Detector, images: Path, digits: Array, tmp_path: Path, kind: str
) -> None:
    source = tmp_path / f"images.{'npy' if kind == 'array' else 'zip'}"
    if kind == "array":
        np.save(source, digits[:30])
    else:
        with zipfile.ZipFile(source, "w") as archive:
            for path in sorted(images.iterdir())[20:50]:
                archive.write(path, path.name)
    session = ReviewSession.make(tmp_path / "review", detector, str(source))
    for number in (0, 17, 29):
        pixels = session.images.original(number)
        assert np.array_equal(pixels[:, :, 0], session.images.squares[number, 0])


@pytest.mark.parametrize("name", [FACTS, SCORES, "images/dataset.json", "images/manifest.parquet"])
def test_session_load_refuses_damaged_files(scored_folder: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "review"
    shutil.copytree(scored_folder, folder)
    facts = json.loads((folder / FACTS).read_text())
    (folder / FACTS).write_text(json.dumps(facts | {"set": str(folder / "images")}))
    ReviewSession.load(folder)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:3000] if name == SCORES else b"[1]")
    with pytest.raises(UserError, match=r"damaged|earlier version|not of format"):
        ReviewSession.load(folder)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("format", 99, "is of an earlier version"),
        ("set", 5, r"damaged review \(set is 5: it must be a text"),
        ("set", "/no/such/set", "is not a packed data set"),
        ("from", None, r"damaged review \(from is None"),
        ("images", -1, r"damaged review \(images is -1: it must be from 0"),
        ("images", 7, "its files do not belong together"),
    ],
)
def test_a_wrong_fact_of_a_review_is_told(
    scored_folder: Path, tmp_path: Path, field: str, value: Any, said: str
) -> None:
    for name in (FACTS, SCORES):
        shutil.copy(scored_folder / name, tmp_path / name)
    facts = json.loads((tmp_path / FACTS).read_text())
    facts["set"] = str(scored_folder / "images")
    (tmp_path / FACTS).write_text(json.dumps(facts | {field: value}))
    with pytest.raises(UserError, match=said):
        ReviewSession.load(tmp_path)


def test_review_of_an_earlier_version_is_scored_again(
    detector: Detector, images: Path, tmp_path: Path
) -> None:
    (tmp_path / FACTS).write_text('{"format": 1, "scored": "x", "images": 120}')
    (tmp_path / "pictures.npy").write_bytes(b"old")
    with pytest.raises(UserError, match="earlier version"):
        ReviewSession.load(tmp_path)
    assert len(ReviewSession.make(tmp_path, detector, str(images))) == 120
    assert not (tmp_path / "pictures.npy").exists()


def test_every_order_has_the_odd_side_first(client: TestClient, review: Review) -> None:
    info = client.get("/api/info").json()
    assert info["count"] == 120
    session, fitted = ranking_of(review).session, ranking_of(review).detector.calibration.cues
    names = [sort["name"] for sort in info["sorts"]]
    assert {"score", "marks", "name", "check_sharpness", "cue_residual"} <= set(names)
    for name in names:
        order = np.array(numbers_of(client, f"sort={name}"))
        assert sorted(order) == list(range(120))
        assert numbers_of(client, f"sort={name}&reverse=1") == order[::-1].tolist()
        kind, _, rest = name.partition("_")
        if kind == "cue":
            assert (np.diff(fitted[rest].surprise(session.scores.cues[rest])[order]) <= 0).all()
    assert (np.diff(session.score[numbers_of(client, "sort=score")]) <= 0).all()
    sharpness = session.images.measures["sharpness"][numbers_of(client, "sort=check_sharpness")]
    assert (np.diff(sharpness) >= 0).all()
    scores = np.frombuffer(client.get("/api/scores").content, "<f4")
    assert np.allclose(scores, -np.sort(-session.score), atol=1e-6)


def test_selections(client: TestClient, review: Review) -> None:
    session = ranking_of(review).session
    limit = float(np.median(session.score))
    above = numbers_of(client, f"above={limit}")
    below = numbers_of(client, f"below={limit}")
    assert (session.score[above] >= limit).all()
    assert sorted(above + below) == list(range(120))
    assert [session.names[i] for i in numbers_of(client, "q=050.PNG")] == [
        name for name in session.names if name.endswith("050.png")
    ]
    post(client, review, "/api/mark", images=[5, 6], verdict="keep", reviewer="Ada")
    post(client, review, "/api/mark", images=[6], verdict="interesting", reviewer="Bo")
    post(client, review, "/api/tag", images=[7], tag="dust", on=True, reviewer="Ada")
    assert sorted(numbers_of(client, "mark=marked")) == [5, 6]
    assert len(numbers_of(client, "mark=unmarked")) == 118
    assert numbers_of(client, "mark=unsure") == [6]
    assert sorted(numbers_of(client, "mark=keep&reviewer=Ada")) == [5, 6]
    assert numbers_of(client, "disagree=1") == [6]
    assert numbers_of(client, "tag=dust") == [7]
    assert numbers_of(client, "mark=keep&above=99") == []
    like = numbers_of(client, "like=17")
    assert like[0] == 17
    distances = np.linalg.norm(session.features[like] - session.features[17], axis=1)
    assert (np.diff(distances) >= -1e-4).all()
    # A group is shown as one image, and its members are found.
    shown = numbers_of(client, "group=1")
    members = [m for i in shown for m in np.frombuffer(
        client.get(f"/api/members?image={i}").content, "<i4").tolist()]  # fmt: skip
    assert sorted(members) == list(range(120))


def test_rows_are_of_the_images_asked_for(client: TestClient, review: Review) -> None:
    numbers = [5, 0, 77]
    rows = client.get("/api/rows?images=5,0,77&reviewer=Ada&group=1").json()
    session = ranking_of(review).session
    assert rows["scores"] == pytest.approx(session.score[numbers], rel=1e-6)
    assert rows["names"][0] == session.names[5]
    assert rows["own"] == [None] * 3
    assert rows["sizes"] == [[16, 16]] * 3
    assert all(rows["why"])
    assert min(rows["group"]) >= 1


def test_map_is_computed_once_and_kept(client: TestClient) -> None:
    end = time.monotonic() + PATIENCE
    while (answer := client.get("/api/map")).status_code == 503:
        assert "being computed" in answer.text
        assert time.monotonic() < end
        time.sleep(0.05)
    places = np.frombuffer(answer.content, "<f4").reshape(-1, 2)
    assert places.shape == (120, 2)
    assert places.min() >= 0
    assert places.max() <= 1


def test_detail_and_explanation(client: TestClient) -> None:
    detail = client.get("/api/detail?image=60&reviewer=Ada").json()
    assert detail["why"]
    assert detail["seen"] == "all of it"
    assert detail["box"] == [0, 0, 1, 1]
    assert (detail["pages"], detail["depth"], detail["window"]) == (1, "uint8", None)
    made = client.get("/api/explain?image=60").json()
    assert [picture["title"] for picture in made["pictures"]] == [
        "image", "rebuilt", "difference", "odd places",
    ]  # fmt: skip
    assert made["heat"].startswith("data:image/png;base64,")
    assert 0 < len(made["near"]) <= 5


def test_sixteen_bits_and_pages(detector: Detector, digits: Array, tmp_path: Path) -> None:
    folder = tmp_path / "tiffs"
    folder.mkdir()
    for i in range(8):
        deep = [Image.fromarray(digits[i + k].astype(np.uint16) * 40 + 300) for k in range(3)]
        deep[0].save(folder / f"{i}.tif", save_all=True, append_images=deep[1:])
    session = ReviewSession.make(tmp_path / "review", detector, str(folder))
    assert len(session) == 24
    review = Review(Ranking(session, detector), Store(tmp_path / MARKS), "tiffs")
    client = TestClient(review.app(HOSTS), base_url=HERE)
    detail = client.get("/api/detail?image=4&reviewer=me").json()
    assert (detail["pages"], detail["page"], detail["depth"]) == (3, 1, "uint16")
    assert detail["window"]["min"] == 300

    def shown(query: str) -> Array:
        return np.asarray(Image.open(io.BytesIO(client.get(f"/api/original/4?{query}").content)))

    assert (shown("").min(), shown("").max()) == (0, 255)
    assert (shown("low=20000&high=30000") == 0).all()
    assert np.array_equal(shown("page=2"), np.asarray(
        Image.open(io.BytesIO(client.get("/api/original/5").content))))  # fmt: skip


def test_limit_is_kept_with_the_model(review: Review, model_folder: Path, tmp_path: Path) -> None:
    client = TestClient(review.app(HOSTS), base_url=HERE)
    answer = client.post("/api/limit", json={"score": 2.5}, headers={"x-anowild": review.secret})
    assert (answer.status_code, "not kept in a folder" in answer.text) == (500, True)
    shutil.copytree(model_folder, tmp_path / "model")
    review.model = tmp_path / "model"
    assert post(client, review, "/api/limit", score=2.5)["limit"] == {
        "score": 2.5, "saved": True, "reached": int((ranking_of(review).session.score >= 2.5).sum()),
    }  # fmt: skip
    assert client.get("/api/info").json()["limit"] == {
        "score": 2.5, "saved": True, "reached": int((ranking_of(review).session.score >= 2.5).sum()),
    }  # fmt: skip


def test_files_are_opened_only_on_this_machine(
    client: TestClient, review: Review, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"x-anowild": review.secret}
    assert client.post("/api/open", json={"image": 5}, headers=headers).status_code == 500
    review.local = True
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = client.post("/api/open", json={"image": 5}, headers=headers)
    assert (answer.status_code, "cannot be run" in answer.text) == (500, True)
    program = tmp_path / ("open" if sys.platform == "darwin" else "xdg-open")
    program.write_text(f'#!/bin/sh\necho "$1" > "{tmp_path}/opened.part"\n'
                       f'/bin/mv "{tmp_path}/opened.part" "{tmp_path}/opened"\n')  # fmt: skip
    program.chmod(0o755)
    assert client.post("/api/open", json={"image": 5}, headers=headers).status_code == 200
    end = time.monotonic() + PATIENCE
    while not (tmp_path / "opened").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert (tmp_path / "opened").read_text().strip() == ranking_of(review).session.names[5]


def test_other_scores_take_the_place_of_the_first(client: TestClient, review: Review) -> None:
    assert client.get("/api/status").json() == {
        "version": 1, "stage": "done", "text": "", "fraction": None,
    }  # fmt: skip
    session = ranking_of(review).session
    before = numbers_of(client, "sort=score")
    scores = replace(session.scores, score=-session.score)
    review.show(Ranking(replace(session, scores=scores), ranking_of(review).detector), None)
    assert client.get("/api/status").json()["version"] == 2
    assert numbers_of(client, "sort=score") != before


def test_a_folder_whose_name_is_no_text_can_be_chosen(
    detector: Detector, images: Path, tmp_path: Path
) -> None:
    for number, name in enumerate((b"caf\xe9", b"plain")):
        folder = tmp_path / "images" / os.fsdecode(name)
        folder.mkdir(parents=True)
        for path in sorted(images.iterdir())[12 * number : 12 * number + 12]:
            (folder / path.name).write_bytes(path.read_bytes())
    session = ReviewSession.make(tmp_path / "review", detector, str(tmp_path / "images"))
    ranking = Ranking(session, detector)
    folders = ranking.about()["folders"]
    assert [Path(folder).name for folder in folders] == ["caf\\xe9", "plain"]
    assert [len(ranking.select(Query(folder=folder), [])) for folder in folders] == [12, 12]


def test_a_folder_is_chosen_with_those_below_it(
    detector: Detector, images: Path, tmp_path: Path
) -> None:
    paths = sorted(images.iterdir())
    for number, name in enumerate(("plate 1/a", "plate 1/b", "plate 1", "plate 10", "other")):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths[6 * number : 6 * number + 6]:
            (folder / path.name).write_bytes(path.read_bytes())
    session = ReviewSession.make(tmp_path / "review", detector, str(tmp_path / "images"))
    ranking = Ranking(session, detector)
    counts = {
        str(Path(folder).relative_to(tmp_path / "images")): len(
            ranking.select(Query(folder=folder), [])
        )
        for folder in ranking.about()["folders"]
    }
    assert counts == {"other": 6, "plate 1": 18, "plate 1/a": 6, "plate 1/b": 6, "plate 10": 6}


def test_measurements_say_on_which_side_they_are(
    detector: Detector, images: Path, tmp_path: Path
) -> None:
    """As the reasons do: black is darker, so lower, than nearly all."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i, path in enumerate(sorted(images.iterdir())[:8]):
        (folder / f"{i}.png").write_bytes(path.read_bytes())
    shape = np.asarray(Image.open(folder / "0.png")).shape
    Image.fromarray(np.zeros(shape, np.uint8)).save(folder / "black.png")
    session = ReviewSession.make(tmp_path / "review", detector, str(folder))
    ranking = Ranking(session, detector)
    found = facts(ranking, session.numbers[str(folder / "black.png")])
    said = {cue["title"]: cue for cue in found["cues"]}
    (why,) = detector.reasons(
        session.scores.select(np.array([session.numbers[str(folder / "black.png")]]))
    )
    for reason in why:
        assert said[reason.cue.replace("_", " ")]["lower"] == reason.lower


def test_marks_of_several_reviewers_and_undo(client: TestClient, review: Review) -> None:
    found = post(client, review, "/api/mark", images=[3], verdict="remove", reviewer="Ada")
    assert found["own"] == ["remove"]
    assert found["progress"] == {
        "own": 1, "all": 1, "keep": 0, "remove": 1, "interesting": 0, "unsure": 0,
    }  # fmt: skip
    post(client, review, "/api/mark", images=[3], verdict="keep", reviewer="Bo")
    rows = client.get("/api/rows?images=3&reviewer=Bo").json()
    assert (rows["own"], rows["all"]) == (["keep"], ["unsure"])
    found = post(client, review, "/api/undo", reviewer="Bo")
    assert (found["images"], found["own"], found["all"]) == ([3], [None], ["remove"])
    assert post(client, review, "/api/undo", reviewer="Bo")["images"] == []
    detail = client.get("/api/detail?image=3&reviewer=Ada").json()
    assert detail["marks"] == [{"reviewer": "Ada", "verdict": "remove", "tags": []}]


def test_learned_order_changes_with_marks(client: TestClient, review: Review) -> None:
    before = client.get("/api/order?sort=marks").content
    order = np.frombuffer(before, "<i4")
    for place, number in enumerate(order[:20]):
        verdict = "remove" if place % 3 == 0 else "keep"
        post(client, review, "/api/mark", images=[int(number)], verdict=verdict, reviewer="Ada")
    after = client.get("/api/order?sort=marks").content
    assert after != before
    assert sorted(np.frombuffer(after, "<i4")) == list(range(120))


def test_thumbnails_are_scaled_down_but_never_up(client: TestClient, review: Review) -> None:
    pixels = np.add.outer(np.arange(240) % 256, np.arange(320) % 256).astype(np.uint8)[:, :, None]
    large = thumbnail(pixels)
    thumbnails = ranking_of(review).session.images.thumbnails
    ranking_of(review).session.images.thumbnails = [large, thumbnails[1]]
    answer = client.get("/api/thumbnail/0?side=128")
    assert answer.headers["content-type"] == "image/jpeg"
    small = Image.open(io.BytesIO(answer.content))
    assert (small.format, small.size) == ("JPEG", (128, 96))
    expected = Image.open(io.BytesIO(large)).convert("RGB").resize((128, 96), Image.Resampling.BOX)
    difference = np.asarray(small, float) - np.asarray(expected, float)
    assert np.abs(difference).mean() < 3
    assert client.get("/api/thumbnail/0?side=320").content == large
    assert client.get("/api/thumbnail/1?side=128").content == thumbnails[1]
    for side in ("0", "321", "-1", "x"):
        assert client.get(f"/api/thumbnail/0?side={side}").status_code == 400


def test_export_formats_hold_all_marks(
    client: TestClient, review: Review, tmp_path: Path, scored_folder: Path
) -> None:
    names = [Path(name).name for name in ranking_of(review).session.names]
    for name in HOSTILE[:2]:
        post(
            client,
            review,
            "/api/mark",
            images=[names.index(name)],
            verdict="remove",
            reviewer="Ada",
        )
    post(
        client, review, "/api/mark", images=[names.index("050.png")], verdict="keep", reviewer="Ada"
    )
    post(
        client,
        review,
        "/api/mark",
        images=[names.index("050.png")],
        verdict="remove",
        reviewer="Bo",
    )
    ranking_of(review).session.images.finding_words = {names.index("050.png"): "blurred"}
    rows = list(csv.DictReader(io.StringIO(client.get("/api/export?format=csv").text)))
    assert [(Path(r["path"]).name, r["label"], r["verdict"], r["agreed"]) for r in rows] == [
        (HOSTILE[0], "1", "remove", "remove"),
        (HOSTILE[1], "1", "remove", "remove"),
        ("050.png", "", "keep", "unsure"),
        ("050.png", "", "remove", "unsure"),
    ]
    assert json.loads(client.get("/api/export?format=json").text)[0]["reviewer"] == "Ada"
    table = pq.read_table(io.BytesIO(client.get("/api/export?format=parquet").content))
    assert table.num_rows == 4
    assert table["findings"].to_pylist() == ["", "", "blurred", "blurred"]
    assert [r["findings"] for r in rows] == ["", "", "blurred", "blurred"]


def test_the_marks_of_a_folder_are_written(
    anowild: Run, scored_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "review"
    shutil.copytree(scored_folder, folder)
    code, _, err = anowild("marks", folder, "-o", tmp_path / "marks.csv")
    assert (code, "holds no marks yet" in err) == (1, True)
    store = Store(folder / MARKS)
    store.mark([ReviewSession.load(folder).names[0]], "Ada", "remove")
    store.close()
    for name in ("marks.csv", "marks.json", "marks.parquet"):
        assert write_marks(folder, tmp_path / name) == 1
        assert write_marks(folder.parent, tmp_path / name) == 1  # as of what `find` made
        assert (tmp_path / name).stat().st_size > 0
    code, _, err = anowild("marks", folder, "-o", tmp_path / "marks.txt")
    assert (code, "written as .csv" in err) == (1, True)


def test_marks_of_other_images_are_ignored(client: TestClient, review: Review) -> None:
    review.store.mark(["gone.png"], "Ada", "remove")
    found = post(client, review, "/api/mark", images=[1], verdict="remove", reviewer="Ada")
    assert found["progress"]["all"] == 1
    assert post(client, review, "/api/undo", reviewer="Ada")["images"] == [1]
    assert post(client, review, "/api/undo", reviewer="Ada")["images"] == []
    assert [mark.image for mark in review.store.marks()] == ["gone.png"]


def test_session_rescores_changed_source_and_keeps_marks(
    detector: Detector, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(images.iterdir())[:20]:
        (few / path.name).write_bytes(path.read_bytes())
    folder = tmp_path / "review"
    folder.mkdir()
    session = ReviewSession.make(folder, detector, str(few))
    store = Store(folder / MARKS)
    store.mark([session.names[0]], "Ada", "remove")
    Path(session.names[0]).unlink()
    session = ReviewSession.make(folder, detector, str(few))
    assert len(session) == 19
    warn_unmatched_marks(session, store.marks())
    assert "1 marked images are not in this review" in caplog.text


def test_session_interrupted_while_scoring_is_scored_again(
    detector: Detector, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("anowild.reviewing.session.write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            ReviewSession.make(tmp_path, detector, str(images))
    with pytest.raises(UserError, match=rf"{FACTS}: cannot be read \(No such file"):
        ReviewSession.load(tmp_path)
    assert len(ReviewSession.make(tmp_path, detector, str(images))) == 120


# Refusals


def test_serve_refuses_folder_with_other_files(
    detector: Detector, images: Path, tmp_path: Path
) -> None:
    before = {"names.json": b"mine", "download.iso.part": b"half", "lock": b""}  # as trainings have
    for name, data in before.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match="is no review, but holds other files"):
        serve(detector, str(images), tmp_path, port=0)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2fcli.py", "/static/index.html",
        "/etc/passwd", "/api/rows?images=120&reviewer=a", "/api/rows?images=-1&reviewer=a",
        "/api/rows?images=/etc/passwd&reviewer=a", "/api/order?sort=__class__", "/api/order?like=120",
        "/api/order?finding=magic", "/api/thumbnail/120", "/api/original/-1", "/api/original/../../etc",
        "/api/members?image=120",
        "/api/export?format=exe", f"/api/rows?reviewer=a&images={','.join(['1'] * (MAX_IMAGES + 1))}",
        "/api/detail?image=1,2",
    ],
)  # fmt: skip
def test_server_refuses_unknown_paths_and_parameters(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (400, 403, 404)
    assert "Traceback" not in answer.text
    assert "import" not in answer.text


@pytest.mark.parametrize("headers", [{}, {"x-anowild": "guess"}, {"origin": "http://evil.example"}])
def test_guard_refuses_cross_site_changes(
    client: TestClient, review: Review, headers: dict[str, str]
) -> None:
    body = {"images": [1], "verdict": "remove", "reviewer": "Mallory"}
    assert client.post("/api/mark", json=body, headers=headers).status_code == 403
    form = {**headers, "content-type": "text/plain"}
    assert client.post("/api/mark", content=json.dumps(body), headers=form).status_code == 403
    assert client.get("/api/mark").status_code == 404  # only POST is served
    assert review.store.marks() == []


def test_guard_refuses_foreign_host_names(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example:8765"}).status_code == 403
    assert client.get("/api/info", headers={"host": "127.0.0.1:9"}).status_code == 403
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_guard_requires_token(review: Review, host: str) -> None:
    hosts, token = access_rules(host, 8765)
    assert token is not None
    shown = "192.0.2.1" if host == "0.0.0.0" else host
    client = TestClient(review.app(hosts, token), base_url=f"http://{shown}:8765")
    for path in ("/", "/api/info", "/static/main.js", "/?token=guess"):
        assert client.get(path).status_code == 403
    answer = client.get(f"/?token={token}")
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/api/info").status_code == 200  # with the cookie
    assert client.get("/", headers={"host": "evil.example"}).status_code == (
        200 if host == "0.0.0.0" else 403
    )
    assert "localhost" in access_rules("127.0.0.1", 80)[0]  # browsers omit this port


def test_only_this_machine_can_do_without_a_token(
    anowild: Run, model_folder: Path, images: Path, tmp_path: Path
) -> None:
    assert access_rules("127.0.0.1", 1, token=False)[1] is None
    with Server("127.0.0.1", 0) as server, Server("localhost", 0, token=False) as other:
        assert (server.local, other.local) == (True, True)
        assert "?token=" in server.url
        assert other.url == f"http://localhost:{other.port}/"
    for name, *given in (("review", model_folder, images), ("find", images)):
        code, _, err = anowild(
            name, *given, "-o", tmp_path / name, "--no-token", "--host", "0.0.0.0"
        )
        assert (code, "--no-token is for this machine alone" in err) == (1, True), err


def test_progress_counts_the_images_of_the_review(client: TestClient, review: Review) -> None:
    names = ranking_of(review).session.names
    rng = np.random.default_rng(0)
    review.store.mark(["gone.png"], "Ada", "remove")
    for i in range(60):
        reviewer = ["Ada", "Bo"][i % 2]
        numbers = rng.choice(12, 3, replace=False).tolist()
        kind = rng.integers(5)
        if kind == 0:
            found = post(client, review, "/api/undo", reviewer=reviewer)
        elif kind == 1:
            found = post(
                client, review, "/api/tag", images=numbers, tag="x", on=True, reviewer=reviewer
            )
        else:
            verdict = [None, "keep", "remove", "unsure"][rng.integers(4)]
            found = post(
                client, review, "/api/mark", images=numbers, verdict=verdict, reviewer=reviewer
            )
        if i == 30:  # somebody else changes the marks
            Store(review.store.path).mark([names[3]], "Cy", "interesting")
        marks = [mark for mark in review.store.marks() if mark.image != "gone.png"]
        agreed = consensus(marks)
        if i != 30:
            assert found["progress"] == {
                "own": sum(mark.reviewer == reviewer and mark.verdict is not None for mark in marks),
                "all": len(agreed), **{v: list(agreed.values()).count(v) for v in VERDICTS},
            }  # fmt: skip
        assert found["all"] == [agreed.get(names[n]) for n in found["images"]] or i == 30


def test_a_mark_reads_the_marks_of_its_image_alone(
    client: TestClient, review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.get("/api/rows?images=5&reviewer=Ada")
    monkeypatch.setattr(review.store, "marks", None)
    for verdict in ("keep", "remove", None):
        post(client, review, "/api/mark", images=[5], verdict=verdict, reviewer="Ada")
        assert client.get("/api/rows?images=5&reviewer=Ada").json()["own"] == [verdict]
    post(client, review, "/api/tag", images=[5], tag="dust", on=True, reviewer="Ada")
    assert post(client, review, "/api/undo", reviewer="Ada")["images"] == [5]
    assert client.get("/api/detail?image=5&reviewer=Ada").json()["tags"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"no json", b"{}", b'{"images": [1]}', b'{"images": ["1"], "verdict": "remove", "reviewer": "a"}',
        b'{"images": [120], "verdict": "remove", "reviewer": "a"}',
        b'{"images": [1], "verdict": "fine", "reviewer": "a"}',
        b'{"images": [1], "verdict": "remove", "reviewer": ""}',
        b'{"images": [true], "verdict": "remove", "reviewer": "a"}', b"[" * 4000,
        b'{"images": [1], "verdict": "remove", "reviewer": "' + b"a" * (1 << 20) + b'"}',
    ],
)  # fmt: skip
def test_mark_refuses_invalid_bodies(client: TestClient, review: Review, body: bytes) -> None:
    answer = client.post("/api/mark", content=body, headers={"x-anowild": review.secret})
    assert answer.status_code == 400
    assert review.store.marks() == []


def test_responses_have_security_headers(client: TestClient) -> None:
    for path in ("/", "/api/info", "/static/review.css", "/api/thumbnail/1", "/api/rows"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    page = client.get("/").text
    assert 'aria-labelledby="detail-name"' in page  # the name that HTML gives it
    assert "onclick" not in page
    assert "<script>" not in page


def test_listen_reports_unusable_address(detector: Detector, images: Path, tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}.*--port"):
            serve(detector, str(images), tmp_path / "review", port=port)
    for host in ("999.1.1.1", "evil\0", "\udcff", "a" * 64):
        with pytest.raises(UserError, match=r"cannot listen on.*--host"):
            serve(detector, str(images), tmp_path / "review", host=host)


@pytest.mark.parametrize(
    "reviewer", [None, 3, "", "x" * 65, "two\nlines", "\u0000", "=1+1", " ", "\u202eadA"]
)
def test_changes_require_valid_reviewer_name(
    client: TestClient, review: Review, reviewer: Any
) -> None:
    body = {"images": [1], "verdict": "remove", "reviewer": reviewer}
    for path in ("/api/mark", "/api/undo"):
        answer = client.post(path, json=body, headers={"x-anowild": review.secret})
        assert answer.status_code == 400
        assert "The name of a reviewer has 1 to 64 characters" in answer.text
    assert review.store.marks() == []


def test_reviewer_name_may_hold_emoji(client: TestClient, review: Review) -> None:
    name = "\U0001f469\u200d\U0001f52c Ada"  # contains a zero-width joiner, which is not printable
    post(client, review, "/api/mark", images=[1], verdict="remove", reviewer=name)
    assert review.store.marks()[0].reviewer == name


def test_unknown_path_gets_404_with_headers(client: TestClient) -> None:
    answer = client.get("/etc/passwd")
    assert answer.status_code == 404
    assert "content-security-policy" in answer.headers
