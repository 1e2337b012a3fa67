"""Maps and reasons of single images."""

from __future__ import annotations

import numpy as np
import torch

from anowild.data import ImageSet
from anowild.scoring import Detector
from anowild.scoring.explain import reasons
from anowild.views.gan import CUES, GanView, gaussian_blur, residual_heat


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


def test_reasons_name_what_is_unusual(detector: Detector, image_set: ImageSet) -> None:
    scores = detector.score(image_set.images[:60])
    middle = {name: np.array([float(np.median(v))]) for name, v in scores.cues.items()}
    calibration = detector.calibration
    upper = {name: calibration.cues[name].lower < 0.5 for name in calibration.counted}

    def reason(**changed: float) -> str:
        cues = {name: v * changed.get(name, 1.0) for name, v in middle.items()}
        (line,) = reasons(detector.views, calibration, cues)
        return line

    assert reason().endswith(": usual")
    assert " than " not in reason()
    for name in calibration.counted:
        far = reason(**{name: 1e4 if upper[name] else 1e-4})
        phrase = CUES[name].higher if upper[name] else CUES[name].lower
        assert far.startswith(f"{phrase} than nearly all")
        assert "usual" in far
