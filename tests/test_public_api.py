"""`import anowild` is enough: every type that a public signature needs is exported."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import anowild
from anowild.arrays import Array
from tests.conftest import tiny_settings


def types_in(annotation: Any) -> Iterator[type]:
    """All classes that an annotation is made of."""
    if isinstance(annotation, list):
        for part in annotation:
            yield from types_in(part)
    elif typing.get_origin(annotation) is not None:
        for part in typing.get_args(annotation):
            yield from types_in(part)
    elif isinstance(annotation, type):
        yield annotation


def hints_of(function: Any) -> dict[str, Any]:
    module = inspect.getmodule(function)
    names = {**vars(anowild), **{name: getattr(anowild, name) for name in anowild.__all__}}
    return typing.get_type_hints(function, {**names, **vars(module)})


def public_callables() -> Iterator[tuple[str, Any]]:
    """Public functions; and of public classes constructors, methods and fields."""
    for name in anowild.__all__:
        value = getattr(anowild, name)
        if inspect.isfunction(value):
            yield name, value
        if not inspect.isclass(value) or issubclass(value, Exception):
            continue
        if inspect.isfunction(value.__init__):
            yield f"{name}.__init__", value.__init__
        for method, member in inspect.getmembers(value):
            if method.startswith("_") or getattr(member, "__objclass__", None) is object:
                continue
            if inspect.isfunction(member) or inspect.ismethod(member):
                yield f"{name}.{method}", member


def test_every_name_is_there() -> None:
    assert len(set(anowild.__all__)) == len(anowild.__all__)
    for name in anowild.__all__:
        assert getattr(anowild, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        anowild.magic  # noqa: B018


@pytest.mark.parametrize(
    ("name", "function"), list(public_callables()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_type_of_a_public_signature_is_exported(name: str, function: Any) -> None:
    exported = {id(getattr(anowild, name)) for name in anowild.__all__}
    for part, annotation in hints_of(function).items():
        for found in types_in(annotation):
            if found.__module__.startswith("anowild"):
                assert id(found) in exported, f"{name}: {part} is a {found.__qualname__}"


def test_every_type_of_a_public_field_is_exported() -> None:
    exported = {id(getattr(anowild, name)) for name in anowild.__all__}
    for name in anowild.__all__:
        value = getattr(anowild, name)
        if inspect.isclass(value) and dataclasses.is_dataclass(value):
            for part, annotation in hints_of(value).items():
                for found in types_in(annotation):
                    if found.__module__.startswith("anowild"):
                        assert id(found) in exported, f"{name}.{part} is a {found.__qualname__}"


def test_a_first_session_needs_one_import(digits: Array, tmp_path: Path) -> None:
    labels = np.zeros(60, np.int64)
    labels[:6] = 1
    np.save(tmp_path / "labels.npy", labels)
    settings = tiny_settings(kimg=0.2, initial_resolution=None)
    detector = anowild.train(digits[:60], tmp_path / "model", settings)
    table = anowild.score(detector, digits[:60], tmp_path / "s.csv", anowild.Budget(6))
    assert table.threshold is not None
    assert table.threshold.flagged == 6
    truth = anowild.Labels(str(tmp_path / "labels.npy"))
    found = anowild.evaluate(detector, digits[:60], truth)
    assert 0 <= found.columns["score"].auroc.value <= 1
    anowild.report(detector, digits[:60], tmp_path / "r.html", anowild.Gap(), truth)
    assert "average precision" in (tmp_path / "r.html").read_text()
    for rule in (anowild.ExpectedShare(0.1), anowild.FalseDiscoveryRate(0.2, digits[60:200])):
        assert anowild.score(tmp_path / "model", digits[:60], rule=rule).threshold is not None
    counts = anowild.clean(tmp_path / "s.csv", tmp_path / "kept", "list")
    assert sum(counts.values()) == 60
    anowild.limit(tmp_path / "model", 0.5)
    folder = tmp_path / "camera"
    folder.mkdir()
    for i, image in enumerate(digits[:8]):
        Image.fromarray(image).save(folder / f"{i}.png")
    said: list[str] = []
    options = anowild.WatchOptions(interval=0.02, once=True)
    watched = anowild.watch(detector, folder, tmp_path / "w.csv", options=options, say=said.append)
    assert watched.scored == 8
    assert watched.flagged == len(said) == (table.score[:8] >= 0.5).sum() > 0
    with pytest.raises(anowild.UserError, match="holds no review"):
        anowild.marks(tmp_path / "review", tmp_path / "marks.csv")
    with pytest.raises(anowild.UserError, match="quarantine"):
        anowild.undo_clean(tmp_path / "kept")
    with pytest.raises(anowild.UserError, match="no such model folder"):
        anowild.serve(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (lambda: anowild.Budget(0), "budget of 0"),
        (lambda: anowild.ExpectedShare(1.0), "expected share of 1"),
        (lambda: anowild.FalseDiscoveryRate(0.0, "x"), "false discovery rate of 0"),
        (lambda: anowild.Budget(2.0), "budget of 2.0 images: has to be a whole number"),  # type: ignore[arg-type]
        (lambda: anowild.Budget("5"), "budget of 5 images: has to be a whole number"),  # type: ignore[arg-type]
        (lambda: anowild.ExpectedShare("x"), "expected share of x: has to be between"),  # type: ignore[arg-type]
        (lambda: anowild.FixedScore("a"), "limit of a: has to be a number"),  # type: ignore[arg-type]
        (lambda: anowild.FixedScore(10**400), "has to be a number"),
    ],
)
def test_impossible_rules_are_refused(rule: Any, sentence: str) -> None:
    with pytest.raises(anowild.UserError, match=sentence):
        rule()


def test_wrong_arguments_are_told_before_the_work(
    model_folder: Path, digits: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anowild.Detector, "score", lambda *_: pytest.fail("it was scored"))
    np.save(tmp_path / "labels.npy", np.arange(20) % 2)
    labels = anowild.Labels(tmp_path / "labels.npy")
    images, page = digits[:20], tmp_path / "r.html"
    scores: Any = {"mine": np.full(20, np.nan)}
    wrong: Any = "drp"
    with pytest.raises(anowild.UserError, match="a threshold of nan"):
        anowild.evaluate(model_folder, images, labels, float("nan"))
    with pytest.raises(anowild.UserError, match="the scores 'mine' are no list of finite numbers"):
        anowild.report(model_folder, images, page, labels=labels, others=scores)
    with pytest.raises(anowild.UserError, match="held against labels"):
        anowild.report(model_folder, images, page, others={"mine": np.zeros(20)})
    with pytest.raises(anowild.UserError, match="leaks is 'drp': take one of refuse, drop, keep"):
        anowild.prepare(images, tmp_path / "set", leaks=wrong)
    with pytest.raises(anowild.UserError, match="engine is 'drp'"):
        anowild.prepare(images, tmp_path / "set", engine=wrong)
    with pytest.raises(anowild.UserError, match="there is nothing to read"):
        anowild.score(model_folder, [])
    (tmp_path / "labels.csv").write_text("path,label\na,0\n")
    with pytest.raises(anowild.UserError, match="is there already and no table of scores"):
        anowild.score(model_folder, images, tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == "path,label\na,0\n"


def test_other_scores_are_of_the_same_images(
    model_folder: Path, digits: Array, tmp_path: Path
) -> None:
    np.save(tmp_path / "labels.npy", np.arange(20) % 2)
    labels = anowild.Labels(tmp_path / "labels.npy")
    others = {"mine": np.zeros(5)}
    with pytest.raises(anowild.UserError, match="'mine' are of 5 images, and 20 are shown"):
        anowild.report(model_folder, digits[:20], tmp_path / "r.html", labels=labels, others=others)


@pytest.mark.parametrize("normal", ["10", ["10"], [10]])
def test_one_normal_label_is_no_list_of_letters(tmp_path: Path, normal: Any) -> None:
    (tmp_path / "labels.csv").write_text("path,label\na,0\nb,1\nc,10\n")
    labels = anowild.Labels(tmp_path / "labels.csv", normal)
    assert labels.of(["a", "b", "c"], [0, 1, 2]).tolist() == [1, 1, 0]


def test_a_model_of_other_images_is_not_replaced(digits: Array, tmp_path: Path) -> None:
    settings = tiny_settings(views=("pixels",))
    anowild.train(digits[:40], tmp_path / "model", settings)
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    with pytest.raises(anowild.UserError, match="holds a model of other images"):
        anowild.train(digits[:41], tmp_path / "model", settings)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    anowild.train(digits[:40], tmp_path / "model", settings)
