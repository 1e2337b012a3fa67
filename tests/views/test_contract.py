"""What every registered view keeps: company never matters, saving changes nothing, values are usable."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anowild.data import ImageSet
from anowild.training.fitting import FittedView, fit_of
from anowild.views import view_class, view_names
from tests.conftest import tiny_settings

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=view_names())
def fitted(
    request: pytest.FixtureRequest, image_set: ImageSet, tmp_path_factory: pytest.TempPathFactory
) -> FittedView:
    """Each view, fitted for a moment."""
    settings = tiny_settings(kimg=0.3, initial_resolution=None)
    return fit_of(request.param)(image_set, settings, tmp_path_factory.mktemp("training"), CPU)


def test_cues_are_described_and_positive(fitted: FittedView, image_set: ImageSet) -> None:
    measured = fitted.view.measure(image_set.images[:40])
    assert list(measured) == [cue.name for cue in fitted.view.cues]
    assert set(fitted.view.cues) <= set(view_class(fitted.view.name).known_cues())
    for cue in fitted.view.cues:
        values = measured[cue.name]
        assert (values.shape, values.dtype) == ((40,), np.float64)
        assert np.isfinite(values).all()
        assert values.min() >= 0
        assert values.std() > 0
        for text in (cue.meaning, cue.higher, cue.lower, cue.noun):
            assert text
        assert cue.meaning.endswith(".")


def test_cues_depend_on_neither_company_nor_place(fitted: FittedView, image_set: ImageSet) -> None:
    images, rng = image_set.images[:40], np.random.default_rng(0)
    expected = fitted.view.measure(images)
    groups = [rng.integers(0, 40, size) for size in (1, 2, 7, 40, 40, 63)]
    for group in [*groups, np.repeat(7, 5)]:
        found = fitted.view.measure(images[group])
        for name, values in expected.items():
            assert np.array_equal(found[name], values[group]), name


def test_features_depend_on_neither_company_nor_place(
    fitted: FittedView, image_set: ImageSet
) -> None:
    images = image_set.images[:40]
    expected = fitted.view.features(images)
    for group in (np.array([5]), np.repeat(7, 5), np.random.default_rng(0).permutation(40)):
        found = fitted.view.features(images[group])
        assert (found is None) == (expected is None)
        if expected is not None and found is not None:
            assert np.array_equal(found, expected[group])


def test_saved_view_measures_the_same(fitted: FittedView, image_set: ImageSet) -> None:
    view = fitted.view
    names = [cue.name for cue in view.cues]
    again = view_class(view.name).load(view.facts(), view.tensors(), names, CPU, "float32")
    images = image_set.images[:40]
    expected, found = view.measure(images), again.measure(images)
    for name, values in expected.items():
        assert np.array_equal(found[name], values), name
    some = view_class(view.name).load(view.facts(), view.tensors(), names[:1], CPU, "float32")
    assert [cue.name for cue in some.cues] == names[:1]


def test_training_cues_belong_to_the_training_images(
    fitted: FittedView, image_set: ImageSet
) -> None:
    if fitted.training_cues is not None:
        assert set(fitted.training_cues) == {cue.name for cue in fitted.view.cues}
        for values in fitted.training_cues.values():
            assert values.shape == (len(image_set),)


def test_what_a_view_offers_has_its_shape(fitted: FittedView, image_set: ImageSet) -> None:
    images = image_set.images[:5]
    features, explanation = fitted.view.features(images), fitted.view.explain(images)
    if features is not None:
        assert features.shape[0] == 5
        assert np.isfinite(features).all()
    if explanation is not None:
        side = explanation.seen.shape[-1]
        assert explanation.seen.shape == (5, images.shape[1], side, side)
        for heat in explanation.heat.values():
            assert heat.shape == (5, side, side)
            assert heat.min() >= 0
