"""The discriminator D and the encoder E, and their common trunk.

E is the trunk, which ends with ``4x4/Dense0`` and its leaky ReLU. D adds ``4x4/Dense1`` (appendix,
tables 'Discriminator' and 'Encoder').
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from anowild.networks.growth import feature_maps, log2_resolution, split_lod
from anowild.networks.layers import Conv2d, Dense, DownConv2d, LeakyRelu, MinibatchStddev
from anowild.networks.operators import to_conv_dtype


class TrunkBlock(nn.Module):
    """Two convolutions, of which the second halves the resolution: [N, in, H, W] -> [N, out, H/2, W/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0 = Conv2d(inputs, inputs, 3)
        self.conv1_down = DownConv2d(inputs, outputs)
        self.activation = LeakyRelu()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.conv1_down(self.activation(self.conv0(x))))


class Trunk(nn.Module):
    """Convolutional trunk from images to a vector, which halves the resolution down to 4x4.

    In ``train()`` an image's output depends on its minibatch, in ``eval()`` it does not: see
    :class:`MinibatchStddev`.

    Args:
        resolution, channels, fmap_base, fmap_max: as for :class:`Generator`.
        outputs: length of the vector; by default the number of maps at stage 0.
    """

    def __init__(
        self, *, resolution: int, channels: int, fmap_base: int, fmap_max: int, outputs: int | None
    ) -> None:
        super().__init__()
        self.max_lod = log2_resolution(resolution) - 2
        self.resolution = resolution
        self.channels = channels
        maps = [feature_maps(s, fmap_base, fmap_max) for s in range(self.max_lod + 2)]
        self.outputs = outputs or maps[0]

        # Stage s works at resolution 4 * 2^s; blocks[s - 1] leads from stage s to stage s - 1.
        self.from_rgb = nn.ModuleList(
            Conv2d(channels, maps[s + 1], 1) for s in range(self.max_lod + 1)
        )
        self.blocks = nn.ModuleList(
            TrunkBlock(maps[s + 1], maps[s]) for s in range(1, self.max_lod + 1)
        )
        self.minibatch_stddev = MinibatchStddev()
        self.conv = Conv2d(maps[1] + 1, maps[1], 3)
        self.dense0 = Dense(maps[1] * 16, self.outputs)
        self.activation = LeakyRelu()

    def features(self, images: Tensor, lod: float = 0.0) -> Tensor:
        """Compute the feature maps before minibatch stddev.

        Args:
            images: [N, C, r, r] of the level's own size, r = resolution / 2^floor(lod).
            lod: level of detail.

        Returns:
            [N, maps, 4, 4].
        """
        level, coarser = split_lod(lod, self.max_lod)
        top = self.max_lod - level
        x = self.activation(self.from_rgb[top](to_conv_dtype(images)))
        for stage in range(top, 0, -1):
            x = self.blocks[stage - 1](x)
            if stage == top and coarser > 0:
                old = self.activation(
                    self.from_rgb[top - 1](to_conv_dtype(F.avg_pool2d(images, 2)))
                )
                x = x + (old - x) * coarser
        return x.to(images.dtype)

    def head(self, features: Tensor, parts: int = 1) -> Tensor:
        """Apply the 4x4 block, [N, maps, 4, 4] -> [N, outputs]; ``parts`` as for MinibatchStddev."""
        x = self.activation(self.conv(self.minibatch_stddev(features, parts)))
        # The order of features is channel, row, column, whatever the memory format.
        return self.activation(self.dense0(x.reshape(x.shape[0], -1)))


class Discriminator(Trunk):
    """Progressively grown discriminator (critic) D; arguments as for :class:`Generator`."""

    def __init__(
        self, *, resolution: int, channels: int, fmap_base: int = 8192, fmap_max: int = 512
    ) -> None:
        super().__init__(
            resolution=resolution,
            channels=channels,
            fmap_base=fmap_base,
            fmap_max=fmap_max,
            outputs=None,
        )
        self.dense1 = Dense(self.outputs, 1, gain=1.0)

    def forward(self, images: Tensor, lod: float = 0.0, parts: int = 1) -> Tensor:
        """Score images: the higher, the more real an image looks.

        Args:
            images: as in :meth:`features`.
            lod: level of detail.
            parts: number of minibatches that stand one after the other in ``images``. Minibatch stddev
                treats them separately.

        Returns:
            [N, 1], unbounded.
        """
        scores: Tensor = self.dense1(self.head(self.features(images, lod), parts))
        return scores


class Encoder(Trunk):
    """Progressively grown encoder E; arguments as for :class:`Generator`."""

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        fmap_base: int = 8192,
        fmap_max: int = 512,
        latent_size: int | None = None,
    ) -> None:
        super().__init__(
            resolution=resolution,
            channels=channels,
            fmap_base=fmap_base,
            fmap_max=fmap_max,
            outputs=latent_size,
        )

    @property
    def latent_size(self) -> int:
        return self.outputs

    def forward(self, images: Tensor, lod: float = 0.0) -> Tensor:
        """Encode images as latents, neither normalized nor scaled: [N, C, r, r] -> [N, latent]."""
        return self.head(self.features(images, lod))
