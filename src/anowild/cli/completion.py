"""What a shell completes of the values of options: names that are known without PyTorch."""

from __future__ import annotations

import dataclasses
import textwrap
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from anowild.presets import PRESETS
from anowild.settings import Settings

#: A value, and what it means: shown by shells that have room for it.
Completion = tuple[str, str]


def presets() -> list[Completion]:
    """Return all presets."""
    return [(name, _brief(preset.summary)) for name, preset in PRESETS.items()]


def view_names() -> list[str]:
    """Return the names of the views: of each there is a file for looking and one for fitting."""
    package = Path(__file__).parents[1]
    looking, fitting = (
        {path.stem for path in (package / folder).glob("[!_]*.py")}
        for folder in ("views", "training")
    )
    return sorted(looking & fitting)


def views(incomplete: str) -> list[str]:
    """Return lists of views with commas that begin with one, which each view is in once."""
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in view_names() if name not in before.split(",")]


def settings(incomplete: str) -> list[Completion]:
    """Return ``NAME=`` of all settings; of one that takes few values, ``NAME=VALUE``."""
    name, _, value = incomplete.partition("=")
    if name == "views" and "=" in incomplete:
        return [(f"views={names}", "") for names in views(value)]
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    if "=" in incomplete and name in fields:
        return [(f"{name}={value}", "") for value in _values(fields[name])]
    return [(f"{name}=", _brief(field.metadata["meaning"])) for name, field in fields.items()]


def _brief(text: str) -> str:
    """Return the beginning of a text: what a shell shows beside a value has to stay on a line."""
    return textwrap.shorten(text, 60, placeholder=" ...")


def _values(field: dataclasses.Field[Any]) -> Sequence[Any]:
    """Return the values that a setting takes; none if they are many."""
    hint = typing.get_type_hints(Settings)[field.name]
    if hint is bool:
        return "true", "false"
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    choices: Sequence[Any] = field.metadata["bounds"].get("choices", ())
    return choices


def devices() -> list[Completion]:
    """Return the usual names of devices."""
    return [("auto", "a GPU if there is one"), ("cpu", ""), ("cuda", "the first GPU")]


def downloads() -> list[str]:
    """Return the data sets that can be downloaded."""
    from anowild.data.download import DATASETS

    return list(DATASETS)
