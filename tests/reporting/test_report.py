"""The content of a report, and that hostile file names cannot inject markup."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anowild import api
from anowild.arrays import Array
from anowild.errors import UserError
from anowild.evaluation.labels import Labels
from anowild.files import exclusive_lock
from anowild.reporting.charts import curve, histogram
from anowild.reporting.embedding import MOST_BYTES, Embedded
from anowild.reporting.page import write_review_report
from anowild.reporting.sections import ALIKE, labels_of, loss_curves, training_grids
from anowild.reviewing.pictures import Picture, heat_map_url, image_url, signed_residual_url
from anowild.reviewing.session import ReviewSession
from anowild.scoring import Detector
from anowild.scoring.threshold_rules import Budget
from anowild.signals import Interrupted
from tests.conftest import Run

HOSTILE = (
    "<script>alert(1).png",
    "<img src=x onerror=alert(1)>.png",
    'a" onerror="alert(1).png',
    "two\nlines.png",
    "{{ 7 * 7 }}.png",
    os.fsdecode(b"\xff\xfe.png"),
    "x" * 251 + ".png",
)


class Page(HTMLParser):
    """Parser that collects tags with their attributes and place, and all text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, of_class: str = "") -> list[dict[str, str | None]]:
        return [
            attributes
            for name, attributes in self.tags
            if name == tag and (not of_class or of_class in (attributes.get("class") or "").split())
        ]

    def place(self, id_: str) -> int:
        """Return the number of the tag with an id."""
        return next(i for i, (_, attributes) in enumerate(self.tags) if attributes.get("id") == id_)

    def links(self) -> list[str]:
        return [str(a["href"]) for a in self.all("a")]


def decoded(url: str | None) -> Array:
    assert url is not None
    assert url.startswith(("data:image/png;base64,", "data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def report(anowild: Run, *arguments: object) -> Page:
    """Run the command; the report's path comes last."""
    code, _, err = anowild("report", *arguments[:-1], "-o", arguments[-1])
    assert code == 0, err
    return Page(Path(str(arguments[-1])))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, digits: Array) -> Path:
    """Return a folder of 90 wide digits, ten images of noise, a black one, and files of other kinds."""
    folder = tmp_path_factory.mktemp("digits") / "images"
    rng = np.random.default_rng(0)
    (folder / "noise").mkdir(parents=True)
    wide = np.pad(digits[:90], ((0, 0), (0, 0), (12, 12)))
    for i, image in enumerate(wide):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    for i, image in enumerate(rng.integers(0, 256, (10, 16, 40), dtype=np.uint8)):
        Image.fromarray(image).save(folder / "noise" / f"{i}.png")
    Image.fromarray(np.zeros((16, 40), np.uint8)).save(folder / "black.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.png").write_bytes(b"\x89PNG broken")
    return folder


@pytest.fixture(scope="session")
def session(
    tmp_path_factory: pytest.TempPathFactory, detector: Detector, folder: Path
) -> ReviewSession:
    return ReviewSession.make(tmp_path_factory.mktemp("review"), detector, str(folder))


def test_report_shows_all_sections_in_order(
    anowild: Run, model_folder: Path, folder: Path, tmp_path: Path
) -> None:
    page = report(
        anowild, model_folder, folder, "--labels", "folders", "--normal", "images",
        "--budget", "10", "--show", "8", tmp_path / "report.html",
    )  # fmt: skip
    # The strip comes first, details last.
    strip = page.tags.index(("ol", page.all("ol", "strip")[0]))
    ids = ("limit", "oddest", "findings", "left-out", "ordinary", "details", "quality")
    places = [strip, *map(page.place, ids)]
    assert places == sorted(places)
    assert "101 images, 1 left out; 10 flagged. The views see 16x16 pixels" in page.text
    assert "You look at the 10 oddest images." in page.text
    assert "Findings: constant 1" in page.text
    assert "Constant: 1" in page.text
    assert "all its pixels are 0 of 255 (black)" in page.text
    assert "files that end in .txt: 1" in page.text
    assert "broken.png" in page.text
    assert "AUROC" in page.text
    assert "labeled anomalous" in page.text
    assert " than " in page.text
    assert "fmap_base" in page.text
    assert "Assumption: " in page.text
    # Only the quality is open, and only as there are labels.
    folds = page.all("details", "part")
    assert len(folds) == 5
    assert ["open" in fold for fold in folds] == [True, False, False, False, False]
    assert not (tmp_path / ".report.html.images").exists()


def test_report_is_self_contained(
    anowild: Run, model_folder: Path, folder: Path, tmp_path: Path
) -> None:
    page = report(anowild, model_folder, folder, tmp_path / "report.html")
    assert not page.all("script")
    assert not page.all("link")
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    urls = [u for a in (*page.all("use"), *page.all("image")) for u in [str(a["href"])]]
    urls += [str(a["src"]) for a in page.all("img")] + page.links()
    for url in urls:
        assert url.startswith(("data:image/", "file://")) or url[1:] in ids, url
    for button in page.all("button"):
        assert button["popovertarget"] in ids
    assert all(a["alt"] for a in page.all("img"))
    # Each image is embedded once, at its own size, and shown several times with its name.
    embedded = page.all("image")
    assert decoded(embedded[0]["href"]).shape[:2] == (16, 40)
    assert len(page.all("use")) > 2 * len(embedded)
    shown = [a for a in page.all("svg") if a.get("role") == "img"]
    assert all(a["aria-label"] for a in shown)
    for attributes in page.all("img"):
        assert decoded(attributes["src"]).shape[0] >= 16
    # Links to the files, which are named without the folder of all images.
    assert (folder / "noise" / "3.png").absolute().as_uri() in page.links()
    assert "noise/3.png" in page.text
    # The middle of the wide images is outlined, once on its card.
    assert page.all("rect", "seen")
    assert "40x16 pixels, seen: the middle 16x16" in page.text


def test_alike_images_share_a_card(detector: Detector, tmp_path: Path, digits: Array) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1, 16, 16), dtype=np.uint8)
    near = np.clip(noise.astype(int) + rng.integers(-2, 3, (30, 16, 16)), 0, 255).astype(np.uint8)
    images = np.concatenate([digits[:150], near])
    api.report(detector, images, tmp_path / "r.html", Budget(30), shown=5)
    page = Page(tmp_path / "r.html")
    cards = page.all("li", "card")
    assert 5 <= len(cards) < 25
    (count,) = re.findall(r"and (\d+) alike", page.text)[:1]
    assert int(count) >= 20
    assert f"Alike, and {int(count) - ALIKE} more that are not shown" in page.text
    assert len(page.all("div", "alike")) >= 1
    strip = page.source.partition('class="strip')[2].partition("</ol>")[0]
    assert f"{int(count) + 1} alike" in strip


