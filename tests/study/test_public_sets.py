"""Sets of the study from their files, from downloads, and from no file at all."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from anowild.data.contamination import CIFAR10_CLASSES
from anowild.errors import UserError
from anowild.settings import Settings
from anowild.study import public_sets, sweep
from anowild.study.datasets import (
    BUNDLED,
    DATASETS,
    GROUPS,
    cifar10_automobile,
    elpv64,
    load_set,
    mnist2,
    names_of,
)
from tests.conftest import SHARED


@pytest.fixture
def mnist() -> public_sets.Labeled:
    rng = np.random.default_rng(0)
    return {
        split: (
            rng.integers(1, 256, (count, 1, 28, 28), dtype=np.uint8),
            (np.arange(count) % 10).astype(np.uint8),
        )
        for split, count in (("train", 200), ("test", 50))
    }


def write_idx(folder: Path, labeled: public_sets.Labeled) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, (images, labels) in labeled.items():
        start = "train" if split == "train" else "t10k"
        header = np.array([0x0803, len(images), 28, 28], ">u4").tobytes()
        (folder / f"{start}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = np.array([0x0801, len(labels)], ">u4").tobytes()
        (folder / f"{start}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def write_cifar10(folder: Path) -> None:
    """Ten thousand images a batch, as in the archive; each shows its number in the set."""
    root = folder / "cifar-10-batches-py"
    root.mkdir(parents=True)
    names = [name.encode() for name in CIFAR10_CLASSES]
    (root / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, 2))
    for start, name in [
        *((10_000 * i, f"data_batch_{i + 1}") for i in range(5)),
        (0, "test_batch"),
    ]:
        data = np.zeros((10_000, 3072), np.uint8)
        number = np.arange(start, start + 10_000)
        data[:, 0], data[:, 1] = number // 256, number % 256
        batch = {b"data": data, b"labels": (number % 10).tolist()}
        (root / name).write_bytes(pickle.dumps(batch, 2))


def test_mnist2_has_twos_against_as_many_first_others(mnist: public_sets.Labeled) -> None:
    arrays = public_sets.mnist2(mnist)
    images, labels = mnist["train"]
    assert arrays["train"].shape == (20, 1, 32, 32)
    twos = {image.tobytes() for image in images[labels == 2]}
    assert {image.tobytes() for image in arrays["train"][:, :, 2:30, 2:30]} == twos
    assert not arrays["train"][:, :, :2].any()
    assert not arrays["train"][..., 30:].any()
    test, test_labels = mnist["test"]
    np.testing.assert_array_equal(arrays["test_normal"][:, :, 2:30, 2:30], test[test_labels == 2])
    others = test[test_labels != 2][:5]
    np.testing.assert_array_equal(arrays["test_anomaly"][:, :, 2:30, 2:30], others)


def test_mnist2_contaminants_are_other_training_digits(mnist: public_sets.Labeled) -> None:
    arrays = public_sets.mnist2_contaminants(mnist, 100)
    images, labels = mnist["train"]
    assert len(set(arrays["index"].tolist())) == 100
    assert not (arrays["label"] == 2).any()
    np.testing.assert_array_equal(arrays["label"], labels[arrays["index"]])
    np.testing.assert_array_equal(arrays["images"][:, :, 2:30, 2:30], images[arrays["index"]])


def test_read_mnist_refuses_another_set_with_the_same_file_names(
    mnist: public_sets.Labeled, tmp_path: Path
) -> None:
    write_idx(tmp_path / "mnist", mnist)
    path = public_sets.find_mnist(tmp_path)
    assert path == tmp_path / "mnist"
    with pytest.raises(UserError, match="is not MNIST; get it with"):
        public_sets.read_mnist(path)
    assert public_sets.find_mnist(tmp_path / "elsewhere") is None


def test_cifar10_automobile_reads_the_original_files(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar10")
    arrays = load_set(tmp_path, "cifar10_subset")
    for split, count in (("train", 11_000), ("test", 2000)):
        first = arrays[split].reshape(count, -1)[:, :2].astype(int)
        np.testing.assert_array_equal(first @ [256, 1], arrays[f"{split}_index"])
    experiment = cifar10_automobile(tmp_path, 0.1, 0)
    assert len(experiment.test) == 2000
    assert experiment.injected.mean() == pytest.approx(0.1, abs=0.001)


def test_any_class_of_cifar10_is_a_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = {"train": np.repeat(np.arange(10), 130), "test": np.repeat(np.arange(10), 210)}
    images = {s: rng.integers(0, 256, (len(of), 3, 4, 4), np.uint8) for s, of in labels.items()}
    np.savez(
        tmp_path / "cifar10.npz", train=images["train"], test=images["test"],
        train_label=labels["train"], test_label=labels["test"],
    )  # fmt: skip
    experiment = DATASETS["cifar10_deer"](tmp_path, 0.1, 0)
    normal = images["train"][labels["train"] == 4]
    np.testing.assert_array_equal(np.sort(experiment.training[~experiment.injected], axis=0),
                                  np.sort(normal, axis=0))  # fmt: skip
    pool = {x.tobytes() for c in range(10) if c != 4 for x in images["train"][130 * c :][:125]}
    injected = experiment.training[experiment.injected]
    assert len(injected) == 14
    assert {image.tobytes() for image in injected} <= pool
    assert len(experiment.test) == 2000
    deer = {image.tobytes() for image in experiment.test[experiment.test_labels == 0]}
    assert deer == {image.tobytes() for image in images["test"][4 * 210 :][:200]}
    with pytest.raises(UserError, match="is missing; make it with `anowild data fetch cifar10 -o"):
        DATASETS["cifar10_deer"](tmp_path / "none", 0.1, 0)


def test_solar_cells_of_which_it_is_not_sure_are_left_out(tmp_path: Path) -> None:
    chance = np.tile([0, 1 / 3, 2 / 3, 1], 20)
    images = np.arange(80, dtype=np.uint8)[:, None, None, None]
    np.savez(
        tmp_path / "elpv64.npz", train=images, test=images,
        train_probability=chance, test_probability=chance,
    )  # fmt: skip
    experiment = elpv64(tmp_path, 0.1, 0)
    numbers = experiment.training.ravel()
    assert len(numbers) == 22
    assert (numbers[~experiment.injected] % 4 == 0).all()
    assert (numbers[experiment.injected] % 4 == 3).all()
    np.testing.assert_array_equal(experiment.test_labels, experiment.test.ravel() % 4 // 3)


def test_solar_cells_of_one_kind(tmp_path: Path) -> None:
    images = np.arange(80, dtype=np.uint8)[:, None, None, None]
    chance, crystals = np.tile([0, 1], 40), np.repeat([0, 1], 40)
    np.savez(
        tmp_path / "elpv64.npz", train=images, test=images, train_probability=chance,
        test_probability=chance, train_mono=crystals, test_mono=crystals,
    )  # fmt: skip
    for name, mono in (("elpv64_mono", 1), ("elpv64_poly", 0)):
        experiment = DATASETS[name](tmp_path, 0.1, 0)
        assert (crystals[experiment.training.ravel()] == mono).all()
        assert sorted(experiment.test.ravel()) == np.flatnonzero(crystals == mono).tolist()


def test_vehicles_against_animals(tmp_path: Path) -> None:
    labels = {"train": np.repeat(np.arange(10), 20), "test": np.repeat(np.arange(10), 300)}
    images = {s: (np.arange(len(of)) % 256)[:, None, None, None] for s, of in labels.items()}
    np.savez(
        tmp_path / "cifar10.npz", train=labels["train"].astype(np.uint8)[:, None, None, None],
        test=images["test"].astype(np.uint8), train_label=labels["train"], test_label=labels["test"],
    )  # fmt: skip
    experiment = DATASETS["cifar10_vehicles"](tmp_path, 0.2, 0)
    classes = experiment.training.ravel()
    assert np.bincount(classes[~experiment.injected], minlength=10).tolist() == [
        20, 20, 0, 0, 0, 0, 0, 0, 20, 20,
    ]  # fmt: skip
    assert set(classes[experiment.injected]) <= {2, 3, 4, 5, 6, 7}
    assert experiment.injected.sum() == 20
    assert np.bincount(experiment.test_labels).tolist() == [1000, 1000]


def test_no_set_is_for_choosing_and_for_reporting() -> None:
    assert not set(GROUPS["choosing"]) & set(GROUPS["reporting"])
    assert {name for group in GROUPS.values() for name in group} <= set(DATASETS)
    assert names_of("mnist2,choosing") == ["mnist2", *GROUPS["choosing"]]


def test_load_set_prefers_npz_and_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bench.datasets -o .* --sets cells64` in"):
        load_set(tmp_path, "cells64")
    with pytest.raises(UserError, match="or `anowild data fetch mnist -o"):
        mnist2(tmp_path, 0.0, 0)
    (tmp_path / "cells64.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="build it again"):
        load_set(tmp_path, "cells64")
    np.savez(tmp_path / "cells64.npz", train=np.arange(3))
    np.testing.assert_array_equal(load_set(tmp_path, "cells64")["train"], np.arange(3))


@pytest.mark.shared
@pytest.mark.parametrize("name", ["cells64", "cifar10_subset"])
def test_load_set_reads_npz_and_zip_alike(name: str, tmp_path: Path) -> None:
    arrays = load_set(SHARED, name)
    np.savez(tmp_path / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    again = load_set(tmp_path, name)
    assert again.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(again[key], array)


def test_bundled_sets_need_no_folder() -> None:
    (trial,) = sweep.plan(None, ["digits_3"], [0.0], ["pca"], [0], Settings())
    assert len(trial.experiment().training) == 400
    assert set(BUNDLED) < set(DATASETS)
    with pytest.raises(
        UserError, match="set 'mnist2': needs --data; without it, take some of digits_3"
    ):
        sweep.plan(None, ["mnist2"], [0.0], ["pca"], [0], Settings())
