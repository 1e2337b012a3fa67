"""The report of a table in parts: the figures of the report of a model and images, and pictures on demand."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anowild import api
from anowild.arrays import Array
from anowild.errors import UserError
from anowild.scoring import Detector
from anowild.scoring.partitions import PartitionedTable
from anowild.scoring.stream import ThresholdRule, Trained
from anowild.scoring.table import Scored
from anowild.scoring.threshold_rules import Budget, ExpectedShare, FixedScore, Gap
from anowild.scoring.thresholds import Threshold
from tests.conftest import Run
from tests.parts import table_in_parts


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, digits: Array) -> Path:
    """Return a folder of 60 digits, and a damaged file."""
    folder = tmp_path_factory.mktemp("images")
    for i, image in enumerate(digits[:60]):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    (folder / "<b>broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def table(
    tmp_path_factory: pytest.TempPathFactory, images: Path, detector: Detector
) -> PartitionedTable:
    folder = tmp_path_factory.mktemp("table") / "table"
    return table_in_parts(folder, detector, str(images), (25, 10), Budget(7).fit(detector))


def cards_of(page: str) -> list[tuple[str, str]]:
    """Return heading and score of the cards."""
    return re.findall(
        r"<h3>(\d+\. [^<]+?)(?: and \d+ alike)?</h3>.*?<strong>Score (.*?)</strong>",
        page,
        re.DOTALL,
    )


@pytest.mark.parametrize("rule", [None, FixedScore(0.4), Budget(3), ExpectedShare(0.2)])
def test_figures_are_those_of_the_report_of_a_model(
    table: PartitionedTable,
    images: Path,
    detector: Detector,
    tmp_path: Path,
    rule: ThresholdRule | None,
) -> None:
    api.report_table(table.folder, tmp_path / "table.html", rule, shown=5)
    page = (tmp_path / "table.html").read_text()
    api.report(detector, str(images), tmp_path / "model.html", rule or Budget(7), shown=60)
    ordinary = (tmp_path / "model.html").read_text()
    (summary,) = re.findall(r"<p>(60 images, 1 left out; \d+ flagged)", page)
    assert summary in ordinary
    (promise,) = re.findall(r'<div class="promise">.*?</div>', page, re.DOTALL)
    assert promise in ordinary
    (histogram,) = re.findall(r'<div class="wide chart histogram".*?</div>', page, re.DOTALL)
    assert histogram in ordinary
    rows = table.rows(range(1, 6))
    assert [heading for heading, _ in cards_of(page)] == [
        f"{row.rank}. {Path(row.path).name}" for row in rows
    ]
    # Alike images share a card there, so that it may have fewer.
    assert set(cards_of(ordinary)) >= set(cards_of(page)) or "alike</h3>" in ordinary
    for row in rows:
        assert row.why.split("; ")[0].replace(" %", "\u00a0%") in page


def test_pictures_are_the_originals(table: PartitionedTable, tmp_path: Path) -> None:
    api.report_table(table.folder, tmp_path / "table.html", shown=4)
    page = (tmp_path / "table.html").read_text()
    pictures = dict(
        re.findall(r'<image id="t(\d+)"[^>]* href="data:image/webp;base64,([^"]+)"', page)
    )
    assert len(pictures) == 4 + 4  # the oddest, and as many of the most ordinary
    for row in table.rows([1, 4, 60]):
        with Image.open(io.BytesIO(base64.b64decode(pictures[str(row.rank - 1)]))) as picture:
            assert np.array_equal(
                np.asarray(picture.convert("L")), np.asarray(Image.open(row.path))
            )
        assert f'href="{Path(row.path).as_uri()}"' in page
    assert "pictures of 8 of the 60 images" in page


def test_a_missing_original_has_a_sentence_in_its_place(
    images: Path, detector: Detector, tmp_path: Path
) -> None:
    copies = tmp_path / "images"
    copies.mkdir()
    for path in sorted(images.glob("0*.png"))[:9]:
        (copies / path.name).write_bytes(path.read_bytes())
    table = table_in_parts(tmp_path / "table", detector, str(copies), (4,))
    oddest = Path(table.rows([1])[0].path)
    oddest.unlink()
    api.report_table(table.folder, tmp_path / "table.html", shown=3)
    page = (tmp_path / "table.html").read_text()
    assert f"{oddest}: is not there any more" in page
    assert 'id="t0"' not in page
    assert f'href="{oddest.as_uri()}"' not in page


def test_what_a_table_does_not_have_is_not_promised(
    table: PartitionedTable, tmp_path: Path
) -> None:
    api.report_table(table.folder, tmp_path / "table.html")
    page = (tmp_path / "table.html").read_text()
    assert "need the pixels of all images" in page
    for absent in ("alike share a card", "There are no curves", "All settings", 'href="#findings"'):
        assert absent not in page
    assert "<td>gan</td>" in page  # the figures of the views
    assert "&lt;b&gt;broken.png" in page
    assert "<b>broken" not in page
    assert "left_out.csv names them all" in page


class AboveTheMean:
    """A rule of somebody else, which asks for no more than scores."""

    def fit(self, model: Trained) -> Callable[[Scored], Threshold]:
        def find(table: Scored) -> Threshold:
            limit = float(table.score.mean())
            flagged = int((table.score >= limit).sum())
            return Threshold(
                limit, flagged, f"These are the {flagged} images above the mean.", "None."
            )

        return find


def test_commands_say_what_is_wrong(
    anowild: Run, table: PartitionedTable, images: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    code, told, _ = anowild("report", table.folder, "-o", out, "--budget", 2)
    assert (code, told) == (0, f"{out}: open it in a browser\n")
    assert "You look at the 2 oddest images" in out.read_text()
    for given, text in (
        ((table.folder, images), "names its images"),
        ((table.folder, "--labels", "labels.csv"), "--labels belong to images"),
        ((table.folder, "--gap"), "this limit needs the model"),
        ((model_folder,), "name the images"),
    ):
        code, _, err = anowild("report", *given, "-o", out)
        assert (code, text in err) == (1, True), err
    with pytest.raises(UserError, match="needs the model"):
        api.report_table(table.folder, out, Gap())
    api.report_table(table.folder, out, AboveTheMean())
    flagged = int((table.scores >= table.scores.mean()).sum())
    assert f"the {flagged} images above the mean" in out.read_text()
    with pytest.raises(UserError, match=r"is written as \.html"):
        api.report_table(table.folder, tmp_path / "report.txt")
