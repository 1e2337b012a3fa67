"""The review server: responses and refusals."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from starlette.testclient import TestClient

from anowild.errors import UserError
from anowild.reviewing.app import MAX_IMAGES, Review
from anowild.reviewing.export import write_marks
from anowild.reviewing.security import access_rules
from anowild.reviewing.serve import serve
from anowild.reviewing.session import (
    FACTS,
    NAMES,
    NUMBERS,
    PICTURES,
    ReviewSession,
    warn_unmatched_marks,
)
from anowild.reviewing.store import MARKS, Store
from anowild.scoring import Detector
from tests.conftest import Run
from tests.reviewing.conftest import HOSTILE

HERE = "http://127.0.0.1:8765"
HOSTS = frozenset({"127.0.0.1:8765"})


@pytest.fixture
def client(review: Review) -> TestClient:
    return TestClient(review.app(HOSTS), base_url=HERE)


def post(client: TestClient, review: Review, path: str, **body: Any) -> Any:
    answer = client.post(path, json=body, headers={"x-anowild": review.secret})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_session_keeps_images_and_scores(
    scored_folder: Path, detector: Detector, images: Path
) -> None:
    session = ReviewSession.load(scored_folder)
    assert len(session) == 120
    assert {Path(name).name for name in session.names} >= set(HOSTILE)
    again = detector.score(np.array(session.pictures))
    assert np.allclose(again.score, session.score, atol=1e-6)
    assert session.pictures.shape == (120, 1, 16, 16)
    assert session.features.shape[0] == 120
    assert ReviewSession.matches(scored_folder, detector, str(images))
    assert not ReviewSession.matches(scored_folder, detector, [str(images), str(images)])
    assert not ReviewSession.matches(images, detector, str(images))


@pytest.mark.parametrize("name", [FACTS, NAMES, NUMBERS, PICTURES])
def test_session_load_refuses_damaged_files(scored_folder: Path, tmp_path: Path, name: str) -> None:
    for path in scored_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:3000] if name == NUMBERS else b"[1]")
    with pytest.raises(UserError, match=r"damaged review|not of format"):
        ReviewSession.load(tmp_path)


def test_order_descends_by_each_cue(client: TestClient, review: Review) -> None:
    info = client.get("/api/info").json()
    assert info["count"] == 120
    assert info["sorts"] == ["score", "marks", *review.session.cues]
    session = review.session
    for sort in info["sorts"]:
        order = np.frombuffer(client.get(f"/api/order?sort={sort}").content, "<i4")
        values = session.score if sort == "marks" else session.values(sort)
        assert sorted(order) == list(range(120))
        assert (np.diff(values[order]) <= 0).all()
    scores = np.frombuffer(client.get("/api/scores").content, "<f4")
    assert np.allclose(scores, -np.sort(-session.score), atol=1e-6)


def test_rows_and_sheet_belong_together(client: TestClient, review: Review) -> None:
    numbers = [5, 0, 77]
    query = f"images={','.join(map(str, numbers))}"
    rows = client.get(f"/api/rows?{query}&reviewer=Ada").json()
    assert rows["scores"] == pytest.approx(review.session.score[numbers], rel=1e-6)
    assert rows["own"] == [None] * 3
    sheet = np.asarray(Image.open(io.BytesIO(client.get(f"/api/sheet?{query}").content)))
    expected = np.concatenate([review.session.pictures[i, 0] for i in numbers], axis=1)
    assert np.array_equal(sheet, expected)


def test_marks_of_several_reviewers_and_undo(client: TestClient, review: Review) -> None:
    found = post(client, review, "/api/mark", image=3, verdict="odd", reviewer="Ada")
    assert found["own"] == "odd"
    assert found["progress"] == {"own": 1, "all": 1, "keep": 0, "odd": 1, "unsure": 0}
    post(client, review, "/api/mark", image=3, verdict="keep", reviewer="Bo")
    rows = client.get("/api/rows?images=3&reviewer=Bo").json()
    assert (rows["own"], rows["all"]) == (["keep"], ["unsure"])
    found = post(client, review, "/api/undo", reviewer="Bo")
    assert (found["image"], found["own"], found["all"]) == (3, None, "odd")
    assert post(client, review, "/api/undo", reviewer="Bo")["image"] is None
    detail = client.get("/api/detail?images=3").json()
    assert detail["marks"] == [["Ada", "odd"]]
    assert detail["why"]
    assert [title for title, _ in detail["pictures"]] == [
        "image", "rebuilt", "difference", "odd places",
    ]  # fmt: skip
    assert 0 < len(detail["near"]) <= 5


def test_learned_order_changes_with_marks(client: TestClient, review: Review) -> None:
    before = client.get("/api/order?sort=marks").content
    order = np.frombuffer(before, "<i4")
    for place, number in enumerate(order[:20]):
        verdict = "odd" if place % 3 == 0 else "keep"
        post(client, review, "/api/mark", image=int(number), verdict=verdict, reviewer="Ada")
    after = client.get("/api/order?sort=marks").content
    assert after != before
    assert sorted(np.frombuffer(after, "<i4")) == list(range(120))


def test_export_formats_hold_all_marks(
    client: TestClient, review: Review, tmp_path: Path, scored_folder: Path
) -> None:
    names = [Path(name).name for name in review.session.names]
    for name in HOSTILE[:2]:
        post(client, review, "/api/mark", image=names.index(name), verdict="odd", reviewer="Ada")
    post(client, review, "/api/mark", image=names.index("050.png"), verdict="keep", reviewer="Ada")
    post(client, review, "/api/mark", image=names.index("050.png"), verdict="odd", reviewer="Bo")
    rows = list(csv.DictReader(io.StringIO(client.get("/api/export?format=csv").text)))
    assert [(Path(r["path"]).name, r["label"], r["verdict"], r["agreed"]) for r in rows] == [
        (HOSTILE[0], "1", "odd", "odd"),
        (HOSTILE[1], "1", "odd", "odd"),
        ("050.png", "", "keep", "unsure"),
        ("050.png", "", "odd", "unsure"),
    ]
    assert json.loads(client.get("/api/export?format=json").text)[0]["reviewer"] == "Ada"
    table = pq.read_table(io.BytesIO(client.get("/api/export?format=parquet").content))
    assert table.num_rows == 4


def test_the_marks_of_a_folder_are_written(
    anowild: Run, scored_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "review"
    folder.mkdir()
    for path in scored_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    code, _, err = anowild("marks", folder, "-o", tmp_path / "marks.csv")
    assert (code, "holds no review" in err) == (1, True)
    store = Store(folder / MARKS)
    store.mark(ReviewSession.load(folder).names[0], "Ada", "odd")
    store.close()
    for name in ("marks.csv", "marks.json", "marks.parquet"):
        assert write_marks(folder, tmp_path / name) == 1
        assert (tmp_path / name).stat().st_size > 0
    code, _, err = anowild("marks", folder, "-o", tmp_path / "marks.txt")
    assert (code, "written as .csv" in err) == (1, True)


def test_session_keeps_first_of_equal_names(
    detector: Detector, images: Path, tmp_path: Path
) -> None:
    session = ReviewSession.make(tmp_path, detector, [str(images), str(images)])
    assert len(session) == 120
    assert len(set(session.names)) == 120


def test_marks_of_other_images_are_ignored(client: TestClient, review: Review) -> None:
    review.store.mark("gone.png", "Ada", "odd")
    found = post(client, review, "/api/mark", image=1, verdict="odd", reviewer="Ada")
    assert found["progress"]["all"] == 1
    assert post(client, review, "/api/undo", reviewer="Ada")["image"] == 1
    assert post(client, review, "/api/undo", reviewer="Ada")["image"] is None
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
    store.mark(session.names[0], "Ada", "odd")
    assert ReviewSession.matches(folder, detector, str(few))
    Path(session.names[0]).unlink()
    assert not ReviewSession.matches(folder, detector, str(few))
    session = ReviewSession.make(folder, detector, str(few))
    assert len(session) == 19
    warn_unmatched_marks(session, store)
    assert "1 marked images are not in this review" in caplog.text


def test_session_interrupted_while_scoring_does_not_match(
    detector: Detector, images: Path, scored_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = tmp_path / "review"
    shutil.copytree(scored_folder, folder)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("anowild.reviewing.session.write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        ReviewSession.make(folder, detector, str(images))
    assert not ReviewSession.matches(folder, detector, str(images))


# Refusals


def test_serve_refuses_folder_with_other_files(
    detector: Detector, images: Path, tmp_path: Path
) -> None:
    before = {"names.json": b"mine", "download.iso.part": b"half"}
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
        "/api/rows?images=/etc/passwd&reviewer=a", "/api/sheet", "/api/order?sort=__class__",
        "/api/export?format=exe", f"/api/sheet?images={','.join(['1'] * (MAX_IMAGES + 1))}",
        "/api/detail?images=1,2",
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
    body = {"image": 1, "verdict": "odd", "reviewer": "Mallory"}
    assert client.post("/api/mark", json=body, headers=headers).status_code == 403
    form = {**headers, "content-type": "text/plain"}
    assert client.post("/api/mark", content=json.dumps(body), headers=form).status_code == 403
    assert client.get("/api/mark").status_code == 404  # only POST is served
    assert review.store.marks() == []


def test_guard_refuses_foreign_host_names(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example:8765"}).status_code == 403
    assert client.get("/api/info", headers={"host": "127.0.0.1:9"}).status_code == 403
    assert client.get("/").status_code == 200


def test_guard_requires_token_from_network(review: Review) -> None:
    hosts, token = access_rules("0.0.0.0", 8765)
    assert token is not None
    client = TestClient(review.app(hosts, token), base_url="http://192.0.2.1:8765")
    for path in ("/", "/api/info", "/static/review.js", "/?token=guess"):
        assert client.get(path).status_code == 403
    answer = client.get(f"/?token={token}")
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/api/info").status_code == 200  # with the cookie
    assert access_rules("127.0.0.1", 1)[1] is None
    assert "localhost" in access_rules("127.0.0.1", 80)[0]  # browsers omit this port


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"no json", b"{}", b'{"image": 1}', b'{"image": "1", "verdict": "odd", "reviewer": "a"}',
        b'{"image": 120, "verdict": "odd", "reviewer": "a"}',
        b'{"image": 1, "verdict": "fine", "reviewer": "a"}',
        b'{"image": 1, "verdict": "odd", "reviewer": ""}',
        b'{"image": true, "verdict": "odd", "reviewer": "a"}', b"[" * 4000,
        b'{"image": 1, "verdict": "odd", "reviewer": "' + b"a" * 5000 + b'"}',
    ],
)  # fmt: skip
def test_mark_refuses_invalid_bodies(client: TestClient, review: Review, body: bytes) -> None:
    answer = client.post("/api/mark", content=body, headers={"x-anowild": review.secret})
    assert answer.status_code == 400
    assert review.store.marks() == []


def test_responses_have_security_headers(client: TestClient) -> None:
    for path in ("/", "/api/info", "/static/review.js", "/api/sheet?images=1", "/api/rows"):
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
    with pytest.raises(UserError, match="cannot listen on"):
        serve(detector, str(images), tmp_path / "review", host="999.1.1.1")


@pytest.mark.parametrize("reviewer", [None, 3, "", "x" * 65, "two\nlines", "\u0000"])
def test_changes_require_valid_reviewer_name(
    client: TestClient, review: Review, reviewer: Any
) -> None:
    body = {"image": 1, "verdict": "odd", "reviewer": reviewer}
    for path in ("/api/mark", "/api/undo"):
        answer = client.post(path, json=body, headers={"x-anowild": review.secret})
        assert answer.status_code == 400
        assert "The name of a reviewer has 1 to 64 characters" in answer.text
    assert review.store.marks() == []


def test_reviewer_name_may_hold_emoji(client: TestClient, review: Review) -> None:
    name = "\U0001f469\u200d\U0001f52c Ada"  # contains a zero-width joiner, which is not printable
    post(client, review, "/api/mark", image=1, verdict="odd", reviewer=name)
    assert review.store.marks()[0].reviewer == name


def test_unknown_path_gets_404_with_headers(client: TestClient) -> None:
    answer = client.get("/etc/passwd")
    assert answer.status_code == 404
    assert "content-security-policy" in answer.headers
