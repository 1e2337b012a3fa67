from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anowild.training.augmentation import augment

#: The middle of the covered square in the corner, so that a quarter of it is in the image.
CORNER = (0.0, 0.0)


def uniforms(down: float, right: float, covered: tuple[float, float] = CORNER) -> Tensor:
    return torch.tensor([[down, right, *covered]])


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 2, 16, 16, generator=torch.Generator().manual_seed(0)) + 1


def test_images_move_with_their_edges_drawn_out(image: Tensor) -> None:
    # An eighth of 16 is 2 pixels: five places, of which the middle one is where it was.
    still = augment(image, uniforms(0.5, 0.5))
    assert torch.equal(still[..., 8:, 8:], image[..., 8:, 8:])
    moved = augment(image, uniforms(0.99, 0.0))  # 2 down, 2 left
    assert torch.equal(moved[..., 8:, 8:14], image[..., 6:14, 10:])
    assert torch.equal(moved[..., 8:, 14], image[..., 6:14, 15])
    assert torch.equal(moved[..., 8:, 15], image[..., 6:14, 15])


@pytest.mark.parametrize(
    ("middle", "pixels"), [((0.5, 0.5), 64), ((0.0, 0.0), 16), ((0.5, 0.0), 32)]
)
def test_a_square_of_half_the_side_is_covered(
    image: Tensor, middle: tuple[float, float], pixels: int
) -> None:
    covered = augment(image, uniforms(0.5, 0.5, middle)) == 0
    assert covered.sum() == 2 * pixels
    assert torch.equal(covered[:, 0], covered[:, 1])


def test_each_image_has_its_own_draws(image: Tensor) -> None:
    noise = torch.rand(5, 4, generator=torch.Generator().manual_seed(1))
    together = augment(image.repeat(5, 1, 1, 1), noise)
    for alone, row in zip(together, noise, strict=True):
        assert torch.equal(augment(image, row.unsqueeze(0))[0], alone)
    assert not torch.equal(together[0], together[1])


def test_gradients_go_where_the_pixels_came_from() -> None:
    images = torch.rand(3, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    noise = torch.rand(3, 4, generator=torch.Generator().manual_seed(2))
    torch.autograd.gradcheck(lambda x: augment(x, noise), images)
