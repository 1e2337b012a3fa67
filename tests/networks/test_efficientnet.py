"""EfficientNet-Lite0 against another implementation, and on a photograph of a cat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anowild.networks.efficientnet import EPSILON, STAGES, EfficientNetLite0
from anowild.training.pretrained import published_weights

#: By the package efficientnet_lite_pytorch 0.1.0, in float64, on `waves()`: of each stage, the means of its first
#: three maps, and the first value of the first map.
EXPECTED = (
    ((-0.326581, 0.553011, -0.87366), -0.869694),
    ((-9.322876, -2.377809, 21.454554), -0.795096),
    ((-4.416337, 0.232254, 5.081351), -3.043576),
    ((2.792184, -4.512976, -6.972804), 2.394267),
    ((-4.370687, 1.149874, 2.072159), -4.111038),
    ((-7.472218, 8.854212, 10.019725), -10.258981),
    ((-2.268675, -3.837468, 0.508588), -1.875128),
)  # fmt: skip


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return published_weights()


def waves() -> Tensor:
    return torch.sin(torch.arange(3 * 64 * 64, dtype=torch.float64) ** 1.1).view(1, 3, 64, 64)


def test_stages_agree_with_another_implementation(state: dict[str, Tensor]) -> None:
    maps = EfficientNetLite0.from_published(state)(waves().float())
    assert [m.shape[1] for m in maps] == [stage[3] for stage in STAGES]
    assert [m.shape[2] for m in maps] == [32, 16, 8, 4, 4, 2, 2]
    for found, (means, corner) in zip(maps, EXPECTED, strict=True):
        scale = found.abs().max().item()
        assert torch.allclose(found[0, :3].mean(dim=(1, 2)), torch.tensor(means), atol=1e-5 * scale)
        assert found[0, 0, 0, 0].item() == pytest.approx(corner, abs=1e-5 * scale)


def test_photograph_of_a_cat_is_called_a_cat(state: dict[str, Tensor]) -> None:
    data = pytest.importorskip("skimage.data")
    cat = torch.from_numpy(np.ascontiguousarray(data.chelsea().transpose(2, 0, 1)))[None].float()
    x = (F.interpolate(cat[..., 75:375], (224, 224), mode="area") - 127) / 128
    maps = F.conv2d(EfficientNetLite0.from_published(state)(x)[-1], state["_conv_head.weight"])
    mean, var, weight, bias = (
        state[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
    )
    last = F.relu6(F.batch_norm(maps, mean, var, weight, bias, eps=EPSILON)).mean(dim=(2, 3))
    logits = F.linear(last, state["_fc.weight"], state["_fc.bias"])
    assert logits.argmax().item() in range(281, 286)  # ImageNet's domestic cats


def test_odd_side_is_padded_at_both_ends(state: dict[str, Tensor]) -> None:
    network = EfficientNetLite0.from_published(state)
    x = waves().float()[..., :33, :33]
    assert [m.shape[2] for m in network(x)] == [17, 9, 5, 3, 3, 2, 2]
