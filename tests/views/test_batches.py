"""Products whose rows are rounded alike wherever they lie."""

from __future__ import annotations

import pytest
import torch

from anowild.views.batches import MULTIPLE, filled, product


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("inner", "columns"), [(167, 167), (64, 5), (11, 64), (256, 1), (30, 201)])
def test_a_row_is_rounded_alike_in_every_place(
    dtype: torch.dtype, inner: int, columns: int
) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(64, inner, generator=rng, dtype=dtype)
    matrix = torch.randn(columns, inner, generator=rng, dtype=dtype).T
    for right in (matrix, matrix.contiguous()):
        expected = product(x, right)
        torch.testing.assert_close(expected, x @ right, rtol=1e-4, atol=1e-4)
        for _ in range(20):
            places = torch.randint(0, 64, (64,), generator=rng)
            assert torch.equal(product(x[places], right), expected[places])


def test_a_filled_matrix_gives_the_same_and_columns_of_zeros() -> None:
    x, matrix = torch.randn(3, 5, 7), torch.randn(7, 9)
    wide = product(x, filled(matrix))
    assert wide.shape == (3, 5, 2 * MULTIPLE)
    assert torch.equal(wide[..., :9], product(x, matrix))
    assert (wide[..., 9:] == 0).all()
