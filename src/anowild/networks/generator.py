"""The generator G, from latents to images (appendix, tables 'Generator')."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from anowild.networks.growth import feature_maps, log2_resolution, split_lod
from anowild.networks.layers import (
    Conv2d,
    LatentToMap,
    NormalizedLeakyRelu,
    UpConv2d,
    pixel_norm,
)
from anowild.networks.operators import to_conv_dtype


class GeneratorBlock(nn.Module):
    """Two convolutions, of which the first doubles the resolution: [N, in, H, W] -> [N, out, 2H, 2W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0_up = UpConv2d(inputs, outputs)
        self.conv1 = Conv2d(outputs, outputs, 3)
        self.activation = NormalizedLeakyRelu()

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.conv0_up(x))
        return self.activation(self.conv1(x))


class Generator(nn.Module):
    """Progressively grown generator.

    Args:
        resolution: side of the images at full size, a power of two from 8 to 512.
        channels: channels of the images, 1 or more.
        fmap_base: stage s has ``min(fmap_base / 2^s, fmap_max)`` feature maps.
        fmap_max: see ``fmap_base``; 512 in the paper.
        latent_size: components of a latent; by default the number of maps at stage 0.

    Raises:
        ValueError: the resolution is not a power of two from 8 to 512.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        fmap_base: int = 8192,
        fmap_max: int = 512,
        latent_size: int | None = None,
    ) -> None:
        super().__init__()
        self.max_lod = log2_resolution(resolution) - 2
        self.resolution = resolution
        self.channels = channels
        maps = [feature_maps(s, fmap_base, fmap_max) for s in range(self.max_lod + 2)]
        self.latent_size = latent_size or maps[0]

        # Stage s works at resolution 4 * 2^s and with maps[s + 1] maps.
        self.dense = LatentToMap(self.latent_size, maps[1])
        self.conv = Conv2d(maps[1], maps[1], 3)
        self.activation = NormalizedLeakyRelu()
        self.blocks = nn.ModuleList(
            GeneratorBlock(maps[s], maps[s + 1]) for s in range(1, self.max_lod + 1)
        )
        self.to_rgb = nn.ModuleList(
            Conv2d(maps[s + 1], channels, 1, gain=1.0) for s in range(self.max_lod + 1)
        )

    def forward(self, latents: Tensor, lod: float = 0.0) -> Tensor:
        """Generate images of the level's own size.

        Args:
            latents: [N, latent]. Their lengths have no effect, as they are normalized first.
            lod: level of detail.

        Returns:
            [N, C, r, r] with r = resolution / 2^floor(lod). Real images lie in [-1, 1]; these are not
            bounded.
        """
        level, coarser = split_lod(lod, self.max_lod)
        top = self.max_lod - level
        x = self.activation(self.dense(pixel_norm(latents)))
        x = to_conv_dtype(self.activation(self.conv(x)))
        below = x
        for block in self.blocks[:top]:
            below, x = x, block(x)
        images = self.to_rgb[top](x).to(latents.dtype)
        if coarser > 0:
            old = F.interpolate(
                self.to_rgb[top - 1](below).to(latents.dtype), scale_factor=2, mode="nearest"
            )
            images = images + (old - images) * coarser
        return images
