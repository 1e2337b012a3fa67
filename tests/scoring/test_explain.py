"""Maps and reasons of single images."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from anowild.arrays import Array
from anowild.data import ImageSet
from anowild.scoring import Calibration, Detector, Scores
from anowild.scoring.explain import MOST, TERMS, of_line, of_tile, one_line, reasons
from anowild.views import Cue, View, gan, pixels, pretrained, transforms
from anowild.views.base import UNUSUAL, percentage
from anowild.views.gan import GanView, gaussian_blur, residual_heat


def test_maps_belong_to_their_images(detector: Detector, image_set: ImageSet) -> None:
    images = image_set.images[:5]
    found = detector.explain(images)
    assert found.rebuilt is not None
    assert found.signed is not None
    (view,) = detector.views
    assert isinstance(view, GanView)
    (batch,) = view.batches(images)
    passed = view.passed(batch)
    assert np.allclose(found.seen, images / 127.5 - 1, atol=1e-6)
    assert np.allclose(found.rebuilt, passed.rebuilt.numpy()[:5])
    assert np.allclose(found.signed, (found.seen - found.rebuilt).mean(axis=1), atol=1e-6)
    heat = found.heat_map()
    assert heat is not None
    for values in (found.signed, heat, *found.heat.values()):
        assert values.shape == (5, 16, 16)
        assert np.isfinite(values).all()
        assert values.std() > 0
    assert min(values.min() for values in found.heat.values()) >= 0
    assert 0.5 <= heat.max() <= 1


def test_maps_do_not_depend_on_company(detector: Detector, image_set: ImageSet) -> None:
    images = image_set.images[:70]
    together, alone = detector.explain(images), detector.explain(images[66:67])
    for name in ("seen", "rebuilt", "signed"):
        assert np.allclose(getattr(together, name)[66], getattr(alone, name)[0], atol=1e-5), name
    for name, values in alone.heat.items():
        assert np.allclose(together.heat[name][66], values[0], atol=1e-5), name


def test_heat_lies_where_the_difference_is() -> None:
    difference = 0.05 * torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    difference[0, 0, 20:26, 4:10] += 0.3
    heat = residual_heat(difference)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[20:26, 4:10] = True
    assert heat[0][inside].mean() > 3 * heat[0][~inside].mean()
    assert inside.flatten()[heat[0].argmax()]
    assert heat[1][inside].mean() < 2 * heat[1][~inside].mean()


def test_smoothing_keeps_the_mean_and_an_even_image() -> None:
    flat = torch.full((1, 3, 16, 16), 0.7)
    assert torch.allclose(gaussian_blur(flat, 2.0), flat, atol=1e-6)
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert gaussian_blur(x, 1.5).std() < 0.5 * x.std()
    assert torch.equal(gaussian_blur(x, 0.0), x)


#: Terms of the method, which belong into a cue's meaning.
JARGON = re.compile(
    r"latent|residual|mahalanobis|trimmed|laplacian|variance|deviation|features?\b|norm\b|cosine|\b[A-Z]\b"
)


def all_cues() -> list[Cue]:
    """The cues of all views, retired ones as well."""
    tasks = [task.cue for task in transforms.TASKS.values()]
    return [*gan.CUES.values(), *pixels.CUES, *pretrained.CUES, *tasks, transforms.FEATURES]


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("cue", all_cues(), ids=lambda cue: cue.name)
def test_phrases_complete_a_sentence_without_jargon(cue: Cue, lower: bool) -> None:
    phrase = cue.lower if lower else cue.higher
    assert re.match(r"(more|less|\w+er)\b[^.:;]+$", f"{phrase} "), phrase
    assert not JARGON.search(phrase), phrase
    assert not JARGON.search(cue.noun), cue.noun
    assert cue.lower != cue.higher
    view = PlainView((cue,))
    assert view.reason(cue, lower, 0.998) == f"much {phrase} than 99.8 %"
    assert view.reason(cue, lower, 0.96) == f"{phrase} than 96.0 %"
    assert view.reason(cue, lower, 0.88) == f"a little {phrase} than 88 %"


@pytest.mark.parametrize(
    ("share", "written"),
    [
        (1.0, "nearly all"),
        (0.9995, "nearly all"),
        (0.99949, "99.9 %"),
        (0.9599, "95.9 %"),
        (0.95, "95.0 %"),
        (0.9499, "94 %"),
        (0.29, "29 %"),
        (0.009, "hardly any"),
        (0.0, "hardly any"),
    ],
)
def test_shares_are_rounded_down_and_never_all(share: float, written: str) -> None:
    assert percentage(share) == written


class PlainView(View):
    """A view that only describes its cues."""

    def __init__(self, cues: tuple[Cue, ...], name: str = "plain") -> None:
        self.name, self.cues = name, cues  # type: ignore[misc]

    def look(self, stored: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError


def plain(name: str, **given: Any) -> Cue:
    return Cue(
        name=name, meaning=f"{name}.", higher=f"{name}er", lower=f"un{name}er", noun=name, **given
    )


def fitted(*views: PlainView, count: int = 2000) -> tuple[Calibration, dict[str, Array]]:
    """A calibration, and the values that it was fitted to: the cues are independent."""
    rng = np.random.default_rng(0)
    training = {cue.name: rng.lognormal(size=count) for view in views for cue in view.cues}
    return Calibration.fit({view.name: view.cues for view in views}, training), training


def test_strongest_comes_first_and_the_first_says_of_what() -> None:
    views = (
        PlainView((plain("a"), plain("b", odd_side="both", weight=0.5)), "one"),
        PlainView((plain("c"),), "two"),
    )
    calibration, training = fitted(*views)
    at = {name: np.sort(values) for name, values in training.items()}
    cues = {"a": at["a"][[1950, 1000]], "b": at["b"][[0, 1000]], "c": at["c"][[1992, 1860]]}
    first, second = reasons(views, calibration, cues)
    assert [reason.cue for reason in first] == ["b", "c", "a"]
    assert [reason.view for reason in first] == ["one", "two", "one"]
    assert [reason.lower for reason in first] == [True, False, False]
    assert first[0].meaning == "b."
    assert re.fullmatch(r"much unber than 99\.\d % of the training images", first[0].text)
    assert re.fullmatch(r"much cer than 99\.[56] %", first[1].text)
    assert re.fullmatch(r"aer than 97\.[45] %", first[2].text)
    assert one_line(first) == "; ".join(reason.text for reason in first)
    assert of_line(one_line(first)) == [reason.text for reason in first]
    (only,) = second
    nothing = "nothing stands out by itself; most unusual: a little cer than 9[23] % of the training images"
    assert re.fullmatch(nothing, only.text)
    assert of_line(one_line(second)) == [only.text]
    assert only.share == pytest.approx(0.93, abs=0.005)


def test_each_view_and_what_anybody_sees_are_given() -> None:
    seen = plain("seen", visible=True, odd_side="both")
    loud = PlainView((*(plain(f"x{i}") for i in range(6)), seen), "loud")
    views = loud, PlainView((plain("y"),), "quiet")
    calibration, training = fitted(*views)
    at = {name: np.sort(values) for name, values in training.items()}
    cues = {name: values[-5 - i : -4 - i] for i, (name, values) in enumerate(at.items())}
    cues |= {"seen": at["seen"][-40:-39], "y": at["y"][-80:-79]}
    (found,) = reasons(views, calibration, cues)
    assert len(found) == MOST
    assert {reason.cue for reason in found} == {"x0", "x1", "seen", "y"}
    assert [reason.share for reason in found] == sorted((r.share for r in found), reverse=True)


@given(
    st.lists(
        st.lists(st.floats(0, 1e300), min_size=6, max_size=6),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([None, 1, 30, 2000, 10**9]),
)
def test_reasons_are_never_empty(values: list[list[float]], count: int | None) -> None:
    (views, calibration), names = mixed(), "abcdef"
    cues = dict(zip(names, np.array(values).T, strict=True))
    found = reasons(views, calibration, cues, count)
    assert len(found) == len(values)
    for of_image in found:
        assert 1 <= len(of_image) <= MOST + 1
        assert of_image[0].text.endswith(" of the training images")
        for reason in of_image:
            assert 0 <= reason.share <= (1 if count is None else count / (count + 1))
        for said in (of_image, of_tile(of_image)):
            assert of_line(one_line(said)) == [reason.text for reason in said]
        unusual = [reason.share >= UNUSUAL for reason in of_image]
        assert all(unusual) or (len(of_image) == 1 and of_image[0].text.startswith("nothing "))


@functools.cache
def mixed() -> tuple[tuple[PlainView, ...], Calibration]:
    """Views with cues of every kind, one of which does not count."""
    views = (
        PlainView((plain("a"), plain("b", odd_side="both", visible=True)), "one"),
        PlainView((plain("c", odd_side="either"), plain("d", counts=False), plain("e")), "two"),
        PlainView((plain("f", weight=0.25),), "three"),
    )
    return views, fitted(*views)[0]


def test_no_more_is_claimed_than_the_training_images_support() -> None:
    views, calibration = mixed()
    cues = {name: np.array([1e9]) for name in "abcdef"}
    for count, written in (
        (None, "nearly all"),
        (5000, "nearly all"),
        (200, "99.5 %"),
        (30, "96.7 %"),
    ):
        (found,) = reasons(views, calibration, cues, count)
        assert {reason.text.partition(" than ")[2].partition(" of ")[0] for reason in found} == {
            written
        }
        assert "d" not in {reason.cue for reason in found}


def test_what_is_far_out_on_the_usual_side_is_not_unusual() -> None:
    views = (PlainView((plain("a"),)),)
    calibration, training = fitted(*views)
    ((found,),) = reasons(views, calibration, {"a": training["a"].min()[None] * 0.9})
    assert found.text.startswith("nothing stands out")


def test_detector_reasons_name_what_is_unusual(detector: Detector, image_set: ImageSet) -> None:
    scores = detector.score(image_set.images[:60])
    middle = {name: np.array([float(np.median(v))]) for name, v in scores.cues.items()}
    calibration = detector.calibration
    for name in calibration.counted:
        upper = calibration.cues[name].lower < 0.5
        cues = middle | {name: middle[name] * (1e4 if upper else 1e-4)}
        (found,) = detector.reasons(Scores(np.zeros(1), cues))
        phrase = gan.CUES[name].higher if upper else gan.CUES[name].lower
        # 300 training images support no more than 300/301.
        assert found[0].text == f"much {phrase} than 99.6 % of the training images"
    ((nothing,),) = detector.reasons(Scores(np.zeros(1), middle))
    assert nothing.text.startswith("nothing stands out by itself; most unusual: a little ")


@pytest.mark.parametrize("count", [None, "many", 0])
def test_a_model_without_a_number_of_training_images_has_reasons(
    detector: Detector, image_set: ImageSet, monkeypatch: pytest.MonkeyPatch, count: Any
) -> None:
    info = {key: value for key, value in detector.training_info.items() if key != "images"}
    monkeypatch.setattr(
        detector, "training_info", info if count is None else {**info, "images": count}
    )
    assert all(detector.reasons(detector.score(image_set.images[:20])))


def test_the_glossary_begins_with_the_words_of_pages() -> None:
    glossary = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text()
    rows = re.findall(r"^\| \*\*(.+)\*\* \| (.+) \|$", glossary, re.MULTILINE)
    assert dict(rows) == TERMS
    assert [term for term, _ in rows] == list(TERMS)
    assert len(TERMS) <= 15
