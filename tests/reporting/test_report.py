"""The content of a report, and that hostile file names cannot inject markup."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.reporting.charts import curve, histogram
from anowild.reporting.images import heat_map_url, image_url, signed_residual_url
from anowild.reporting.samples import TopKCollector
from anowild.scoring import Detector
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
    """Parser that collects tags with their attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def decoded(url: str | None) -> Array:
    assert url is not None
    assert url.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_report_shows_all_sections(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (10, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "images.npy", np.concatenate([digits[:90], noise]))
    np.save(tmp_path / "labels.npy", np.repeat([0, 1], [90, 10]))
    out = tmp_path / "report.html"
    code, printed, err = anowild(
        "report", model_folder, tmp_path / "images.npy", "-o", out, "--labels",
        tmp_path / "labels.npy", "--budget", "10", "--show", "8",
    )  # fmt: skip
    assert code == 0, err
    assert str(out) in printed
    page = Page(out.read_text(encoding="utf-8"))
    cards = [a for a in page.all("li") if "card" in (a.get("class") or "")]
    assert len(cards) == 16
    assert sum(a["class"] == "card odd" for a in cards) == 8
    images = page.all("img")
    assert all(a["alt"] for a in images)
    for attributes in images:
        assert decoded(attributes["src"]).shape[0] >= 16
    assert "You look at the 10 oddest images." in page.text
    assert "AUROC" in page.text
    assert "For all cues in the score, a higher value is odder." in page.text
    assert "labeled anomalous" in page.text
    assert " than " in page.text
    assert page.text.count("Most similar ordinary training images") == 16
    assert len(page.all("svg")) == 4  # the histogram, three losses
    assert "fmap_base" in page.text
    # The page has no scripts, loads nothing, and links only to its own sections.
    assert not page.all("script")
    assert not page.all("link")
    ids = {a.get("id") for _, a in page.tags}
    assert all((a["href"] or "")[1:] in ids for a in page.all("a"))
    urls = re.findall(r'(?:src|href)="([^"]*)"', out.read_text(encoding="utf-8"))
    assert all(url.startswith(("data:image/png", "#")) for url in urls)


def test_report_escapes_hostile_names(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in zip(HOSTILE, digits, strict=False):
        Image.fromarray(image).save(folder / name)
    out = tmp_path / "report.html"
    code, _, err = anowild("report", model_folder, folder, "-o", out)
    assert code == 0, err
    page = Page(out.read_text(encoding="utf-8"))
    assert not page.all("script")
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert "<script>alert(1).png" in page.text
    assert "{{ 7 * 7 }}.png" in page.text
    assert "49.png" not in page.text


def test_report_of_thousand_images_is_under_ten_megabytes(
    anowild: Run, model_folder: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "images.npy", noise)
    out = tmp_path / "report.html"
    code, _, err = anowild(
        "report", model_folder, tmp_path / "images.npy", "-o", out, "--show", "500"
    )
    assert code == 0, err
    assert (
        len([a for a in Page(out.read_text()).all("li") if "card" in (a.get("class") or "")])
        == 1000
    )
    assert out.stat().st_size < 10 << 20


def test_report_of_one_image_without_training_folder(
    anowild: Run, model_folder: Path, digits: Array, tmp_path: Path
) -> None:
    copied = tmp_path / "model"
    copied.mkdir()
    for name in ("model.json", "model.safetensors"):
        shutil.copy(model_folder / name, copied)
    np.save(tmp_path / "images.npy", digits[:1])
    code, _, err = anowild("report", copied, tmp_path / "images.npy", "-o", tmp_path / "r.html")
    assert code == 0, err
    page = Page((tmp_path / "r.html").read_text())
    assert len(page.all("svg")) == 1
    assert "Images that score 1.30 or more are flagged: 5 % of the training images" in page.text


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


def test_top_k_collector_over_many_batches(detector: Detector, image_set: Any) -> None:
    collector = TopKCollector(detector, 5)
    images = np.resize(image_set.images[:50], (2000, 1, 16, 16))
    cues = detector.score(image_set.images[:1]).cues
    rng = np.random.default_rng(0)
    whole = rng.normal(size=len(images))
    for start in range(0, len(images), 130):
        part = slice(start, start + 130)
        count = len(images[part])
        scores = type(detector.score(images[:1]))(
            whole[part], {k: np.resize(v, count) for k, v in cues.items()}
        )
        batch = type("B", (), {"images": images[part], "names": [str(i) for i in range(count)]})()
        collector.take(batch, scores)
    assert collector.oddest.positions.tolist() == np.argsort(-whole)[:5].tolist()
    assert collector.ordinary.positions.tolist() == np.argsort(whole)[:5].tolist()


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
