"""Bounds of settings, and rules between them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from anowild.device import configure_process, select_device
from anowild.errors import UserError
from anowild.presets import PRESETS
from anowild.settings import Settings
from anowild.views.transforms import TASKS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 20}, "'resolution' is 20: it must be one of 8, 16, 32"),
        ({"initial_resolution": 2}, "'initial_resolution' is 2: it must be one of 4, 8"),
        ({"bits": 12}, "one of 8, 16"),
        ({"channels": 0}, "at least 1"),
        ({"kimg": -1}, "at least 0"),
        ({"learning_rate": 0}, "more than 0"),
        ({"adam_beta2": 1}, "at least 0 and less than 1"),
        ({"robust_max_dropped": 0.6}, "more than 0 and at most 0.5"),
        ({"robust": True, "robust_max_dropped": 0.5, "left_out": 0.5}, "less than 1 - robust"),
        ({"tick_kimg": "8:5,16:0"}, "more than 0 at every resolution"),
        ({"minibatch": "8:6"}, "a multiple of 4"),
        ({"minibatch": "8:0"}, "at least 1 and at most 65536 at every resolution"),
        ({"seed": 2**63}, "less than 9223372036854775808"),
        ({"black": 3}, "together with white"),
        ({"black": 3, "white": 3}, "less than it"),
        ({"simultaneous": True, "cycle_weight": 1}, "0 where simultaneous is true"),
        ({"kimg": 1e308}, "at least 0 and at most"),
        ({"fmap_max": 10**9, "fmap_base": 10**12}, "'fmap_base' is 1000000000000: .* at most"),
        ({"latent_size": 10**9}, "at most"),
        ({"minibatch": 4 * 10**9}, "at most 65536 at every resolution"),
        ({"max_minibatch": "512:0"}, "at least 1"),
        ({"channels": 10**8}, "at most 4096"),
        ({"learning_rates": "32:nan"}, "is {32: nan}: it must be a finite number at every"),
        ({"learning_rates": "32:inf"}, "a finite number at every resolution"),
        ({"learning_rates": "32:-1"}, "more than 0 at every resolution"),
        ({"tick_kimg": "32:inf"}, "a finite number at every resolution"),
        ({"minibatch": "33:8"}, "given for resolutions among 4, 8, .*, 1024"),
        ({"views": ()}, "one or more, each once"),
        ({"transforms": ()}, "one or more, each once"),
        ({"transforms": ""}, "there is no ''; take some of turns, quarters, rings"),
        ({"transforms": "turns,nope"}, "'transforms': there is no 'nope'; take some of turns"),
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"kimg": "soon"}, "cannot be 'soon': it takes a number"),
        ({"fit": "cut"}, "it takes crop, .* or "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_settings_refuse_impossible_values(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Settings().replace(**changes)


def test_settings_name_the_transformations_that_there_are() -> None:
    (known,) = (f for f in dataclasses.fields(Settings) if f.name == "transforms")
    assert known.metadata["bounds"]["choices"] == tuple(TASKS)


def test_settings_refuse_nan() -> None:
    for f in dataclasses.fields(Settings):
        if f.metadata["bounds"] and isinstance(f.default, float):
            changes: Any = {f.name: float("nan")}
            with pytest.raises(UserError, match=f"'{f.name}' is nan"):
                Settings(**changes)


@pytest.mark.parametrize("name", PRESETS)
def test_settings_round_trip_through_json(name: str) -> None:
    settings = PRESETS[name].settings()
    assert Settings.from_json(settings.to_json()) == settings


def test_settings_accept_old_names() -> None:
    settings = Settings().replace(average_decay=0.5, contrast="normalise")
    assert (settings.ema_decay, settings.contrast) == (0.5, "normalize")
    assert Settings.from_json({"draw_weights": "views"}) == Settings()


@pytest.mark.parametrize("name", ["meta", "cuda:99999999999999999999", "tpu", ""])
def test_devices_that_cannot_compute_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"device '{name}' cannot be used here"):
        select_device(name)


@pytest.mark.parametrize("threads", [0, 100_000])
def test_threads_have_bounds(threads: int) -> None:
    with pytest.raises(UserError, match=f"threads are {threads}: they have to be from 1 to 1024"):
        configure_process(threads)
