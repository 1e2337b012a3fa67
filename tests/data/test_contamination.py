"""Known anomalies put into data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anowild.api import contaminate as contaminate_set
from anowild.api import prepare
from anowild.arrays import Array
from anowild.data import ImageSet, PackedSet, inject_anomalies, open_all
from anowild.data.contamination import PROTOCOLS, draw
from anowild.errors import UserError
from anowild.evaluation.labels import Labels
from anowild.settings import Settings


def labeled(folder: Path, labels: Array, test_labels: Array, seed: int = 0) -> PackedSet:
    """A data set of noise with these labels."""
    rng = np.random.default_rng(seed)
    every = np.concatenate([labels, test_labels])
    images = rng.integers(0, 256, (len(every), 8, 8), dtype=np.uint8)
    folder.mkdir()
    np.save(folder / "train.npy", images[: len(labels)])
    np.save(folder / "test.npy", images[len(labels) :])
    np.save(folder / "labels.npy", every)
    return prepare(
        folder / "train.npy", folder / "set", Settings().replace(resolution=8),
        test=[folder / "test.npy"], labels=str(folder / "labels.npy"),
    )  # fmt: skip


@pytest.mark.parametrize(("rate", "count"), [(0.0, 0), (0.05, 11), (0.1, 22), (0.2, 50)])
def test_contamination_follows_the_paper_s_rule(rate: float, count: int) -> None:
    normal = np.zeros((200, 1, 2, 2), np.uint8)
    odd = np.arange(60, dtype=np.uint8).reshape(-1, 1, 1, 1)
    odd = np.broadcast_to(odd + 100, (60, 1, 2, 2))
    images, facts = inject_anomalies(normal, odd, rate, seed=4)
    assert len(images) == 200 + count
    assert facts.indices == np.flatnonzero(images[:, 0, 0, 0]).tolist()
    assert len(np.unique(images[facts.indices], axis=0)) == count
    assert abs(count / len(images) - rate) < 0.01
    again, _ = inject_anomalies(normal, odd, rate, seed=4)
    assert np.array_equal(images, again)


def test_impossible_contamination_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to below 1"):
        draw(10, 10, 1.0, 0)
    with pytest.raises(ValueError, match="needs 90 anomalies, there are 10"):
        draw(10, 10, 0.9, 0)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2])
def test_a_contaminated_set_holds_what_it_says(tmp_path: Path, rate: float) -> None:
    labels, test_labels = np.repeat([0, 1], [100, 60]), np.repeat([0, 1], [20, 20])
    packed = labeled(tmp_path / "a", labels, test_labels)
    spoilt = contaminate_set(packed.path, tmp_path / "spoilt", rate, seed=3)
    count = round(rate * 100 / (1 - rate))
    assert spoilt.counts == {"train": 100 + count, "test": 40}
    facts = spoilt.description["contamination"]
    assert (facts["rate"], facts["seed"]) == (rate, 3)
    assert facts["indices"] == list(range(100, 100 + count))
    assert facts["of"]["id"] == packed.id
    training = spoilt.manifest(None, "train").to_pylist()
    assert [row["injected"] for row in training] == [False] * 100 + [True] * count
    assert [row["anomaly"] for row in training] == [False] * 100 + [True] * count
    # The pixels are those of the images that the rows name.
    before = {row["name"]: row for row in packed.manifest().to_pylist()}
    stored, original = spoilt.images("train"), packed.images("train")
    for row, image in zip(training, stored, strict=True):
        assert np.array_equal(image, original[before[row["name"]]["index"]])
        assert int(before[row["name"]]["label"]) == row["anomaly"]
    again = contaminate_set(packed.path, tmp_path / "again", rate, seed=3)
    assert again.id == spoilt.id
    other = contaminate_set(packed.path, tmp_path / "other", rate, seed=4)
    assert (other.id == spoilt.id) == (rate == 0)


def test_what_is_injected_from_the_test_split_leaves_it(tmp_path: Path) -> None:
    # As MVTec has it: no anomaly in training.
    packed = labeled(tmp_path / "a", np.zeros(80, int), np.repeat([0, 1], [20, 30]))
    spoilt = contaminate_set(packed.path, tmp_path / "spoilt", 0.2, seed=0)
    assert spoilt.counts == {"train": 100, "test": 30}
    names = {split: set(spoilt.names(split)[:]) for split in ("train", "test")}
    assert not names["train"] & names["test"]
    test = spoilt.manifest(["anomaly"], "test")["anomaly"].to_pylist()
    assert sum(test) == 10


def test_equal_images_leave_the_test_split_too(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 8, 8), dtype=np.uint8)
    np.save(folder / "train.npy", images[:40])
    np.save(folder / "test.npy", np.concatenate([images[38:40], images[40:]]))  # two are in both
    np.save(folder / "labels.npy", np.repeat([0, 1, 1, 0], [36, 4, 2, 10]))
    packed = prepare(
        folder / "train.npy", folder / "set", Settings().replace(resolution=8),
        test=[folder / "test.npy"], labels=str(folder / "labels.npy"), leaks="keep",
    )  # fmt: skip
    spoilt = contaminate_set(packed.path, tmp_path / "spoilt", 0.1, seed=0)
    assert spoilt.counts == {"train": 40, "test": 10}


def test_labels_that_fail_are_said(tmp_path: Path) -> None:
    packed = labeled(tmp_path / "a", np.repeat([0, 1], [50, 3]), np.repeat([0, 1], [5, 5]))
    with pytest.raises(UserError, match="needs 12 anomalies, there are 8"):
        contaminate_set(packed.path, tmp_path / "b", 0.2)
    with pytest.raises(UserError, match="no training image is labeled cat"):
        contaminate_set(packed.path, tmp_path / "b", 0.2, normal=["cat"])
    with pytest.raises(UserError, match="from 0 to below 1"):
        contaminate_set(packed.path, tmp_path / "b", 1.2)
    with pytest.raises(UserError, match="there is no protocol 'x'"):
        contaminate_set(packed.path, tmp_path / "b", 0.1, protocol="x")
    unlabeled = prepare(tmp_path / "a" / "train.npy", tmp_path / "c")
    with pytest.raises(UserError, match=r"train\.npy\[0\] has no label"):
        contaminate_set(unlabeled.path, tmp_path / "b", 0.1)


def cifar_like(folder: Path) -> PackedSet:
    rng = np.random.default_rng(0)
    return labeled(folder, rng.integers(0, 10, 600), rng.integers(0, 10, 300))


def test_vehicles_against_animals(tmp_path: Path) -> None:
    packed = cifar_like(tmp_path / "a")
    spoilt = contaminate_set(
        packed.path, tmp_path / "b", 0.02, protocol="cifar10-vehicles-vs-animals"
    )
    rows = spoilt.manifest(["label", "anomaly", "split"]).to_pylist()
    assert all(row["anomaly"] == (row["label"] not in "0189") for row in rows)
    test = [row["anomaly"] for row in rows if row["split"] == "test"]
    assert sum(test) * 2 == len(test) > 200


@pytest.mark.parametrize("normal", ["automobile", "1"])
def test_one_class_against_the_rest(tmp_path: Path, normal: str) -> None:
    packed = cifar_like(tmp_path / "a")
    spoilt = contaminate_set(
        packed.path, tmp_path / "b", 0.1, normal=[normal], protocol="cifar10-one-vs-rest"
    )
    rows = spoilt.manifest(["label", "anomaly"]).to_pylist()
    assert all(row["anomaly"] == (row["label"] != "1") for row in rows)


def test_a_protocol_tests_the_same_images_whatever_is_injected(tmp_path: Path) -> None:
    packed = cifar_like(tmp_path / "a")
    tested = {
        tuple(
            contaminate_set(
                packed.path, tmp_path / f"{rate}-{seed}", rate, seed, ["3"], "mnist-one-vs-rest"
            ).names("test")[:]
        )
        for rate, seed in ((0.0, 0), (0.1, 0), (0.1, 5))
    }
    assert len(tested) == 1


def test_protocols_know_their_classes(tmp_path: Path) -> None:
    packed = cifar_like(tmp_path / "a")
    for normal, sentence in (([], "needs one normal class"), (["boat"], "needs one normal class")):
        with pytest.raises(UserError, match=sentence):
            contaminate_set(packed.path, tmp_path / "b", 0.1, 0, normal, "cifar10-one-vs-rest")
    with pytest.raises(UserError, match="omit --normal"):
        contaminate_set(packed.path, tmp_path / "b", 0.1, 0, ["1"], "cifar10-vehicles-vs-animals")
    strange = labeled(tmp_path / "c", np.repeat(["zebra", "3"], [40, 9]), np.repeat(["3"], 4))
    with pytest.raises(UserError, match="'zebra' is no class of this protocol"):
        contaminate_set(strange.path, tmp_path / "b", 0.1, 0, ["3"], "mnist-one-vs-rest")
    for protocol in PROTOCOLS.values():
        assert len(protocol.classes) == 10
        assert set(protocol.normal or ()) <= set(protocol.classes)


def test_contamination_of_normalized_images_does_not_normalize_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.integers(0, 90, (40, 8, 8), dtype=np.uint8))
    np.save(tmp_path / "labels.npy", np.repeat([0, 1], 20))
    settings = Settings().replace(resolution=8, contrast="normalize", black=10, white=80)
    packed = prepare(
        tmp_path / "x.npy", tmp_path / "set", settings, labels=str(tmp_path / "labels.npy")
    )
    spoilt = contaminate_set(packed.path, tmp_path / "spoilt", 0.2)
    assert np.array_equal(spoilt.images("train")[:20], packed.images("train")[:20])


def test_evaluation_knows_what_a_protocol_calls_anomalous(tmp_path: Path) -> None:
    packed = cifar_like(tmp_path / "a")
    spoilt = contaminate_set(packed.path, tmp_path / "b", 0.1, 0, ["3"], "mnist-one-vs-rest")
    origins = [record.origin for record in open_all(f"{spoilt.path}:test")[0]]
    names = list(spoilt.names("test"))
    truth = spoilt.manifest(["label"], "test")["label"].to_pylist()
    for labels in (Labels("source"), Labels("source", ["3"])):
        found = labels.of(names, range(len(names)), origins)
        assert found.tolist() == [label != "3" for label in truth]
    assert len(ImageSet.load(spoilt.path, Settings())) == spoilt.counts["train"]
