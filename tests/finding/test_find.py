"""`anowild find`: from a folder to a page, stopped and not, and what it leaves behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anowild.api import find
from anowild.arrays import Array
from anowild.cli.find import _named_after
from anowild.data.dataset.writer import PackedSetWriter
from anowild.errors import UserError, ViewUnavailable
from anowild.finding.job import MODEL, QUICK, REPORT, REVIEW, Job
from anowild.finding.serve import Training, serve
from anowild.reviewing.alike import compacted
from anowild.reviewing.app import Review
from anowild.reviewing.clean import clean
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.serve import opened
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import MARKS, Store
from anowild.scoring import Detector
from anowild.scoring.saved_limit import load_limit, save_limit
from anowild.signals import Interrupted
from anowild.training.run import TRAINING_SCORES
from anowild.views import features_of
from anowild.views.pixels import descriptor_count
from tests.conftest import PATIENCE, Run, tiny_settings, wait_until
from tests.reviewing.browsing import ranking_of

#: All views but the pretrained network, which takes half a minute on a busy machine.
TINY = [f"--set={change}" for change in (
    "resolution=16", "fmap_base=64", "fmap_max=8", "minibatch=16", "tick_kimg=0.2", "kimg=0.4",
    "transforms_kimg=0.4", "transforms_maps=4", "views=gan,transforms,pixels", "precision=float32",
)]  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path, digits: Array) -> Path:
    """120 digits as files, one of them black, with a text file and a damaged image among them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, image in enumerate(digits[:120]):
        Image.fromarray(image if i else 0 * image).save(folder / f"{i:03}.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.png").write_bytes(b"no image either")
    return folder


def scores_of(out: Path) -> dict[str, str]:
    with (out / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["why"] for row in rows)
    return {row["path"]: row["score"] for row in rows}


