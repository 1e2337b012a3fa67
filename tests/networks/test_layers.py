"""Single layers, beside those that tests/golden covers."""

from __future__ import annotations

import torch

from anowild.networks.layers import MinibatchStddev


def test_a_minibatch_that_is_not_finite_does_not_stay_in_the_running_statistic() -> None:
    layer = MinibatchStddev()
    images = torch.randn(8, 3, 4, 4)
    layer(torch.full_like(images, torch.nan))
    assert layer.started == 0
    layer(images)
    before = layer.running.clone()
    layer(torch.full_like(images, torch.inf))
    assert layer.running == before
    assert before.isfinite()
