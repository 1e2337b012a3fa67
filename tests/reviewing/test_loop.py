"""The loop of review, cleaning, training, and review with the new model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from anowild.reviewing.app import Review
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import MARKS, Store
from anowild.scoring import Detector
from anowild.scoring.scores import oddest_first
from tests.conftest import Run
from tests.test_cli import TINY


def test_review_clean_train_and_review_again(
    anowild: Run, scored_folder: Path, images: Path, model_folder: Path, tmp_path: Path
) -> None:
    review = tmp_path / "review"
    shutil.copytree(scored_folder, review)
    first = ReviewSession.load(review)
    by_score = [first.names[i] for i in oddest_first(first.score)]
    store = Store(review / MARKS)
    for name in by_score[:30]:
        store.mark([name], "Ada", "remove")
    for name in by_score[30:50]:
        store.mark([name], "Ada", "keep")
    store.mark([by_score[50]], "Ada", "unsure")
    store.close()

    # The marks label 50 images, and the score separates the 30 odd ones perfectly.
    marks = tmp_path / "marks.csv"
    assert anowild("marks", review, "-o", marks)[0] == 0
    evaluate = ("evaluate", model_folder, images, "--labels", marks)
    code, _, err = anowild(*evaluate)
    assert code == 1
    assert "marks.csv" in err
    code, out, err = anowild(*evaluate, "--partial", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["anomalous"], found["normal"], found["unlabelled"]) == (30, 20, 70)
    assert found["columns"]["score"]["auroc"]["value"] == 1.0
    page = tmp_path / "report.html"
    given = ("report", model_folder, images, "-o", page, "--labels", marks)
    code, _, err = anowild(*given, "--partial")
    assert code == 0, err
    assert "70 images are without a label" in page.read_text()

    # A model that is trained on the kept images scores all images, and the marks are still there.
    clean, model = tmp_path / "clean", tmp_path / "model"
    assert anowild("clean", review, "-o", clean)[0] == 0
    code, _, err = anowild("train", clean / "images", "-o", model, *TINY, "--views", "pixels")
    assert code == 0, err
    detector = Detector.load(model)
    assert detector.training_info["images"] == 90
    again = ReviewSession.make(review, detector, str(images))
    assert again.names == first.names
    assert not np.array_equal(again.score, first.score)
    app = Review(Ranking(again, detector), Store(review / MARKS), "digits").app()
    rows = TestClient(app).get("/api/rows", params={"images": "0", "reviewer": "Ada"}).json()
    assert rows["progress"] == {
        "own": 51, "all": 51, "keep": 20, "remove": 30, "interesting": 0, "unsure": 1,
    }  # fmt: skip


def test_few_labels_give_warning(
    anowild: Run, images: Path, model_folder: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\n004.png,1\n005.png,0\n")
    given = (model_folder, images, "--labels", labels, "--partial")
    code, _, err = anowild("evaluate", *given)
    assert code == 0
    assert "1 normal images and 1 anomalies are few" in err
    page = tmp_path / "r.html"
    assert anowild("report", *given, "-o", page)[0] == 0
    assert "only 1 of one kind" in page.read_text()


def test_labels_that_match_no_image_are_named(
    anowild: Run, images: Path, model_folder: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    rows = ["004.png,1", "005.png,0", "none.png,", *(f"gone {i}.png,{i % 2}" for i in range(5))]
    labels.write_text("\n".join(["path,label", *rows]))
    given = ("evaluate", model_folder, images, "--labels", labels, "--partial")
    code, _, err = anowild(*given)
    assert code == 0
    named = "gone 0.png, gone 1.png, gone 2.png, ...; look"
    assert f"{labels}: labels of 5 images match none that was read: {named}" in err
    labels.write_text("\n".join(["path,label", *rows[:3]]))
    code, _, err = anowild(*given)
    assert (code, "match none" in err) == (0, False)


@pytest.mark.parametrize("text", ["path,label\nelsewhere.png,1\n", "path,label\n004.png,\n"])
def test_labels_without_any_image_are_refused(
    anowild: Run, images: Path, model_folder: Path, tmp_path: Path, text: str
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    given = ("evaluate", model_folder, images, "--labels", labels, "--partial")
    code, _, err = anowild(*given)
    assert code == 1
    assert "labels.csv: has no label for any of the 120 images" in err
    code, _, err = anowild("report", model_folder, images, "-o", tmp_path / "r.html", "--partial")
    assert code == 1
    assert "--partial is about labels" in err
