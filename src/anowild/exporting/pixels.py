"""Preprocessing in PyTorch's operators: the same pixels, bit for bit, as `anowild.data.Preprocess` makes.

Images of any size go through one graph: resizing is a product with two matrices of whole numbers, which the graph
computes from the image's height and width, and which have zeros where an image is cut or filled.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from anowild.data import Preprocess
from anowild.data.preprocessing import LUMA_THOUSANDTHS


class Axis(NamedTuple):
    """How one side of an image, of n pixels, becomes a side of R: by weighted averages."""

    weights: Tensor  # [R, n], whole numbers; rows that are filled are zero
    total: Tensor  # [R], their sums; 1 where they are zero
    inside: Tensor  # [R], bool: which rows come from the image


class Pixels(nn.Module):
    """From raw images to what the views see.

    Args:
        preprocess: of the model.
        dtype: to compute in. In float32, which is all that some runtimes know, images of 8 bits still become the same
            pixels, if contrast is kept and black and white are not given.
    """

    def __init__(self, preprocess: Preprocess, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.preprocess, self.dtype = preprocess, dtype

    def forward(self, images: Tensor) -> Tensor:
        """Preprocess images of one size.

        Args:
            images: uint8, uint16 or floating point [N, H, W, C], each side 4 or more; C is 1 or 3, or that of the
                preprocessing.

        Returns:
            uint8 or uint16 [N, channels, R, R].
        """
        p = self.preprocess
        x = self._to_channels(self._to_depth(images))
        height, width = (self._side(x, axis) for axis in (1, 2))
        sizes = self._sizes(height, width)
        shrinks = (sizes[0] <= height) & (sizes[1] <= width)
        rows, columns = (
            self._axis(x, axis, size, shrinks) for axis, size in zip((1, 2), sizes, strict=True)
        )
        # As Pillow: along rows, then along columns, and float32 after each. An image of the right size is copied.
        same = (sizes[0] == height) & (sizes[1] == width)

        def rounded(values: Tensor) -> Tensor:
            return torch.where(same, values, values.to(torch.float32).to(self.dtype))

        square = rounded(self._averaged(rounded(x.movedim(3, 1)), columns))
        square = rounded(self._averaged(square.mT, rows).mT)
        inside = rows.inside[:, None] & columns.inside
        fill = 0.0
        if p.contrast == "normalize":
            square, fill = _normalized(square, inside, p.full), float(round(p.full / 2))
        square = torch.where(inside, square.round().clamp(0, p.full), fill)
        return square.to(torch.uint8 if p.bits == 8 else torch.uint16)

    def _to_depth(self, images: Tensor) -> Tensor:
        """Scale values to 0 to full."""
        p, x = self.preprocess, images.to(self.dtype)
        if p.black is not None and p.white is not None:
            return ((x - p.black) / (p.white - p.black)).clamp(0, 1) * p.full
        if images.dtype.is_floating_point:
            return x * p.full
        if images.dtype == torch.uint16 and p.bits == 8:
            return x * (1 / 257.0)
        if images.dtype == torch.uint8 and p.bits == 16:
            return x * 257.0
        return x

    def _to_channels(self, x: Tensor) -> Tensor:
        wanted = self.preprocess.channels
        if wanted not in (1, 3):
            return x
        given = self._side(x, 3)
        # Of gray the only channel three times.
        color = x[..., torch.minimum(torch.arange(3), given.long() - 1)]
        if wanted == 3:
            return color
        weights = torch.tensor(LUMA_THOUSANDTHS, dtype=self.dtype)
        luma = (color * weights).sum(dim=3, keepdim=True) / 1000
        return torch.where(given == 1, x[..., :1], luma)

    def _sizes(self, height: Tensor, width: Tensor) -> list[Tensor]:
        """Return height and width to which an image is scaled before it is cut or filled."""
        side = float(self.preprocess.resolution)
        if self.preprocess.fit == "stretch":
            return [torch.full_like(length, side) for length in (height, width)]
        shorter = self.preprocess.fit == "crop"
        edge = (torch.minimum if shorter else torch.maximum)(height, width)
        if self.preprocess.fit == "pad":
            edge = edge.clamp_min(side)
        return [(length * side / edge).round().clamp_min(1) for length in (height, width)]

    def _axis(self, x: Tensor, axis: int, size: Tensor, shrinks: Tensor) -> Axis:
        """Return how an axis of images is scaled to ``size`` pixels, and cut or filled to R.

        A pixel weighs 1 or 0 where the image shrinks: its center lies there or not. Else its weight falls off linearly,
        as in Pillow's bilinear filter, over two pixels of the larger of the two sizes.
        """
        side, length = self.preprocess.resolution, self._side(x, axis)
        row = torch.arange(side, dtype=self.dtype)
        row = row - ((side - size) / 2).floor()  # of the scaled image, whose middle is kept
        inside = (row >= 0) & (row < size)
        pixel = torch.arange(x.shape[axis], dtype=self.dtype)
        # Between the centers of a pixel and of a row, in units of half a pixel of either size by the other.
        away = (2 * pixel + 1) * size - ((2 * row + 1) * length)[:, None]
        box = ((away > -length) & (away <= length)).to(self.dtype)
        triangle = (2 * torch.maximum(length, size) - away.abs()).clamp_min(0)
        weights = torch.where(shrinks, box, triangle) * inside[:, None].to(self.dtype)
        total = weights.sum(dim=1)
        return Axis(weights, torch.where(total > 0, total, 1.0), inside)

    def _averaged(self, x: Tensor, axis: Axis) -> Tensor:
        """Return weighted averages along the last axis, [..., n] to [..., R], rounded once.

        The sum is split such that float32 is enough: values become multiples of a sixteenth of a level, whose products
        with weights are whole numbers of 24 bits, and small remainders; so does the average.
        """
        unit = (self.preprocess.full + 1) / 4096
        coarse = (x / unit).round() * unit
        whole, rest = (part @ axis.weights.mT for part in (coarse, x - coarse))
        average = (whole / axis.total / unit).round() * unit
        return average + (whole - average * axis.total + rest) / axis.total

    def _side(self, x: Tensor, axis: int) -> Tensor:
        """Return a side of a tensor as a number, which a graph works out for each image."""
        return torch.full((), x.shape[axis], dtype=self.dtype)


def _normalized(square: Tensor, inside: Tensor, full: int) -> Tensor:
    """Bring the mean inside to mid-gray, and four standard deviations to black and white: [N, C, R, R]."""
    weights = inside.to(square.dtype) / (inside.to(square.dtype).sum() * square.shape[1])
    mean = (square * weights).sum(dim=(1, 2, 3), keepdim=True)
    variance = ((square - mean).square() * weights).sum(dim=(1, 2, 3), keepdim=True)
    deviation = variance.sqrt()
    # Rounding alone gives a deviation of up to about a third of an 8-bit level.
    plain = deviation < full / 255 / 2
    scale = torch.where(plain, 0.0, full / 8 / torch.where(plain, 1.0, deviation))
    return full / 2 + (square - mean) * scale