class Page:
    """A process that runs `anowild find` and serves its page."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "anowild", "find", *map(str, arguments), "--no-browser"]
        self.process = subprocess.Popen(
            [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said: list[str] = []
        while not self.said or "open http://" not in self.said[-1]:
            line = self.process.stdout.readline()
            assert line, (self.said, self.process.stderr and self.process.stderr.read())
            self.said.append(line)
        self.url = self.said[-1].rpartition("open ")[2].strip()

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url.replace("?", f"{path}?")) as answer:
            return json.load(answer)

    def wait_for(self, stage: str) -> Any:
        end = time.monotonic() + PATIENCE
        while (status := self.get("api/status"))["stage"] != stage:
            assert time.monotonic() < end, status
            assert self.process.poll() is None
            time.sleep(0.1)
        return status

    def stop(self, signum: int = signal.SIGINT) -> tuple[int, str]:
        self.process.send_signal(signum)
        out, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, "".join(self.said) + out


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_search_goes_on_ranks_again_and_ends_in_the_same_bits(
    anowild: Run, photos: Path, tmp_path: Path, threads: int
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "killed"
    given = [*TINY, "--threads", threads]
    code, said, err = anowild("find", photos, "-o", whole, "--report", *given)
    assert code == 0, err
    assert f"report: {whole / 'report.html'}" in said

    # Killed after the GAN, while a network of the view `transforms` is trained.
    page = Page(photos, "-o", out, *given)
    try:
        assert "120 images, gray, 16x16 pixels" in page.said[0]
        wait_until(
            (out / MODEL / "training" / "transforms" / "0" / "settings.json").exists, page.process
        )
    finally:
        page.stop(signal.SIGKILL)
    assert not (out / MODEL / "model.json").exists()

    page = Page(photos, "-o", out, *given)
    try:
        info = page.get("api/info")
        assert [view["name"] for view in info["views"]] == ["pixels"]
        reasons = {left["reason"]: left["first"] for left in info["left_out"]}
        assert any(".txt" in reason for reason in reasons)
        assert any(name.endswith("broken.png") for name in reasons.values())
        assert "constant" in {finding["kind"] for finding in info["findings"]}
        assert page.wait_for("done")["version"] == 2
        info = page.get("api/info")
        assert [view["name"] for view in info["views"]] == ["gan", "transforms", "pixels"]
        assert info["version"] == 2
    finally:
        code, said = page.stop()
    assert code == 0
    assert "ranked again by all views" in said
    assert (out / "report.html").read_text().count("<img") > 20
    assert Detector.load(out / MODEL).training_info["images"] == 120
    for name in ("model.safetensors", "training_scores.safetensors"):
        assert (out / MODEL / name).read_bytes() == (whole / MODEL / name).read_bytes()
    found = scores_of(out)
    assert len(found) == 120
    assert found == scores_of(whole)
    features, expected = (ReviewSession.load(place / REVIEW).features for place in (out, whole))
    assert np.array_equal(features, expected)


def test_what_is_done_is_shown_at_once(
    anowild: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    given = ("find", photos, "-o", out, *TINY, "--views", "transforms,pixels", "--threads", 1)
    assert anowild(*given, "--report")[0] == 0
    found = scores_of(out)
    shown: list[Review] = []
    monkeypatch.setattr("anowild.finding.serve.Training", None)  # nothing is trained
    monkeypatch.setattr(
        "anowild.reviewing.serve.Server.run", lambda self, review, browse: shown.append(review)
    )
    code, _, err = anowild(*given, "--no-browser", "--port", 0)
    assert code == 0, err
    (review,) = shown
    assert review.status.stage == "done"
    assert list(ranking_of(review).session.scores.views) == ["transforms", "pixels"]
    assert scores_of(out) == found


def test_marks_outlive_new_images(photos: Path, tmp_path: Path, digits: Array) -> None:
    out = tmp_path / "out"
    settings = tiny_settings(views=("pixels",))
    detector, session = Job(str(photos), out, settings).run()
    store = Store(out / REVIEW / MARKS)
    store.mark([session.names[3]], "Ada", "remove")
    store.close()
    Image.fromarray(digits[130]).save(photos / "new.png")
    again, session = Job(str(photos), out, settings).run()
    assert len(session) == 121
    assert again.checksum != detector.checksum
    (mark,) = Store(out / REVIEW / MARKS).marks()
    assert mark.image in session.numbers
    assert len(scores_of(out)) == 121


def test_the_table_has_the_scores_of_what_was_fitted_without_the_image(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _, session = Job(str(photos), out, tiny_settings(views=("transforms", "pixels"))).run()
    with (out / MODEL / "suspects.csv").open(newline="") as file:
        suspects = {row["path"]: float(row["score"]) for row in csv.DictReader(file)}
    assert suspects == {
        name: pytest.approx(score, abs=6e-4)
        for name, score in zip(session.names, session.score, strict=True)
    }


def test_the_page_learns_from_the_network_where_none_is_pretrained(
    photos: Path, tmp_path: Path
) -> None:
    job = Job(str(photos), tmp_path / "out", tiny_settings(views=("transforms", "pixels")))
    _, session = job.rank_quickly()
    assert session.features.shape == (120, descriptor_count(1, 16))
    detector, session = job.rank()
    both = [features_of([view], job.pictures.squares) for view in detector.views]
    assert np.array_equal(session.features, compacted(np.concatenate(both, axis=1)))


def test_a_model_that_was_not_written_to_its_end_is_made_again(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, settings = tmp_path / "out", tiny_settings(views=("transforms", "pixels"))
    _, session = Job(str(photos), out, settings).run()
    (out / MODEL / TRAINING_SCORES).unlink()
    _, again = Job(str(photos), out, settings).run()
    assert "training_scores.safetensors: cannot be used" in caplog.text
    assert "the model is made again" in caplog.text
    assert np.array_equal(again.score, session.score)


def test_a_model_of_a_later_version_stays(photos: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", tiny_settings(views=("pixels",))
    Job(str(photos), out, settings).run()
    description = out / MODEL / "model.json"
    later = json.loads(description.read_text()) | {"format": 99}
    description.write_text(json.dumps(later))
    with pytest.raises(UserError, match=r"model\.json: was written by a later version"):
        Job(str(photos), out, settings).ranked_before()
    assert json.loads(description.read_text()) == later


def test_a_view_that_failed_is_tried_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    vectors = tmp_path / "vectors.npy"
    settings = tiny_settings(views=("pixels", "pretrained"), features=str(vectors))

    def not_installed(*_: object) -> None:
        raise ViewUnavailable("the view 'pretrained' needs weights")

    with monkeypatch.context() as patched:
        patched.setattr("anowild.training.pretrained.extractor_of", not_installed)
        patched.setattr("anowild.finding.job.extractor_of", not_installed)
        detector, _ = Job(str(photos), out, settings).run()
        assert detector.view_names == ("pixels",)
        assert Job(str(photos), out, settings).ranked_before()
    rng = np.random.default_rng(0)
    np.save(vectors, rng.normal(size=(120, 4)))
    assert not Job(str(photos), out, settings).ranked_before()
    detector, session = Job(str(photos), out, settings).run()
    assert "pretrained" in detector.view_names
    assert Job(str(photos), out, settings).ranked_before()
    # Other vectors are another model.
    odd = rng.normal(size=(120, 4))
    odd[50] += 100
    np.save(vectors, odd)
    os.utime(vectors, (time.time() + 1, time.time() + 1))
    _, session = Job(str(photos), out, settings).run()
    assert session.scores.views["pretrained"].argmax() == 50


def test_another_seed_is_another_ranking(photos: Path, tmp_path: Path) -> None:
    """The weights of the view are the same, how it is calibrated is not."""
    settings = [tiny_settings(views=("pixels",), seed=seed) for seed in (0, 1)]
    first, _ = Job(str(photos), tmp_path / "out", settings[0]).run()
    second, session = Job(str(photos), tmp_path / "out", settings[1]).run()
    _, fresh = Job(str(photos), tmp_path / "fresh", settings[1]).run()
    assert first.checksum == second.checksum
    assert np.array_equal(session.score, fresh.score)


def test_what_a_run_did_not_come_to_write_is_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, settings = tmp_path / "out", tiny_settings(views=("transforms", "pixels"))
    job = Job(str(photos), out, settings)
    job.rank()
    assert not (out / REPORT).exists()
    monkeypatch.setattr(
        "anowild.reviewing.serve.Server.run", lambda self, review, open_browser: None
    )
    serve(Job(str(photos), out, settings), port=0, open_browser=False)
    assert len(scores_of(out)) == 120
    assert (out / REPORT).exists()
    # Another name, and a file that is no image: the images are the same.
    (photos / "027.png").rename(photos / "027 renamed.png")
    (photos / "a junk.png").write_bytes(b"x")
    serve(Job(str(photos), out, settings), port=0, open_browser=False)
    assert any("027 renamed.png" in name for name in scores_of(out))
    assert "a junk.png" in (out / REPORT).read_text()
    at = (out / REPORT).stat().st_mtime_ns
    serve(Job(str(photos), out, settings), port=0, open_browser=False)
    assert (out / REPORT).stat().st_mtime_ns == at


def test_values_that_make_little_sense_are_said_everywhere_and_each_time(
    anowild: Run, tmp_path: Path, digits: Array
) -> None:
    """Of 12 bits in 16, in a folder with a picture of 8."""
    folder = tmp_path / "deep"
    folder.mkdir()
    for i, image in enumerate(digits[:20]):
        Image.fromarray(image.astype(np.uint16) * 15).save(folder / f"{i:02}.tif")
    Image.fromarray(digits[20]).save(folder / "other.png")
    command = ("find", folder, "-o", tmp_path / "out", "--report", *TINY)
    for _ in range(2):
        code, said, err = anowild(*command)
        assert code == 0, err
        assert "warning: the values of the 20 images of type uint16 lie between 0 and 3825" in said
        assert "warning: the images are 20 of type uint16, 1 of type uint8" in said
    page = (tmp_path / "out" / REPORT).read_text()
    assert "most of the contrast is lost; --set black=0 --set white=4095" in page
    review = ReviewSession.load(tmp_path / "out" / REVIEW)
    warning = Ranking(review, Detector.load(tmp_path / "out" / MODEL, "cpu")).about()["warning"]
    assert "Warning: the values of the 20 images" in warning


def test_nothing_is_found_in_a_folder_whose_page_is_open(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = tiny_settings(views=("pixels",))
    find(str(photos), out, settings)
    (out / REPORT).unlink()
    with (
        opened(out / REVIEW, "127.0.0.1", 0, token=True),
        pytest.raises(UserError, match="another server uses this folder"),
    ):
        find(str(photos), out, settings)
    assert not (out / REPORT).exists()
    find(str(photos), out, settings)
    assert (out / REPORT).exists()


def test_scores_are_not_taken_for_those_of_images_that_came_since(
    photos: Path, tmp_path: Path, digits: Array
) -> None:
    out, settings = tmp_path / "out", tiny_settings(views=("pixels",))
    find(str(photos), out, settings)
    (photos / "000.png").unlink()
    Image.fromarray(digits[200]).save(photos / "other.png")
    # As many images as before, and the run ends before they are scored.
    assert len(Job(str(photos), out, settings).packed) == 120
    with pytest.raises(UserError, match="the images have changed since they were scored"):
        ReviewSession.load(out / REVIEW)
    with pytest.raises(UserError, match="the images have changed"):
        clean(out / REVIEW, tmp_path / "cleaned", how="list")
    find(str(photos), out, settings)
    assert "other.png" in ReviewSession.load(out / REVIEW).names[-1]


def test_a_result_of_before_is_named_until_it_is_replaced(
    anowild: Run, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("find", photos, "-o", out, "--report", *TINY, "--set=views=pixels")
    sentence = (
        f"{out}: until this run ends, scores.csv and report.html there show what was found before"
    )
    for change, said in (
        (lambda: None, False),
        (lambda: None, False),  # nothing is done again
        ((photos / "000.png").unlink, True),
        (lambda: None, False),
    ):
        change()
        code, _, err = anowild(*command)
        assert (code, sentence in err) == (0, said), err
    code, _, err = anowild(*command, "--set=seed=3")
    assert (code, sentence in err) == (0, True), err


def test_a_page_over_a_result_of_before_names_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    find(str(photos), out, tiny_settings(views=("pixels",)))
    monkeypatch.setattr(
        "anowild.reviewing.serve.Server.run", lambda self, review, open_browser: None
    )
    more = tiny_settings(views=("transforms", "pixels"))
    serve(Job(str(photos), out, more), port=0, open_browser=False)
    assert "until this run ends, scores.csv and report.html" in caplog.text


def test_a_signal_while_the_last_images_are_written_stops_the_search(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, settings = tmp_path / "out", tiny_settings(views=("pixels",))
    flush = PackedSetWriter._flush

    def interrupted(writer: PackedSetWriter) -> None:
        if writer.rows:
            signal.raise_signal(signal.SIGINT)
        flush(writer)

    with monkeypatch.context() as patched:
        patched.setattr(PackedSetWriter, "_flush", interrupted)
        with pytest.raises(Interrupted, match="stopped at image"):
            find(str(photos), out, settings)
    assert not (out / MODEL).exists()
    find(str(photos), out, settings)
    assert (out / REPORT).exists()


def test_a_damaged_data_set_is_made_again_or_says_how(photos: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", tiny_settings(views=("pixels",))
    find(str(photos), out, settings)
    os.truncate(out / "images" / "thumbnails.bin", 100)
    session = ReviewSession.load(out / REVIEW)
    with pytest.raises(UserError, match=r"thumbnails.bin: is damaged .*; delete .*images and give"):
        session.images.thumbnails[100]
    os.truncate(out / "images" / "dataset.json", 100)
    find(str(photos), out, settings)
    assert ReviewSession.load(out / REVIEW).images.thumbnails[100]
    os.truncate(out / "find.json", 5)
    with pytest.raises(UserError, match=r"find.json: is damaged .*; name another folder with -o"):
        find(str(photos), out, settings)


def test_brightness_of_originals_is_in_levels_of_255(photos: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(photos / "white.png")
    _, session = Job(str(photos), tmp_path / "out", tiny_settings(views=("pixels",))).run()
    assert session.images.brightness[0] == 0
    assert session.images.brightness[-1] == 255
    black, white = (session.numbers[str(photos / name)] for name in ("000.png", "white.png"))
    groups = Ranking(session, Detector.load(tmp_path / "out" / MODEL, "cpu")).groups
    assert groups[black] != groups[white]


def test_a_limit_outlives_new_images_and_is_that_of_the_report(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, settings = tmp_path / "out", tiny_settings(views=("pixels",))
    job = Job(str(photos), out, settings)
    job.run()
    assert job.results_are_current()
    save_limit(out / MODEL, 0.77)
    os.utime(out / REPORT, (0, 0))
    assert not job.results_are_current()
    (photos / "003.png").unlink()
    Job(str(photos), out, settings).run()
    kept = load_limit(out / MODEL)
    assert kept is not None
    assert kept.score == 0.77
    assert "0.77" in (out / REPORT).read_text()


def test_few_images_are_ranked_by_the_views_that_can(photos: Path, tmp_path: Path) -> None:
    for path in sorted(photos.glob("*.png"))[10:]:
        path.unlink()
    settings = tiny_settings(views=("gan", "transforms", "pixels"))
    detector, session = Job(str(photos), tmp_path / "out", settings).run()
    assert detector.view_names == ("pixels",)
    assert len(session) == 10


def test_a_training_that_is_stopped_by_others_says_so(photos: Path, tmp_path: Path) -> None:
    settings = tiny_settings(views=("transforms", "pixels"), transforms_kimg=500, transforms_maps=2)
    job = Job(str(photos), tmp_path / "out", settings, threads=1)
    detector, session = job.rank_quickly()
    review = Review(Ranking(session, detector), Store(tmp_path / MARKS), "photos")
    state = tmp_path / "out" / MODEL / "training" / "transforms" / "0" / "state.safetensors"
    with Training(job, review) as training:
        process = training._worker.process
        wait_until(state.exists, process)
        process.terminate()
        wait_until(lambda: review.status.stage != "training")
    assert review.status.stage == "failed"
    assert "was stopped; the same command goes on" in review.status.text


def test_a_training_that_fails_leaves_the_first_ranking(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    job = Job(str(photos), out, tiny_settings(views=("transforms", "pixels")))
    detector, session = job.rank_quickly()
    review = Review(Ranking(session, detector), Store(tmp_path / MARKS), "photos")
    monkeypatch.setattr("anowild.finding.serve.MODULE", "anowild.no_such_module")
    with Training(job, review):
        wait_until(lambda: review.status.stage != "training")
        assert review.status.stage == "failed"
        assert "The first ranking stays" in review.status.text
    assert len(review.catalog) == 120
    assert (out / QUICK / "model.json").exists()


def test_other_folders_are_refused(anowild: Run, photos: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    code, _, err = anowild("find", photos, "-o", foreign, "--report", *TINY)
    assert (code, "holds other files" in err) == (1, True)
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]
    out = tmp_path / "out"
    Job(str(photos), out, tiny_settings(views=("pixels",)))
    other = tmp_path / "other"
    other.mkdir()
    code, _, err = anowild("find", other, "-o", out, "--report", *TINY)
    assert (code, "result for other images" in err) == (1, True)
    for source, said in ((other, "holds no images"), (tmp_path / "nowhere", "check the path")):
        code, _, err = anowild("find", source, "--report", "-o", tmp_path / "new")
        assert (code, said in err) == (1, True), err
        assert not (tmp_path / "new").exists()


def test_a_source_may_be_spelled_otherwise(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, settings = tmp_path / "out", tiny_settings(views=("pixels",))
    for before, after in (("photos/", "photos"), ("./photos", str(photos)), ("photos", "photos/")):
        (out / "find.json").unlink(missing_ok=True)
        first = Job(before, out, settings)
        identity = first.packed.id
        assert Job(after, out, settings).packed.id == identity
        assert json.loads((out / "find.json").read_text())["sources"] == [before]
        for path in sorted(out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    images = np.zeros((2, 30, 8, 8), np.uint8)
    np.savez("x.npz", a=images[0], b=images[1])
    Job("x.npz:a", out, settings)
    Job("./x.npz:a", out, settings)
    with pytest.raises(UserError, match=r"holds the result for other images \(x.npz:a\)"):
        Job("x.npz:b", out, settings)


def test_names_of_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("d.v1", "d.v2", "2026.11.27", "x.zip.d", "a.zip"):
        Path(folder).mkdir()
    Path("b.npz").touch()
    named = {
        "d.v1": "d.v1", "d.v2/": "d.v2", "2026.11.27": "2026.11.27", "x.zip.d": "x.zip.d",
        "a.zip": "a.zip", "d.v1/..": tmp_path.name, ".": tmp_path.name, "c.v1.zip": "c.v1",
        "c.v1.tar.gz": "c.v1", "C.TAR": "C", "b.npz": "b", "b.npz:train/x": "b-train-x",
        "some/b.parquet": "b", "b.2.h5": "b.2", "d.v1:test": "d.v1-test",
    }  # fmt: skip
    assert {source: _named_after(source).name for source in named} == {
        source: f"{name}.anowild" for source, name in named.items()
    }


def test_result_is_named_after_the_images(
    anowild: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = anowild(
        "find", "photos", "--report", "--views", "pixels", "--set", "resolution=16"
    )
    assert code == 0, err
    assert (tmp_path / "photos.anowild" / "report.html").exists()


def test_session_moves_with_its_folder(photos: Path, tmp_path: Path) -> None:
    Job(str(photos), tmp_path / "out", tiny_settings(views=("pixels",))).run()
    os.rename(tmp_path / "out", tmp_path / "moved")  # noqa: PTH104
    session = ReviewSession.load(tmp_path / "moved" / REVIEW)
    assert np.isfinite(session.score).all()
    assert session.images.thumbnails[0].startswith(b"RIFF")


@pytest.mark.parametrize("sample", [10_000, 50])
def test_plan_names_what_a_training_reports(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: int
) -> None:
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(120, 4)))
    settings = tiny_settings(
        views=("gan", "transforms", "pretrained"),
        features=str(tmp_path / "vectors.npy"),
        kimg=0.1,
        transforms_kimg=0.1,
    )
    monkeypatch.setattr("anowild.training.pretrained.SAMPLE", sample)
    monkeypatch.setattr("anowild.finding.job.SAMPLE", sample)
    ended: set[str] = set()
    monkeypatch.setattr(
        "anowild.progress._report",
        lambda name, total, done, note: ended.add(name) if done == total else None,
    )
    job = Job(str(photos), tmp_path / "out", settings, threads=1)
    plan = job.plan(settings)
    assert bool(plan[1]) == (sample < 120)
    _, session = job.rank()
    assert session.features.shape == (120, 4)  # of `pretrained`, not of another view
    planned = {name for parts in plan for name in parts}
    assert planned <= ended
    assert {name for name in ended - planned if "pretrained" in name or "kimg" in name} == set()
