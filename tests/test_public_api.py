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
    ],
)
def test_impossible_rules_are_refused(rule: Any, sentence: str) -> None:
    with pytest.raises(anowild.UserError, match=sentence):
        rule()