def test_all_flagged_images_are_shown(detector: Detector, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 16, 16), dtype=np.uint8)
    for count, least in ((50, 50), (280, 200)):
        api.report(detector, noise, tmp_path / "r.html", Budget(count), shown=8)
        page = Page(tmp_path / "r.html")
        cards = len(page.all("li", "card"))
        assert cards <= 200
        assert cards + sum(map(int, re.findall(r" and (\d+) alike", page.text))) >= least
    assert "of the 280 flagged images are here" in page.text
    api.report(detector, noise, tmp_path / "r.html", shown=8)
    assert len(Page(tmp_path / "r.html").all("li", "card")) == 8


def test_report_of_a_review_links_its_table(
    detector: Detector, session: ReviewSession, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    write_review_report(detector, session, out)
    assert "scores.csv" not in Page(out).links()
    order = np.argsort(-session.score, kind="stable")
    rows = [f"{session.names[i]},{float(session.score[i])!r}" for i in order.tolist()]
    (tmp_path / "scores.csv").write_text("\n".join(["path,score", *rows]) + "\n")
    write_review_report(detector, session, out)
    assert "scores.csv" in Page(out).links()
    # A table of something else.
    (tmp_path / "scores.csv").write_text("\n".join(["path,score", *rows[1:]]) + "\n")
    write_review_report(detector, session, out)
    assert "scores.csv" not in Page(out).links()


def test_report_escapes_hostile_names(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in zip(HOSTILE, digits, strict=False):
        Image.fromarray(image).save(folder / name)
    (folder / "a.<b onmouseover=x>").write_text("")
    page = report(anowild, model_folder, folder, tmp_path / "report.html")
    assert not page.all("script")
    assert not any({"onerror", "onmouseover"} & set(attributes) for _, attributes in page.tags)
    assert "<script>alert(1).png" in page.text
    assert "files of other kinds: 1" in page.text
    assert "a.<b onmouseover=x>" in page.text
    assert "{{ 7 * 7 }}.png" in page.text
    assert "49.png" not in page.text
    assert (folder / HOSTILE[5]).as_uri() in page.links()


@pytest.mark.slow
def test_large_report_is_under_ten_megabytes(detector: Detector, tmp_path: Path) -> None:
    # Noise compresses worst of all; thumbnails of 320 pixels are kept without loss.
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (1000, 16, 16), dtype=np.uint8)
    large = rng.integers(0, 256, (60, 320, 320, 3), dtype=np.uint8)
    for images, shown in ((small, 500), (large, 48)):
        out = tmp_path / "report.html"
        api.report(detector, images, out, shown=shown)
        page = Page(out)
        assert len(page.all("li", "card")) == shown
        assert len(page.all("image")) >= shown
        assert out.stat().st_size < 10e6
        assert f"thumbnails of {len(page.all('image'))} of the {len(images):,} images" in page.text
        assert "no room" not in page.text


def test_what_has_no_room_is_said(detector: Detector, session: ReviewSession) -> None:
    embedded = Embedded(session, detector, None, room=3000)
    made = [embedded.thumbnail(i) for i in range(20)]
    assert made[0].url is not None
    assert made[-1].url is None
    assert embedded.thumbnail(0) is made[0]
    assert embedded.absent == sum(image.url is None for image in made)
    noise = np.random.default_rng(0).uniform(-1, 1, (3, 400, 400))
    assert embedded.pictures([Picture(image_url(noise), "a", "b")]) == []
    (small,) = Embedded(session, detector, None).pictures([Picture(image_url(noise), "a", "b")])
    assert len(small.url) < 1.4 * MOST_BYTES
    assert decoded(small.url).shape[2] == 3


def test_report_of_one_image_without_training_folder(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path
) -> None:
    copied = tmp_path / "model"
    copied.mkdir()
    for name in ("model.json", "model.safetensors"):
        shutil.copy(model_folder / name, copied)
    np.save(tmp_path / "images.npy", digits[:1])
    page = report(anowild, copied, tmp_path / "images.npy", tmp_path / "r.html")
    assert len(page.all("li", "card")) == 1
    assert "There are no curves" in page.text
    assert "Images that score 1.30 or more are flagged: 5 % of the training images" in page.text
    # An array has no files to link.
    assert not any(link.startswith("file:") for link in page.links())


def test_report_of_training_with_one_tick_has_points(
    detector: Detector, session: ReviewSession, model_folder: Path, tmp_path: Path
) -> None:
    detector.save(tmp_path / "model")
    detector = Detector.load(tmp_path / "model")
    training = tmp_path / "model" / "training"
    training.mkdir()
    tick = json.loads((model_folder / "training" / "log.jsonl").read_text().splitlines()[0])
    (training / "log.jsonl").write_text(json.dumps(tick) + "\n")
    write_review_report(detector, session, tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    losses = sum(name.endswith("_loss") for name in tick)
    assert losses
    assert len(page.all("circle", "point")) == losses
    assert page.source.count("the only value") == losses


def test_odd_lines_of_a_training_log_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.jsonl"
    assert loss_curves(path) == []
    good = [
        '{"kimg": 0.1, "seconds": 60, "G_loss": 2}',
        '{"kimg": 0.2, "seconds": 120, "G_loss": -1}',
    ]
    odd = [
        "[]", "5", "null", '"x"', '{"G_loss": 3}', '{"kimg": "x", "G_loss": 1}', "{", "",
        '{"kimg": 1e400, "G_loss": 1}', "[" * 5000,
    ]  # fmt: skip
    unused = ['{"kimg": 0.3, "G_loss": "<script>"}', '{"kimg": 0.4, "seconds": [1], "G_loss": NaN}']
    path.write_bytes(b"\xff\xfe\n" + "\n".join([good[0], *odd, *unused, good[1]]).encode())
    (curve,) = loss_curves(path)
    assert "G loss from -1 to 2 over 2 minutes, -1 at the end" in curve
    assert "script" not in curve
    assert f"{len(odd) + 1} lines cannot be read and are not drawn" in caplog.text


def test_nothing_but_pictures_of_the_training_gets_into_a_report(
    detector: Detector, session: ReviewSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret.png"
    Image.new("L", (8, 8), 77).save(secret)
    grids = tmp_path / "grids"
    grids.mkdir()
    Image.new("L", (8, 8), 5).save(grids / "samples-0000000.1.png")
    (grids / "samples-0000000.2.png").symlink_to(secret)
    (grids / "samples-0000000.3.png").symlink_to("/dev/zero")
    os.mkfifo(grids / "samples-0000000.4.png")
    (grids / "samples-0000000.5.png").write_text('"><script>')
    (grids / "samples-0000000.6.png").mkdir()
    (picture,) = training_grids(grids, Embedded(session, detector, None))
    assert decoded(picture.url)[0, 0].tolist() == 5
    for number in range(2, 7):
        assert f"samples-0000000.{number}.png: is not shown" in caplog.text
    (tmp_path / "linked").symlink_to(grids)
    assert training_grids(tmp_path / "linked", Embedded(session, detector, None)) == []


def test_labels_by_position_count_unreadable_images(
    detector: Detector, folder_of: Callable[..., Path], digits: Array, tmp_path: Path
) -> None:
    folder = folder_of(digits[:40])
    (folder / "0007.png").write_bytes(b"broken")
    truth = np.zeros(40, int)
    truth[[5, 7, 9]] = 1
    np.save(tmp_path / "labels.npy", truth)
    made = ReviewSession.make(tmp_path / "review", detector, str(folder))
    found = labels_of(made.images, Labels(str(tmp_path / "labels.npy")))
    assert np.flatnonzero(found).tolist() == [5, 8]


def test_stopped_report_keeps_what_it_has_read(
    detector: Detector, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ReviewSession.make

    def stopped(folder: Path, *arguments: Any) -> ReviewSession:
        made(folder, *arguments)
        raise Interrupted(2, "image 7")

    monkeypatch.setattr(ReviewSession, "make", staticmethod(stopped))
    with pytest.raises(Interrupted):
        api.report(detector, str(folder), tmp_path / "r.html")
    assert (tmp_path / ".r.html.images").is_dir()
    monkeypatch.undo()
    api.report(detector, str(folder), tmp_path / "r.html")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


@pytest.mark.parametrize(
    ("out", "sentence"), [("report.pdf", "written as .html"), ("absent/r.html", "existing folder")]
)
def test_report_refuses_unusable_output_path(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path, out: str, sentence: str
) -> None:
    np.save(tmp_path / "images.npy", digits[:3])
    code, _, err = anowild("report", model_folder, tmp_path / "images.npy", "-o", tmp_path / out)
    assert code == 1
    assert sentence in err


def test_charts_accept_degenerate_values() -> None:
    for values in (np.zeros(3), np.arange(1000.0), np.array([1e-9, 2e-9])):
        assert "<rect" in histogram({"a & b": values}, 0.5, "score")
    assert "a &amp; b: 3" in histogram({"a & b": np.zeros(3)}, None, "score")
    two = histogram({"a & b": np.zeros(3), "c": np.ones(2)}, None, "score")
    assert two.count("a &amp; b") == 2  # in the legend and in the description
    for y in ([-0.0352, 12345.0, 1.0], [0.0, 1e-7, 0.0]):
        places = re.findall(
            r'<text x="([0-9.]+)" y="[0-9.]+" text-anchor="end">([^<]*)', curve([1, 2, 3], y, "G")
        )
        # A digit is about 7 units wide, so no label leaves the drawing.
        assert all(float(x) - 7.2 * len(text) >= 0 for x, text in places), places
    assert "polyline" in curve([1, 2, 3], [1.0, float("nan"), 2.0], "G loss")
    assert "no values" in curve([1], [float("nan")], "G loss")
    assert "<circle" in curve([0.5], [2.0], "G loss")
    assert "limit 0.50" in histogram({"images": np.zeros(3)}, 0.5, "score")


def test_pictures_use_the_colormaps() -> None:
    values = np.array([[0.0, 1.0], [0.5, 0.0]])
    heat = decoded(heat_map_url(values, 1.0))
    assert heat[0, 0].tolist() == [0, 0, 4]
    assert heat[0, -1].tolist() == [252, 255, 164]
    signed = decoded(signed_residual_url(np.array([[-1.0, 1.0], [0.0, 9.0]]), 1.0))
    assert signed[0, 0].tolist() == [33, 102, 172]
    assert signed[0, -1].tolist() == [178, 24, 43]
    assert signed[-1, 0].tolist() == [247, 247, 247]
    assert decoded(image_url(np.full((1, 8, 8), -1.0))).shape == (64, 64)
    assert decoded(image_url(np.zeros((3, 8, 8)))).shape == (64, 64, 3)
    assert decoded(image_url(np.zeros((4, 100, 100)))).shape == (100, 100)


def test_a_second_report_leaves_the_first_one_s_images(
    detector: Detector, folder_of: Callable[..., Path], digits: Array, tmp_path: Path
) -> None:
    working = tmp_path / ".report.html.images"
    with exclusive_lock(working, "not expected"):
        (working / "read").write_text("much work")
        with pytest.raises(UserError, match=r"another process is writing .*report\.html now"):
            api.report(detector, folder_of(digits[:5]), tmp_path / "report.html")
        assert (working / "read").read_text() == "much work"
